//! `kill -9` in the middle of writing: a program of the test's own writes batches as fast as the real writer takes them,
//! each with a round, memory, detector, incident and messages, all of which follow from its number. Whatever moment it
//! dies at, the database must hold what some number of whole batches leave behind, and none that was seen may be missing.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OpenFlags};
use throttlescope::{
    model::{Comparison, CountedTest, DetectorState, Role, TargetId},
    store::{Batch, Reader, Restored, Settings, Span, Store, StoreError},
};

use super::Moments;
use crate::store::{at, incident_of, numbered, round, settings};

/// Names the database to the inner program.
const INSIDE: &str = "THROTTLESCOPE_KILL_WRITER";
/// Microseconds between two of its batches.
const PACE: &str = "THROTTLESCOPE_KILL_PACE";

const TARGETS: i64 = 3;
const EXCHANGES: i64 = 4;
/// Tests that a detector remembers.
const RECENT: i64 = 5;
/// Of ten batches the second begins an incident and the seventh ends it.
const CYCLE: i64 = 10;
const BEGINS: i64 = 1;
const ENDS: i64 = 6;
/// So many batches after a message was to be sent, it was.
const SENT_AFTER: i64 = 2;

/// Deaths that one database lives through, so that looking at it stays cheap.
const DEATHS_OF_A_DATABASE: u32 = 50;

fn target(n: i64) -> TargetId {
    TargetId::new(format!("shop/{}", n % TARGETS))
}

fn incident_id(begun: i64) -> String {
    format!("{}@{begun}", target(begun))
}

/// The moment of a batch. Microseconds are odd, so that a truncated one shows.
fn moment(n: i64) -> Timestamp {
    at(n * 10) + SignedDuration::from_micros(n % 1_000)
}

/// The batch of this number.
fn batch(n: i64) -> Batch {
    let mut round = round(n, target(n).as_str(), moment(n));
    round.exchanges = (0..EXCHANGES)
        .map(|place| {
            let role = if place + 1 == EXCHANGES { Role::Subject } else { Role::Control };
            numbered((n * EXCHANGES + place).cast_unsigned(), role)
        })
        .collect();
    let tests = (n + TARGETS - 1) / TARGETS;
    let recent = ((tests - RECENT + 1).max(1)..=tests).map(|test| CountedTest {
        from: at(test),
        until: at(test),
        affected: 0.0,
        e_value: test as f64,
    });
    let detector =
        DetectorState { tests: tests.cast_unsigned(), recent: recent.collect(), ..DetectorState::default() };
    let mut batch = Batch {
        round: Some(Box::new(round)),
        memory: Some((target(n), format!("{{\"last\":{n}}}"))),
        detectors: vec![(target(n), Comparison::Control, Box::new(detector))],
        ..Batch::default()
    };
    let incident = |begun: i64, end: Option<i64>| {
        let mut record = incident_of(target(begun).as_str(), end.map(moment));
        record.id = incident_id(begun);
        record.rounds = vec![begun];
        record
    };
    match n % CYCLE {
        BEGINS => {
            batch.incidents = vec![incident(n, None)];
            batch.outbox = vec![(format!("began {n}"), n.to_string())];
        }
        ENDS => {
            let begun = n - ENDS + BEGINS;
            batch.incidents = vec![incident(begun, Some(n))];
            batch.outbox = vec![(format!("ended {begun}"), n.to_string())];
        }
        _ => {}
    }
    let sent = n - SENT_AFTER;
    match sent % CYCLE {
        BEGINS => batch.sent = vec![format!("began {sent}")],
        ENDS => batch.sent = vec![format!("ended {}", sent - ENDS + BEGINS)],
        _ => {}
    }
    batch
}

/// Incidents that `n` batches leave behind, in order of their onset: id and whether it is over.
fn incidents(n: i64) -> Vec<(String, bool)> {
    (1..=n)
        .filter(|begun| begun % CYCLE == BEGINS)
        .map(|begun| (incident_id(begun), begun - BEGINS + ENDS <= n))
        .collect()
}

/// Messages that `n` batches leave behind: id and whether it was sent.
fn messages(n: i64) -> Vec<(String, bool)> {
    let made = (1..=n).filter_map(|made| match made % CYCLE {
        BEGINS => Some((format!("began {made}"), made + SENT_AFTER <= n)),
        ENDS => Some((format!("ended {}", made - ENDS + BEGINS), made + SENT_AFTER <= n)),
        _ => None,
    });
    made.collect()
}

/// A small database, so that the oldest rounds are deleted all the while.
fn small(path: &Path) -> Settings {
    Settings { max_bytes: 3_000_000, ..settings(path) }
}

