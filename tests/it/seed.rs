//! A store filled with the past: five-minute rounds of many targets, for as many days as wanted.
//!
//! A few rounds of each target are written by the store itself; SQL repeats them with moments, ids and speeds of their own.
//! The last ones, and one at each end of the last slow span, are written by the store again, so that what can be clicked on
//! is as the daemon leaves it. Nothing is drawn by chance: the same wish gives the same database.

use std::{path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use throttlescope::{
    model::{
        Caveat, Comparison, Evidence, Exchange, Failure, FailureKind, Family, Finding, Hello, Incident,
        IncidentRecord, Mechanism, Phase, Request, Role, TargetId, TcpInfo, TcpStats, Timeline,
        TransferCurve, Vantage, Verdict,
    },
    store::{Batch, RoundRecord, Settings, Store},
};

use crate::metrics::exchange;

/// Rounds of each target that the store itself writes, to be repeated: normal ones, and slow ones.
const NORMAL: i64 = 16;
const SLOW: i64 = 4;
const TEMPLATES: i64 = NORMAL + SLOW;

/// The last rounds of each target, which the store itself writes.
const LAST: i64 = 12;

pub(crate) const ROUND_SECONDS: i64 = 300;

/// Bytes asked for in a bulk transfer.
const BULK_BYTES: u64 = 131_072;

/// What is wanted.
pub(crate) struct Past<'a> {
    pub(crate) days: i64,
    /// Every target is compared with `control`; the first one is the one that is slowed down.
    pub(crate) targets: &'a [String],
    pub(crate) control: &'a str,
    /// The first round after the past.
    pub(crate) end: Timestamp,
    /// When the first target was slow: hours before the end, from and until, oldest first; until 0 is until the end.
    pub(crate) slow: &'a [[i64; 2]],
}

/// Numbers that look random and are always the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// So many hexadecimal digits.
    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit((self.next() & 15) as u32, 16).unwrap()).collect()
    }

    /// Around so many milliseconds, to the nanosecond, as clocks have it.
    fn about(&mut self, milliseconds: f64) -> Duration {
        Duration::from_secs_f64(milliseconds / 1e3 * (0.8 + 0.4 * self.share()))
    }
}

/// The transfer curve of a bulk exchange: a slow start on a line of some 3 Mbit/s, or 16 kB at that speed and then a drip
/// of 130 kbit/s until the time is up.
fn curve(random: &mut Random, bytes: u64, slow: bool) -> TransferCurve {
    let mut curve = TransferCurve::default();
    let (mut at, mut received) = (30.0, 0);
    while received < bytes && at < 15_000.0 {
        received = (received + 1_448).min(bytes);
        at += match received {
            drip if slow && drip > 18_000 => 80.0 + 20.0 * random.share(),
            begun if begun % 14_480 == 0 => 25.0 + 5.0 * random.share(),
            _ => 1.0 + 3.0 * random.share(),
        };
        curve.push(Duration::from_micros((at * 1e3) as u64), received);
    }
    curve
}

fn tcp(random: &mut Random, bytes: u64) -> TcpInfo {
    TcpInfo {
        rtt: Some(random.about(30.0)),
        rtt_variation: Some(random.about(4.0)),
        min_rtt: Some(random.about(28.0)),
        receiver_rtt: Some(random.about(33.0)),
        received_out_of_order: Some(0),
        retransmits: Some(0),
        bytes_received: Some(bytes),
        segments_received: Some((bytes / 1_448) as u32),
        delivery_rate_bytes_per_second: Some(40_000 + random.next() % 9_000),
        receive_mss_bytes: Some(1_448),
        send_mss_bytes: Some(1_448),
        receive_space_bytes: Some(14_480 + (random.next() % 50 * 1_448) as u32),
    }
}

