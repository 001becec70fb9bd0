//! A finding in words: the sentence, how much, how sure, and the reasons for doubt.

use super::{View, parts};
use crate::{
    model::{BlockedAt, Caveat, Comparison, Evidence, FailureKind, Finding, Mechanism, Verdict},
    web::{html::Html, texts::Language},
};

/// The sentence that can be quoted.
pub(super) fn sentence(view: &View, subject: &str, comparison: Comparison, finding: &Finding) -> String {
    let language = view.language;
    let against = language.text(match comparison {
        Comparison::Sni => "sentence.against_sni",
        Comparison::Control => "sentence.against_control",
        Comparison::History => "sentence.against_history",
        Comparison::None => "sentence.against_none",
    });
    let much = how_much(language, finding).unwrap_or_default();
    let key = match finding.verdict {
        Verdict::Normal => "sentence.normal",
        Verdict::Throttled => "sentence.throttled",
        Verdict::Frozen => "sentence.frozen",
        Verdict::Blocked => "sentence.blocked",
        Verdict::Degraded => "sentence.degraded",
        Verdict::Inconclusive => "sentence.inconclusive",
    };
    language.fill(key, &[("subject", subject), ("against", against), ("much", &much)])
}

/// `12.5 times slower (9 to 17), held at 130 kbit/s`; `None` where nothing is known.
pub(super) fn how_much(language: &'static Language, finding: &Finding) -> Option<String> {
    let evidence = &finding.evidence;
    let mut parts: Vec<String> = Vec::new();
    match finding.verdict {
        Verdict::Blocked => {
            let place = finding.blocked_at.map(|at| blocked_at(language, at));
            parts.extend(place.map(|place| language.fill("much.blocked", &[("where", place)])));
        }
        Verdict::Frozen => {
            let size = evidence.freeze_after_bytes.map(|bytes| language.size(bytes as f64));
            parts.extend(size.map(|size| language.fill("much.frozen", &[("size", &size)])));
        }
        Verdict::Normal => {}
        // What is held up is the handshake, and the transfers behind it scatter.
        _ if finding.mechanism == Some(Mechanism::HandshakeDelay) => {
            parts.extend(handshakes(language, evidence));
        }
        _ => parts.extend(slower(language, evidence)),
    }
    if finding.verdict == Verdict::Throttled {
        let rate = evidence.limit_bytes_per_second.map(|limit| language.rate(limit));
        parts.extend(rate.map(|rate| language.fill("much.held_at", &[("rate", &rate)])));
    }
    (!parts.is_empty()).then(|| language.list(&parts))
}

fn slower(language: &'static Language, evidence: &Evidence) -> Option<String> {
    let ratio = |value: f64| language.three_digits(value);
    if let Some(slowdown) = evidence.slowdown {
        let slowdown = ratio(slowdown);
        return Some(match evidence.slowdown_ci.map(|end| end.map(ratio)) {
            [Some(low), Some(high)] => {
                language.fill("much.slower_between", &[("ratio", &slowdown), ("low", &low), ("high", &high)])
            }
            [Some(low), None] => {
                language.fill("much.slower_at_least", &[("ratio", &slowdown), ("low", &low)])
            }
            _ => language.fill("much.slower", &[("ratio", &slowdown)]),
        });
    }
    handshakes(language, evidence)
}

fn handshakes(language: &'static Language, evidence: &Evidence) -> Option<String> {
    let ratio = language.three_digits(evidence.handshake_slowdown?);
    Some(language.fill("much.handshake", &[("ratio", &ratio)]))
}

/// How sure, where a number says it; else what it rests on.
pub(super) fn sureness(html: &mut Html, view: &View, comparison: Comparison, finding: &Finding) {
    match how_sure(view.language, finding) {
        Some(sure) => parts::entry(html, view.text("label.how_sure"), Some(&sure)),
        None => {
            parts::entry(
                html,
                view.text("label.comparison"),
                Some(comparison_text(view.language, comparison)),
            );
        }
    }
}

/// The bound on false alarms of an accusation, or the bound on the slowdown of a `normal`.
fn how_sure(language: &'static Language, finding: &Finding) -> Option<String> {
    let evidence = &finding.evidence;
    if finding.verdict.accuses() && evidence.false_alarm_bound > 0.0 && evidence.false_alarm_bound <= 0.1 {
        let n = language.number((1.0 / evidence.false_alarm_bound).floor(), 0);
        return Some(language.fill("sure.false_alarm", &[("n", &n)]));
    }
    let high = evidence.slowdown_ci[1].filter(|_| finding.verdict == Verdict::Normal)?;
    let (ratio, confidence) = (language.three_digits(high), language.percent(evidence.confidence));
    Some(language.fill("sure.bounded", &[("ratio", &ratio), ("confidence", &confidence)]))
}

