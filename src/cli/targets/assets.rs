//! Which files a page links. Pure: text in, URLs out.
//!
//! Not a parser of HTML: whatever stands between quotes, brackets or blanks and looks like a file is taken, so that names in
//! scripts and style sheets count as well.

use std::collections::BTreeSet;

use url::Url;

/// Files, at most: each is asked for its size.
pub(super) const ASSETS_MAX: usize = 40;

/// Endings of files that stay the same for a while and are large.
const ENDINGS: [&str; 18] = [
    "js", "mjs", "css", "png", "jpg", "jpeg", "webp", "gif", "svg", "ico", "woff", "woff2", "ttf", "mp4",
    "webm", "wasm", "zip", "apk",
];

/// The files that a page at `base` links and that `is_own` accepts by host, in the order of the page.
pub(super) fn linked(base: &Url, page: &str, is_own: impl Fn(&str) -> bool) -> Vec<Url> {
    let page = page.replace("\\/", "/").replace("&amp;", "&");
    let separates = |letter: char| letter.is_whitespace() || "\"'`()<>,;\\".contains(letter);
    let mut seen = BTreeSet::new();
    page.split(separates)
        // `href=/unquoted.css`
        .map(|word| word.strip_prefix("src=").or(word.strip_prefix("href=")).unwrap_or(word))
        .filter(|word| word.contains('/') || word.contains('.'))
        .filter_map(|word| base.join(word).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https") && is_file(url))
        .filter(|url| url.host_str().is_some_and(&is_own))
        .filter(|url| seen.insert(url.clone()))
        .take(ASSETS_MAX)
        .collect()
}

fn is_file(url: &Url) -> bool {
    url.path()
        .rsplit_once('.')
        .is_some_and(|(_, ending)| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_attributes_scripts_and_styles() {
        let base: Url = "https://www.plat.example/home/".parse().unwrap();
        let page = r#"<link href="/style.css?v=1&amp;w=2"><script src='app.js'></script><img srcset="//cdn.plat.example/a.png 1x, b.webp 2x">
            <script>{"bundle":"https:\/\/cdn.plat.example\/main.123.js"}</script><style>@font-face{src:url(/f.woff2)}</style>
            <a href="/about">x</a><script src=/bare.js></script><img src="https://ads.example/big.png"><img src="/style.css?v=1&w=2">"#;
        let found: Vec<String> =
            linked(&base, page, |host| host.ends_with("plat.example")).iter().map(Url::to_string).collect();
        assert_eq!(
            found,
            [
                "https://www.plat.example/style.css?v=1&w=2",
                "https://www.plat.example/home/app.js",
                "https://cdn.plat.example/a.png",
                "https://www.plat.example/home/b.webp",
                "https://cdn.plat.example/main.123.js",
                "https://www.plat.example/f.woff2",
                "https://www.plat.example/bare.js",
            ]
        );
    }

    #[test]
    fn a_page_of_links_is_bounded() {
        let base: Url = "https://a.example/".parse().unwrap();
        let page = (0..10_000).map(|number| format!("\"/{number}.js\"")).collect::<Vec<_>>().join(" ");
        assert_eq!(linked(&base, &page, |_| true).len(), ASSETS_MAX);
        assert!(linked(&base, "\u{0}\"//\" \"http://[\" \"...\"", |_| true).is_empty());
    }
}
