//! Changes of a recording that must change nothing, or only in one direction, through the built program: order, unit, time
//! zone, spelling and packing; both sides slower; our own machine late; clean tests more.

use std::{fmt::Write as _, io::Write as _, process::Command, time::Duration};

use flate2::{Compression, write::GzEncoder};
use jiff::{SignedDuration, Timestamp, tz::Offset};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::ChaCha8Rng, seq::SliceRandom as _};
use serde_json::Value;
use throttlescope::model::{
    Comparison, Exchange, MEASUREMENT_SCHEMA, Measurement, Phase, Role, TargetId, Timeline, TransferCurve,
    Vantage,
};

use super::metrics::exchange;

/// What `analyze` says of files with this content, and its exit status. Versions and counts of the files are left out.
fn analyzed(files: &[&[u8]]) -> (Value, i32) {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..files.len()).map(|index| folder.path().join(index.to_string())).collect();
    for (path, content) in paths.iter().zip(files) {
        std::fs::write(path, content).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["analyze", "--json"])
        .args(&paths)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (document, output.status.code().unwrap())
}

fn start() -> Timestamp {
    "2021-03-13T00:00:00Z".parse().unwrap()
}

/// A test of a recording: minutes since the start, goodputs in bits per second.
#[derive(Debug, Clone, Copy)]
struct Row {
    minute: i64,
    vantage: u8,
    subject: f64,
    control: f64,
}

/// Some tests, then throttled ones in part of them, then free ones.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (1..60_i64, 0..2_u8, 0.2..5.0_f64, 1e6..5e7_f64, any::<bool>());
    (prop::collection::vec(one, 30..120), 0..30_usize, 10..60_usize).prop_map(|(drawn, onset, length)| {
        let mut minute = 0;
        let one = |(index, (gap, vantage, ratio, control, patchy))| {
            minute += gap;
            let throttled = (onset..onset + length).contains(&index) && (vantage == 0 || patchy);
            Row { minute, vantage, subject: if throttled { 108_000.0 } else { control * ratio }, control }
        };
        drawn.into_iter().enumerate().map(one).collect()
    })
}

/// The same tests as text: time zone of each row, factor on the goodputs.
fn csv(rows: &[Row], hours: impl Fn(usize) -> i8, factor: f64) -> String {
    let mut text = String::from("time,vantage,target,subject_bps,control_bps\n");
    for (index, row) in rows.iter().enumerate() {
        let at = start() + SignedDuration::from_mins(row.minute);
        let at = at.display_with_offset(Offset::constant(hours(index)));
        let (subject, control) = (row.subject * factor, row.control * factor);
        writeln!(text, "{at},AS{},a,{subject},{control}", row.vantage).unwrap();
    }
    text
}

fn plain(rows: &[Row]) -> String {
    csv(rows, |_| 0, 1.0)
}

