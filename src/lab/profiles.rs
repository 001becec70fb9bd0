//! The profiles that come with the program, and the reading of anybody's own.
//!
//! A profile may build on another (`extends = "tspu-2021"`): its tables are laid over the other's, key by key; lists are
//! replaced.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::model::profile::{Profile, Scenario};

/// Built-in profiles: name and text.
const BUILT_IN: &[(&str, &str)] =
    &[("clean", include_str!("profiles/clean.toml")), ("tspu-2021", include_str!("profiles/tspu-2021.toml"))];

/// How deep profiles may build on each other.
const EXTENDS_MAX: usize = 8;

/// Why a profile or scenario is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No such name.
    #[error(
        "there is no profile `{0}`; `throttlescope lab list` shows those there are, and a file of your own is given by \
         its path, ending in .toml"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML, or not of this shape.
    #[error("{place}: {what}")]
    Malformed {
        /// File, and line where known.
        place: String,
        /// What is wrong, in one sentence.
        what: String,
    },
}

/// A file is a profile or a whole scenario.
#[derive(Debug)]
pub enum Loaded {
    /// A profile alone.
    Profile(Box<Profile>),
    /// A scenario, and the profile it names.
    Scenario(Box<Scenario>, Box<Profile>),
}

/// Names of the built-in profiles, in the order of the list.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// A profile by name, or by path where it ends in `.toml`.
pub fn profile(name: &str) -> Result<Profile, ProfileError> {
    let source = Source::find(name, None)?;
    source.profile(0)
}

/// A profile by name or path, or a scenario by path.
pub fn load(name: &str) -> Result<Loaded, ProfileError> {
    let source = Source::find(name, None)?;
    let table = source.table()?;
    if !table.contains_key("profile") {
        return source.profile(0).map(|profile| Loaded::Profile(Box::new(profile)));
    }
    let scenario: Scenario = source.shape(table)?;
    let wrong = scenario.line.as_ref().map(crate::model::profile::LineProfile::check).unwrap_or_default();
    if let Some(what) = wrong.first() {
        return Err(source.malformed(None, format!("line: {what}")));
    }
    if scenario.command.is_empty() {
        return Err(source.malformed(None, "`command` is empty; name a program to run".to_owned()));
    }
    let profile = Source::find(&scenario.profile, source.file.as_deref())?.profile(0)?;
    Ok(Loaded::Scenario(Box::new(scenario), Box::new(profile)))
}

/// A text and where it is from.
struct Source {
    place: String,
    file: Option<PathBuf>,
    text: String,
}

impl Source {
    /// By name, or by path seen from the directory of `from`.
    fn find(name: &str, from: Option<&Path>) -> Result<Self, ProfileError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Ok(Self { place: format!("profile {name}"), file: None, text: (*text).to_owned() });
        }
        if Path::new(name).extension().is_none_or(|extension| extension != "toml") {
            return Err(ProfileError::Unknown(name.to_owned()));
        }
        let file =
            from.and_then(Path::parent).map_or_else(|| PathBuf::from(name), |parent| parent.join(name));
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ProfileError::Read { file: file.clone(), source })?;
        Ok(Self { place: file.display().to_string(), file: Some(file), text })
    }

    fn table(&self) -> Result<Table, ProfileError> {
        self.text.parse::<Table>().map_err(|error| self.wrong(&error))
    }

    fn profile(&self, depth: usize) -> Result<Profile, ProfileError> {
        let profile: Profile = self.shape(self.whole(depth)?)?;
        match profile.check().into_iter().next() {
            Some(what) => Err(self.malformed(None, what)),
            None => Ok(profile),
        }
    }

    /// The table with what it builds on under it.
    fn whole(&self, depth: usize) -> Result<Table, ProfileError> {
        let mut table = self.table()?;
        let Some(base) = table.remove("extends") else { return Ok(table) };
        let Value::String(base) = base else {
            return Err(self.malformed(None, "`extends` is not text; name a profile".to_owned()));
        };
        if depth >= EXTENDS_MAX {
            return Err(
                self.malformed(None, format!("`extends` goes more than {EXTENDS_MAX} deep or in a circle"))
            );
        }
        let mut under = Self::find(&base, self.file.as_deref())?.whole(depth + 1)?;
        overlay(&mut under, table);
        Ok(under)
    }

    /// Gives a table its shape. Read from the text itself where possible, because only that knows lines.
    fn shape<T: serde::de::DeserializeOwned>(&self, table: Table) -> Result<T, ProfileError> {
        match toml::from_str::<T>(&self.text) {
            Err(error) if !table_differs(&self.text, &table) => Err(self.wrong(&error)),
            _ => table.try_into().map_err(|error: toml::de::Error| self.wrong(&error)),
        }
    }

    fn wrong(&self, error: &toml::de::Error) -> ProfileError {
        let line =
            error.span().map(|span| self.text[..span.start.min(self.text.len())].matches('\n').count() + 1);
        self.malformed(line, error.message().replace('\n', " "))
    }

    fn malformed(&self, line: Option<usize>, what: String) -> ProfileError {
        let place = match line {
            Some(line) => format!("{}, line {line}", self.place),
            None => self.place.clone(),
        };
        ProfileError::Malformed { place, what }
    }
}

/// Whether the table is more than the text says (it builds on another).
fn table_differs(text: &str, table: &Table) -> bool {
    text.parse::<Table>().is_ok_and(|plain| plain != *table)
}

/// Lays one table over another, key by key; lists are replaced, and so is the one effect of a rule with them.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
