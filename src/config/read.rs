//! The file as sections of keys with their lines, and the reading of one key after another.
//!
//! Every reading takes its key out of the section, so that what is left at the end is unknown. Problems are collected and
//! never end the reading: a person sees all of them at once.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Problem, overrides::Overrides};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// On this line of the file.
    Line(usize),
    /// By a variable or a flag of this name.
    Given(String),
}

/// A value, without its numbers' notation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Self>),
    Table(Vec<(String, usize, Self)>),
    Other(&'static str),
}

/// One section: `[web]`, or one of several `[[target]]`.
#[derive(Debug)]
pub(super) struct Section {
    /// As it is written: `[web]`.
    pub(super) header: String,
    /// Its line; `None` where the file does not have it.
    pub(super) line: Option<usize>,
    entries: BTreeMap<String, (Origin, Value)>,
}

/// The file, taken apart.
#[derive(Debug, Default)]
pub(super) struct Sections {
    single: BTreeMap<String, Section>,
    pub(super) repeated: BTreeMap<String, Vec<Section>>,
}

const SINGLE: [&str; 9] =
    ["safety", "vantage", "web", "store", "schedule", "tls", "dns", "catalog", "metrics"];
const REPEATED: [&str; 3] = ["target", "via", "notify"];

impl Sections {
    /// Takes a file apart and lays `overrides` over it.
    pub(super) fn read(text: &str, overrides: &Overrides, problems: &mut Vec<Problem>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let readable = errors.is_empty();
        for error in errors {
            let line = error.span().map(|span| line_of(text, span.start));
            problems.push(Problem::syntax(line, error.message()));
        }
        let mut sections = Self::default();
        // What can be recovered of a file that is not TOML would only be misread.
        for (key, value) in table.get_ref().iter().filter(|_| readable) {
            let line = line_of(text, key.span().start);
            sections.add(text, key.get_ref(), line, value, problems);
        }
        for (section, key, name, value) in overrides.iter() {
            let entry = (Origin::Given(name.to_owned()), Value::Text(value.to_owned()));
            sections.single_mut(section).entries.insert(key.to_owned(), entry);
        }
        sections
    }

    fn add(
        &mut self,
        text: &str,
        name: &str,
        line: usize,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Vec<Problem>,
    ) {
        let value = convert(text, value.get_ref());
        match value {
            Value::Table(keys) if SINGLE.contains(&name) => {
                let section = self.single_mut(name);
                section.line = Some(line);
                section.fill(keys);
            }
            Value::List(items) if REPEATED.contains(&name) => {
                for item in items {
                    let mut section = Section::new(format!("[[{name}]]"));
                    section.line = Some(line);
                    if let Value::Table(keys) = item {
                        section.line = keys.iter().map(|(_, line, _)| *line).min().or(Some(line));
                        section.fill(keys);
                    }
                    self.repeated.entry(name.to_owned()).or_default().push(section);
                }
            }
            _ => problems.push(Problem {
                line: Some(line),
                place: None,
                message: match (SINGLE.contains(&name), REPEATED.contains(&name)) {
                    (true, _) => format!("`{name}` is a section, write it as [{name}]"),
                    (_, true) => format!("`{name}` is a list of sections, write each as [[{name}]]"),
                    _ => format!(
                        "unknown section or key `{name}`, the sections are {}",
                        known(&SINGLE, &REPEATED)
                    ),
                },
            }),
        }
    }

    fn single_mut(&mut self, name: &str) -> &mut Section {
        self.single.entry(name.to_owned()).or_insert_with(|| Section::new(format!("[{name}]")))
    }

    /// A section that can be there once; empty where it is not.
    pub(super) fn single(&mut self, name: &str) -> Section {
        self.single.remove(name).unwrap_or_else(|| Section::new(format!("[{name}]")))
    }
}

impl Section {
    fn new(header: String) -> Self {
        Self { header, line: None, entries: BTreeMap::new() }
    }