fn incidents(document: &Value) -> usize {
    let series = document["series"].as_array().unwrap();
    series.iter().map(|one| one["incidents"].as_array().unwrap().len()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn order_unit_zone_and_packing_change_nothing(rows in rows(), seed in any::<u64>()) {
        let expected = analyzed(&[plain(&rows).as_bytes()]);
        let mut mixed = rows.clone();
        mixed.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(&analyzed(&[plain(&mixed).as_bytes()]), &expected, "order");
        let zones = |index: usize| [0, 3, -11, 14][(index + seed as usize % 4) % 4];
        prop_assert_eq!(&analyzed(&[csv(&rows, zones, 1.0).as_bytes()]), &expected, "time zone");
        prop_assert_eq!(&analyzed(&[csv(&rows, |_| 0, 1024.0).as_bytes()]), &expected, "unit");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(plain(&rows).as_bytes()).unwrap();
        prop_assert_eq!(&analyzed(&[&packed.finish().unwrap()]), &expected, "gzip");
        let (first, second) = rows.split_at(rows.len() / 3);
        prop_assert_eq!(&analyzed(&[plain(second).as_bytes(), plain(first).as_bytes()]), &expected, "two files");
        let spelled = respelled(&plain(&rows));
        prop_assert_eq!(&analyzed(&[spelled.as_bytes()]), &expected, "spelling");
    }

    /// A day earlier or later moves every moment by a day. (Blocks of tests are aligned to the clock, hence whole days.)
    #[test]
    fn another_day_moves_every_moment(rows in rows(), days in -3_000..3_000_i64) {
        let (before, status) = analyzed(&[plain(&rows).as_bytes()]);
        let mut moved = rows.clone();
        for row in &mut moved {
            row.minute += days * 24 * 60;
        }
        let (after, moved_status) = analyzed(&[plain(&moved).as_bytes()]);
        prop_assert_eq!(status, moved_status);
        let moments = |document: &Value| -> Vec<(String, Timestamp)> {
            let mut found = Vec::new();
            for one in document["series"].as_array().unwrap() {
                for incident in one["incidents"].as_array().unwrap() {
                    let onset: Timestamp = incident["onset"].as_str().unwrap().parse().unwrap();
                    found.push((format!("{} {} {}", one["state"], incident["share"], incident["tests"]), onset));
                }
            }
            found
        };
        let expected: Vec<(String, Timestamp)> = moments(&before)
            .into_iter()
            .map(|(what, at)| (what, at + SignedDuration::from_hours(24 * days)))
            .collect();
        prop_assert_eq!(moments(&after), expected);
    }

    #[test]
    fn slowing_both_accuses_nobody_more(rows in rows(), factor in 1.5..400.0_f64, from in 0..60_usize) {
        let mut slowed: Vec<Row> = rows.clone();
        for row in slowed.iter_mut().skip(from) {
            row.subject /= factor;
            row.control /= factor;
        }
        let (before, after) = (analyzed(&[plain(&rows).as_bytes()]).0, analyzed(&[plain(&slowed).as_bytes()]).0);
        prop_assert!(incidents(&after) <= incidents(&before));
    }

    /// A clean test in each pause lowers every share and never makes an incident.
    #[test]
    fn clean_tests_never_strengthen(rows in rows()) {
        let mut more = rows.clone();
        more.extend(rows.iter().map(|row| Row { subject: row.control, minute: row.minute + 5, ..*row }));
        let (before, after) = (analyzed(&[plain(&rows).as_bytes()]).0, analyzed(&[plain(&more).as_bytes()]).0);
        if incidents(&before) == 0 {
            prop_assert_eq!(incidents(&after), 0);
        }
    }

    #[test]
    fn rounds_do_not_ask_for_order_or_clock(
        spreads in prop::collection::vec((-0.3..0.3_f64, -0.3..0.3_f64, any::<bool>()), 12),
        slowdown in 1.0..20.0_f64,
        seed in any::<u64>(),
        hours in -20_000..20_000_i64,
    ) {
        let round = round(&spreads, slowdown);
        let expected = analyzed(&[ndjson(&round).as_bytes()]);
        let mut mixed = round.clone();
        mixed.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        for exchange in &mut mixed {
            exchange.started_at += SignedDuration::from_hours(hours);
        }
        let zoned = ndjson(&mixed).replace("Z\",\"duration_s\"", "+00:00\",\"duration_s\"");
        let found = analyzed(&[zoned.as_bytes()]);
        prop_assert_eq!(&found.0["rounds"][0]["verdict"], &expected.0["rounds"][0]["verdict"]);
        prop_assert_eq!(&found.0["rounds"][0]["evidence"], &expected.0["rounds"][0]["evidence"]);
        prop_assert_eq!(found.1, expected.1);
    }

    #[test]
    fn rounds_never_accuse_for_slowing_both(
        spreads in prop::collection::vec((-0.3..0.3_f64, -0.3..0.3_f64, any::<bool>()), 12),
        factor in 1.0..100.0_f64,
    ) {
        let mut round = round(&spreads, 1.0);
        for exchange in &mut round {
            stretch(exchange, factor);
        }
        prop_assert!(analyzed(&[ndjson(&round).as_bytes()]).1 != 1, "both are slower alike");
    }

    /// The probe's clock is delayed: what it then sees of the subject alone is its own doing.
    #[test]
    fn a_late_probe_never_accuses(
        spreads in prop::collection::vec((-0.3..0.3_f64, -0.3..0.3_f64, any::<bool>()), 12),
        milliseconds in 21..5_000_u64,
        all in any::<bool>(),
    ) {
        let mut round = round(&spreads, 12.0);
        prop_assert_eq!(analyzed(&[ndjson(&round).as_bytes()]).1, 1, "it is throttled");
        for exchange in round.iter_mut().filter(|exchange| all || exchange.role == Role::Subject) {
            exchange.lateness = Duration::from_millis(milliseconds);
        }
        prop_assert_eq!(analyzed(&[ndjson(&round).as_bytes()]).1, 3);
    }
}

/// The same table as other programs write it: a byte order mark, columns in another order and more of them, quotes, line ends
/// of two kinds, empty lines, exponents.
fn respelled(text: &str) -> String {
    let mut spelled = String::from("\u{feff}\"Control_bps\", note ,target,time,vantage,SUBJECT_BPS\r\n");
    for (index, line) in text.lines().skip(1).enumerate() {
        let [time, vantage, target, subject, control] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let control: f64 = control.parse().unwrap();
        write!(spelled, "{control:e},\"a, \"\"b\"\"\",{target} ,\"{time}\",{vantage}, {subject}").unwrap();
        spelled.push_str(["\n", "\r\n", "\n\n"][index % 3]);
    }
    spelled
}

/// Two controls, then pairs in the order drawn, each with its scatter; the subject so many times slower.
fn round(spreads: &[(f64, f64, bool)], slowdown: f64) -> Vec<Exchange> {
    let opening = |pair| transfer(Role::Control, pair, 0, 1.0);
    let mut all: Vec<Exchange> = (0..2).map(opening).collect();
    for (index, &(subject, control, subject_first)) in spreads.iter().enumerate() {
        let pair = index as u32 + 2;
        all.push(transfer(Role::Subject, pair, u32::from(!subject_first), slowdown * subject.exp()));
        all.push(transfer(Role::Control, pair, u32::from(subject_first), control.exp()));
    }
    all
}

/// 128 KiB in 0.5 s, times `factor`.
fn transfer(role: Role, pair: u32, position: u32, factor: f64) -> Exchange {
    let name = if role == Role::Subject { "subject.example" } else { "control.example" };
    let mut one = Exchange {
        id: format!("{pair}-{position}"),
        pair,
        position,
        role,
        started_at: start() + SignedDuration::from_secs(i64::from(60 * pair + 30 * position)),
        name: name.into(),
        address: Some("192.0.2.1:443".parse().unwrap()),
        ..exchange(131_072)
    };
    one.curve = (1..=91).map(|n| (Duration::from_millis(n * 5), (1_448 * n).min(131_072))).collect();
    stretch(&mut one, factor);
    one
}

/// Makes a transfer so many times slower.
fn stretch(exchange: &mut Exchange, factor: f64) {
    let points: TransferCurve =
        exchange.curve.points().iter().map(|point| (point.at.mul_f64(factor), point.bytes)).collect();
    let end = points.points().last().unwrap().at;
    exchange.curve = points;
    exchange.requests[0].end = exchange.requests[0].start + end;
    let mut phases = Timeline::default();
    for phase in [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing] {
        phases.record(phase, Duration::from_millis(10));
    }
    phases.record(Phase::Transfer, end);
    exchange.duration = phases.total();
    exchange.phases = phases;
}

fn ndjson(exchanges: &[Exchange]) -> String {
    let line = |exchange: &Exchange| {
        let measurement = Measurement {
            schema: MEASUREMENT_SCHEMA.into(),
            vantage: Vantage::default(),
            subject: TargetId::new("shop/images"),
            control: Some(TargetId::new("control/cdn")),
            comparison: Comparison::Sni,
            exchange: exchange.clone(),
        };
        serde_json::to_string(&measurement).unwrap() + "\n"
    };
    exchanges.iter().map(line).collect()
}
