//! TOML file to `Config`, valid by construction.
//!
//! `read` takes the file apart and lays variables and flags over it; `resolve` makes values of it and joins them with the
//! catalogue. All problems are found in one go, each with its line and what to do. Nothing outside of this room sees a
//! value that was not checked.

mod overrides;
mod read;
mod resolve;
mod targets;
mod values;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use crate::{
    catalog::Catalog,
    metrics::HistogramMode,
    model::{Target, TargetId, Vantage},
    schedule::{ScheduleSettings, ScheduledTarget},
};

pub use overrides::Overrides;
pub use values::host_name;

/// Sections that can be there once, with their keys; variables are named after them.
const KEYS: [(&str, &[&str]); 9] = [
    ("safety", &["acknowledged"]),
    ("vantage", &["country", "asn", "operator", "network"]),
    ("web", &["listen"]),
    ("store", &["path", "retention", "max_size"]),
    ("schedule", &["interval", "bytes_per_hour", "bytes_per_day"]),
    ("tls", &["ca_file"]),
    ("dns", &["doh"]),
    ("catalog", &["platforms", "file"]),
    ("metrics", &["histograms"]),
];

/// Default port: no use by another exporter was found.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10_474);

/// Everything that can be configured, checked and with its defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None`: built-in defaults.
    pub source: Option<PathBuf>,
    /// The catalogue may be measured from here without asking.
    pub acknowledged: bool,
    /// Where the probe stands.
    pub vantage: Vantage,
    /// The status page, metrics and API.
    pub web: Web,
    /// The database.
    pub store: Store,
    /// Wishes and budgets.
    pub schedule: Wishes,
    /// PEM file of certificates to trust beside the built-in and the system's.
    pub ca_file: Option<PathBuf>,
    /// An independent resolver over HTTPS, asked where the system's fails or seems to lie.
    pub doh: Option<Url>,
    /// How histograms are kept; `None`: by the number of targets.
    pub histograms: Option<HistogramMode>,
    /// The catalogue that is in effect.
    pub catalog: Catalog,
    /// The ids of the catalogue's platforms that are measured.
    pub platforms: Vec<String>,
    /// All targets: the catalogue's selection, then the configured ones, and the controls that they name.
    pub targets: Vec<ConfiguredTarget>,
    /// Measurement servers to compare against.
    pub vias: Vec<Via>,
    /// Who is told of incidents.
    pub notify: Vec<Notify>,
}

/// `[web]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Web {
    /// Where to answer.
    pub listen: SocketAddr,
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The database file.
    pub path: PathBuf,
    /// How long measurements are kept.
    pub retention: Duration,
    /// The database may not grow larger; the oldest measurements go first.
    pub max_bytes: u64,
}

impl Store {
    /// The same in the store's own words.
    pub fn settings(&self) -> crate::store::Settings {
        crate::store::Settings {
            path: self.path.clone(),
            retention: self.retention,
            max_bytes: self.max_bytes,
        }
    }
}

/// `[schedule]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// How often each target is wished to be measured.
    pub interval: Duration,
    /// Bytes in any hour.
    pub bytes_per_hour: u64,
    /// Bytes in any day.
    pub bytes_per_day: u64,
}

/// A target and how it is scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredTarget {
    /// The target.
    pub target: Target,
    /// How often it is wished to be measured; `None`: only within the pairs of others.
    pub interval: Option<Duration>,
    /// It came from the built-in catalogue.
    pub built_in: bool,
}

/// `[[via]]`: one measurement server, and the names to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// Its id; its targets are `<id>/<subject>`.
    pub id: String,
    /// `HOST:PORT`.
    pub address: String,
    /// Names that may be throttled.
    pub subjects: Vec<String>,
    /// Innocent names, at least one.
    pub controls: Vec<String>,
    /// How often each subject is wished to be measured.
    pub interval: Duration,
    /// Body bytes of an exchange.
    pub bytes: u64,
}

/// `[[notify]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// A JSON document is posted there.
    Webhook(Url),
    /// The base address of an Alertmanager.
    Alertmanager(Url),
}

