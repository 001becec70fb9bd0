//! What went wrong on the wire, at which phase: a closed vocabulary.

use serde::{Deserialize, Serialize};

use super::Phase;

/// A failure of an exchange. It is a result, not an error: the network did this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where it happened.
    pub phase: Phase,
    /// What happened.
    pub kind: FailureKind,
    /// What tells failures of one kind apart; `None` when there is nothing more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<FailureDetail>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The resolver says that the name does not exist.
    Nxdomain,
    /// The name exists and has no address of the family asked for, or the resolver gave an error or no answer section.
    NoAddress,
    /// A TCP reset answered the SYN.
    Refused,
    /// ICMP or the routing table says that there is no way.
    Unreachable,
    /// Our budget for the phase ran out: the true duration is longer.
    Timeout,
    /// A TCP reset on an established connection.
    Reset,
    /// The peer ended the connection before the protocol was done.
    Closed,
    /// The peer sent a TLS alert.
    TlsAlert,
    /// The certificate did not verify.
    BadCertificate,
    /// The peer does not speak TLS.
    NotTls,
    /// A status of 400 or more.
    HttpError,
    /// Redirects go in a circle or on for too long.
    RedirectLoop,
    /// The body ended before its stated length.
    ShortBody,
    /// Bytes had come, then none for the whole stall budget.
    Stalled,
    /// Headers or body exceed our bounds.
    TooLarge,
    /// The peer breaks HTTP, or the resolver DNS.
    Malformed,
    /// Our own machine could not do its part (no descriptor, no port, no permission).
    Local,
}

impl FailureKind {
    /// All kinds, in the order of the documents.
    pub const ALL: [Self; 17] = [
        Self::Nxdomain,
        Self::NoAddress,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::Reset,
        Self::Closed,
        Self::TlsAlert,
        Self::BadCertificate,
        Self::NotTls,
        Self::HttpError,
        Self::RedirectLoop,
        Self::ShortBody,
        Self::Stalled,
        Self::TooLarge,
        Self::Malformed,
        Self::Local,
    ];

    /// The name used in JSON, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nxdomain => "nxdomain",
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::TlsAlert => "tls_alert",
            Self::BadCertificate => "bad_certificate",
            Self::NotTls => "not_tls",
            Self::HttpError => "http_error",
            Self::RedirectLoop => "redirect_loop",
            Self::ShortBody => "short_body",
            Self::Stalled => "stalled",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Local => "local",
        }
    }

    /// Whether the wait was ended by our own budget, so that the true duration is longer than what was seen.
    pub const fn is_censoring(self) -> bool {
        matches!(self, Self::Timeout | Self::Stalled)
    }

    /// Whether a phase that ended in this failure lasted at least (our own budget), or exactly (an answer that we do not
    /// like), as long as was seen. A refusal or a reset says nothing about how long the phase takes.
    pub const fn tells_duration(self) -> bool {
        self.is_censoring() || matches!(self, Self::HttpError)
    }
}

impl std::fmt::Display for FailureKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What tells failures of one kind apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureDetail {
    /// `bad_certificate`: its time is over.
    Expired,
    /// `bad_certificate`: its time has not come (or our clock is slow).
    NotYetValid,
    /// `bad_certificate`: it is for other names.
    WrongName,
    /// `bad_certificate`: nobody we trust signed it.
    UnknownIssuer,
    /// `bad_certificate`: a self-signed one that is marked as a certificate authority; `--cacert` alone will not make it
    /// acceptable as a server's own certificate.
    CaAsServer,
    /// `bad_certificate`: anything else.
    OtherCertificate,
    /// `tls_alert`: the alert's code (RFC 8446, section 6).
    Alert(u8),
    /// `too_large`: the headers.
    Headers,
    /// `too_large`: the body.
    Body,
    /// `no_address`: the resolver answered with an error (its response code, RFC 1035 section 4.1.1).
    ResolverError(u16),
    /// `http_error`: the page is one that a censor is known to inject; the fingerprint's id.
    BlockPage(String),
    /// `local`: too many open files.
    Descriptors,
    /// `local`: no permission, or no such interface.
    Permission,
    /// `timeout`: the cap on the whole exchange ran out, not the phase's own budget.
    WholeExchange,
}
