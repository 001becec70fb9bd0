//! The store on real files: what was written is there, what cannot be written hurts nobody.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use throttlescope::{
    analysis::series::{Observed, PairedTest, SeriesDetector, Settings as SeriesSettings},
    model::{
        Comparison, Evidence, Exchange, Finding, Incident, IncidentRecord, Role, TargetId, Vantage, Verdict,
    },
    store::{Batch, Health, Reader, RoundRecord, Settings, Span, Store, StoreError},
};

use super::metrics::exchange;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), retention: Duration::from_hours(24 * 90), max_bytes: 1_000_000_000 }
}

/// News of the store, as they come.
fn news() -> (impl FnMut(Health) + Send + Clone + 'static, Receiver<Health>) {
    let (sender, receiver) = channel();
    let sender: Arc<Mutex<Sender<Health>>> = Arc::new(Mutex::new(sender));
    (move |health| drop(sender.lock().unwrap().send(health)), receiver)
}

fn wait_for(news: &Receiver<Health>, what: impl Fn(&Health) -> bool) -> Health {
    loop {
        let health = news.recv_timeout(Duration::from_mins(1)).expect("the store says how it fares");
        if what(&health) {
            return health;
        }
    }
}

/// An exchange with a curve, its id made of a number.
pub(crate) fn numbered(id: u64, role: Role) -> Exchange {
    let mut taken = exchange(131_072);
    taken.id = format!("{id:032x}");
    taken.role = role;
    taken.curve = (1..=90).map(|n| (Duration::from_micros(n * 1_234), n * 1_448)).collect();
    taken
}

pub(crate) fn round(number: i64, target: &str, moment: Timestamp) -> RoundRecord {
    let id = number.cast_unsigned() * 4;
    RoundRecord {
        number,
        at: moment,
        vantage: Vantage::default(),
        target: TargetId::new(target),
        control: Some(TargetId::new("control/cdn")),
        comparison: Comparison::Control,
        closer: false,
        finding: Some(Finding {
            verdict: Verdict::Normal,
            mechanism: None,
            blocked_at: None,
            evidence: Evidence { pairs: 1, ..Evidence::default() },
            caveats: Vec::new(),
        }),
        verdict: Some(Verdict::Normal),
        repeat: "throttlescope measure".into(),
        exchanges: vec![numbered(id, Role::Control), numbered(id + 1, Role::Subject)],
    }
}

pub(crate) fn batch(round: RoundRecord) -> Batch {
    Batch { round: Some(Box::new(round)), ..Batch::default() }
}

pub(crate) fn incident_of(target: &str, end: Option<Timestamp>) -> IncidentRecord {
    let target = TargetId::new(target);
    IncidentRecord {
        id: IncidentRecord::id_of(&target, at(0)),
        target,
        comparison: Comparison::Control,
        mechanism: None,
        incident: Incident {
            verdict: Verdict::Throttled,
            onset: at(0),
            onset_interval: [at(0), at(0)],
            onset_before_data: false,
            alarm: at(0),
            end,
            end_interval: None,
            share: 1.0,
            tests: 4,
            false_alarm_bound: 1e-3,
            false_alarm_bound_blocks: 1.0,
        },
        evidence: None,
        summary: "It is slow.".into(),
        repeat: String::new(),
        rounds: vec![1],
        exchanges: vec!["1".into()],
    }
}

fn database(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state/throttlescope.db")
}

fn export(path: &Path, target: Option<&str>, span: Span) -> Vec<Exchange> {
    let mut found = Vec::new();
    let target = target.map(TargetId::new);
    Reader::new(path.to_owned())
        .measurements::<StoreError>(target.as_ref(), span, |_, measurement| {
            found.push(measurement.exchange);
            Ok(())
        })
        .unwrap();
    found
}

fn count(path: &Path) -> i64 {
    i64::try_from(export(path, None, Span::default()).len()).unwrap()
}