impl Config {
    /// The built-in defaults, with nothing configured.
    pub fn builtin() -> Self {
        Self::parse("", Path::new("built-in defaults"), &Overrides::default())
            .expect("the defaults are parsed by a test")
    }

    /// Targets with a schedule of their own, in the order of the configuration. Those of `vias` come after them.
    pub fn measured(&self) -> impl Iterator<Item = (&Target, Duration)> {
        self.targets.iter().filter_map(|configured| Some((&configured.target, configured.interval?)))
    }

    /// The ids of the targets of measurement servers: `<via id>/<subject>`.
    pub fn via_targets(&self) -> impl Iterator<Item = (&Via, &str, TargetId)> {
        self.vias.iter().flat_map(|via| {
            via.subjects
                .iter()
                .map(move |name| (via, name.as_str(), TargetId::new(format!("{}/{name}", via.id))))
        })
    }

    /// What the schedule needs to know: of [`Self::measured`], then of [`Self::via_targets`], in their order. Platforms of
    /// the catalogue take turns with bulk rounds; what a person configured is measured in full every time.
    pub fn scheduled(&self) -> Vec<ScheduledTarget> {
        let group = |configured: &ConfiguredTarget| {
            let id = &configured.target.id;
            let canary = self.catalog.canaries.iter().find(|canary| canary.target.id == *id);
            let platform = canary.map(|canary| canary.of.as_str()).or(id.platform());
            let platform = platform.filter(|_| configured.built_in)?;
            self.catalog.platforms.iter().position(|other| other.id == platform)
        };
        let own = self.targets.iter().filter_map(|configured| {
            Some(ScheduledTarget {
                interval: configured.interval?,
                bytes: configured.target.bytes,
                compared: !configured.target.controls.is_empty(),
                group: group(configured),
            })
        });
        let vias = self.via_targets().map(|(via, _, _)| ScheduledTarget {
            interval: via.interval,
            bytes: via.bytes,
            compared: true,
            group: None,
        });
        own.chain(vias).collect()
    }

    /// The byte budgets.
    pub const fn budgets(&self) -> ScheduleSettings {
        ScheduleSettings {
            bytes_per_hour: self.schedule.bytes_per_hour,
            bytes_per_day: self.schedule.bytes_per_day,
        }
    }

    /// Whether anything of the built-in catalogue is contacted.
    pub fn uses_catalog(&self) -> bool {
        self.targets.iter().any(|configured| configured.built_in)
    }
}

/// Finds the file, reads it, and checks everything. `path` is `--config`.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let Some(path) = path.map(Path::to_owned).or_else(find) else {
        return Config::parse("", Path::new("built-in defaults"), overrides);
    };
    let text = std::fs::read_to_string(&path).map_err(|error| ConfigErrors::unreadable(&path, &error))?;
    let mut config = Config::parse(&text, &path, overrides)?;
    config.source = Some(path);
    Ok(config)
}

/// The first configuration file that is there.
fn find() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| home.map(|home| home.join(".config")));
    let candidates = [user, Some(PathBuf::from("/etc"))];
    candidates
        .into_iter()
        .flatten()
        .map(|directory| directory.join("throttlescope/config.toml"))
        .find(|path| path.exists())
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    path: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    line: Option<usize>,
    /// `[section] key`, or the name of a variable or flag.
    place: Option<String>,
    message: String,
}

impl Problem {
    fn syntax(line: Option<usize>, message: &str) -> Self {
        Self { line, place: None, message: format!("not TOML: {message}") }
    }
}

impl ConfigErrors {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file, check the path after --config".to_owned(),
            io::ErrorKind::InvalidData => "not a text file, a configuration is TOML in UTF-8".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Self { path: path.to_owned(), problems: vec![Problem { line: None, place: None, message }] }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for ConfigErrors {
    /// One line each: `path:line: [section] key: what, what to do`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let path = self.path.display();
            match (problem.line, &problem.place) {
                (Some(line), _) => write!(f, "{path}:{line}: ")?,
                (None, Some(place)) if !place.starts_with('[') => {}
                (None, _) => write!(f, "{path}: ")?,
            }
            if let Some(place) = &problem.place {
                write!(f, "{place}: ")?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
