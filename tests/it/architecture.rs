//! The house is as it is drawn: imports go downwards, the core knows no clock, socket or file, unsafe code stays in its
//! two files, files and functions stay small.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Floors from the ground up. A room imports only from lower floors, and from itself.
const FLOORS: [&[&str]; 8] = [
    &["model"],
    &["wire", "clock"],
    &[
        "probe", "analysis", "recorded", "report", "metrics", "store", "notify", "schedule", "catalog",
        "serve",
    ],
    &["methods", "config"],
    &["engine", "lab", "web"],
    &["evaluate", "demo"],
    &["cli"],
    &["main"],
];

/// Rooms and parts of rooms that may know nothing of the world.
const PURE: [&str; 6] =
    ["src/model", "src/analysis", "src/schedule", "src/wire", "src/lab/middlebox", "src/lab/line"];

const IMPURE: [&str; 12] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::env",
    "rand::random",
    "rand::rng(",
    "tracing",
    "std::thread",
];

const UNSAFE_ALLOWED: [&str; 2] = ["src/probe/tcp_info.rs", "src/lab/sys.rs"];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: String,
    /// Without inline tests and comments.
    code: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                let text = fs::read_to_string(&path).unwrap();
                let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let code = body
                    .lines()
                    .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
                    .collect::<Vec<_>>()
                    .join("\n");
                let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                sources.push(Source { path, code, text });
            }
        }
    }
    sources
}

/// Unit tests that have a file or folder of their own.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn room(path: &str) -> &str {
    let inner = path.trim_start_matches("src/");
    inner.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The rooms that a source names after `crate::`, also inside braces.
fn imports(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        if let Some(inner) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            for letter in inner.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && (letter.is_alphanumeric() || letter == '_') {
                    word.push(letter);
                } else if depth >= 1 && !word.is_empty() {
                    rooms.push(std::mem::take(&mut word));
                    // Only the first word of a path is a room.
                    word.clear();
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms
                .push(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    rooms.retain(|name| floor(name).is_some());
    rooms
}

#[test]
fn imports_go_downwards() {
    let mut wrong = Vec::new();
    for source in sources() {
        let own = room(&source.path);
        if own == "lib" {
            continue;
        }
        let Some(own_floor) = floor(own) else { panic!("{} is in no room", source.path) };
        for other in imports(&source.code) {
            if other != own && floor(&other).is_some_and(|other_floor| other_floor >= own_floor) {
                wrong.push(format!("{} imports {other}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "imports go downwards only:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        let stem = source.path.trim_end_matches(".rs");
        if PURE.iter().any(|pure| stem == *pure || stem.starts_with(&format!("{pure}/"))) {
            for token in IMPURE {
                if source.code.contains(token) {
                    wrong.push(format!("{} names {token}", source.path));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the core knows no clock, socket, file or chance of its own:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn unsafe_code_stays_in_its_two_files() {
    for source in sources() {
        if source.code.contains("unsafe ") || source.code.contains("allow(unsafe_code") {
            assert!(UNSAFE_ALLOWED.contains(&source.path.as_str()), "{} holds unsafe code", source.path);
        }
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        wrong.extend(long_functions(&source));
    }
    assert!(
        wrong.is_empty(),
        "at most {FILE_LINES_MAX} lines of code a file and {FUNCTION_LINES_MAX} a function:\n{}",
        wrong.join("\n")
    );
}

/// Functions by indentation, as rustfmt leaves them: from `fn` to the closing brace of the same depth.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut wrong = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let head = bare.split('(').next().unwrap_or_default();
        if !head.split_whitespace().any(|word| word == "fn") {
            continue;
        }
        // A trait's method without a body ends with a semicolon and not with a brace.
        let is_declared_only = lines[start..]
            .iter()
            .find(|line| line.ends_with(['{', ';', '}']))
            .is_some_and(|line| line.ends_with(';'));
        if is_declared_only {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - bare.len()]);
        let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            wrong.push(format!("{}:{}: {length} lines", source.path, start + 1));
        }
    }
    wrong
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} has no module documentation", source.path);
    }
}

#[test]
fn nothing_is_left_undone() {
    for source in sources() {
        for word in ["todo!", "unimplemented!", "dbg!(", "FIXME", "XXX"] {
            assert!(!source.text.contains(word), "{} holds {word}", source.path);
        }
    }
}
