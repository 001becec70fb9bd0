//! What is measured, by which names.

use serde::{Deserialize, Serialize};
use url::Url;

/// The id of a target: `platform/endpoint`, a configured id, a URL, or `<via id>/<subject>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetId(String);

impl TargetId {
    /// An id as configured.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The platform: what stands before the first slash; `None` for ids without one and for URLs.
    pub fn platform(&self) -> Option<&str> {
        if self.0.contains("://") {
            return None;
        }
        self.0.split_once('/').map(|(platform, _)| platform)
    }
}

impl std::fmt::Display for TargetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What an endpoint is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// A page that people open.
    Page,
    /// A media server: large static objects, first choice for bulk.
    Media,
    /// An API or messaging host, often only a handshake.
    Api,
}

/// One URL that is measured, and with what it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// Its URL.
    pub url: Url,
    /// Subject, control or canary.
    pub role: super::Role,
    /// What it is good for.
    pub kind: EndpointKind,
    /// The ids of its controls, best first; empty: its own history only.
    pub controls: Vec<TargetId>,
    /// Body bytes to ask for; at most 16 KiB is a cheap, handshake-only exchange.
    pub bytes: u64,
    /// Where to connect instead of to the URL's host and port (`HOST:PORT`).
    pub connect_to: Option<String>,
    /// Check its certificate. `false` for services with an authority of their own, and where configured so.
    #[serde(default = "yes")]
    pub check_certificate: bool,
}

const fn yes() -> bool {
    true
}

/// Where the probe stands. All of it is what the user configured; nothing is looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vantage {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Autonomous system number.
    pub asn: Option<u32>,
    /// The operator's name.
    pub operator: Option<String>,
    /// Fixed or mobile line.
    pub network: Option<Network>,
}

/// The kind of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A home or office line.
    Fixed,
    /// A mobile link.
    Mobile,
}
