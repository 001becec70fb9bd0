//! The one thread that writes: takes batches from a bounded queue, and tries again where it cannot write.

use std::{
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::params;

use super::{
    Batch, Health, Restored, Settings, StoreError, migrate, open::Open, restore, retain,
    retain::TrustedClock, write::micros,
};
use crate::clock;

/// Batches that may wait: an hour of a round every second.
const QUEUE: usize = 4096;

/// Batches that are written in one transaction, when so many wait.
const AT_ONCE: usize = 64;

/// Pauses between two attempts where the store cannot be written.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often age and size are looked at, and that we are there is written down.
const TIDY: Duration = Duration::from_mins(1);

/// So many batches in less time are looked at as well: size is bounded whatever the pace.
const TIDY_BATCHES: usize = 1000;

/// Steps of tidying in a row before the queue has its turn.
const TIDY_STEPS: u32 = 4;

/// The handle to the writer.
#[derive(Debug)]
pub struct Store {
    sender: Mutex<Option<SyncSender<Batch>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    tell: Mutex<Box<dyn Tell>>,
    closing: Arc<AtomicBool>,
}

/// Takes news of the store.
trait Tell: FnMut(Health) + Send {}
impl<T: FnMut(Health) + Send> Tell for T {}

impl std::fmt::Debug for dyn Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}

impl Store {
    /// Opens the database, makes it where it is not there, reads what is to be taken up again, and starts to write. Where
    /// that fails now the thread goes on trying, and `tell` hears why.
    pub fn open(settings: Settings, tell: impl FnMut(Health) + Send + Clone + 'static) -> (Self, Restored) {
        let mut opening = tell.clone();
        let mut lock = None;
        let (open, restored) = match Open::new(&settings.path, &mut lock) {
            Ok((open, restored)) => {
                opening(Health::Writable);
                (Some(open), restored)
            }
            Err(error) => {
                lock = None;
                opening(Health::Failed(error.to_string()));
                // What can be read is taken up even where nothing can be written. Messages wait for whoever can note that
                // they were sent; it may be another daemon, which sends them.
                let read = migrate::open_to_read(&settings.path).ok();
                let read = read.and_then(|connection| restore::restore(&connection).ok()).unwrap_or_default();
                (None, Restored { outbox: Vec::new(), ..read })
            }
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let closing = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            settings,
            failing: open.is_none(),
            open,
            lock,
            tell: Box::new(tell.clone()),
            clock: TrustedClock::new(clock::now(), clock::wall()),
            started: clock::wall(),
            pause: RETRY_MIN,
            closing: Arc::clone(&closing),
        };
        let thread =
            std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(&receiver));
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                opening(Health::Failed(format!("no thread for the store: {error}")));
                None
            }
        };
        let tell = Mutex::new(Box::new(tell) as Box<dyn Tell>);
        (Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(thread), tell, closing }, restored)
    }

    /// Queues a batch. Never waits; `false` where the queue was full and the batch is lost.
    pub fn submit(&self, batch: Batch) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref() else {
            // Closed: what comes now comes from after the end.
            batch.settled.cancel();
            return false;
        };
        let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) = sender.try_send(batch) else {
            return true;
        };
        lost.settled.cancel();
        self.tell.lock().unwrap_or_else(PoisonError::into_inner)(Health::Dropped(1));
        false
    }

    /// Writes what is queued, notes the end in order, and closes. Gives up at the first failure.
    pub fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.closing.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has been reported by the panic itself.
            thread.join().ok();
        }
    }
}