/// One exchange as the daemon takes them. Ids are all that is random in it, and times.
fn taken(random: &mut Random, role: Role, at: Timestamp, warmup: bool, slow: bool) -> Exchange {
    let bytes = if warmup { 1_448 } else { BULK_BYTES };
    let curve = curve(random, bytes, slow);
    let mut phases = Timeline::default();
    phases.skip(Phase::Resolve);
    for (phase, usual) in [(Phase::Connect, 30.0), (Phase::Tls, 65.0), (Phase::Processing, 31.0)] {
        phases.record(phase, random.about(usual));
    }
    let begun = phases.total();
    phases.record(Phase::Transfer, curve.points().last().unwrap().at);
    let failure =
        slow.then_some(Failure { phase: Phase::Transfer, kind: FailureKind::Timeout, detail: None });
    let received = curve.bytes();
    let name = if role == Role::Control { "control.example" } else { "pbs.twimg.example" };
    Exchange {
        id: random.hex(32),
        role,
        started_at: at,
        duration: phases.total(),
        lateness: Duration::from_nanos(random.next() % 900_000),
        name: name.into(),
        address: Some("198.51.100.7:443".parse().unwrap()),
        family: Some(Family::Ipv4),
        pinned: true,
        warmup,
        host_header: name.into(),
        path: format!("/bytes/{bytes}"),
        hello: Some(Hello { bytes: 230, segments: 1, ja4: "t13d0911h1_5a1ad3c8dd42_4b7e5e0c1a3d".into() }),
        certificate_sha256: Some("7d1f".repeat(16)),
        body_sha256: Some(Random(bytes).hex(64)),
        headers: vec![
            ("server".into(), "nginx".into()),
            ("content-type".into(), "application/octet-stream".into()),
        ],
        requests: vec![Request {
            start: begun.saturating_sub(random.about(30.0)),
            first_byte: Some(begun),
            end: phases.total(),
            bytes: received,
        }],
        phases,
        reached: Phase::Transfer,
        bytes: received,
        failure,
        censored: slow,
        tcp: Some(TcpStats {
            connect: Some(tcp(random, 0)),
            during: Some(tcp(random, received / 2)),
            end: Some(tcp(random, received)),
        }),
        curve,
        ..exchange(bytes)
    }
}

fn finding(slow: bool) -> Finding {
    let evidence = Evidence {
        pairs: if slow { 12 } else { 8 },
        e_value: if slow { 40_321.0 } else { 0.43 },
        false_alarm_bound: if slow { 2.48e-5 } else { 1.0 },
        confidence: 0.99,
        slowdown: Some(if slow { 20.3 } else { 1.02 }),
        slowdown_ci: if slow { [Some(14.1), Some(29.4)] } else { [Some(0.91), Some(1.17)] },
        handshake_slowdown: Some(1.01),
        subject_goodput_bytes_per_second: Some(if slow { 16_240.0 } else { 331_000.0 }),
        control_goodput_bytes_per_second: Some(334_000.0),
        limit_bytes_per_second: slow.then_some(16_250.0),
        limit_ci: slow.then_some([16_000.0, 16_500.0]),
        burst_bytes: slow.then_some(17_376),
        freeze_after_bytes: None,
        bytes_used: 1_048_576,
    };
    let verdict = if slow { Verdict::Throttled } else { Verdict::Normal };
    let caveats = vec![Caveat::CertificateUnchecked];
    Finding { verdict, mechanism: slow.then_some(Mechanism::Policing), blocked_at: None, evidence, caveats }
}

