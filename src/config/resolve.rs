//! Sections to `Config`: defaults, checks across keys, the join with the catalogue.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use crate::{
    catalog::{self, Catalog},
    metrics::HistogramMode,
    model::{Network, Vantage},
};

use super::{
    Config, KEYS, LISTEN, Overrides, Problem, Store, Web, Wishes,
    read::{Section, Sections},
    targets::{self, Drawn},
    values,
};

/// Kept for a season: long enough to compare a month with the one before (design, section 6).
const RETENTION: Duration = Duration::from_hours(24 * 90);

/// A season at the default budgets takes less than half of it (`docs/store.md`).
const STORE_BYTES: u64 = 1_000_000_000;

/// Wished interval, and budgets that a metered line can bear (design, section 6).
const INTERVAL: Duration = Duration::from_mins(5);
const BYTES_PER_HOUR: u64 = 20_000_000;
const BYTES_PER_DAY: u64 = 200_000_000;

impl Config {
    /// Checks a configuration's text. `path` names it in messages, and what it names is found from its directory.
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, super::ConfigErrors> {
        let mut problems: Vec<Problem> = overrides.problems().collect();
        let mut sections = Sections::read(text, overrides, &mut problems);
        let directory = path.parent().unwrap_or(Path::new(""));
        let acknowledged = safety(sections.single("safety"), &mut problems);
        let vantage = vantage(sections.single("vantage"), &mut problems);
        let web = web(sections.single("web"), &mut problems);
        let store = store(sections.single("store"), directory, &mut problems);
        let schedule = schedule(sections.single("schedule"), &mut problems);
        let ca_file = tls(sections.single("tls"), directory, &mut problems);
        let doh = dns(sections.single("dns"), &mut problems);
        let histograms = metrics(sections.single("metrics"), &mut problems);
        let (catalog, platforms) = select(sections.single("catalog"), directory, &mut problems);
        let drawn = Drawn { catalog: &catalog, platforms: &platforms, vantage: &vantage, schedule };
        let (targets, vias, notify) = targets::resolve(&drawn, &mut sections, &mut problems);
        if problems.is_empty() {
            Ok(Self {
                source: None,
                acknowledged,
                vantage,
                web,
                store,
                schedule,
                ca_file,
                doh,
                histograms,
                catalog,
                platforms,
                targets,
                vias,
                notify,
            })
        } else {
            problems.sort_by_key(|problem| problem.line);
            Err(super::ConfigErrors { path: path.to_owned(), problems })
        }
    }
}

/// The keys of a section that can be there once.
fn keys(name: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(section, _)| *section == name).map_or(&[], |(_, keys)| keys)
}

fn safety(mut section: Section, problems: &mut Vec<Problem>) -> bool {
    let acknowledged = section.boolean("acknowledged", problems).unwrap_or(false);
    section.finish(keys("safety"), problems);
    acknowledged
}

fn vantage(mut section: Section, problems: &mut Vec<Problem>) -> Vantage {
    let country = section.text("country", problems, values::country);
    let asn_line = section.line_of("asn");
    let asn = section.number("asn", problems).and_then(|number| {
        let asn = u32::try_from(number).ok().filter(|asn| *asn > 0);
        if asn.is_none() {
            problems.push(Problem {
                line: asn_line,
                place: Some("[vantage] asn".to_owned()),
                message: format!(
                    "{number} is not the number of an autonomous system, write for example 12389"
                ),
            });
        }
        asn
    });
    let operator = section.text("operator", problems, values::name);
    let network = section.text("network", problems, |text| match text {
        "fixed" => Ok(Network::Fixed),
        "mobile" => Ok(Network::Mobile),
        other => Err(format!("`{other}` is not a kind of line, write \"fixed\" or \"mobile\"")),
    });
    section.finish(keys("vantage"), problems);
    Vantage { country, asn, operator, network }
}

fn web(mut section: Section, problems: &mut Vec<Problem>) -> Web {
    let listen = section.text("listen", problems, values::listen).unwrap_or(LISTEN);
    section.finish(keys("web"), problems);
    Web { listen }
}

