//! The languages of the status page: every text in one file for each, under `texts/`.

use std::{collections::BTreeMap, fmt::Write, sync::LazyLock, time::Duration};

use jiff::Timestamp;

/// The files by language code; the first is used when no other is wanted.
const FILES: [(&str, &str); 4] = [
    ("en", include_str!("texts/en.toml")),
    ("ru", include_str!("texts/ru.toml")),
    ("tr", include_str!("texts/tr.toml")),
    ("fa", include_str!("texts/fa.toml")),
];

static LANGUAGES: LazyLock<Vec<Language>> =
    LazyLock::new(|| FILES.iter().map(|(code, file)| Language::read(code, file)).collect());

/// One language: texts by `section.key`, and how it writes numbers.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) code: &'static str,
    texts: BTreeMap<String, String>,
}

impl Language {
    fn read(code: &'static str, file: &str) -> Self {
        let sections: BTreeMap<String, BTreeMap<String, String>> =
            toml::from_str(file).expect("a test reads the embedded texts");
        let flat = sections.into_iter().flat_map(|(section, texts)| {
            texts.into_iter().map(move |(key, text)| (format!("{section}.{key}"), text))
        });
        Self { code, texts: flat.collect() }
    }

    /// All languages.
    pub(super) fn all() -> &'static [Self] {
        &LANGUAGES
    }

    /// The language asked for in the address, else the first that the browser likes and we have, else English.
    pub(super) fn choose(asked: Option<&str>, accept_language: &str) -> &'static Self {
        let known = |code: &str| LANGUAGES.iter().find(|language| language.code == code);
        let mut liked: Vec<(&str, f32)> = accept_language
            .split(',')
            .map(|entry| {
                let (tag, rest) = entry.split_once(';').unwrap_or((entry, ""));
                let weight = rest.trim().strip_prefix("q=").map_or(1.0, |q| q.parse().unwrap_or(0.0));
                (tag.trim().split('-').next().unwrap_or_default(), weight)
            })
            .collect();
        liked.sort_by(|a, b| b.1.total_cmp(&a.1));
        asked
            .and_then(known)
            .or_else(|| liked.into_iter().find_map(|(tag, _)| known(tag)))
            .unwrap_or(&LANGUAGES[0])
    }

    /// A text. A key without one stands for itself; a test holds the files complete.
    pub(super) fn text<'a>(&'a self, key: &'a str) -> &'a str {
        debug_assert!(self.texts.contains_key(key), "no text for {key}");
        self.texts.get(key).map_or(key, String::as_str)
    }

    /// A text with its braces filled in. Where the script runs from right to left the insertions are isolated, so that
    /// names and units keep their own direction.
    pub(super) fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        let mut text = self.text(key).to_owned();
        for (name, value) in values {
            let value = if self.is_rtl() { format!("\u{2068}{value}\u{2069}") } else { (*value).to_owned() };
            text = text.replace(&format!("{{{name}}}"), &value);
        }
        text
    }

    /// `ltr` or `rtl`.
    pub(super) fn direction(&self) -> &str {
        self.text("language.direction")
    }

    fn is_rtl(&self) -> bool {
        self.direction() == "rtl"
    }

    /// A number with so many decimals, in this language's digits.
    pub(super) fn number(&self, value: f64, decimals: usize) -> String {
        self.localised(&format!("{value:.decimals$}"))
    }

    /// A number to three digits, without trailing zeros: `1.04`, `31.2`, `240`.
    pub(super) fn three_digits(&self, value: f64) -> String {
        let decimals = match value.abs() {
            large if large >= 99.95 => 0,
            middle if middle >= 9.995 => 1,
            _ => 2,
        };
        let text = format!("{value:.decimals$}");
        let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        self.localised(short)
    }

    fn localised(&self, plain: &str) -> String {
        let digits: Vec<char> = self.text("language.digits").chars().collect();
        let decimal = self.text("language.decimal");
        let mut text = String::with_capacity(plain.len());
        for symbol in plain.chars() {
            match symbol.to_digit(10) {
                Some(digit) => text.push(digits.get(digit as usize).copied().unwrap_or(symbol)),
                None if symbol == '.' => text.push_str(decimal),
                None => text.push(symbol),
            }
        }
        text
    }

    /// Bytes per second as people read them, in bits: `130 kbit/s`.
    pub(super) fn rate(&self, bytes_per_second: f64) -> String {
        self.scaled(bytes_per_second * 8.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
    }

    /// Bytes: `131 kB`.
    pub(super) fn size(&self, bytes: f64) -> String {
        self.scaled(bytes, &["B", "kB", "MB", "GB", "TB"])
    }

    fn scaled(&self, mut value: f64, units: &[&str]) -> String {
        let mut index = 0;
        // 999.5 would be written as 1000.
        while value >= 999.5 && index + 1 < units.len() {
            value /= 1000.0;
            index += 1;
        }
        self.with_unit(&self.three_digits(value), units[index])
    }

    /// Number and unit on one line, in this order also where the script runs from right to left.
    fn with_unit(&self, number: &str, unit: &str) -> String {
        if self.is_rtl() {
            format!("\u{2066}{number}\u{a0}{unit}\u{2069}")
        } else {
            format!("{number}\u{a0}{unit}")
        }
    }

    /// A duration: `230 µs`, `12.3 ms`, `4.56 s`, `5 min`.
    pub(super) fn duration(&self, duration: Duration) -> String {
        let seconds = duration.as_secs_f64();
        match seconds {
            tiny if tiny < 0.001 => self.with_unit(&self.number(tiny * 1e6, 0), "µs"),
            small if small < 1.0 => self.with_unit(&self.three_digits(small * 1e3), "ms"),
            middle if middle < 120.0 => self.with_unit(&self.three_digits(middle), "s"),
            large if large < 7200.0 => self.with_unit(&self.number(large / 60.0, 0), "min"),
            huge => self.with_unit(&self.number(huge / 3600.0, 0), "h"),
        }
    }

    /// A share: `35 %`.
    pub(super) fn percent(&self, share: f64) -> String {
        self.with_unit(&self.three_digits(share * 100.0), "%")
    }

    /// A moment, to the minute, in UTC: `2026-11-23 21:05 UTC`.
    pub(super) fn moment(&self, at: Timestamp) -> String {
        let mut text = at.to_string();
        text.truncate("2026-11-23T21:05".len());
        format!("{} UTC", self.localised(&text.replace('T', " ")))
    }

    /// How long ago a moment was.
    pub(super) fn ago(&self, at: Timestamp, now: Timestamp) -> String {
        let minutes = now.duration_since(at).as_secs().max(0) / 60;
        let count = |n: i64| self.localised(&n.to_string());
        match minutes {
            0 => self.text("ago.now").to_owned(),
            1..120 => self.fill("ago.minutes", &[("n", &count(minutes))]),
            120..2880 => self.fill("ago.hours", &[("n", &count(minutes / 60))]),
            _ => self.fill("ago.days", &[("n", &count(minutes / 1440))]),
        }
    }

    /// A list of names.
    pub(super) fn list(&self, names: &[String]) -> String {
        let separator = if self.is_rtl() { "، " } else { ", " };
        let mut text = String::new();
        for (index, name) in names.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{name}", if index == 0 { "" } else { separator });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn braces(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    #[test]
    fn every_language_has_every_text_with_the_same_braces() {
        let english = &Language::all()[0];
        for language in Language::all() {
            let (own, wanted): (Vec<_>, Vec<_>) =
                (language.texts.keys().collect(), english.texts.keys().collect());
            assert_eq!(own, wanted, "{}", language.code);
            for (key, text) in &language.texts {
                assert_eq!(braces(text), braces(&english.texts[key]), "{} {key}", language.code);
                assert!(!text.trim().is_empty(), "{} {key}", language.code);
            }
            assert_eq!(language.text("language.digits").chars().count(), 10);
        }
    }

    #[test]
    fn every_text_is_shown_somewhere() {
        let mut sources = String::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.extension() {
                    None => folders.push(entry),
                    Some(kind) if kind == "rs" => sources.push_str(&std::fs::read_to_string(entry).unwrap()),
                    Some(_) => {}
                }
            }
        }
        for key in Language::all()[0].texts.keys() {
            assert!(sources.contains(&format!("\"{key}\"")), "{key} is nowhere used");
        }
    }

    #[test]
    fn the_browser_and_the_address_choose() {
        let chosen = |asked, accepted| Language::choose(asked, accepted).code;
        assert_eq!(chosen(None, "de, tr-TR;q=0.8, en;q=0.9"), "en");
        assert_eq!(chosen(None, "fa-IR,fa;q=0.9"), "fa");
        assert_eq!(chosen(Some("ru"), "fa"), "ru");
        assert_eq!(chosen(Some("../etc"), ""), "en");
    }

    #[test]
    fn numbers_are_written_in_their_language() {
        let [english, russian, _, persian] = Language::all() else { panic!("four languages") };
        assert_eq!(english.rate(16_250.0), "130\u{a0}kbit/s");
        assert_eq!(russian.three_digits(12.55), "12,6");
        assert_eq!(persian.three_digits(1.5), "۱٫۵");
        assert_eq!(english.duration(Duration::from_millis(4560)), "4.56\u{a0}s");
        let at: Timestamp = "2026-11-23T21:05:06Z".parse().unwrap();
        assert_eq!(english.moment(at), "2026-11-23 21:05 UTC");
        let later = at + jiff::SignedDuration::from_mins(200);
        assert_eq!(english.ago(at, later), "3 h ago");
        assert_eq!(english.ago(later, at), "just now");
    }
}
