//! What goes before the file: `THROTTLESCOPE_…` variables, and flags before those.

use super::{KEYS, Problem};

const PREFIX: &str = "THROTTLESCOPE_";

/// Values that replace the file's, with the names by which they were given.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Section, key, name, value; later ones win.
    given: Vec<(&'static str, &'static str, String, String)>,
    unknown: Vec<String>,
}

impl Overrides {
    /// Reads variables such as `THROTTLESCOPE_SCHEDULE_BYTES_PER_DAY`: section and key, in capitals. Variables that name no
    /// section are somebody else's.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut overrides = Self::default();
        let mut variables: Vec<(String, String)> = variables.into_iter().collect();
        variables.sort();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let rest = rest.to_ascii_lowercase();
            let known = KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)));
            let found = known.into_iter().find(|(section, key)| rest == format!("{section}_{key}"));
            match found {
                Some((section, key)) => overrides.given.push((section, key, name, value)),
                None if KEYS.iter().any(|(section, _)| rest.starts_with(&format!("{section}_"))) => {
                    overrides.unknown.push(name);
                }
                None => {}
            }
        }
        overrides
    }

    /// The process's own variables.
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_variables(std::env::vars_os().filter_map(text))
    }

    /// Adds a flag's value for a key of `section`; it goes before a variable.
    #[must_use]
    pub fn with(mut self, section: &'static str, key: &'static str, flag: &str, value: &str) -> Self {
        self.given.push((section, key, flag.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &str, &str)> {
        self.given.iter().map(|(section, key, name, value)| (*section, *key, name.as_str(), value.as_str()))
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.unknown.iter().map(|name| Problem {
            line: None,
            place: Some(name.clone()),
            message: "no key of the configuration has this name, see `throttlescope check-config --print`"
                .to_owned(),
        })
    }
}