fn store(mut section: Section, directory: &Path, problems: &mut Vec<Problem>) -> Store {
    let path = section.text("path", problems, |text| file_name(directory, text));
    let retention = section.text("retention", problems, values::duration).unwrap_or(RETENTION);
    let max_bytes = section.text("max_size", problems, values::database_size).unwrap_or(STORE_BYTES);
    section.finish(keys("store"), problems);
    Store { path: path.unwrap_or_else(store_path), retention, max_bytes }
}

/// `$XDG_STATE_HOME/throttlescope`, which is below the home directory; without one, as in the image, `/var/lib`.
fn store_path() -> PathBuf {
    let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("XDG_STATE_HOME")
        .or_else(|| {
            directory("HOME").filter(|home| home != Path::new("/")).map(|home| home.join(".local/state"))
        })
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("throttlescope/throttlescope.db")
}

fn schedule(mut section: Section, problems: &mut Vec<Problem>) -> Wishes {
    let interval = section.text("interval", problems, values::interval).unwrap_or(INTERVAL);
    let day_line = section.line_of("bytes_per_day");
    let hour = section.text("bytes_per_hour", problems, values::size);
    let day = section.text("bytes_per_day", problems, values::size);
    let (bytes_per_hour, bytes_per_day) = match (hour, day) {
        // Who names one of them alone means it: the other follows.
        (Some(hour), None) => (hour, BYTES_PER_DAY.max(hour)),
        (None, Some(day)) => (BYTES_PER_HOUR.min(day), day),
        (hour, day) => (hour.unwrap_or(BYTES_PER_HOUR), day.unwrap_or(BYTES_PER_DAY)),
    };
    if bytes_per_day < bytes_per_hour {
        problems.push(Problem {
            line: day_line,
            place: Some("[schedule] bytes_per_day".to_owned()),
            message: "is less than bytes_per_hour, raise it or lower bytes_per_hour".to_owned(),
        });
    }
    section.finish(keys("schedule"), problems);
    Wishes { interval, bytes_per_hour, bytes_per_day }
}

fn tls(mut section: Section, directory: &Path, problems: &mut Vec<Problem>) -> Option<PathBuf> {
    let ca_file = section.text("ca_file", problems, |text| {
        let path = file_name(directory, text)?;
        match std::fs::File::open(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(format!("`{text}` cannot be read ({}), check the path", plain(&error))),
        }
    });
    section.finish(keys("tls"), problems);
    ca_file
}

fn dns(mut section: Section, problems: &mut Vec<Problem>) -> Option<Url> {
    let doh = section.text("doh", problems, values::doh);
    section.finish(keys("dns"), problems);
    doh
}

fn metrics(mut section: Section, problems: &mut Vec<Problem>) -> Option<HistogramMode> {
    let histograms = section.text("histograms", problems, |text| match text {
        "target" => Ok(HistogramMode::Target),
        "platform" => Ok(HistogramMode::Platform),
        "native" => Ok(HistogramMode::Native),
        other => Err(format!("`{other}` is not a mode, write \"target\", \"platform\" or \"native\"")),
    });
    section.finish(keys("metrics"), problems);
    histograms
}

/// The catalogue in effect, and the ids of its platforms that are measured.
fn select(mut section: Section, directory: &Path, problems: &mut Vec<Problem>) -> (Catalog, Vec<String>) {
    let catalog = section.text("file", problems, |text| {
        let path = file_name(directory, text)?;
        let content = std::fs::read_to_string(path)
            .map_err(|error| format!("`{text}` cannot be read ({}), check the path", plain(&error)))?;
        Catalog::parse(&content).map_err(|error| format!("`{text}` is not a catalogue: {error}"))
    });
    let catalog = catalog.unwrap_or_else(catalog::builtin);
    let all: Vec<String> = catalog.platforms.iter().map(|platform| platform.id.clone()).collect();
    let line = section.line_of("platforms");
    let platforms = section.texts("platforms", problems).unwrap_or_else(|| all.clone());
    for id in platforms.iter().filter(|id| !all.contains(id)) {
        problems.push(Problem {
            line,
            place: Some("[catalog] platforms".to_owned()),
            message: format!("`{id}` is not in the catalogue, it has {}", all.join(", ")),
        });
    }
    section.finish(keys("catalog"), problems);
    (catalog, platforms)
}

/// A path of the file, found from the file's own directory.
fn file_name(directory: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty, name a file".to_owned()) } else { Ok(directory.join(text)) }
}

/// An error of the system without its number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        _ => error.to_string(),
    }
}