#[test]
fn what_was_written_is_read_again_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (tell, news) = news();
    let (store, restored) = Store::open(settings(&path), tell);
    assert_eq!(restored.last_round, 0);
    wait_for(&news, |health| *health == Health::Writable);
    for number in 1..=600 {
        assert!(store.submit(batch(round(number, "shop/images", at(number * 300)))));
    }
    assert!(store.submit(batch(round(601, "shop/other", at(601 * 300)))));
    store.close();
    let reader = Reader::new(path.clone());
    let found = export(&path, Some("shop/images"), Span::default());
    assert_eq!(found.len(), 1_200);
    assert_eq!(found[3], numbered(9, Role::Subject), "nothing is lost or changed on the way");
    assert_eq!(export(&path, None, Span::default()).len(), 1_202);
    let span = Span { from: Some(at(300)), until: Some(at(600)) };
    assert_eq!(export(&path, None, span).len(), 2, "the end itself is not in it");
    let one = reader.exchange(&numbered(9, Role::Subject).id).unwrap().unwrap();
    assert_eq!((one.exchange.id.as_str(), one.subject.as_str()), (found[3].id.as_str(), "shop/images"));
    assert!(reader.exchange("none").unwrap().is_none());
    let newest = reader.exchanges(&TargetId::new("shop/images"), 3).unwrap();
    assert_eq!(newest.len(), 3);
    assert_eq!(newest[0].exchange.id, numbered(2_401, Role::Subject).id);
    // A control is seen through all comparisons that it served.
    let control = TargetId::new("control/cdn");
    let mut rows = 0;
    reader.rows(&control, Span::default(), |row| rows += u32::from(row.role == Role::Subject)).unwrap();
    assert_eq!(rows, 601);
    assert_eq!(reader.exchanges(&control, 1).unwrap()[0].subject.as_str(), "shop/other");
    assert!(reader.runs().unwrap()[0].ended);
}

#[test]
fn a_detector_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let target = TargetId::new("shop/images");
    let live = SeriesSettings::live(1, Duration::from_mins(5));
    let mut alone = SeriesDetector::new(live);
    let mut stored = SeriesDetector::new(live);
    let mut events = [Vec::new(), Vec::new()];
    // More tests than are remembered, so that the oldest are dropped on both sides; an incident begins and ends.
    for n in 0_u32..1_500 {
        let slow = (700..800).contains(&n);
        let pair = PairedTest {
            subject: Observed::Goodput(if slow { 15_000.0 } else { 900_000.0 + f64::from(n % 7) }),
            control: Observed::Goodput(1_000_000.0),
        };
        // The clock is a year ahead for a while.
        let ahead = if (300..340).contains(&n) { 365 * 86_400 } else { 0 };
        let moment = at(i64::from(n) * 300 + ahead);
        events[0].extend(alone.observe(moment, pair));
        events[1].extend(stored.observe(moment, pair));
        if n % 50 == 3 || n == 1_499 {
            let (store, _) = Store::open(settings(&path), |_| {});
            let state = Box::new(stored.memory().clone());
            assert!(store.submit(Batch {
                detectors: vec![(target.clone(), Comparison::Sni, state)],
                ..Batch::default()
            }));
            store.close();
            let (store, mut restored) = Store::open(settings(&path), |_| {});
            let (_, comparison, state) = restored.detectors.pop().unwrap();
            assert_eq!(comparison, Comparison::Sni);
            stored = SeriesDetector::resume(live, state);
            assert_eq!(stored.memory().recent, alone.memory().recent, "after test {n}");
            store.close();
        }
    }
    assert_eq!(events[0], events[1]);
    // The year seems to have passed in silence.
    assert_eq!(events[0].len(), 3, "{:?}", events[0]);
    assert_eq!(alone.memory().recent, stored.memory().recent);
}

