//! The exposition as a scraper sees it: documented, bounded, complete from the start, readable by others.

use std::time::Duration;

use throttlescope::{
    metrics::{Family, HistogramMode, Kind, Metrics, markdown},
    model::{
        Comparison, EndpointKind, Event, Evidence, Exchange, Failure, FailureKind, Family as AddressFamily,
        Finding, MEASUREMENT_SCHEMA, Measurement, Phase, Request, Role, SkipReason, Target, TargetId,
        TcpInfo, TcpStats, Timeline, TransferCurve, Vantage, Verdict,
    },
};

pub(crate) fn target(id: &str, role: Role) -> Target {
    Target {
        id: TargetId::new(id),
        url: "https://cdn.example/big.jpg".parse().unwrap(),
        role,
        kind: EndpointKind::Media,
        controls: Vec::new(),
        bytes: 131_072,
        connect_to: None,
        check_certificate: true,
    }
}

/// A complete exchange: 10 ms for each phase before the transfer, then `bytes` in one second.
pub(crate) fn exchange(bytes: u64) -> Exchange {
    let mut phases = Timeline::default();
    for phase in [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing] {
        phases.record(phase, Duration::from_millis(10));
    }
    phases.record(Phase::Transfer, Duration::from_secs(1));
    let rtt = TcpInfo { rtt: Some(Duration::from_millis(30)), retransmits: Some(2), ..TcpInfo::default() };
    Exchange {
        id: "0".repeat(32),
        round: 0,
        pair: 0,
        position: 0,
        role: Role::Subject,
        started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        duration: phases.total(),
        lateness: Duration::ZERO,
        name: "cdn.example".into(),
        address: None,
        local_address: None,
        announced: vec![],
        family: Some(AddressFamily::Ipv4),
        pinned: false,
        fallback: false,
        warmup: false,
        host_header: "cdn.example".into(),
        path: "/big.jpg".into(),
        http_version: Some("1.1".into()),
        tls_version: Some("1.3".into()),
        hello: None,
        certificate_sha256: None,
        certificate_checked: true,
        phases,
        reached: Phase::Transfer,
        status: Some(200),
        bytes,
        body_sha256: None,
        redirect: None,
        headers: Vec::new(),
        requests: vec![Request {
            start: Duration::from_millis(30),
            first_byte: Some(Duration::from_millis(40)),
            end: Duration::from_millis(1040),
            bytes,
        }],
        failure: None,
        censored: false,
        tcp: Some(TcpStats { connect: Some(rtt), during: None, end: Some(rtt) }),
        curve: TransferCurve::default(),
    }
}

pub(crate) fn measured(subject: &str, exchange: Exchange) -> Event {
    Event::Measured(Box::new(Measurement {
        schema: MEASUREMENT_SCHEMA.into(),
        vantage: Vantage::default(),
        subject: TargetId::new(subject),
        control: Some(TargetId::new("control/cdn")),
        comparison: Comparison::Control,
        exchange,
    }))
}

