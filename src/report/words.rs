//! Findings in plain English: the sentence that can be quoted, the caveats, the failures.

use crate::model::{
    BlockedAt, Caveat, Comparison, Evidence, Failure, FailureDetail, FailureKind, Judgement, Mechanism,
    Phase, Verdict,
};

use super::units;

/// Below this a slowdown of a slow line is no news (design: `throttled` begins at 1.5).
const SLOWDOWN_WORTH_TELLING: f64 = 1.5;

/// One sentence that a journalist can quote: what, how much, against what, how sure.
pub fn summary(judgement: &Judgement) -> String {
    let subject = &judgement.subject;
    let finding = &judgement.finding;
    let evidence = &finding.evidence;
    match finding.verdict {
        Verdict::Normal => normal(judgement),
        Verdict::Throttled => throttled(judgement),
        Verdict::Frozen => format!(
            "Transfers from {subject} stop for good{} without a reset, while {} goes on.",
            evidence
                .freeze_after_bytes
                .map_or_else(String::new, |bytes| format!(" after about {}", units::size(bytes as f64))),
            against(judgement)
        ),
        Verdict::Blocked => {
            format!(
                "{subject} is blocked on this line, {}, while {} works.",
                blocked(finding.blocked_at),
                against(judgement)
            )
        }
        Verdict::Degraded => {
            // As slow as its control is no slowdown to tell.
            let slower = evidence.slowdown.or(evidence.handshake_slowdown);
            let slower = slower
                .filter(|&slowdown| slowdown >= SLOWDOWN_WORTH_TELLING)
                .map_or_else(String::new, |_| times_slower(evidence));
            format!("{subject} is slow on this line{slower}, but nothing attributes that to interference.")
        }
        Verdict::Inconclusive => {
            let reason = finding.caveats.first().map_or_else(|| "too little was seen.".to_owned(), caveat);
            format!("No verdict on {subject}: {reason}")
        }
    }
}

fn normal(judgement: &Judgement) -> String {
    let (finding, subject) = (&judgement.finding, &judgement.subject);
    if finding.caveats.contains(&Caveat::TooFewBytes) {
        return format!("{subject} answers as quickly as {}; its rate was not tested.", against(judgement));
    }
    let evidence = &finding.evidence;
    // A subject that is faster than its control has no bound worth telling.
    let bound = evidence.slowdown_ci[1].filter(|&high| high >= 1.0).map_or_else(String::new, |high| {
        format!(" (at most {} times slower, {} confidence)", units::ratio(high), percent(evidence.confidence))
    });
    format!("{subject} is as fast as {}{bound}.", against(judgement))
}

fn throttled(judgement: &Judgement) -> String {
    let finding = &judgement.finding;
    let evidence = &finding.evidence;
    let means = match finding.mechanism {
        Some(Mechanism::Policing) => ", by a policer that drops what exceeds its rate",
        Some(Mechanism::Shaping) => ", by a shaper that makes packets wait",
        Some(Mechanism::Loss) => ", by dropping packets at random",
        Some(Mechanism::HandshakeDelay) => ", by holding up the handshake",
        Some(Mechanism::ConnectionLimit) => ", by holding up several connections at once",
        Some(Mechanism::Unknown) | None => "",
    };
    let limit = evidence
        .limit_bytes_per_second
        .map_or_else(String::new, |limit| format!(" and held at about {}", units::rate(limit)));
    format!(
        "{} is being slowed down on this line{} than {}{limit}{means}.",
        judgement.subject,
        // What is held up is the handshake, and the transfers behind it scatter.
        if finding.mechanism == Some(Mechanism::HandshakeDelay) {
            handshakes_slower(evidence)
        } else {
            times_slower(evidence)
        },
        if finding.caveats.contains(&Caveat::StickyAddress) {
            "the same server before that name was shown to it".to_owned()
        } else {
            against(judgement)
        }
    )
}

/// `: 31.2 times slower (24 to 41.5 at 99 % confidence)`, by goodput, else by handshake.
fn times_slower(evidence: &Evidence) -> String {
    if let Some(slowdown) = evidence.slowdown {
        let interval = match evidence.slowdown_ci {
            [Some(low), Some(high)] => {
                format!(
                    " ({} to {} at {} confidence)",
                    units::ratio(low),
                    units::ratio(high),
                    percent(evidence.confidence)
                )
            }
            [Some(low), None] => {
                format!(" (at least {} at {} confidence)", units::ratio(low), percent(evidence.confidence))
            }
            _ => String::new(),
        };
        return format!(", {} times slower{interval}", units::ratio(slowdown));
    }
    handshakes_slower(evidence)
}

fn handshakes_slower(evidence: &Evidence) -> String {
    evidence.handshake_slowdown.map_or_else(
        || ", slower".to_owned(),
        |slowdown| format!(", with handshakes {} times slower", units::ratio(slowdown)),
    )
}

