//! The profiles that come with the program, and the reading of anybody's own.
//!
//! A profile may build on another (`extends = "tspu-2021"`): its tables are laid over the other's, key by key; lists are
//! replaced.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::model::profile::{Profile, Scenario};

/// Built-in profiles: name and text.
const BUILT_IN: &[(&str, &str)] = &[
    ("clean", include_str!("profiles/clean.toml")),
    ("congested", include_str!("profiles/congested.toml")),
    ("slow-server", include_str!("profiles/slow-server.toml")),
    ("shape-all", include_str!("profiles/shape-all.toml")),
    ("tspu-2021", include_str!("profiles/tspu-2021.toml")),
    ("tspu-2021-v2", include_str!("profiles/tspu-2021-v2.toml")),
    ("tspu-2021-v3", include_str!("profiles/tspu-2021-v3.toml")),
    ("tspu-2021-128", include_str!("profiles/tspu-2021-128.toml")),
    ("tspu-2021-150", include_str!("profiles/tspu-2021-150.toml")),
    ("patchy", include_str!("profiles/patchy.toml")),
    ("tspu-2022-trickle", include_str!("profiles/tspu-2022-trickle.toml")),
    ("tspu-sni-rst", include_str!("profiles/tspu-sni-rst.toml")),
    ("tspu-sni-few-packets", include_str!("profiles/tspu-sni-few-packets.toml")),
    ("tspu-sni-drop", include_str!("profiles/tspu-sni-drop.toml")),
    ("tspu-freeze-bytes", include_str!("profiles/tspu-freeze-bytes.toml")),
    ("tspu-freeze-packets", include_str!("profiles/tspu-freeze-packets.toml")),
    ("tspu-connection-limit", include_str!("profiles/tspu-connection-limit.toml")),
    ("tspu-2026", include_str!("profiles/tspu-2026.toml")),
    ("quic-2022", include_str!("profiles/quic-2022.toml")),
    ("random-loss", include_str!("profiles/random-loss.toml")),
    ("turkey-delay", include_str!("profiles/turkey-delay.toml")),
    ("kazakhstan-handshake", include_str!("profiles/kazakhstan-handshake.toml")),
    ("youtube-2024", include_str!("profiles/youtube-2024.toml")),
    ("dns-lie", include_str!("profiles/dns-lie.toml")),
    ("http-blockpage", include_str!("profiles/http-blockpage.toml")),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_sound_and_bears_its_name() {
        for name in names() {
            let profile = profile(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(profile.name, name);
        }
    }

    #[test]
    fn a_profile_survives_being_written() {
        for name in names() {
            let profile = profile(name).unwrap();
            let text = toml::to_string(&profile).unwrap();
            assert_eq!(toml::from_str::<Profile>(&text).unwrap(), profile, "{text}");
        }
    }

    /// What the documentation shows is what the program reads: a profile, a line, a scenario, in this order.
    #[test]
    fn examples_of_the_documentation_are_read() {
        let document = include_str!("../../docs/lab.md");
        let examples: Vec<&str> = document
            .split("```toml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().expect("split gives one piece at least"))
            .collect();
        let [own, line, scenario] = examples[..] else { panic!("{} examples", examples.len()) };
        let read = |text: String| Source { place: "docs/lab.md".to_owned(), file: None, text }.profile(0);
        read(own.to_owned()).unwrap();
        read(format!("name = 'x'\nabout = 'x'\ntruth = {{ verdict = 'normal' }}\n{line}")).unwrap();
        toml::from_str::<Scenario>(scenario).unwrap();
    }

    /// Each mistake a newcomer makes, and the one sentence it gets.
    #[test]
    fn mistakes_get_one_clear_sentence() {
        let base = "name = 'x'\nabout = 'x'\ntruth = { verdict = 'normal' }\n";
        let rule = |effect: &str| format!("{base}[[rule]]\nnames = ['t.co']\n{effect}\n");
        let cases = [
            (format!("{base}colour = 'red'"), "line 4: unknown field `colour`"),
            (rule("effect.polce = {}"), "line 6: unknown variant `polce`"),
            (rule("effect.police = { rate = 'fast', burst = '16KB' }"), "`fast` is not a rate"),
            (rule("effect.police = { rate = '1kbit', burst = '100' }"), "rule 1: police.burst is 100B"),
            (rule("effect.pass = { share = 1.5 }"), "rule 1: pass.share is 1.5; it is a share"),
            (rule("effect.freeze = {}"), "rule 1: freeze needs after_bytes or after_packets"),
            (rule("effect.freeze = { after_packets = [9, 3] }"), "write the smaller one first"),
            (rule("from = '9s'\nuntil = '3s'\neffect.reset = {}"), "`until` is not after `from`"),
            (rule(""), "missing field `effect`"),
            (format!("{base}coverage = {{ share = 35.0 }}"), "coverage.share is 35; it is a share"),
            (format!("{base}line = {{ down = {{ loss = {{ random = 3.0 }} }} }}"), "down.loss.random is 3"),
            ("name = ".to_owned(), "line 1"),
        ];
        for (text, expected) in cases {
            let source = Source { place: "my.toml".to_owned(), file: None, text };
            let message = source.profile(0).unwrap_err().to_string();
            assert!(message.starts_with("my.toml") && message.contains(expected), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        assert!(profile("nosuch").unwrap_err().to_string().contains("lab list"));
    }
}
