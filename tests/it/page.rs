//! The status page over a made-up year: complete without scripts, in every language, small, escaped.

use std::{io::Write, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use throttlescope::{
    model::{
        BudgetStatus, Caveat, Comparison, EndpointKind, Evidence, Exchange, Failure, FailureKind, Finding,
        FindingStatus, Incident, MEASUREMENT_SCHEMA, Measurement, Mechanism, Network, Phase, PhaseQuantiles,
        Quantiles, Role, Snapshot, TargetId, TargetStatus, TransferCurve, Vantage, Verdict,
    },
    web::{Bin, ExportFormat, ExportRequest, History, HistoryError, Latest, PastIncident, WebSettings},
};

use super::{
    metrics::exchange,
    web::{Web, client, start_with},
};

const NOW: &str = "2026-11-23T21:05:00Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn hours(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

/// A number from 0 to 1 that looks random and is always the same for the same place.
fn noise(seed: u64) -> f64 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// A year in which twitter/images was throttled twice and still is, without a store behind it.
struct MadeUp;

fn is_throttled(target: &TargetId, at: Timestamp) -> bool {
    target.as_str() == "twitter/images" && ((at > hours(40)) || (at > hours(400) && at < hours(330)))
}

fn transfer(throttled: bool) -> Exchange {
    let mut curve = TransferCurve::default();
    let mut at = 40.0;
    let mut bytes = 0;
    while bytes < 131_072 && at < 15_000.0 {
        bytes += 1448;
        at += if throttled && bytes > 20_000 { 90.0 } else { 2.0 + 3.0 * noise(bytes) };
        curve.push(Duration::from_secs_f64(at / 1000.0), bytes);
    }
    let whole = exchange(curve.bytes());
    let mut requests = whole.requests.clone();
    requests[0].end = requests[0].start + Duration::from_secs_f64(at / 1000.0);
    let failure = Failure { phase: Phase::Transfer, kind: FailureKind::Timeout, detail: None };
    Exchange {
        id: if throttled { "b".repeat(32) } else { "a".repeat(32) },
        started_at: hours(if throttled { 1 } else { 41 }),
        name: "pbs.twimg.example".into(),
        curve,
        requests,
        censored: throttled,
        failure: throttled.then_some(failure),
        ..whole
    }
}

fn measurement(exchange: Exchange) -> Measurement {
    Measurement {
        schema: MEASUREMENT_SCHEMA.into(),
        vantage: Vantage::default(),
        subject: TargetId::new("twitter/images"),
        control: Some(TargetId::new("control/cdn")),
        comparison: Comparison::Sni,
        exchange,
    }
}

impl History for MadeUp {
    fn knows(&self, target: &TargetId) -> Result<bool, HistoryError> {
        Ok(target.as_str() == "gone/images")
    }

    fn latest(&self, target: &TargetId) -> Result<Latest, HistoryError> {
        let bad = (target.as_str() == "twitter/images").then(|| transfer(true));
        Ok(Latest { good: Some(transfer(false)), bad })
    }

    fn series(&self, target: &TargetId, span: [Timestamp; 2], bins: usize) -> Result<Vec<Bin>, HistoryError> {
        let length = span[1].duration_since(span[0]);
        Ok((0..bins)
            .map(|index| {
                let at = span[0] + length * i32::try_from(index).unwrap() / i32::try_from(bins).unwrap();
                let seed = at.as_second().cast_unsigned();
                let throttled = is_throttled(target, at);
                let wobble = 0.7 + 0.6 * noise(seed);
                if noise(seed ^ 7) < 0.03 {
                    return Bin::default();
                }
                let phases = [0.02, 0.03, 0.06, 0.04, if throttled { 8.0 } else { 0.4 }];
                Bin {
                    exchanges: 12,
                    failures: u32::from(throttled),
                    goodput_bytes_per_second: Some(if throttled { 16_000.0 } else { 900_000.0 } * wobble),
                    control_goodput_bytes_per_second: Some(1_000_000.0 * (0.7 + 0.6 * noise(seed ^ 3))),
                    phases_s: phases.map(|seconds| Some(seconds * wobble)),
                    verdict: Some(if throttled { Verdict::Throttled } else { Verdict::Normal }),
                }
            })
            .collect())
    }

    fn incidents(&self, target: Option<&TargetId>, _: Timestamp) -> Result<Vec<PastIncident>, HistoryError> {
        let incident = |id: &str, verdict, from: i64, end: Option<i64>| PastIncident {
            target: TargetId::new(id),
            comparison: Comparison::Sni,
            mechanism: (verdict == Verdict::Throttled).then_some(Mechanism::Policing),
            incident: Incident {
                verdict,
                onset: hours(from),
                onset_interval: [hours(from + 1), hours(from)],
                onset_before_data: false,
                alarm: hours(from - 1),
                end: end.map(hours),
                end_interval: None,
                share: 0.97,
                tests: 480,
                false_alarm_bound: 2e-7,
                false_alarm_bound_blocks: 1e-4,
            },
            exchanges: vec!["b".repeat(32)],
            rounds: vec![1],
            summary: format!("{id} is interfered with."),
        };
        let all = [
            incident("twitter/images", Verdict::Throttled, 40, None),
            incident("telegram/web", Verdict::Frozen, 200, Some(190)),
            incident("signal/api", Verdict::Blocked, 300, Some(220)),
            incident("twitter/images", Verdict::Throttled, 400, Some(330)),
        ];
        Ok(all.into_iter().filter(|past| target.is_none_or(|target| past.target == *target)).collect())
    }

    fn exchanges(&self, _: &TargetId, limit: usize) -> Result<Vec<Measurement>, HistoryError> {
        Ok((0..limit).map(|index| measurement(transfer(index % 2 == 0))).collect())
    }

    fn exchange(&self, id: &str) -> Result<Option<Measurement>, HistoryError> {
        Ok([transfer(true), transfer(false)].into_iter().find(|exchange| exchange.id == id).map(measurement))
    }

    fn export(&self, wanted: &ExportRequest, out: &mut dyn Write) -> Result<(), HistoryError> {
        let failed = |error: std::io::Error| HistoryError(error.to_string());
        for index in 0..1000 {
            let line = format!(
                "{{\"n\":{index},\"format\":\"{}\",\"pad\":\"{}\"}}\n",
                wanted.format.name(),
                "x".repeat(1000)
            );
            out.write_all(line.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

/// A history whose file is broken.
struct Broken;

impl History for Broken {
    fn knows(&self, _: &TargetId) -> Result<bool, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn latest(&self, _: &TargetId) -> Result<Latest, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn series(&self, _: &TargetId, _: [Timestamp; 2], _: usize) -> Result<Vec<Bin>, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn incidents(&self, _: Option<&TargetId>, _: Timestamp) -> Result<Vec<PastIncident>, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn exchanges(&self, _: &TargetId, _: usize) -> Result<Vec<Measurement>, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn exchange(&self, _: &str) -> Result<Option<Measurement>, HistoryError> {
        Err(HistoryError("disk image is malformed".into()))
    }

    fn export(&self, wanted: &ExportRequest, out: &mut dyn Write) -> Result<(), HistoryError> {
        // Of one form more than fits into what is sent at once.
        let lines = if wanted.format == ExportFormat::Csv { 100_000 } else { 1 };
        for _ in 0..lines {
            out.write_all(b"{\"n\":0}\n").ok();
        }
        Err(HistoryError("disk image is malformed".into()))
    }
}

/// Every caveat there is.
fn caveats() -> Vec<Caveat> {
    vec![
        Caveat::WeakerComparison,
        Caveat::NoControl,
        Caveat::MorePairsNeeded(4),
        Caveat::IntervalTooWide,
        Caveat::ProbeLate(2),
        Caveat::ControlFailed(3),
        Caveat::ControlSlow,
        Caveat::ServerSlow,
        Caveat::NoContrast(FailureKind::Timeout),
        Caveat::ServerRefused(429),
        Caveat::SizesDiffer,
        Caveat::TooFewBytes,
        Caveat::DistanceExplains { subject_rtt_ms: 200.0, control_rtt_ms: 20.0 },
        Caveat::DistanceExplains { subject_rtt_ms: 30.0, control_rtt_ms: 30.0 },
        Caveat::WouldDecide("throttlescope compare --via <server>".into()),
        Caveat::CertificateUnchecked,
        Caveat::StickyAddress,
        Caveat::FewAddresses,
        Caveat::RouteChanged,
        Caveat::LowMtu,
        Caveat::CaptivePortal,
        Caveat::ConnectionsHeld(4),
        Caveat::SharedAddress,
        Caveat::CaCertificate,
        Caveat::Patchy(0.35),
        Caveat::BudgetSpent,
        Caveat::CanaryAffected,
        Caveat::AlsoFits(Mechanism::Loss),
    ]
}

fn finding(verdict: Verdict, comparison: Comparison, caveats: Vec<Caveat>) -> FindingStatus {
    let throttled = verdict == Verdict::Throttled;
    let evidence = Evidence {
        pairs: 12,
        e_value: if verdict.accuses() { 40_000.0 } else { 0.4 },
        false_alarm_bound: if verdict.accuses() { 2.5e-5 } else { 1.0 },
        confidence: 0.99,
        slowdown: Some(if throttled { 57.3 } else { 1.04 }),
        slowdown_ci: if throttled { [Some(41.0), Some(80.2)] } else { [Some(0.9), Some(1.3)] },
        handshake_slowdown: Some(1.02),
        subject_goodput_bytes_per_second: Some(if throttled { 16_100.0 } else { 900_000.0 }),
        control_goodput_bytes_per_second: Some(931_000.0),
        limit_bytes_per_second: throttled.then_some(16_250.0),
        limit_ci: throttled.then_some([16_000.0, 16_500.0]),
        burst_bytes: throttled.then_some(16_384),
        freeze_after_bytes: (verdict == Verdict::Frozen).then_some(18_000),
        bytes_used: 3_145_728,
    };
    let mechanism = throttled.then_some(Mechanism::Policing);
    let blocked_at = (verdict == Verdict::Blocked).then_some(throttlescope::model::BlockedAt::Tls);
    FindingStatus {
        comparison,
        at: hours(0),
        finding: Finding { verdict, mechanism, blocked_at, evidence, caveats },
        control: Some(TargetId::new("control/cdn")),
        repeat: "throttlescope compare --via pbs.twimg.example:443 --subject a --control b".into(),
        exchanges: vec!["a".repeat(32), "b".repeat(32)],
    }
}

fn status(id: &str, role: Role, verdict: Option<Verdict>, stale: bool, caveats: Vec<Caveat>) -> TargetStatus {
    let quantiles = Quantiles { count: 288, p50: 0.05, p90: 0.12, p99: 0.8, max: 2.0 };
    TargetStatus {
        id: TargetId::new(id),
        role,
        kind: EndpointKind::Media,
        host: "pbs.twimg.example".into(),
        verdict,
        since: verdict.map(|_| hours(40)),
        basis: verdict.map(|verdict| finding(verdict, Comparison::Sni, Vec::new())),
        stale,
        findings: verdict.map(|verdict| finding(verdict, Comparison::Sni, caveats)).into_iter().collect(),
        last_exchange_at: Some(hours(0)),
        effective_interval: Duration::from_secs(301),
        phases: Phase::ALL.map(|phase| PhaseQuantiles { phase, quantiles }).into(),
        goodput: Some(Quantiles { count: 288, p50: 9e5, p90: 1.2e6, p99: 1.5e6, max: 2e6 }),
    }
}

/// Every verdict, every standing, every caveat.
pub(crate) fn snapshot() -> Snapshot {
    let subject = |id: &str, verdict| status(id, Role::Subject, Some(verdict), false, Vec::new());
    let mut images = subject("twitter/images", Verdict::Throttled);
    images.findings[0].finding.caveats = vec![Caveat::Patchy(0.97), Caveat::CertificateUnchecked];
    // An accusation stands for a while although the last round alone does not accuse.
    images.findings[0].finding.verdict = Verdict::Inconclusive;
    images.findings.push(finding(Verdict::Inconclusive, Comparison::Control, caveats()));
    let mut targets = vec![
        subject("youtube/video", Verdict::Normal),
        subject("youtube/page", Verdict::Normal),
        subject("twitter/page", Verdict::Normal),
        images,
        subject("telegram/web", Verdict::Frozen),
        subject("signal/api", Verdict::Blocked),
        subject("vk/page", Verdict::Degraded),
        subject("reddit/page", Verdict::Inconclusive),
        status("discord/page", Role::Subject, None, true, Vec::new()),
        status("bluesky/page", Role::Subject, None, false, Vec::new()),
        status("own/<b>&\"", Role::Subject, Some(Verdict::Normal), false, Vec::new()),
        status("canary/reset", Role::Canary, Some(Verdict::Normal), false, Vec::new()),
    ];
    targets.push(TargetStatus {
        findings: Vec::new(),
        ..status("control/cdn", Role::Control, None, false, Vec::new())
    });
    Snapshot {
        started_at: hours(24 * 365),
        at: now(),
        vantage: Vantage {
            country: Some("RU".into()),
            asn: Some(12389),
            operator: Some("Example <Telecom>".into()),
            network: Some(Network::Fixed),
        },
        budget: BudgetStatus {
            bytes_per_hour: 20_000_000,
            bytes_per_day: 200_000_000,
            remaining_bytes: 7_300_000,
        },
        store_writable: true,
        targets,
    }
}

async fn year() -> Web {
    let settings = WebSettings::load(None).unwrap().with_history(Arc::new(MadeUp));
    start_with(settings, snapshot()).await
}

const PAGES: [&str; 5] = [
    "/",
    "/target?id=twitter%2Fimages",
    "/target?id=twitter%2Fimages&span=month",
    "/target?id=control%2Fcdn",
    "/exchange?id=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
];

#[tokio::test]
async fn every_page_is_whole_small_and_escaped_in_every_language() {
    let web = year().await;
    let mut assets = 0;
    for path in ["/style.css", "/live.js", "/icon.svg"] {
        assets += web.get(path).await.1.len();
    }
    for path in PAGES {
        for language in ["en", "ru", "tr", "fa"] {
            let separator = if path.contains('?') { '&' } else { '?' };
            let (status, html) = web.get(&format!("{path}{separator}lang={language}")).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(html.contains(&format!("<html lang=\"{language}\"")), "{path} {language}");
            assert_eq!(html.contains("dir=\"rtl\""), language == "fa", "{path} {language}");
            assert!(html.len() + assets < 150_000, "{path} {language}: {} bytes", html.len() + assets);
            for broken in ["<b>", " style=", "<style", "javascript:", "http://", "https://"] {
                assert!(!html.contains(broken), "{path} {language} contains {broken}");
            }
            check_nesting(&html);
        }
    }
}

/// Every element that is opened is closed, in order.
fn check_nesting(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || ["meta", "link", "br"].contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "in {}", &html[..html.len().min(200)]);
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn the_first_page_answers_the_question() {
    let web = year().await;
    let html = web.get("/?lang=en").await.1.replace('\u{a0}', " ");
    assert!(html.contains("3 platforms are being interfered with: "), "{html}");
    let place = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is not on the page"));
    assert!(place(">Signal<") < place(">Telegram<") && place(">Telegram<") < place(">YouTube<"));
    for said in [
        "57.3 times slower (41 to 80.2), held at 130 kbit/s",
        "false alarm at most 1 in 40000",
        "at most 1.3 times slower (99 % sure)",
        "stops after 18 kB",
        "blocked in the handshake",
        "no fresh data",
        "no verdict yet",
        "Example &lt;Telecom&gt;",
    ] {
        place(said);
    }
}

#[tokio::test]
async fn a_target_shows_its_evidence_down_to_one_exchange() {
    let web = year().await;
    let html = web.get("/target?id=twitter%2Fimages&lang=en").await.1.replace('\u{a0}', " ");
    for said in [
        "twitter/images is being slowed down on this line: 57.3 times slower (41 to 80.2), held at 130 kbit/s, \
         compared with the same server under another name.",
        "132 kB in",
        "policing: what exceeds the rate is dropped",
        "throttlescope compare --via pbs.twimg.example:443",
        "97 % of the exchanges were affected",
        "exchange?id=bbbb",
        "api/v1/export?target=twitter%2Fimages",
        "1 : 40000",
    ] {
        assert!(html.contains(said), "{said} is not in {html}");
    }
    let (_, html) = web.get(&format!("/exchange?id={}&lang=en", "b".repeat(32))).await;
    assert!(html.contains("no answer in time in transfer") && html.contains("pbs.twimg.example"), "{html}");
    for missing in ["/target?id=nothing", "/target", "/exchange?id=zz", "/exchange"] {
        assert_eq!(web.get(missing).await.0, StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test]
async fn the_browsers_language_is_used_and_an_emulation_is_named() {
    let settings = WebSettings::load(None).unwrap().emulated();
    let web = start_with(settings, snapshot()).await;
    let ask = client().get(web.url("/")).header("accept-language", "fa-IR,en;q=0.5");
    let html = ask.send().await.unwrap().text().await.unwrap();
    assert!(html.contains("<html lang=\"fa\" dir=\"rtl\">") && html.contains("class=\"emulated\""), "{html}");
    assert!(!html.contains("href=\"target?id=youtube%2Fvideo&amp;lang"), "the browser goes on choosing");
    for path in PAGES.iter().take(4) {
        assert!(web.get(path).await.1.contains("class=\"emulated\""), "{path}");
    }
}

#[tokio::test]
async fn the_api_and_the_export_answer_and_a_broken_history_says_so() {
    let web = year().await;
    let (status, series) = web.get("/api/v1/series?target=twitter%2Fimages&bins=10").await;
    let series: serde_json::Value = serde_json::from_str(&series).unwrap();
    assert_eq!((status, series["bins"].as_array().unwrap().len()), (StatusCode::OK, 10));
    let (_, incidents) = web.get("/api/v1/incidents").await;
    let incidents: serde_json::Value = serde_json::from_str(&incidents).unwrap();
    assert_eq!(incidents["incidents"][0]["verdict"], "throttled");
    let (_, one) = web.get(&format!("/api/v1/exchange?id={}", "a".repeat(32))).await;
    assert!(serde_json::from_str::<Measurement>(&one).unwrap().exchange.is_complete());
    let (status, export) = web.get("/api/v1/export?format=csv").await;
    assert_eq!((status, export.lines().count()), (StatusCode::OK, 1000));
    for wrong in [
        "/api/v1/series",
        "/api/v1/series?target=a&bins=0",
        "/api/v1/series?target=a&bins=100000",
        "/api/v1/series?target=a&from=yesterday",
        "/api/v1/export?format=xml",
    ] {
        assert_eq!(web.get(wrong).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }

    for (path, status) in [
        ("/api/v1/export?target=gone%2Fimages", StatusCode::OK),
        ("/api/v1/series?target=gone%2Fimages", StatusCode::OK),
        ("/api/v1/export?target=nope", StatusCode::NOT_FOUND),
        ("/api/v1/series?target=nope", StatusCode::NOT_FOUND),
    ] {
        let (answered, said) = web.get(path).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(said.contains("There is no target `nope`"), status == StatusCode::NOT_FOUND, "{said}");
    }

    let settings = WebSettings::load(None).unwrap().with_history(Arc::new(Broken));
    let web = start_with(settings, snapshot()).await;
    let (status, html) = web.get("/target?id=twitter%2Fimages&lang=en").await;
    assert!(status == StatusCode::OK && html.contains("The history cannot be read: disk image is malformed"));
    assert_eq!(web.get("/api/v1/incidents").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let (status, said) = web.get("/api/v1/export").await;
    assert_eq!(
        (status, said.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "The history cannot be read: disk image is malformed\n")
    );
    let whole = match client().get(web.url("/api/v1/export?format=csv")).send().await {
        Ok(export) => export.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "an export that breaks off does not look complete");

    let web = start_with(WebSettings::load(None).unwrap(), snapshot()).await;
    assert_eq!(web.get("/api/v1/incidents").await.0, StatusCode::NOT_FOUND);
    assert!(web.get("/target?id=twitter%2Fimages&lang=en").await.1.contains("This daemon keeps no history."));
}

#[tokio::test]
async fn pages_hear_of_what_is_new_and_let_go_at_shutdown() {
    let mut web = year().await;
    let mut events = client().get(web.url("/events")).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    web.snapshots.as_ref().unwrap().send_replace(Arc::new(snapshot()));
    let chunk = events.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&chunk).contains("event: snapshot"), "{chunk:?}");
    web.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), web.task).await.expect("the server ends").unwrap();
}