#[test]
fn incidents_and_messages_are_kept_until_they_are_settled() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (store, _) = Store::open(settings(&path), |_| {});
    let message = |id: &str| (id.to_owned(), "{}".to_owned());
    store.submit(Batch {
        incidents: vec![incident_of("a", None), incident_of("b", Some(at(500)))],
        outbox: vec![message("a/began"), message("b/began")],
        ..Batch::default()
    });
    store.submit(Batch { sent: vec!["b/began".into()], ..Batch::default() });
    // Known messages are left alone: neither doubled nor sent anew.
    store.submit(Batch { outbox: vec![message("b/began")], ..Batch::default() });
    store.close();
    let (store, restored) = Store::open(settings(&path), |_| {});
    assert_eq!(restored.incidents, [incident_of("a", None)]);
    assert_eq!(restored.outbox, [message("a/began")]);
    // While one keeps it, another one reads what is known and leaves the messages to the first.
    let (other, known) = Store::open(settings(&path), |_| {});
    assert_eq!(known.incidents, [incident_of("a", None)]);
    assert_eq!(known.outbox, []);
    other.close();
    store.close();
    let reader = Reader::new(path);
    assert_eq!(reader.incidents(None, at(0)).unwrap().len(), 2);
    assert_eq!(reader.incidents(Some(&TargetId::new("b")), at(0)).unwrap().len(), 1);
    assert_eq!(reader.incidents(None, at(501)).unwrap().len(), 1, "one ended before");
}

#[test]
fn the_last_good_and_the_last_bad_exchange_are_at_hand() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (store, _) = Store::open(settings(&path), |_| {});
    store.submit(batch(round(1, "shop/images", at(0))));
    let mut accused = round(2, "shop/images", at(300));
    accused.verdict = Some(Verdict::Throttled);
    accused.finding.as_mut().unwrap().evidence.control_goodput_bytes_per_second = Some(1e6);
    store.submit(batch(accused));
    // A cheap exchange has no curve to show, and does not take the place of one that has.
    let mut cheap = round(3, "shop/images", at(600));
    for taken in &mut cheap.exchanges {
        taken.curve = std::iter::once((Duration::from_millis(1), 1_000)).collect();
    }
    store.submit(batch(cheap));
    store.close();
    let [good, bad] = Reader::new(path).latest(&TargetId::new("shop/images")).unwrap();
    assert_eq!(good.unwrap().exchange, numbered(5, Role::Subject));
    assert_eq!(bad.unwrap().exchange, numbered(9, Role::Subject));
}

/// A round of which the subject's transfer takes so many seconds, the control's one, and after which this verdict stands.
fn round_at(number: i64, seconds: u64, verdict: Verdict) -> RoundRecord {
    let mut round = round(number, "shop/images", at(number * 300));
    round.exchanges[1].requests[0].end = Duration::from_millis(40) + Duration::from_secs(seconds);
    round.verdict = Some(verdict);
    let evidence = &mut round.finding.as_mut().unwrap().evidence;
    evidence.control_goodput_bytes_per_second = round.exchanges[0].goodput();
    round
}

#[test]
fn the_good_one_is_from_before_the_onset_and_the_bad_one_from_before_the_end() {
    use Verdict::{Normal, Throttled};
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (store, _) = Store::open(settings(&path), |_| {});
    let shown = || {
        let latest = Reader::new(path.clone()).latest(&TargetId::new("shop/images")).unwrap();
        latest.map(|shown| shown.map(|shown| u64::from_str_radix(&shown.exchange.id, 16).unwrap() / 4))
    };
    let incident = |end: Option<i64>| {
        let mut record = incident_of("shop/images", end.map(|round| at(round * 300)));
        record.incident.onset = at(3 * 300);
        record
    };
    // Two good rounds, three slow ones of which the last is the alarm, and one more.
    let story = [(1, Normal), (1, Normal), (9, Normal), (9, Normal), (9, Throttled), (9, Throttled)];
    for (number, (seconds, verdict)) in (1..).zip(story) {
        let incidents = if verdict == Throttled { vec![incident(None)] } else { Vec::new() };
        store.submit(Batch { incidents, ..batch(round_at(number, seconds, verdict)) });
    }
    store.close();
    assert_eq!(shown(), [Some(2), Some(6)]);
    // The end is found two rounds after it was. They are as fast as this line gets at this hour, beside a control that is
    // always the faster one.
    let (store, _) = Store::open(settings(&path), |_| {});
    store.submit(Batch { incidents: vec![incident(None)], ..batch(round_at(7, 2, Throttled)) });
    store.submit(Batch { incidents: vec![incident(Some(7))], ..batch(round_at(8, 2, Normal)) });
    store.close();
    assert_eq!(shown(), [Some(8), Some(6)]);
    // Where there is none from before the onset, none is shown.
    let (store, _) = Store::open(settings(&path), |_| {});
    let mut ever = incident(None);
    (ever.id, ever.incident.onset) = ("ever".into(), at(0));
    store.submit(Batch { incidents: vec![ever], ..Batch::default() });
    store.close();
    assert_eq!(shown(), [None, Some(6)]);
}

