//! The detector of series over time, against known truth: simulated series with and without interference, the crowd
//! measurements of 2021, and changes of the input that must change nothing.
//!
//! `THROTTLESCOPE_SERIES_SIZE=100` repeats the numbers of `docs/accuracy-series.md` and `docs/calibration.md`; the default is
//! small.

mod calibration;
mod thinned;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, process::Command};

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use throttlescope::{
    analysis::series::{Observed, PairedTest, SeriesDetector, SeriesEvent, Settings, judge},
    model::{Incident, PairedRow, SeriesReport, SeriesState, Verdict},
    recorded::paired_csv,
};

/// Operators that did not throttle in 2021, and some that throttled every subscriber.
const NEVER: [&str; 10] = [
    "AS25513", "AS42610", "AS8402", "AS35807", "AS12714", "AS3226", "AS29124", "AS8369", "AS41668", "AS41733",
];
const FULLY: [&str; 7] = ["AS31213", "AS12958", "AS31163", "AS42437", "AS41330", "AS48190", "AS48092"];

fn size() -> usize {
    std::env::var("THROTTLESCOPE_SERIES_SIZE").ok().and_then(|size| size.parse().ok()).unwrap_or(1)
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(27_000_000 + minutes)
}

fn pair(subject: f64, control: f64) -> PairedTest {
    PairedTest { subject: Observed::Goodput(subject), control: Observed::Goodput(control) }
}

/// A line and those who test on it.
#[derive(Clone, Copy, Default)]
struct Line {
    /// Autocorrelation of line and ratio from one test to the next.
    memory: f64,
    /// The subject is this many times slower in the evening than in the morning (log2), by the clock.
    evening: f64,
    /// The chance that a visitor with a throttled line behind a tunnel begins to test.
    visitor: f64,
    /// The chance that this visitor tests again.
    repeat: f64,
    /// The ratio swings by this much (log2) over an hour.
    cycle: f64,
    /// The chance that one of the two stalls for ten times as long, whichever.
    stalls: f64,
    /// From some moment on the subject is this much farther away (log2).
    step: f64,
}

/// Draws the pairs of a line, one every five minutes.
struct Draw {
    line: Line,
    random: ChaCha8Rng,
    ratio: f64,
    speed: f64,
    visiting: bool,
    step_at: i64,
}

impl Draw {
    fn new(line: Line, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let step_at = random.random_range(0..5_000);
        Self { line, random, ratio: 0.0, speed: 0.0, visiting: false, step_at }
    }

    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.random.random(), self.random.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Student's t with three degrees of freedom: heavier tails than the crowd's ratios have.
    fn heavy(&mut self) -> f64 {
        let chi: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / (chi / 3.0).sqrt()
    }

    /// A pair at a minute; `affected` is slowed to 108 kbit/s within a few per cent.
    fn pair(&mut self, minute: i64, affected: bool) -> PairedTest {
        let memory = self.line.memory;
        let fresh = (1.0 - memory * memory).sqrt();
        self.speed = memory * self.speed + fresh * self.normal();
        self.ratio = memory * self.ratio + fresh * self.heavy() * 0.55;
        let day = (minute as f64 / 1440.0 * std::f64::consts::TAU).sin();
        let control = 2f64.powf(22.0 + self.speed * 1.2 - day * 0.5);
        let again = if self.visiting { self.line.repeat } else { self.line.visitor };
        self.visiting = self.random.random_bool(again);
        let limit = 108_000.0 * 2f64.powf(self.normal() * 0.12);
        let hour = (minute as f64 / 60.0 * std::f64::consts::TAU).sin();
        let away = if minute >= self.step_at { self.line.step } else { 0.0 };
        let free = control
            * 2f64.powf(0.24 + self.ratio - self.line.evening * day.max(0.0) + self.line.cycle * hour - away);
        let stall = |stalls: bool| if stalls { 10.0 } else { 1.0 };
        let stalls =
            [0, 1].map(|_| stall(self.line.stalls > 0.0 && self.random.random_bool(self.line.stalls)));
        let subject = if affected || self.visiting { free.min(limit) } else { free };
        pair(subject / stalls[0], control / stalls[1])
    }
}

/// What 2021's never throttled operators look like: a slow test is followed by another in 12 %.
const AS_IN_2021: Line = Line { visitor: 0.006, repeat: 0.12, ..PLAIN };