pub(super) fn comparison_text(language: &'static Language, comparison: Comparison) -> &'static str {
    language.text(match comparison {
        Comparison::Sni => "comparison.sni",
        Comparison::Control => "comparison.control",
        Comparison::History => "comparison.history",
        Comparison::None => "comparison.none",
    })
}

pub(super) fn mechanism(language: &'static Language, mechanism: Mechanism) -> &'static str {
    language.text(match mechanism {
        Mechanism::Policing => "mechanism.policing",
        Mechanism::Shaping => "mechanism.shaping",
        Mechanism::Loss => "mechanism.loss",
        Mechanism::HandshakeDelay => "mechanism.handshake-delay",
        Mechanism::ConnectionLimit => "mechanism.connection-limit",
        Mechanism::Unknown => "mechanism.unknown",
    })
}

fn blocked_at(language: &'static Language, at: BlockedAt) -> &'static str {
    language.text(match at {
        BlockedAt::Dns => "blocked_at.dns",
        BlockedAt::Tcp => "blocked_at.tcp",
        BlockedAt::Tls => "blocked_at.tls",
        BlockedAt::Http => "blocked_at.http",
    })
}

pub(super) fn failure(language: &'static Language, kind: FailureKind) -> &'static str {
    language.text(match kind {
        FailureKind::Nxdomain => "failure.nxdomain",
        FailureKind::NoAddress => "failure.no_address",
        FailureKind::Refused => "failure.refused",
        FailureKind::Unreachable => "failure.unreachable",
        FailureKind::Timeout => "failure.timeout",
        FailureKind::Reset => "failure.reset",
        FailureKind::Closed => "failure.closed",
        FailureKind::TlsAlert => "failure.tls_alert",
        FailureKind::BadCertificate => "failure.bad_certificate",
        FailureKind::NotTls => "failure.not_tls",
        FailureKind::HttpError => "failure.http_error",
        FailureKind::RedirectLoop => "failure.redirect_loop",
        FailureKind::ShortBody => "failure.short_body",
        FailureKind::Stalled => "failure.stalled",
        FailureKind::TooLarge => "failure.too_large",
        FailureKind::Malformed => "failure.malformed",
        FailureKind::Local => "failure.local",
    })
}

/// A reason for doubt as a sentence.
pub(super) fn caveat(language: &'static Language, caveat: &Caveat) -> String {
    let number = |n: u32| language.number(n.into(), 0);
    let plain = |key| language.text(key).to_owned();
    match caveat {
        Caveat::WeakerComparison => plain("caveat.weaker_comparison"),
        Caveat::NoControl => plain("caveat.no_control"),
        Caveat::MorePairsNeeded(pairs) => {
            language.fill("caveat.more_pairs_needed", &[("n", &number(*pairs))])
        }
        Caveat::IntervalTooWide => plain("caveat.interval_too_wide"),
        Caveat::ProbeLate(n) => language.fill("caveat.probe_late", &[("n", &number(*n))]),
        Caveat::ControlFailed(n) => language.fill("caveat.control_failed", &[("n", &number(*n))]),
        Caveat::ControlSlow => plain("caveat.control_slow"),
        Caveat::ServerSlow => plain("caveat.server_slow"),
        Caveat::NoContrast(kind) => {
            language.fill("caveat.no_contrast", &[("kind", failure(language, *kind))])
        }
        Caveat::ServerRefused(status) => {
            language.fill("caveat.server_refused", &[("status", &number(u32::from(*status)))])
        }
        Caveat::SizesDiffer => plain("caveat.sizes_differ"),
        Caveat::TooFewBytes => plain("caveat.too_few_bytes"),
        Caveat::DistanceExplains { subject_rtt_ms, control_rtt_ms } => language.fill(
            if Caveat::is_farther(*subject_rtt_ms, *control_rtt_ms) {
                "caveat.distance_explains"
            } else {
                "caveat.host_explains"
            },
            &[
                ("subject", &language.number(*subject_rtt_ms, 0)),
                ("control", &language.number(*control_rtt_ms, 0)),
            ],
        ),
        Caveat::WouldDecide(command) => language.fill("caveat.would_decide", &[("command", command)]),
        Caveat::CertificateUnchecked => plain("caveat.certificate_unchecked"),
        Caveat::StickyAddress => plain("caveat.sticky_address"),
        Caveat::FewAddresses => plain("caveat.few_addresses"),
        Caveat::RouteChanged => plain("caveat.route_changed"),
        Caveat::LowMtu => plain("caveat.low_mtu"),
        Caveat::CaptivePortal => plain("caveat.captive_portal"),
        Caveat::ConnectionsHeld(n) => language.fill("caveat.connections_held", &[("n", &number(*n))]),
        Caveat::SharedAddress => plain("caveat.shared_address"),
        Caveat::CaCertificate => plain("caveat.ca_certificate"),
        Caveat::Patchy(share) => language.fill("caveat.patchy", &[("share", &language.percent(*share))]),
        Caveat::BudgetSpent => plain("caveat.budget_spent"),
        Caveat::CanaryAffected => plain("caveat.canary_affected"),
        Caveat::AlsoFits(other) => {
            language.fill("caveat.also_fits", &[("mechanism", mechanism(language, *other))])
        }
    }
}
