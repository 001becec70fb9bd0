//! `docs/metrics.md`'s table, written from the families.

use std::fmt::Write;

use super::families::Family;

/// The table of families in Markdown.
pub fn markdown() -> String {
    let mut out = String::from("| name | type | labels | meaning |\n|---|---|---|---|\n");
    for family in Family::ALL {
        let description = family.describe();
        let labels: Vec<String> = description.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            description.name,
            description.kind.name(),
            labels.join(", "),
            description.help
        );
    }
    out
}