/// The thread's own state.
struct Writer {
    settings: Settings,
    open: Option<Open>,
    /// Kept while writing fails: nobody else shall take the database meanwhile.
    lock: Option<File>,
    tell: Box<dyn Tell>,
    clock: TrustedClock,
    started: Timestamp,
    pause: Duration,
    /// The last that was told is a failure.
    failing: bool,
    closing: Arc<AtomicBool>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Batch>) {
        self.heartbeat(false);
        let mut waiting: Vec<Batch> = Vec::new();
        let (mut tidied, mut written) = (clock::now(), 0);
        loop {
            let over = self.receive(receiver, &mut waiting);
            let count = waiting.len();
            if !self.write(&mut waiting) {
                if over || self.closing.load(Ordering::Relaxed) {
                    return;
                }
                // The queue itself keeps what comes meanwhile.
                self.sleep();
                self.pause = (self.pause * 2).min(RETRY_MAX);
                continue;
            }
            self.pause = RETRY_MIN;
            written += count;
            let due = clock::now().saturating_duration_since(tidied) >= TIDY;
            if due || written >= TIDY_BATCHES || over {
                (tidied, written) = (clock::now(), 0);
                self.heartbeat(over);
                self.tidy();
            }
            if over {
                return;
            }
        }
    }

    /// Takes batches from the queue, waiting for one where nothing else is to be done; `true` when none will ever come.
    fn receive(&self, receiver: &Receiver<Batch>, waiting: &mut Vec<Batch>) -> bool {
        if waiting.len() >= AT_ONCE {
            return false;
        }
        let patience = if waiting.is_empty() && self.open.is_some() { TIDY } else { Duration::ZERO };
        match receiver.recv_timeout(patience) {
            Ok(batch) => {
                waiting.push(batch);
                waiting.extend(receiver.try_iter().take(AT_ONCE.saturating_sub(waiting.len())));
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }

    /// Waits before the next attempt, unless the store is closed.
    fn sleep(&self) {
        let mut left = self.pause;
        while !left.is_zero() && !self.closing.load(Ordering::Relaxed) {
            let step = left.min(Duration::from_millis(100));
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
    }

    /// Writes all of `waiting` in one transaction; `false` where that failed, and they are kept.
    fn write(&mut self, waiting: &mut Vec<Batch>) -> bool {
        if self.open.as_ref().is_some_and(|open| !open.is_in_place(&self.settings.path)) {
            self.fail(&StoreError::Gone { path: self.settings.path.clone() }.to_string());
            (self.open, self.lock) = (None, None);
        }
        if self.open.is_none() && !self.reopen() {
            return false;
        }
        let Some(open) = &mut self.open else { return false };
        let result = if waiting.is_empty() { Ok(()) } else { open.write(waiting) };
        match result {
            Ok(()) => {
                waiting.drain(..).for_each(|batch| batch.settled.cancel());
                if std::mem::take(&mut self.failing) {
                    (self.tell)(Health::Writable);
                }
                true
            }
            Err(error) if is_our_own(&error) => {
                // Trying again would fail for ever; what can be written of the rest is.
                self.fail(&format!("a record cannot be written: {error}; please report it"));
                self.salvage(waiting);
                self.open.is_some()
            }
            Err(error) => {
                let sentence = StoreError::of(&self.settings.path, &error).to_string();
                self.fail(&sentence);
                self.open = None;
                false
            }
        }
    }

    /// Writes batches one by one and leaves out those that cannot be.
    fn salvage(&mut self, waiting: &mut Vec<Batch>) {
        for batch in waiting.drain(..) {
            let alone = std::slice::from_ref(&batch);
            let written = self.open.as_mut().is_some_and(|open| open.write(alone).is_ok());
            batch.settled.cancel();
            if !written {
                (self.tell)(Health::Dropped(1));
            }
        }
    }

    /// Opens it again, and writes that we are there. Whether batches can be written as well shows when they are: on a full
    /// disk a database can be opened.
    fn reopen(&mut self) -> bool {
        let held = self.lock.is_some();
        match Open::new(&self.settings.path, &mut self.lock) {
            Ok((open, _)) => {
                self.open = Some(open);
                self.heartbeat(false);
                self.open.is_some()
            }
            Err(error) => {
                if !held {
                    self.lock = None;
                }
                self.fail(&error.to_string());
                false
            }
        }
    }

    fn fail(&mut self, sentence: &str) {
        if let Some(open) = &mut self.open {
            open.numbers.forget();
        }
        self.failing = true;
        (self.tell)(Health::Failed(sentence.to_owned()));
    }

    /// Notes that we are there, or that we end in order.
    fn heartbeat(&mut self, ended: bool) {
        let Some(open) = &mut self.open else { return };
        let (started, now) = (micros(self.started), micros(clock::wall()));
        let written = match open.run {
            Some(run) => open
                .connection
                .execute("UPDATE runs SET seen = ?2, ended = ?3 WHERE n = ?1", params![run, now, ended])
                .map(|_| run),
            None => open
                .connection
                .execute(
                    "INSERT INTO runs(started, seen, ended) VALUES (?1, ?2, ?3)",
                    params![started, now, ended],
                )
                .map(|_| open.connection.last_insert_rowid()),
        };
        match written {
            Ok(run) => open.run = Some(run),
            Err(error) => self.stumble(&error),
        }
    }

    /// Deletes what is too old or too much, some at a time.
    fn tidy(&mut self) {
        let Some(open) = &mut self.open else { return };
        let (clock, settings) = (&mut self.clock, &self.settings);
        let mut tidy = || -> rusqlite::Result<()> {
            let oldest = retain::oldest(&open.connection)?;
            let believed = clock.believed(clock::now(), clock::wall(), oldest, settings.retention);
            for _ in 0..TIDY_STEPS {
                let aged = match believed {
                    Some(now) => retain::by_age(&mut open.connection, settings, now)?,
                    None => false,
                };
                let full = retain::by_size(&mut open.connection, settings.max_bytes)?;
                if !aged && !full {
                    break;
                }
            }
            retain::shrink(&open.connection)
        };
        if let Err(error) = tidy() {
            self.stumble(&error);
        }
    }

    fn stumble(&mut self, error: &rusqlite::Error) {
        let sentence = StoreError::of(&self.settings.path, error).to_string();
        self.fail(&sentence);
        self.open = None;
    }
}

/// An error of our own making rather than of the disk: the same batch would always fail.
fn is_our_own(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::ApiMisuse
        ),
        None => true,
    }
}