/// Independent, heavy tails.
const PLAIN: Line =
    Line { memory: 0.0, evening: 0.0, visitor: 0.0, repeat: 0.0, cycle: 0.0, stalls: 0.0, step: 0.0 };

/// The 95 % upper bound of a Poisson mean after `count` events (Garwood), by the Wilson-Hilferty approximation.
fn poisson_upper(count: u32) -> f64 {
    let n = f64::from(count + 1);
    n * (1.0 - 1.0 / (9.0 * n) + 1.645 / (3.0 * n.sqrt())).powi(3)
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

#[test]
fn onset_and_lift_are_found_at_their_moments() {
    println!(
        "| share | normal before | missed | delay median, 95 % | onset in interval | lift missed | end in interval |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (share, before, delay_allowed) in
        [(1.0, 0, 4.0), (1.0, 200, 5.0), (0.67, 0, 8.0), (0.67, 200, 8.0), (0.35, 0, 18.0), (0.35, 200, 18.0)]
    {
        let (mut missed, mut early, mut lift_missed, mut delays) = (0, 0_u32, 0, Vec::new());
        let (mut covered, mut end_covered, runs) = ([0, 0], [0, 0], 60 * size());
        for seed in 0..runs as u64 {
            let line = Line { memory: 0.3, visitor: 0.003, repeat: 0.12, ..PLAIN };
            let (mut draw, mut detector) =
                (Draw::new(line, seed), SeriesDetector::new(Settings::recorded(1)));
            let (onset, lift, length) = (before, before + 300, before + 800);
            let mut alarm = None;
            for n in 0..length {
                let affected = (onset..lift).contains(&n) && draw.random.random_bool(share);
                let sample = draw.pair(n * 5, affected);
                let raised = detector
                    .observe(at(n * 5), sample)
                    .iter()
                    .any(|event| matches!(event, SeriesEvent::Onset(_)));
                if raised && n > onset {
                    alarm.get_or_insert(n - onset);
                }
            }
            detector.finish();
            let incidents: Vec<Incident> = detector.incidents().cloned().collect();
            let (Some(alarm), Some(first)) = (alarm, incidents.first()) else {
                // A false incident that still lasted is no miss; those are counted elsewhere.
                let lasted = incidents.first().is_some_and(|first| first.alarm < at(onset * 5));
                early += u32::from(lasted);
                missed += u32::from(!lasted);
                continue;
            };
            delays.push(alarm as f64);
            covered[usize::from(
                first.onset_interval[0] <= at(onset * 5) && at(onset * 5) <= first.onset_interval[1],
            )] += 1;
            match incidents.last().and_then(|last| last.end_interval) {
                Some([a, b]) => end_covered[usize::from(a <= at(lift * 5) && at(lift * 5) <= b)] += 1,
                None => lift_missed += 1,
            }
        }
        let (median, late) = (quantile(&mut delays, 0.5), quantile(&mut delays, 0.95));
        let [onset_cover, end_cover] =
            [covered, end_covered].map(|[no, yes]| 100.0 * f64::from(yes) / f64::from(no + yes));
        println!(
            "| {share} | {before} | {missed}/{runs} | {median}, {late} | {onset_cover:.1} % | {lift_missed}/{runs} | {end_cover:.1} % |"
        );
        assert!(f64::from(early) <= 3.0 + 3.0 * runs as f64 * before as f64 / 100_000.0, "{early} false");
        assert!(
            missed == 0 && median <= delay_allowed,
            "share {share}: median delay {median}, {missed} missed"
        );
        assert!(
            onset_cover >= 90.0 && end_cover >= 90.0,
            "share {share}: intervals cover {onset_cover} and {end_cover} %"
        );
        assert!(lift_missed * 50 <= runs, "share {share}: {lift_missed} of {runs} lifts missed");
    }
}

fn rows(count: i64, subject: impl Fn(i64) -> f64, control: impl Fn(i64) -> f64) -> Vec<PairedRow> {
    (0..count)
        .map(|n| PairedRow {
            at: at(n * 7),
            vantage: "AS1".into(),
            target: "a".into(),
            subject: Some(subject(n)),
            control: Some(control(n)),
            canary: None,
        })
        .collect()
}

fn only(rows: &[PairedRow]) -> SeriesReport {
    let mut reports = judge(rows);
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[test]
fn three_affected_tests_are_too_few_and_four_suffice() {
    let three = only(&rows(3, |_| 13_000.0, |_| 1e6));
    assert!(three.incidents.is_empty());
    assert_eq!(three.state, SeriesState::Suspected);
    assert_eq!(three.state.name(), "inconclusive");
    let four = only(&rows(4, |_| 13_000.0, |_| 1e6));
    assert_eq!((four.state, four.incidents.len()), (SeriesState::Throttled, 1));
    assert_eq!(four.incidents[0].onset, at(0));
    assert!(four.incidents[0].onset_before_data);
    let clear = only(&rows(3, |_| 9e5, |_| 1e6));
    assert_eq!(clear.state, SeriesState::Inconclusive, "three tests say nothing");
}

#[test]
fn many_rows_within_five_minutes_are_one_test() {
    let mut one = rows(40, |_| 13_000.0, |_| 1e6);
    for row in &mut one {
        row.at = at(0);
    }
    let report = only(&one);
    assert_eq!((report.rows, report.tests, report.incidents.len()), (40, 1, 0));
}

#[test]
fn slowing_both_never_accuses() {
    let slow = |n: i64| if n >= 50 { 20_000.0 } else { 1e6 };
    let report = only(&rows(100, slow, slow));
    assert!(report.incidents.is_empty());
    assert_eq!(report.state, SeriesState::Degraded);
    let dying = only(&rows(100, |n| slow(n) / 20.0 * if n < 50 { 20.0 } else { 1.0 }, slow));
    assert!(dying.incidents.is_empty(), "a line that collapses, the subject first, accuses nobody");
}

#[test]
fn silence_is_not_health() {
    let mut detector = SeriesDetector::new(Settings::live(1, std::time::Duration::from_mins(5)));
    assert_eq!(detector.state(), SeriesState::NoData);
    for n in 0..30 {
        detector.observe(at(n * 5), pair(1e6, 1e6));
    }
    assert_eq!(detector.state(), SeriesState::Normal);
    assert_eq!(detector.tick(at(30 * 5 + 20)), [SeriesEvent::Silent]);
    assert_eq!(detector.state(), SeriesState::NoData);
}

/// A clock that was ahead for a while dates nothing that is found later, neither by ten minutes nor by a year, and what was
/// found while it was ahead is not dated after the present.
#[test]
fn a_clock_that_was_ahead_leaves_no_date_in_the_future() {
    use throttlescope::model::Incident;
    let moments = |incident: &Incident| {
        let mut moments = vec![incident.onset, incident.alarm];
        moments.extend(incident.onset_interval);
        moments.extend(incident.end);
        moments.extend(incident.end_interval.into_iter().flatten());
        moments
    };
    let slow = 15_000.0;
    for ahead in [10, 60 * 24 * 365] {
        // The clock is ahead from test 30 to test 40. The throttle sets in long before, meanwhile, and long after.
        for onset in [25, 35, 60] {
            let mut detector = SeriesDetector::new(Settings::live(1, std::time::Duration::from_mins(5)));
            let (mut begun, mut ended) = (Vec::new(), Vec::new());
            for n in 0..140 {
                let now = at(n * 5 + if (30..40).contains(&n) { ahead } else { 0 });
                let goodput = if (onset..onset + 40).contains(&n) { slow } else { 1e6 };
                for event in detector.observe(now, pair(goodput, 1e6)) {
                    match event {
                        SeriesEvent::Onset(incident) => begun.push(incident),
                        SeriesEvent::End(incident) => ended.push(incident),
                        other => assert_eq!(other, SeriesEvent::Silent),
                    }
                }
                let dated: Vec<_> = detector.incidents().flat_map(moments).collect();
                assert!(dated.iter().all(|moment| *moment <= now), "{dated:?} at {now}");
                assert_eq!(detector.memory().last_at, Some(now));
            }
            assert_eq!((begun.len(), ended.len()), (1, 1), "{ahead} {onset}: {begun:?} {ended:?}");
            let found = &ended[0];
            assert!(found.end.is_some_and(|end| end >= at((onset + 40) * 5)), "{found:?}");
            if onset == 35 {
                assert!(found.onset <= at(40 * 5), "{found:?}");
            } else {
                // Outside the wrong span moments are what they would have been.
                assert_eq!((found.onset, found.end), (at(onset * 5), Some(at((onset + 40) * 5))));
            }
        }
    }
}

#[test]
fn judged_rounds_raise_keep_and_end_an_incident_over_a_restart() {
    let settings = Settings::live(10, std::time::Duration::from_mins(5));
    let mut detector = SeriesDetector::new(settings);
    let mut events = Vec::new();
    for n in 0..60 {
        let verdict = if (20..40).contains(&n) { Verdict::Frozen } else { Verdict::Normal };
        events.extend(detector.observe(at(n * 5), throttlescope::analysis::series::Sample::Finding(verdict)));
        let stored = serde_json::to_string(detector.memory()).unwrap();
        let memory = serde_json::from_str(&stored).unwrap();
        assert_eq!(&memory, detector.memory());
        detector = SeriesDetector::resume(settings, memory);
    }
    let [SeriesEvent::Onset(onset), SeriesEvent::End(end)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((onset.verdict, onset.onset, onset.alarm), (Verdict::Frozen, at(100), at(110)));
    assert_eq!((end.end, end.tests), (Some(at(200)), 20));
}

#[test]
fn order_unit_and_clean_rows_never_strengthen() {
    let mut draw = Draw::new(AS_IN_2021, 7);
    let subject: Vec<PairedTest> =
        (0..400).map(|n| draw.pair(n * 7, (120..300).contains(&n) && n % 3 != 0)).collect();
    let goodput = |observed| if let Observed::Goodput(value) = observed { value } else { 0.0 };
    let base = rows(400, |n| goodput(subject[n as usize].subject), |n| goodput(subject[n as usize].control));
    let expected = judge(&base);
    assert_eq!(expected[0].incidents.len(), 1);
    let mut shuffled = base.clone();
    shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(judge(&shuffled), expected);
    let mut scaled = base.clone();
    for row in &mut scaled {
        row.subject = row.subject.map(|value| value * 1024.0);
        row.control = row.control.map(|value| value * 1024.0);
    }
    assert_eq!(judge(&scaled), expected);
    let mut diluted = base.clone();
    diluted.extend(rows(400, |_| 1e6, |_| 1e6));
    let weaker = judge(&diluted);
    assert!(weaker[0].incidents[0].share < expected[0].incidents[0].share);
    assert!(weaker[0].incidents[0].alarm >= expected[0].incidents[0].alarm);
}

/// The crowd measurements; `None`, said on stderr, where they are absent.
fn crowd() -> Option<Vec<PairedRow>> {
    let root =
        std::env::var_os("THROTTLESCOPE_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let path = root.join("twitter-2021/paired.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        assert!(std::env::var_os("THROTTLESCOPE_REQUIRE_ALL").is_none(), "{} is missing", path.display());
        eprintln!("skipped: {} is missing (THROTTLESCOPE_DATA names the directory)", path.display());
        return None;
    };
    Some(paired_csv::read(flate2::read::MultiGzDecoder::new(file)).unwrap().rows)
}

#[test]
fn crowd_of_2021_operators_are_told_apart() {
    let Some(rows) = crowd() else { return };
    let reports: BTreeMap<(String, String), SeriesReport> = judge(&rows)
        .into_iter()
        .map(|report| ((report.vantage.clone(), report.target.clone()), report))
        .collect();
    let report = |vantage: &str| &reports[&(vantage.to_owned(), "abs.twimg.com".to_owned())];
    let (incidents, tests) = NEVER.iter().fold((0, 0), |(incidents, tests), vantage| {
        (incidents + report(vantage).incidents.len(), tests + report(vantage).tests)
    });
    println!("never throttled: {incidents} incidents in {tests} tests");
    assert!(incidents <= 1);
    for vantage in FULLY {
        let incidents = &report(vantage).incidents;
        assert_eq!(incidents.len(), 1, "{vantage}");
        let delay = tests_until(&rows, vantage, incidents[0].alarm);
        println!("{vantage}: alarm at test {delay}, share {:.2}", incidents[0].share);
        assert!(delay <= 4 && incidents[0].end.is_none() && incidents[0].share > 0.9, "{vantage}: {delay}");
    }
    for vantage in ["AS12389", "AS15378"] {
        let delay = tests_until(&rows, vantage, report(vantage).incidents[0].alarm);
        println!("{vantage}: alarm at test {delay}, share {:.2}", report(vantage).incidents[0].share);
        assert!(delay <= 15, "{vantage}: {delay}");
    }
    let canaries = reports.values().filter(|report| report.target.ends_with("#canary"));
    let canary: usize = canaries.map(|report| report.incidents.len()).sum();
    println!("canary: {canary} incidents");
    assert_eq!(canary, 0, "the over-matching rule was fixed before the recording begins");
}

/// The rule that matched too much had been mended when the recording begins. What the judge would have said of it: the
/// canary's goodputs of one operator are replaced by the throttled ones until a moment two days later.
#[test]
fn crowd_of_2021_with_the_rule_that_matched_too_much() {
    let Some(mut rows) = crowd() else { return };
    let until: Timestamp = "2021-03-15T00:00:00Z".parse().unwrap();
    for row in rows.iter_mut().filter(|row| row.vantage == "AS31213" && row.at < until) {
        row.canary = row.subject;
    }
    let found: Vec<SeriesReport> = judge(&rows)
        .into_iter()
        .filter(|report| report.target.ends_with("#canary") && !report.incidents.is_empty())
        .collect();
    let [only] = &found[..] else { panic!("{found:?}") };
    let [incident] = &only.incidents[..] else { panic!("{only:?}") };
    let delay = tests_until(&rows, "AS31213", incident.alarm);
    println!("canary of {}: alarm at test {delay}, end {:?}", only.vantage, incident.end_interval);
    assert_eq!((only.vantage.as_str(), delay), ("AS31213", 4));
    assert!(incident.end_interval.is_some_and(|[from, to]| from <= until && until <= to), "{incident:?}");
}

/// Which of the counted tests of a vantage the alarm came at, from one.
fn tests_until(rows: &[PairedRow], vantage: &str, alarm: Timestamp) -> usize {
    let windows = rows.iter().filter(|row| row.vantage == vantage && row.at <= alarm);
    windows.map(|row| row.at.as_second() / 300).collect::<std::collections::BTreeSet<_>>().len()
}

/// Blocks of six hours of the operators that did not throttle, drawn with replacement and put one after the other.
#[test]
fn crowd_of_2021_block_bootstrap_of_the_null() {
    let Some(rows) = crowd() else { return };
    let mut blocks: BTreeMap<(&str, i64), Vec<&PairedRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| NEVER.contains(&row.vantage.as_str())) {
        blocks.entry((&row.vantage, row.at.as_second().div_euclid(6 * 3600))).or_default().push(row);
    }
    let blocks: Vec<(i64, Vec<&PairedRow>)> =
        blocks.into_iter().map(|((_, number), rows)| (number, rows)).collect();
    let mut random = ChaCha8Rng::seed_from_u64(2021);
    let (mut tests, mut alarms) = (0, 0_u32);
    for _ in 0..10 * size() {
        let mut detector = SeriesDetector::new(Settings::recorded(1));
        for slot in 0..1_000_i64 {
            let (number, drawn) = &blocks[random.random_range(0..blocks.len())];
            for row in drawn {
                let moved = row.at + SignedDuration::from_hours(6 * (slot - number + 100_000));
                let events = detector.observe(moved, pair(row.subject.unwrap(), row.control.unwrap()));
                alarms += events.iter().filter(|event| matches!(event, SeriesEvent::Onset(_))).count() as u32;
            }
        }
        tests += detector.memory().tests;
    }
    println!("block bootstrap: {alarms} false incidents in {tests} tests from {} blocks", blocks.len());
    assert!(f64::from(alarms) <= 2.0 + 2.0 * tests as f64 / 100_000.0, "{alarms} in {tests}");
}

#[test]
fn analyze_prints_the_contract() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut text = "time,vantage,target,subject_bps,control_bps,canary_bps\n".to_owned();
    for n in 0..12 {
        writeln!(text, "2021-03-13T{n:02}:00:00+03:00,AS1,a,104000,8000000,7000000").unwrap();
    }
    std::fs::write(file.path(), text + "2021-03-13T20:00:00Z,AS1,a,fast,1,1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["analyze", "--json"])
        .arg(file.path())
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["schema"], "throttlescope/analysis/1");
    let [subject, canary] = &json["series"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((subject["target"].as_str(), subject["state"].as_str()), (Some("a"), Some("throttled")));
    assert_eq!(subject["incidents"][0]["onset"], "2021-03-12T21:00:00Z");
    assert_eq!(subject["incidents"][0]["end"], serde_json::Value::Null);
    assert_eq!((canary["target"].as_str(), canary["state"].as_str()), (Some("a#canary"), Some("normal")));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 14"));
}