impl Past<'_> {
    /// A round as the daemon makes them: two openings with the control, then a pair.
    fn round(&self, number: i64, index: usize, at: Timestamp, slow: bool) -> RoundRecord {
        let mut random = Random(number.cast_unsigned() * 31 + 7);
        let openings = [(Role::Control, true), (Role::Control, true)];
        let pair = [(Role::Control, false), (Role::Subject, false)];
        let mut exchanges: Vec<Exchange> = Vec::new();
        for (role, warmup) in openings.into_iter().chain(pair) {
            let began = at - SignedDuration::from_secs(20 - 5 * i64::try_from(exchanges.len()).unwrap());
            exchanges.push(taken(&mut random, role, began, warmup, slow && role == Role::Subject));
        }
        RoundRecord {
            number,
            at,
            vantage: Vantage::default(),
            target: TargetId::new(&*self.targets[index]),
            control: Some(TargetId::new(self.control)),
            comparison: Comparison::Sni,
            closer: false,
            finding: Some(finding(slow)),
            verdict: Some(if slow { Verdict::Throttled } else { Verdict::Normal }),
            repeat: "throttlescope compare --via 198.51.100.7:443 --subject pbs.twimg.example --control control.example"
                .into(),
            exchanges,
        }
    }

    fn hours_before(&self, hours: i64) -> Timestamp {
        self.end - SignedDuration::from_hours(hours)
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.hours_before(24 * self.days)
    }

    pub(crate) fn rounds(&self) -> i64 {
        self.days * 86_400 / ROUND_SECONDS * self.targets.len().cast_signed() as i64
    }

    /// Fills a database that is not there yet.
    pub(crate) fn fill(&self, path: &Path) {
        let targets = self.targets.len().cast_signed() as i64;
        let mut templates = Vec::new();
        for index in 0..targets {
            for copy in 0..TEMPLATES {
                let number = 1 + index * TEMPLATES + copy;
                templates.push(self.round(number, index as usize, self.start(), copy >= NORMAL));
            }
        }
        write(path, templates, Vec::new());
        let connection = Connection::open(path).unwrap();
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;
            PRAGMA wal_autocheckpoint = 100000";
        connection.execute_batch(settings).unwrap();
        connection.execute_batch("CREATE TEMP TABLE slow(began INTEGER, ended INTEGER)").unwrap();
        let step = |hours: i64| (24 * self.days - hours) * 3600 / ROUND_SECONDS;
        for [from, until] in self.slow {
            connection.execute("INSERT INTO slow VALUES (?1, ?2)", [step(*from), step(*until)]).unwrap();
        }
        let steps = self.days * 86_400 / ROUND_SECONDS - LAST;
        let day = 86_400 / ROUND_SECONDS;
        for from in (0..steps).step_by(usize::try_from(day).unwrap()) {
            repeat(&connection, [from, (from + day).min(steps)], targets, self.start());
        }
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(connection);
        self.last(path, targets, steps);
        Connection::open(path).unwrap().execute_batch("PRAGMA optimize").unwrap();
    }

    /// The last normal round before the last slow span, the last rounds, and the incidents.
    fn last(&self, path: &Path, targets: i64, steps: i64) {
        let mut number = (TEMPLATES + steps) * targets;
        let mut rounds = Vec::new();
        let mut next = |index: usize, at: Timestamp, slow: bool| {
            number += 1;
            rounds.push(self.round(number, index, at, slow));
        };
        if let Some([from, _]) = self.slow.last() {
            next(0, self.hours_before(*from) - SignedDuration::from_secs(60), false);
        }
        for step in steps..steps + LAST {
            for index in 0..self.targets.len() {
                let slow = index == 0 && self.slow.last().is_some_and(|span| span[1] == 0);
                next(index, self.start() + SignedDuration::from_secs(step * ROUND_SECONDS), slow);
            }
        }
        let shown: Vec<String> = rounds
            .iter()
            .filter(|round| round.verdict == Some(Verdict::Throttled))
            .flat_map(|round| round.exchanges.iter().filter(|taken| taken.role == Role::Subject))
            .map(|taken| taken.id.clone())
            .take(3)
            .collect();
        write(path, rounds, self.incidents(&shown));
    }

    fn incidents(&self, shown: &[String]) -> Vec<IncidentRecord> {
        let record = |[from, until]: &[i64; 2]| {
            let target = TargetId::new(&*self.targets[0]);
            let onset = self.hours_before(*from);
            let end = (*until > 0).then(|| self.hours_before(*until));
            let alarm = onset + SignedDuration::from_mins(20);
            let incident = Incident {
                verdict: Verdict::Throttled,
                onset,
                onset_interval: [onset - SignedDuration::from_mins(5), onset],
                onset_before_data: false,
                alarm,
                end,
                end_interval: None,
                share: 0.97,
                tests: ((from - until) * 12).cast_unsigned(),
                false_alarm_bound: 2.4e-7,
                false_alarm_bound_blocks: 1e-4,
            };
            IncidentRecord {
                id: IncidentRecord::id_of(&target, alarm),
                summary: format!("{target} was slowed down."),
                target,
                comparison: Comparison::Sni,
                mechanism: Some(Mechanism::Policing),
                incident,
                evidence: Some(finding(true).evidence),
                repeat: "throttlescope compare".into(),
                rounds: vec![1],
                exchanges: shown.to_vec(),
            }
        };
        self.slow.iter().map(record).collect()
    }
}