pub(crate) fn judged(comparison: Comparison, verdict: Verdict, evidence: Evidence) -> Event {
    Event::Judged {
        target: TargetId::new("shop/images"),
        comparison,
        finding: Box::new(Finding {
            verdict,
            mechanism: None,
            blocked_at: None,
            evidence,
            caveats: Vec::new(),
        }),
        at: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn metrics(mode: HistogramMode) -> Metrics {
    let targets = [target("shop/images", Role::Subject), target("control/cdn", Role::Control)];
    Metrics::new(&targets, &Vantage::default(), mode)
}

/// The value of the series that is written exactly so.
fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Everything that can be known about one target has been seen.
fn saturate(metrics: &Metrics) {
    for phase in Phase::ALL {
        for kind in FailureKind::ALL {
            let failure = Some(Failure { phase, kind, detail: None });
            metrics.observe(&measured("shop/images", Exchange { failure, ..exchange(131_072) }));
        }
    }
    let evidence = Evidence {
        e_value: 5000.0,
        slowdown: Some(12.5),
        limit_bytes_per_second: Some(16_250.0),
        ..Evidence::default()
    };
    for comparison in [Comparison::History, Comparison::Control, Comparison::Sni] {
        metrics.observe(&judged(comparison, Verdict::Throttled, evidence.clone()));
    }
    metrics.set_effective_interval(&TargetId::new("shop/images"), Duration::from_mins(5));
    metrics.incident_began(&TargetId::new("shop/images"), Verdict::Throttled, true);
}

#[test]
fn the_document_lists_every_family() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    assert!(
        document.contains(&markdown()),
        "docs/metrics.md does not hold the table of families as it is; it should read:\n{}",
        markdown()
    );
}

#[test]
fn series_are_there_from_the_start_and_the_unknown_is_absent() {
    let text = metrics(HistogramMode::Target).encode_text();
    for verdict in Verdict::ALL {
        let series = format!("throttlescope_verdict{{target=\"shop/images\",verdict=\"{verdict}\"}}");
        assert_eq!(value(&text, &series), Some(0.0), "{series}");
    }
    for series in [
        "throttlescope_exchanges_total{target=\"shop/images\"}",
        "throttlescope_exchange_failures_total{target=\"shop/images\",phase=\"tls\",kind=\"reset\"}",
        "throttlescope_rounds_skipped_total{target=\"shop/images\",reason=\"budget\"}",
        "throttlescope_incidents_total{target=\"shop/images\",verdict=\"throttled\"}",
        "throttlescope_phase_duration_seconds_count{target=\"shop/images\",phase=\"resolve\"}",
        "throttlescope_dropped_events_total",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    for absent in
        ["tcp_rtt", "slowdown_ratio", "limit_bytes", "last_exchange", "budget_remaining", "NaN", "#\n"]
    {
        assert!(!text.contains(absent), "{absent} is not known yet");
    }
}

#[test]
fn an_exchange_is_counted_once_in_every_family_it_concerns() {
    let metrics = metrics(HistogramMode::Target);
    metrics.observe(&measured("shop/images", exchange(131_072)));
    metrics.observe(&measured("shop/images", Exchange { role: Role::Control, ..exchange(65_536) }));
    metrics.observe(&Event::Skipped { target: TargetId::new("shop/images"), reason: SkipReason::Overrun });
    metrics.observe(&Event::Lagged(Duration::from_millis(3)));
    let text = metrics.encode_text();
    let labels = "target=\"shop/images\"";
    for (series, expected) in [
        (format!("throttlescope_exchanges_total{{{labels}}}"), 1.0),
        ("throttlescope_exchanges_total{target=\"control/cdn\"}".into(), 1.0),
        (format!("throttlescope_received_bytes_total{{{labels}}}"), 131_072.0),
        ("throttlescope_received_bytes_total{target=\"control/cdn\"}".into(), 65_536.0),
        (format!("throttlescope_transfer_seconds_total{{{labels}}}"), 1.0),
        (format!("throttlescope_tcp_retransmits_total{{{labels}}}"), 2.0),
        (format!("throttlescope_tcp_rtt_seconds{{{labels}}}"), 0.03),
        (format!("throttlescope_phase_duration_seconds_bucket{{{labels},phase=\"tls\",le=\"0.01\"}}"), 1.0),
        (format!("throttlescope_phase_duration_seconds_bucket{{{labels},phase=\"tls\",le=\"0.005\"}}"), 0.0),
        (format!("throttlescope_exchange_duration_seconds_sum{{{labels}}}"), 1.04),
        (format!("throttlescope_goodput_bytes_per_second_bucket{{{labels},le=\"250000\"}}"), 1.0),
        (format!("throttlescope_goodput_bytes_per_second_sum{{{labels}}}"), 131_072.0),
        (format!("throttlescope_rounds_skipped_total{{{labels},reason=\"overrun\"}}"), 1.0),
        ("throttlescope_schedule_lag_seconds_count".into(), 1.0),
        (format!("throttlescope_last_exchange_timestamp_seconds{{{labels}}}"), 1_767_225_601.04),
    ] {
        assert_eq!(value(&text, &series), Some(expected), "{series}");
    }
}

#[test]
fn a_phase_cut_short_by_us_counts_and_one_cut_short_by_a_reset_does_not() {
    let metrics = metrics(HistogramMode::Target);
    let failed = |kind| {
        let mut phases = Timeline::default();
        phases.record(Phase::Resolve, Duration::from_millis(1));
        phases.record(Phase::Connect, Duration::from_secs(10));
        let failure = Some(Failure { phase: Phase::Connect, kind, detail: None });
        Exchange {
            duration: phases.total(),
            phases,
            failure,
            reached: Phase::Connect,
            status: None,
            requests: Vec::new(),
            tcp: None,
            ..exchange(0)
        }
    };
    metrics.observe(&measured("shop/images", failed(FailureKind::Timeout)));
    metrics.observe(&measured("shop/images", failed(FailureKind::Refused)));
    let text = metrics.encode_text();
    let count = |phase: &str| {
        let series =
            format!("throttlescope_phase_duration_seconds_count{{target=\"shop/images\",phase=\"{phase}\"}}");
        value(&text, &series)
    };
    assert_eq!((count("resolve"), count("connect"), count("tls")), (Some(2.0), Some(1.0), Some(0.0)));
    let goodput = "throttlescope_goodput_bytes_per_second_count{target=\"shop/images\"}";
    assert_eq!(value(&text, goodput), Some(0.0));
}

#[test]
fn a_stalled_transfer_has_a_goodput_however_little_came() {
    let metrics = metrics(HistogramMode::Target);
    let failure = Some(Failure { phase: Phase::Transfer, kind: FailureKind::Stalled, detail: None });
    metrics.observe(&measured("shop/images", Exchange { failure, censored: true, ..exchange(4000) }));
    metrics.observe(&measured("shop/images", exchange(4000)));
    let quantiles = metrics.goodput_quantiles(&TargetId::new("shop/images")).unwrap();
    assert_eq!(quantiles.count, 1);
    assert!((quantiles.p50 / 4000.0 - 1.0).abs() < 0.01);
}

#[test]
fn the_verdict_is_the_strongest_comparisons_and_is_withdrawn_when_stale() {
    let metrics = metrics(HistogramMode::Target);
    let evidence = Evidence { e_value: 100.0, slowdown: Some(8.0), ..Evidence::default() };
    metrics.observe(&judged(
        Comparison::Sni,
        Verdict::Normal,
        Evidence { e_value: 0.0, ..Evidence::default() },
    ));
    metrics.observe(&judged(Comparison::Control, Verdict::Throttled, evidence));
    let text = metrics.encode_text();
    let verdict = |text: &str, verdict: Verdict| {
        value(text, &format!("throttlescope_verdict{{target=\"shop/images\",verdict=\"{verdict}\"}}"))
    };
    assert_eq!(verdict(&text, Verdict::Normal), Some(1.0));
    assert_eq!(verdict(&text, Verdict::Throttled), Some(0.0));
    let of =
        |family: &str| format!("throttlescope_{family}{{target=\"shop/images\",comparison=\"control\"}}");
    assert_eq!(value(&text, &of("slowdown_ratio")), Some(8.0));
    assert_eq!(value(&text, &of("evidence_log10")), Some(2.0));
    assert!(!text.contains("comparison=\"sni\""), "no ratio is known, and no evidence has no logarithm");

    metrics.set_verdict(&TargetId::new("shop/images"), Some(Verdict::Throttled));
    let text = metrics.encode_text();
    assert_eq!(verdict(&text, Verdict::Throttled), Some(1.0), "what stands outlasts single findings");
    assert_eq!(verdict(&text, Verdict::Normal), Some(0.0));

    metrics.set_stale(&TargetId::new("shop/images"));
    let text = metrics.encode_text();
    assert!(Verdict::ALL.iter().all(|&state| verdict(&text, state) == Some(0.0)));
    assert!(!text.contains("slowdown_ratio"));
}

#[test]
fn series_of_a_target_are_bounded() {
    let metrics = metrics(HistogramMode::Target);
    saturate(&metrics);
    let text = metrics.encode_text();
    let series = text.lines().filter(|line| line.contains("target=\"shop/images\"")).count();
    println!("{series} series for a target that has seen everything");
    assert!(series <= 250, "{series} series");
    let fresh = self::metrics(HistogramMode::Target).encode_text();
    println!("{} series for a new target", fresh.lines().filter(|l| l.contains("\"shop/images\"")).count());
}

#[test]
fn a_reload_keeps_what_stays_and_forgets_what_goes() {
    let metrics = metrics(HistogramMode::Target);
    metrics.observe(&measured("shop/images", exchange(131_072)));
    let targets = [target("shop/images", Role::Subject), target("new/one", Role::Subject)];
    metrics.configure(&targets, &Vantage::default(), HistogramMode::Target);
    let text = metrics.encode_text();
    assert_eq!(value(&text, "throttlescope_exchanges_total{target=\"shop/images\"}"), Some(1.0));
    assert_eq!(
        value(&text, "throttlescope_goodput_bytes_per_second_count{target=\"shop/images\"}"),
        Some(1.0)
    );
    assert_eq!(value(&text, "throttlescope_exchanges_total{target=\"new/one\"}"), Some(0.0));
    assert!(!text.contains("control/cdn"));
    assert!(metrics.goodput_quantiles(&TargetId::new("shop/images")).is_some());
}

#[test]
fn histograms_by_platform_share_one_label_and_native_ones_have_no_classic_buckets() {
    let by_platform = metrics(HistogramMode::Platform);
    by_platform.observe(&measured("shop/images", exchange(131_072)));
    let text = by_platform.encode_text();
    assert_eq!(value(&text, "throttlescope_goodput_bytes_per_second_count{target=\"shop\"}"), Some(1.0));
    assert_eq!(value(&text, "throttlescope_exchanges_total{target=\"shop/images\"}"), Some(1.0));
    assert_eq!(by_platform.phase_quantiles(&TargetId::new("shop/images")).len(), 5);

    let native = metrics(HistogramMode::Native);
    native.observe(&measured("shop/images", exchange(131_072)));
    let text = native.encode_text();
    assert!(!text.contains("le=\"0.01\",") && !text.contains("le=\"0.01\"}"));
    assert_eq!(HistogramMode::for_targets(500), HistogramMode::Target);
    assert_eq!(HistogramMode::for_targets(501), HistogramMode::Platform);
}

#[test]
fn every_family_appears_in_text_and_protobuf_once_all_is_known() {
    let metrics = metrics(HistogramMode::Target);
    saturate(&metrics);
    metrics.set_budget_remaining(1);
    metrics.set_store_writable(true);
    metrics.set_reload(true, "2026-01-01T00:00:00Z".parse().unwrap());
    let (text, protobuf) = (metrics.encode_text(), metrics.encode_protobuf());
    for family in Family::ALL {
        let description = family.describe();
        let kind = format!("# TYPE {} {}\n", description.name, description.kind.name());
        assert_eq!(text.matches(&kind).count(), 1, "{kind}");
        let found =
            protobuf.windows(description.name.len()).any(|bytes| bytes == description.name.as_bytes());
        assert!(found, "{} is not in the protobuf form", description.name);
        if description.kind == Kind::Histogram {
            assert!(text.contains(&format!("{}_bucket", description.name)), "{}", description.name);
        }
    }
    assert!(text.contains("process_resident_memory_bytes"));
}

#[test]
fn promtool_has_nothing_to_say() {
    let metrics = metrics(HistogramMode::Target);
    saturate(&metrics);
    crate::prometheus::check_metrics(&metrics.encode_text());
}
