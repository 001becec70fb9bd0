//! `--web.config.file`: the YAML of the Prometheus exporters (TLS, basic auth, headers, rate limit).
//!
//! Keys and meanings are exporter-toolkit's (<https://prometheus.io/docs/prometheus/latest/configuration/https/>). An
//! unknown key is an error. Paths are relative to the file. The file and what it names are read again when they change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{WebError, auth::Users, tls};

/// The headers that may be set, as in exporter-toolkit: none that the program itself needs to control.
const HEADERS: [&str; 5] = [
    "content-security-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
];

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<tls::TlsServerConfig>,
    http_server_config: HttpServerConfig,
    basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<RateLimitConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServerConfig {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServerConfig {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitConfig {
    interval: String,
    #[serde(default = "one")]
    burst: u32,
}

const fn one() -> u32 {
    1
}

/// What the file asks for, checked.
#[derive(Debug)]
pub(super) struct WebConfig {
    pub(super) tls: Option<tls::Tls>,
    pub(super) headers: HeaderMap,
    pub(super) users: Users,
    pub(super) rate_limit: Option<RateLimit>,
    /// Every file that was read.
    pub(super) files: Vec<PathBuf>,
}

/// At most `burst` requests at once, and one more every `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateLimit {
    pub(super) interval: Duration,
    pub(super) burst: u32,
}

impl WebConfig {
    /// Without a file: plain HTTP, no users.
    pub(super) fn plain() -> Self {
        Self {
            tls: None,
            headers: HeaderMap::new(),
            users: Users::default(),
            rate_limit: None,
            files: Vec::new(),
        }
    }

    /// Reads and checks the file and everything it names.
    pub(super) fn load(path: &Path) -> Result<Self, WebError> {
        let text = read(path)?;
        let invalid = |problem: String| WebError::Invalid { path: path.to_owned(), problem };
        let file: File = if text.trim().is_empty() {
            File::default()
        } else {
            serde_saphyr::from_str(&text).map_err(|error| invalid(one_line(&error.to_string())))?
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = vec![path.to_owned()];
        let tls = match &file.tls_server_config {
            Some(config) => {
                Some(tls::build(config, folder, file.http_server_config.http2, &mut files, &invalid)?)
            }
            None => None,
        };
        Ok(Self {
            tls,
            headers: headers(&file.http_server_config.headers).map_err(invalid)?,
            users: Users::new(file.basic_auth_users).map_err(invalid)?,
            rate_limit: file.rate_limit.map(|config| rate_limit(&config)).transpose().map_err(invalid)?,
            files,
        })
    }
}

/// Reads a text file that the user named.
pub(super) fn read(path: &Path) -> Result<String, WebError> {
    std::fs::read_to_string(path).map_err(|source| WebError::Unreadable { path: path.to_owned(), source })
}

fn headers(configured: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let lower = name.to_ascii_lowercase();
        let known = HEADERS.iter().find(|&&known| known == lower).ok_or_else(|| {
            format!("http_server_config.headers: `{name}` cannot be set; only {} can", HEADERS.join(", "))
        })?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("http_server_config.headers.{name}: not a valid header value"))?;
        // An empty value is exporter-toolkit's way to say "leave it".
        if !value.is_empty() {
            headers.insert(HeaderName::from_static(known), value);
        }
    }
    Ok(headers)
}

fn rate_limit(config: &RateLimitConfig) -> Result<RateLimit, String> {
    let interval = humantime::parse_duration(&config.interval)
        .map_err(|_| format!("rate_limit.interval: `{}` is not a duration such as `1s`", config.interval))?;
    if interval.is_zero() || config.burst == 0 {
        return Err("rate_limit: interval and burst must be above zero".into());
    }
    Ok(RateLimit { interval, burst: config.burst })
}

/// A parser's message on one line, without its quotation of the file (which may hold secrets).
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}