fn write(path: &Path, rounds: Vec<RoundRecord>, incidents: Vec<IncidentRecord>) {
    // Nothing is ever too old or too much.
    let retention = Duration::from_hours(24 * 3650);
    let settings = Settings { path: path.to_owned(), retention, max_bytes: u64::MAX };
    let (store, _) = Store::open(settings, |_| {});
    let batches = rounds
        .into_iter()
        .map(|round| Batch { round: Some(Box::new(round)), ..Batch::default() })
        .chain([Batch { incidents, ..Batch::default() }]);
    for batch in batches {
        while !store.submit(batch.clone()) {
            std::thread::yield_now();
        }
    }
    store.close();
}

/// Repeats the templates over some steps. Round `first + step * targets + index` of a target repeats one of its templates,
/// its own second of the step; goodput follows the hour of the day and scatters.
fn repeat(connection: &Connection, [from, until]: [i64; 2], targets: i64, start: Timestamp) {
    let own = format!(
        "WITH RECURSIVE step(s) AS (SELECT ?1 UNION ALL SELECT s + 1 FROM step WHERE s + 1 < ?2),
         target(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM target WHERE i + 1 < ?4),
         own AS (SELECT s, i, ?3 + s * ?4 + i AS n, 1 + i * {TEMPLATES} + CASE WHEN i = 0 AND EXISTS
         (SELECT 1 FROM slow WHERE s >= began AND s < ended) THEN {NORMAL} + s % {SLOW} ELSE (s * 7 + i) % {NORMAL} END
         AS template FROM step CROSS JOIN target)"
    );
    let at = format!("?5 + (s * {ROUND_SECONDS} + i) * 1000000");
    let first = targets * TEMPLATES + 1;
    let span = params![from, until, first, targets, start.as_microsecond()];
    connection.execute_batch("BEGIN").unwrap();
    connection
        .execute(
            &format!(
                "{own} INSERT INTO rounds(n, target, at, record) SELECT own.n, r.target, {at}, r.record
                 FROM own CROSS JOIN rounds r ON r.n = own.template"
            ),
            span,
        )
        .unwrap();
    // Two Lehmer sequences make ids as random as real ones; the hour's part of the goodput is a parabola.
    connection
        .execute(
            &format!(
                "{own} INSERT INTO exchanges
                 SELECT e.target, {at}, own.n, e.place,
                 (((own.n * 4 + e.place) * 48271 % 2147483647) << 32) | ((own.n * 4 + e.place) * 69621 % 2147483647),
                 e.control, e.role, e.flags, e.verdict,
                 e.goodput * (700 + (s * 48271 + e.place * 7919) % 397 + (s % 288 - 144) * (s % 288 - 144) / 90) / 1000,
                 e.resolve, e.connect, e.tls, e.processing, e.transfer
                 FROM own CROSS JOIN rounds r ON r.n = own.template
                 CROSS JOIN exchanges e ON e.target = r.target AND e.at = r.at AND e.round = r.n"
            ),
            span,
        )
        .unwrap();
    connection.execute_batch("COMMIT").unwrap();
}