#[test]
fn size_is_bounded_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let bound = 10_000_000;
    let (store, _) = Store::open(Settings { max_bytes: bound, ..settings(&path) }, |_| {});
    for number in 1..=4_000 {
        let mut large = round(number, "shop/images", at(number * 300));
        let mut random = number.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        large.repeat = (0..4_000)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'!' + (random >> 40) as u8 % 90)
            })
            .collect();
        while !store.submit(batch(large.clone())) {
            std::thread::yield_now();
        }
    }
    store.close();
    let written = export(&path, None, Span::default());
    let oldest = written.iter().map(|taken| taken.id.clone()).min().unwrap();
    assert!(written.len() < 8_000, "{}", written.len());
    assert!(oldest > numbered(400, Role::Subject).id, "{oldest}");
    assert!(
        written.iter().any(|taken| taken.id == numbered(16_001, Role::Subject).id),
        "the newest is there"
    );
}

#[test]
fn what_is_too_old_goes_and_a_clock_that_jumped_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (store, _) = Store::open(settings(&path), |_| {});
    let year = SignedDuration::from_hours(24 * 365);
    // Rounds before, during and after a jump of a year; numbers go on.
    let moments = [at(0), at(300) + year, at(600)];
    for (number, moment) in (1..).zip(moments) {
        store.submit(batch(round(number, "shop/images", moment)));
    }
    store.close();
    let (store, restored) = Store::open(settings(&path), |_| {});
    assert_eq!(restored.last_round, 3);
    store.close();
    assert_eq!(export(&path, None, Span::default()).len(), 6, "nothing is lost");
}

#[test]
fn a_store_that_cannot_be_used_says_why_in_a_sentence_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    std::fs::write(&path, "no database, whatever its name says ".repeat(200)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let (tell, news) = news();
    let (store, restored) = Store::open(settings(&path), tell.clone());
    let Health::Failed(sentence) = wait_for(&news, |health| matches!(health, Health::Failed(_))) else {
        unreachable!()
    };
    assert!(sentence.contains("is damaged or no database"), "{sentence}");
    assert_eq!(restored.last_round, 0);
    assert!(store.submit(batch(round(1, "shop/images", at(0)))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // It is moved away, and history begins by itself, with what was measured meanwhile.
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    wait_for(&news, |health| *health == Health::Writable);
    // Nobody else may write now.
    let (other, _) = Store::open(settings(&path), tell);
    let Health::Failed(sentence) = wait_for(&news, |health| matches!(health, Health::Failed(_))) else {
        unreachable!()
    };
    assert!(sentence.contains("another throttlescope keeps this database"), "{sentence}");
    other.close();
    store.close();
    assert_eq!(export(&path, None, Span::default()).len(), 2);
}

#[test]
fn a_database_that_is_taken_away_while_it_is_in_use_is_missed_and_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let away = folder.path().join("away.db");
    let (tell, news) = news();
    let (store, _) = Store::open(settings(&path), tell);
    store.submit(batch(round(1, "shop/images", at(0))));
    while !path.exists() || count_or_none(&path) != Some(2) {
        std::thread::yield_now();
    }
    for suffix in ["", "-wal", "-shm"] {
        let with = |base: &Path| PathBuf::from(format!("{}{suffix}", base.display()));
        std::fs::rename(with(&path), with(&away)).unwrap();
    }
    store.submit(batch(round(2, "shop/images", at(300))));
    let told = wait_for(&news, |health| matches!(health, Health::Failed(_)));
    assert!(matches!(&told, Health::Failed(why) if why.contains("was moved away or deleted")), "{told:?}");
    wait_for(&news, |health| *health == Health::Writable);
    store.close();
    assert_eq!(count(&path), 2, "what came after it is in the new one");
    assert_eq!(count(&away), 2, "and what came before it in the old one");
}

/// How many exchanges are in a database that may not be one yet.
fn count_or_none(path: &Path) -> Option<usize> {
    let mut exchanges = 0;
    let each = |_, _| {
        exchanges += 1;
        Ok::<(), StoreError>(())
    };
    Reader::new(path.to_owned()).measurements(None, Span::default(), each).ok().map(|()| exchanges)
}

/// A small file system of the test's own, by an inner program in namespaces of its own.
#[test]
fn a_full_disk_and_a_read_only_one_are_survived() {
    if std::env::var_os("THROTTLESCOPE_STORE_INSIDE").is_some() {
        return full_and_read_only(Path::new("/mnt"));
    }
    let test = "store::a_full_disk_and_a_read_only_one_are_survived";
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=3m none /mnt && exec \"$0\" --exact \"$1\" --nocapture")
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("THROTTLESCOPE_STORE_INSIDE", "1")
        .status();
    assert!(status.unwrap().success());
}