    fn fill(&mut self, keys: Vec<(String, usize, Value)>) {
        for (key, line, value) in keys {
            self.entries.insert(key, (Origin::Line(line), value));
        }
    }

    /// The line of a key that is still there, else of the section.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        match self.entries.get(key) {
            Some((Origin::Line(line), _)) => Some(*line),
            _ => self.line,
        }
    }

    /// A problem with a key, or with the section as a whole.
    pub(super) fn problem(&self, origin: Option<&Origin>, key: &str, message: impl Into<String>) -> Problem {
        match origin {
            Some(Origin::Given(name)) => {
                Problem { line: None, place: Some(name.clone()), message: message.into() }
            }
            origin => {
                let line = match origin {
                    Some(Origin::Line(line)) => Some(*line),
                    _ => self.line,
                };
                let place =
                    if key.is_empty() { self.header.clone() } else { format!("{} {key}", self.header) };
                Problem { line, place: Some(place), message: message.into() }
            }
        }
    }

    /// Reads a text and makes something of it.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        problems: &mut Vec<Problem>,
        make: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.take(key, problems, |value| match value {
            Value::Text(text) => make(&text),
            other => Err(format!("expected a text in quotes, found {}", other.kind())),
        })
    }

    /// Reads a whole number.
    pub(super) fn number(&mut self, key: &str, problems: &mut Vec<Problem>) -> Option<i64> {
        self.take(key, problems, |value| match value {
            Value::Integer(number) => Ok(number),
            Value::Text(text) => text.parse().map_err(|_| format!("`{text}` is not a whole number")),
            other => Err(format!("expected a whole number, found {}", other.kind())),
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str, problems: &mut Vec<Problem>) -> Option<bool> {
        self.take(key, problems, |value| match value {
            Value::Boolean(boolean) => Ok(boolean),
            Value::Text(text) => {
                text.parse().map_err(|_| format!("expected true or false without quotes, found `{text}`"))
            }
            other => Err(format!("expected true or false, found {}", other.kind())),
        })
    }

    /// Reads a list of texts; in a variable or flag they are separated by commas.
    pub(super) fn texts(&mut self, key: &str, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
        let given = matches!(self.entries.get(key), Some((Origin::Given(_), _)));
        self.take(key, problems, |value| match value {
            Value::List(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::Text(text) => Ok(text),
                    other => Err(format!("expected a list of texts in quotes, found {} in it", other.kind())),
                })
                .collect(),
            Value::Text(text) if given => Ok(text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect()),
            other => Err(format!("expected a list as in [\"one\", \"two\"], found {}", other.kind())),
        })
    }

    fn take<T>(
        &mut self,
        key: &str,
        problems: &mut Vec<Problem>,
        make: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let (origin, value) = self.entries.remove(key)?;
        match make(value) {
            Ok(made) => Some(made),
            Err(message) => {
                problems.push(self.problem(Some(&origin), key, message));
                None
            }
        }
    }

    /// Whether a key is still unread.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Ends the reading: what is left is unknown.
    pub(super) fn finish(self, known: &[&str], problems: &mut Vec<Problem>) {
        for (key, (origin, _)) in &self.entries {
            let message = format!("unknown key, the keys here are {}", known.join(", "));
            problems.push(self.problem(Some(origin), key, message));
        }
    }
}

impl Value {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

fn convert(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other("a number that is too large"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| convert(text, item.get_ref())).collect())
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                (key.get_ref().to_string(), line_of(text, key.span().start), convert(text, value.get_ref()))
            };
            Value::Table(table.iter().map(entry).collect())
        }
    }
}

fn known(single: &[&str], repeated: &[&str]) -> String {
    let single = single.iter().map(|name| format!("[{name}]"));
    let repeated = repeated.iter().map(|name| format!("[[{name}]]"));
    single.chain(repeated).collect::<Vec<_>>().join(", ")
}

/// The line of a byte, counted from one.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}