/// The inner program: writes until it dies.
fn write_for_ever(path: &Path) -> ! {
    let pace = Duration::from_micros(std::env::var(PACE).unwrap().parse().unwrap());
    let (store, restored) = Store::open(small(path), |_| {});
    let mut n = restored.last_round;
    check_restored(n, &restored);
    loop {
        n += 1;
        while !store.submit(batch(n)) {
            std::thread::yield_now();
        }
        let until = Instant::now() + pace;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

/// What is taken up at a start is what `n` batches left.
fn check_restored(n: i64, restored: &Restored) {
    let open: Vec<String> = incidents(n).into_iter().filter(|(_, over)| !over).map(|(id, _)| id).collect();
    let found: Vec<&str> = restored.incidents.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(found, open);
    let mut unsent: Vec<String> =
        messages(n).into_iter().filter(|(_, sent)| !sent).map(|(id, _)| id).collect();
    unsent.sort();
    let mut found: Vec<String> = restored.outbox.iter().map(|(id, _)| id.clone()).collect();
    found.sort();
    assert_eq!(found, unsent);
    for last in (n - TARGETS + 1).max(1)..=n {
        assert_eq!(restored.memories[&target(last)], format!("{{\"last\":{last}}}"));
        let detector = restored.detectors.iter().find(|(id, _, _)| *id == target(last)).unwrap();
        assert_eq!(&detector.2, batch(last).detectors[0].2.as_ref());
    }
}

/// A database that is written to, and killed.
struct Victim {
    folder: tempfile::TempDir,
    /// The last batch that was seen to be there.
    seen: i64,
    deaths: u32,
}

impl Victim {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), seen: 0, deaths: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("throttlescope.db")
    }

    fn start(&self, pace: Duration) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::writer::a_batch_is_there_whole_or_not_at_all", "--nocapture"])
            .env(INSIDE, self.path())
            .env(PACE, pace.as_micros().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts a writer, lets it write for a while, kills it, and looks.
    fn die(&mut self, pace: Duration, after: Duration) {
        let mut child = self.start(pace);
        let reader = self.wait_for_more(&mut child);
        let deadline = Instant::now() + after;
        loop {
            // What anybody can see is committed.
            self.seen = self.seen.max(last_round(&reader));
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(reader);
        self.deaths += 1;
        self.look();
    }

    /// A connection to the database once the writer has added to it.
    fn wait_for_more(&self, child: &mut Child) -> Connection {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
            assert!(Instant::now() < deadline, "nothing is written");
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            if let Ok(reader) = Connection::open_with_flags(self.path(), flags)
                && reader.busy_timeout(Duration::from_secs(5)).is_ok()
                && reader
                    .query_row("SELECT max(n) FROM rounds", [], |row| row.get::<_, Option<i64>>(0))
                    .is_ok_and(|last| last > Some(self.seen))
            {
                return reader;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn look(&mut self) {
        let death = self.deaths;
        let connection = Connection::open(self.path()).unwrap();
        let said: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok", "after death {death}");
        let numbers = |question: &str| -> Vec<i64> {
            let mut statement = connection.prepare(question).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let states = |question: &str| -> Vec<(String, bool)> {
            let mut statement = connection.prepare(question).unwrap();
            let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            found.map(Result::unwrap).collect()
        };
        let n = last_round(&connection);
        assert!(n >= self.seen, "death {death}: {} was there, {n} is the last now", self.seen);
        self.seen = n;
        // The oldest go, in their order, but for those that the last good exchange of a target is in.
        let rounds = numbers(
            "SELECT n FROM rounds WHERE EXISTS (SELECT 1 FROM exchanges e WHERE e.round = rounds.n) ORDER BY n",
        );
        let oldest = rounds[0];
        assert_eq!(rounds, (oldest..=n).collect::<Vec<_>>(), "death {death}");
        let outlasting = numbers(
            "SELECT n FROM rounds WHERE NOT EXISTS (SELECT 1 FROM exchanges e WHERE e.round = rounds.n)
             AND n NOT IN (SELECT round FROM latest)",
        );
        assert!(outlasting.is_empty(), "death {death}: without their exchanges: {outlasting:?}");
        let rows = numbers("SELECT round * 4 + place FROM exchanges ORDER BY round, place");
        let whole: Vec<i64> = (oldest * EXCHANGES..(n + 1) * EXCHANGES).collect();
        assert_eq!(rows, whole, "death {death}: exchanges of all rounds, and of no other");
        let found = states(
            "SELECT id, ended IS NOT NULL FROM incidents ORDER BY json_extract(record, '$.rounds[0]')",
        );
        assert_eq!(found, incidents(n), "death {death}: an incident was invented or lost");
        let mut expected = messages(n);
        expected.sort();
        let found = states("SELECT id, settled IS NOT NULL FROM outbox ORDER BY id");
        assert_eq!(found, expected, "death {death}");
        self.read(oldest, n);
    }

    /// Every round is read whole: its exchanges as they were written.
    fn read(&self, oldest: i64, n: i64) {
        let mut read = Vec::new();
        Reader::new(self.path())
            .measurements::<StoreError>(None, Span::default(), |round, measurement| {
                read.push((round, measurement.exchange.id));
                Ok(())
            })
            .unwrap();
        read.sort();
        let id = |id: i64| (id / EXCHANGES, format!("{id:032x}"));
        let whole: Vec<_> = (oldest * EXCHANGES..(n + 1) * EXCHANGES).map(id).collect();
        assert_eq!(read, whole, "death {}", self.deaths);
    }
}

fn last_round(connection: &Connection) -> i64 {
    connection.query_row("SELECT coalesce(max(n), 0) FROM rounds", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_batch_is_there_whole_or_not_at_all() {
    if let Some(path) = std::env::var_os(INSIDE) {
        write_for_ever(Path::new(&path));
    }
    let kills = super::kills(30);
    let mut moments = Moments(0x2545_f491_4f6c_dd1d);
    let (mut victim, mut batches) = (Victim::new(), 0);
    for kill in 0..kills {
        if victim.deaths == DEATHS_OF_A_DATABASE {
            batches += victim.seen;
            victim = Victim::new();
        }
        // Now many batches in one transaction, now one in each.
        let pace = Duration::from_micros([0, 300, 3_000][kill as usize % 3]);
        victim.die(pace, moments.next() / 8);
    }
    batches += victim.seen;
    println!("{kills} kills of a writer, {batches} batches");
}