fn full_and_read_only(mount: &Path) {
    let path = mount.join("throttlescope.db");
    let (tell, news) = news();
    let (store, _) = Store::open(settings(&path), tell.clone());
    store.submit(batch(round(1, "shop/images", at(0))));
    // Somebody else fills the disk.
    let filler = mount.join("filler");
    let mut size = 4096;
    std::fs::write(&filler, vec![0; size]).unwrap();
    while std::fs::write(&filler, vec![0; size]).is_ok() {
        size += 16_384;
    }
    let mut number = 1;
    let failed = loop {
        number += 1;
        store.submit(batch(round(number, "shop/images", at(number * 300))));
        if let Ok(Health::Failed(sentence)) = news.recv_timeout(Duration::from_millis(20)) {
            break sentence;
        }
        assert!(number < 1_000, "the disk never fills");
    };
    assert!(failed.contains("the disk is full; free some space"), "{failed}");
    // Nobody else takes it while the one that has it tries again.
    let (tell_other, of_other) = self::news();
    let (other, _) = Store::open(settings(&path), tell_other);
    let told = of_other.recv_timeout(Duration::from_mins(1)).unwrap();
    assert!(matches!(&told, Health::Failed(why) if why.contains("another throttlescope keeps")), "{told:?}");
    other.close();
    // The database can be opened all the while, which is not told as if it could be written.
    let stored = count(&path);
    for _ in 0..10 {
        number += 1;
        assert!(store.submit(batch(round(number, "shop/images", at(number * 300)))));
        let told = news.recv_timeout(Duration::from_secs(1));
        assert!(told != Ok(Health::Writable) || count(&path) > stored, "nothing was written");
    }
    std::fs::remove_file(&filler).unwrap();
    wait_for(&news, |health| *health == Health::Writable);
    store.close();
    // A disk that is all but full may take one batch and refuse the next; what was told of that is over.
    while news.try_recv().is_ok() {}
    let all = count(&path);
    assert_eq!(all, number * 2, "what was measured meanwhile is there");

    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how, "none"]).arg(mount).status();
        assert!(status.unwrap().success());
    };
    remount("remount,ro");
    assert_eq!(count(&path), all, "it can still be read");
    let (store, restored) = Store::open(settings(&path), tell);
    assert_eq!(restored.last_round, number, "and what was known is taken up");
    let Health::Failed(sentence) = wait_for(&news, |health| matches!(health, Health::Failed(_))) else {
        unreachable!()
    };
    assert!(sentence.contains("cannot be written; it or its folder is read-only"), "{sentence}");
    store.submit(batch(round(number + 1, "shop/images", at(0))));
    remount("remount,rw");
    wait_for(&news, |health| *health == Health::Writable);
    store.close();
    assert_eq!(count(&path), all + 2);
}