fn against(judgement: &Judgement) -> String {
    match (judgement.comparison, &judgement.control) {
        (Comparison::Sni, _) => "the same server under another name".to_owned(),
        (Comparison::Control, Some(control)) => format!("its control {control}"),
        (Comparison::History, _) => "its own past".to_owned(),
        _ => "anything else".to_owned(),
    }
}

fn blocked(at: Option<BlockedAt>) -> &'static str {
    match at {
        Some(BlockedAt::Dns) => "by its name's resolution (dns)",
        Some(BlockedAt::Tcp) => "at its address (tcp)",
        Some(BlockedAt::Tls) => "in the handshake (tls)",
        Some(BlockedAt::Http) => "in the answer (http)",
        None => "in a way that was not determined",
    }
}

fn percent(share: f64) -> String {
    format!("{} %", units::ratio(share * 100.0))
}

/// A caveat as a sentence.
pub fn caveat(caveat: &Caveat) -> String {
    match caveat {
        Caveat::WeakerComparison => "this is a weaker comparison: two hosts differ in speed for innocent reasons, which one server under two names does not.".to_owned(),
        Caveat::NoControl => "there is nothing to compare with; name a control with --control.".to_owned(),
        Caveat::MorePairsNeeded(1) => "about one more pair would decide; run it again, or raise --pairs.".to_owned(),
        Caveat::MorePairsNeeded(pairs) => format!("about {pairs} more pairs would decide; run it again, or raise --pairs."),
        Caveat::IntervalTooWide => "the measurements scatter so much that both normal and throttled fit; more pairs would narrow it.".to_owned(),
        Caveat::ProbeLate(n) => format!("this machine was too busy for {n} of the exchanges, left out here; try again when it is idle."),
        Caveat::ControlFailed(1) => "the control itself failed in one exchange, so that the line or the control may be at fault.".to_owned(),
        Caveat::ControlFailed(n) => format!("the control itself failed in {n} exchanges, so that the line or the control may be at fault."),
        Caveat::ControlSlow => "the control is slow as well, so that the line itself may be at fault.".to_owned(),
        Caveat::ServerSlow => "the server is slow under every name, so that the server itself may be at fault.".to_owned(),
        Caveat::NoContrast(kind) => format!("the subject failed ({kind}), and nothing shows that this depends on its name or on where we are: it may be so for everybody."),
        Caveat::ServerRefused(status) => format!("the server itself answered with status {status}: a refusal of the server's, which is no interference on the way."),
        Caveat::SizesDiffer => "the objects differ in size by more than 10 %, so that goodput was not compared.".to_owned(),
        Caveat::TooFewBytes => "less than the free burst of known throttles was transferred, so that nothing can be said of a rate limit; use a larger object or --bytes.".to_owned(),
        Caveat::DistanceExplains { subject_rtt_ms, control_rtt_ms } if !Caveat::is_farther(*subject_rtt_ms, *control_rtt_ms) => format!("the two hosts are about equally far away (round trips of {subject_rtt_ms:.0} ms and {control_rtt_ms:.0} ms), but one that is slow by itself would look the same."),
        Caveat::DistanceExplains { subject_rtt_ms, control_rtt_ms } => format!("round trips of {subject_rtt_ms:.0} ms to the subject and {control_rtt_ms:.0} ms to the control may explain the difference."),
        Caveat::WouldDecide(command) => format!("this would decide: {command}"),
        Caveat::CertificateUnchecked => "certificates were not checked where a name was swapped.".to_owned(),
        Caveat::StickyAddress => "the control slowed down, too, once the subject's name had been shown to its address, as behind a box that remembers addresses.".to_owned(),
        Caveat::FewAddresses => "a line that slowed down at that moment looks the same; a server with two or more further addresses would decide (see docs/serve.md).".to_owned(),
        Caveat::RouteChanged => "our own address changed in mid-round, so that two lines were measured; try again.".to_owned(),
        Caveat::LowMtu => "small segments came and not one large one, as with a low MTU, which imitates a block or a freeze.".to_owned(),
        Caveat::CaptivePortal => "every plain request gets the same foreign page: a captive portal; log in first.".to_owned(),
        Caveat::ConnectionsHeld(n) => format!("after {n} connections under one name in quick succession the next ones were left unanswered; a limit on connections does that to any name, so that this accuses nobody, and fewer at a time may well work."),
        Caveat::SharedAddress => "many clients may share our public address, which imitates a connection limit.".to_owned(),
        Caveat::CaCertificate => "the server's certificate is self-signed and marked as a certificate authority, which no --cacert can make a server's own; make one without CA:TRUE, or use -k.".to_owned(),
        Caveat::Patchy(share) => format!("{} of the subject's exchanges were affected, the others were not.", percent(*share)),
        Caveat::BudgetSpent => "the budget of time, bytes or pairs ended before a decision.".to_owned(),
        Caveat::CanaryAffected => "an innocent name that only looks like the subject's is affected as well: the rule matches more than it names.".to_owned(),
        Caveat::AlsoFits(mechanism) => format!("{mechanism} fits the measurements as well."),
    }
}

/// A failure as one line: what happened, and where.
pub fn failure(failure: &Failure, status: Option<u16>) -> String {
    let detail = failure.detail.as_ref();
    let what = match failure.kind {
        FailureKind::Nxdomain => "the name does not exist".to_owned(),
        FailureKind::NoAddress => match detail {
            Some(FailureDetail::ResolverError(code)) => format!("the resolver answered with error {code}"),
            _ => "the name has no address of the family asked for".to_owned(),
        },
        FailureKind::Refused => "the connection was refused".to_owned(),
        FailureKind::Unreachable if failure.phase == Phase::Resolve => {
            "no name server could be reached".to_owned()
        }
        FailureKind::Unreachable => "the address is unreachable".to_owned(),
        FailureKind::Timeout => timeout(failure),
        FailureKind::Reset => "the connection was reset".to_owned(),
        FailureKind::Closed => "the peer closed the connection before it was done".to_owned(),
        FailureKind::TlsAlert => match detail {
            Some(FailureDetail::Alert(code)) => format!("the peer sent TLS alert {code}"),
            _ => "the peer sent a TLS alert".to_owned(),
        },
        FailureKind::BadCertificate => certificate(detail).to_owned(),
        FailureKind::NotTls => "the peer does not speak TLS".to_owned(),
        FailureKind::HttpError => {
            let page = match detail {
                Some(FailureDetail::BlockPage(id)) => format!(", with the known block page {id}"),
                _ => String::new(),
            };
            status.map_or_else(
                || "an HTTP error".to_owned(),
                |status| format!("the answer has status {status}{page}"),
            )
        }
        FailureKind::RedirectLoop => "redirects do not come to an end".to_owned(),
        FailureKind::ShortBody => "the body ended before its stated length".to_owned(),
        FailureKind::Stalled => "bytes came, and then none for the whole stall budget".to_owned(),
        FailureKind::TooLarge => match detail {
            Some(FailureDetail::Headers) => "the headers exceed our bounds".to_owned(),
            _ => "the body exceeds our bounds".to_owned(),
        },
        FailureKind::Malformed => "the answer breaks the protocol".to_owned(),
        FailureKind::Local => match detail {
            Some(FailureDetail::Descriptors) => {
                "this machine is out of file descriptors; raise `ulimit -n`".to_owned()
            }
            Some(FailureDetail::Permission) => "this machine does not permit it".to_owned(),
            _ => "this machine could not do its part".to_owned(),
        },
    };
    format!("{what} ({} in {})", failure.kind, failure.phase)
}

fn timeout(failure: &Failure) -> String {
    if failure.detail == Some(FailureDetail::WholeExchange) {
        return "the time for the whole exchange ran out".to_owned();
    }
    match failure.phase {
        Phase::Resolve => "the resolver did not answer in time",
        Phase::Connect => "nothing answered the connection attempt in time",
        Phase::Tls => "the TLS handshake did not complete in time",
        Phase::Processing => "no byte of an answer came in time",
        Phase::Transfer => "the body did not come to its end in time",
    }
    .to_owned()
}

const fn certificate(detail: Option<&FailureDetail>) -> &'static str {
    match detail {
        Some(FailureDetail::Expired) => "the certificate has expired",
        Some(FailureDetail::NotYetValid) => {
            "the certificate is not valid yet (is this machine's clock right?)"
        }
        Some(FailureDetail::WrongName) => "the certificate is for other names",
        Some(FailureDetail::UnknownIssuer) => {
            "the certificate is signed by nobody we trust (--cacert adds a signer)"
        }
        Some(FailureDetail::CaAsServer) => {
            "the certificate is self-signed and marked as a certificate authority; make one without CA:TRUE, or use -k"
        }
        _ => "the certificate does not verify",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, Finding, TargetId};

    fn said(
        verdict: Verdict,
        mechanism: Option<Mechanism>,
        evidence: Evidence,
        caveats: Vec<Caveat>,
    ) -> String {
        summary(&Judgement {
            subject: TargetId::new("a.example"),
            control: Some(TargetId::new("b.example")),
            comparison: Comparison::Sni,
            finding: Finding { verdict, mechanism, blocked_at: None, evidence, caveats },
            repeat: String::new(),
            exchanges: Vec::new(),
        })
    }

    #[test]
    fn the_sentence_tells_what_decided() {
        let evidence = Evidence {
            slowdown: Some(161.0),
            slowdown_ci: [Some(0.04), None],
            handshake_slowdown: Some(95.0),
            ..Evidence::default()
        };
        let text = said(Verdict::Throttled, Some(Mechanism::HandshakeDelay), evidence.clone(), vec![]);
        assert!(text.contains("with handshakes 95 times slower") && !text.contains("161"), "{text}");
        let text = said(Verdict::Throttled, Some(Mechanism::Loss), evidence, vec![]);
        assert!(text.contains("161 times slower (at least 0.04"), "{text}");
        let text = said(Verdict::Normal, None, Evidence::default(), vec![Caveat::TooFewBytes]);
        assert_eq!(
            text,
            "a.example answers as quickly as the same server under another name; its rate was not tested."
        );
    }
}
