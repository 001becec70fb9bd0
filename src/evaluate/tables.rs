//! The tables, in Markdown: confusion, false alarms, recall, mechanism, limit, cost.

mod numbers;

use crate::{analysis::stats::clopper_pearson, model::Verdict};

use super::{corpus::Class, measure::Evaluation, outcome::Outcome, rivals::Says};

/// Bands of the true slowdown, and what is asked of their recall.
const BANDS: [(&str, f64, f64, &str); 5] = [
    ("8 and more", 8.0, f64::INFINITY, "99.5 %"),
    ("4 to 8", 4.0, 8.0, "-"),
    ("2.5 to 4", 2.5, 4.0, "97 %"),
    ("1.3 to 2.5", 1.3, 2.5, "-"),
    ("under 1.3", 0.0, 1.3, "-"),
];

/// Classes whose positives are banded by what the rule does to transfers.
pub(super) const SLOWED: [Class; 3] = [Class::Policed, Class::Shaped, Class::Lossy];

/// All tables.
pub fn render(evaluation: &Evaluation) -> String {
    let all = &evaluation.outcomes;
    let mut text = String::new();
    head(&mut text, evaluation);
    sections(&mut text, all);
    let kept_up: Vec<Outcome> = all.iter().filter(|one| one.kept_up()).cloned().collect();
    if kept_up.len() < all.len() {
        say(&mut text, "## The tests with which this machine kept up\n");
        say(
            &mut text,
            format!(
                "The same tables over the {} of {} tests of which at most one exchange in twenty came late.\n",
                kept_up.len(),
                all.len()
            ),
        );
        sections(&mut text, &kept_up);
    }
    text
}

fn sections(text: &mut String, all: &[Outcome]) {
    confusion(text, all);
    false_alarms(text, all);
    normal(text, all);
    recall(text, all);
    kinds(text, all);
    numbers::mechanisms(text, all);
    numbers::limits(text, all);
    numbers::costs(text, all);
}

fn say(text: &mut String, line: impl AsRef<str>) {
    text.push_str(line.as_ref());
    text.push('\n');
}

fn share(part: usize, whole: usize) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// One-sided 95 % bounds.
fn at_most(part: usize, whole: usize) -> String {
    format!("{:.2} %", 100.0 * clopper_pearson(part as u64, whole as u64, 0.9)[1])
}

fn at_least(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * clopper_pearson(part as u64, whole as u64, 0.9)[0])
}

fn count(all: &[&Outcome], test: impl Fn(&Outcome) -> bool) -> usize {
    all.iter().filter(|one| test(one)).count()
}

fn of(all: &[Outcome], test: impl Fn(&Outcome) -> bool) -> Vec<&Outcome> {
    all.iter().filter(|one| test(one)).collect()
}

/// The value below which so large a share lies.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * sorted.len().checked_sub(1)? as f64).round() as usize;
    sorted.get(index).copied()
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn head(text: &mut String, evaluation: &Evaluation) {
    let lost = evaluation.tests as usize - evaluation.outcomes.len();
    say(
        text,
        format!(
            "{} tests, seed {}, {} at once, {:.0} s; {lost} gave no result\n",
            evaluation.tests, evaluation.seed, evaluation.parallel, evaluation.seconds
        ),
    );
    for lab in &evaluation.laboratories {
        let report = &lab.report;
        say(
            text,
            format!(
                "laboratory of tests {} to {}: {} packets, 1 in 100 over {:.1} ms late, at most {:.0} ms, {} refused{}",
                lab.first,
                lab.first + lab.tests - 1,
                report.packets,
                report.p99_s * 1e3,
                report.max_s * 1e3,
                report.refused,
                if report.overloaded { " (overloaded by its own account)" } else { "" },
            ),
        );
    }
    let late: u32 = evaluation.outcomes.iter().map(|one| one.late).sum();
    let exchanges: u32 = evaluation.outcomes.iter().map(|one| one.exchanges).sum();
    say(text, format!("{late} of {exchanges} exchanges were late on the client's side and not used\n"));
}

fn confusion(text: &mut String, all: &[Outcome]) {
    say(text, "### Verdicts\n");
    let names: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    say(text, format!("| condition | tests | {} |", names.join(" | ")));
    say(text, format!("|---|---|{}", "---|".repeat(names.len())));
    for class in Class::ALL {
        let tests = of(all, |one| one.class == class);
        if tests.is_empty() {
            continue;
        }
        let cells: Vec<String> = Verdict::ALL
            .iter()
            .map(|&verdict| count(&tests, |one| one.verdict == verdict).to_string())
            .collect();
        say(text, format!("| {} | {} | {} |", class.name(), tests.len(), cells.join(" | ")));
    }
    say(text, "");
}

/// A rule's answer to one test.
type Accuses = fn(&Outcome) -> bool;

/// Who says that the subject is slowed down.
fn accusers() -> [(&'static str, Accuses); 4] {
    [
        ("throttlescope", |one| one.verdict.accuses()),
        ("Wehe", |one| one.rivals.wehe == Says::Slower),
        ("half", |one| one.rivals.half == Says::Slower),
        ("tenth", |one| one.rivals.tenth == Says::Slower),
    ]
}

fn false_alarms(text: &mut String, all: &[Outcome]) {
    say(text, "### False alarms\n");
    say(
        text,
        "Accusations where nobody interferes; in brackets the one-sided 95 % bound (Clopper and Pearson).\n",
    );
    say(text, "| condition | tests | throttlescope | Wehe | below half | below a tenth |");
    say(text, "|---|---|---|---|---|---|");
    let mut row = |name: &str, tests: Vec<&Outcome>| {
        if tests.is_empty() {
            return;
        }
        let cells: Vec<String> = accusers()
            .iter()
            .map(|(_, accuses)| {
                let wrong = count(&tests, accuses);
                format!("{wrong} ({})", at_most(wrong, tests.len()))
            })
            .collect();
        say(text, format!("| {name} | {} | {} |", tests.len(), cells.join(" | ")));
    };
    for class in Class::ALL.into_iter().filter(|class| class.is_negative()) {
        row(class.name(), of(all, |one| one.class == class));
    }
    row("all", of(all, |one| one.class.is_negative()));
    say(text, "");
}

fn normal(text: &mut String, all: &[Outcome]) {
    say(text, "### Clean lines called normal\n");
    say(text, "| line | tests | normal | at least (95 %) | asked |\n|---|---|---|---|---|");
    let easy = |one: &Outcome| one.line.rate_bits_per_second >= 1e6 && one.line.loss <= 0.01;
    for (name, wanted, asked) in
        [("1 Mbit/s or more, loss up to 1 %", true, "98 %"), ("the others", false, "90 %")]
    {
        let tests = of(all, |one| one.class == Class::Clean && easy(one) == wanted);
        let right = count(&tests, |one| one.verdict == Verdict::Normal);
        say(
            text,
            format!(
                "| {name} | {} | {right} ({}) | {} | {asked} |",
                tests.len(),
                share(right, tests.len()),
                at_least(right, tests.len()),
            ),
        );
    }
    say(text, "");
}

fn recall(text: &mut String, all: &[Outcome]) {
    say(text, "### Throttles found, by true slowdown\n");
    say(text, "Policers, shapers and random loss by name; `inconclusive` is a miss.\n");
    say(
        text,
        "| true slowdown | tests | throttlescope | at least (95 %) | asked | Wehe | below half | below a tenth |",
    );
    say(text, "|---|---|---|---|---|---|---|---|");
    let slowed = |one: &&Outcome| SLOWED.contains(&one.class);
    for (name, least, most, asked) in BANDS {
        let tests = of(all, |one| {
            slowed(&one) && one.true_slowdown().is_some_and(|slowdown| (least..most).contains(&slowdown))
        });
        recall_row(text, name, asked, &tests);
    }
    recall_row(text, "not known", "-", &of(all, |one| slowed(&one) && one.true_slowdown().is_none()));
    say(text, "");
}

fn recall_row(text: &mut String, name: &str, asked: &str, tests: &[&Outcome]) {
    if tests.is_empty() {
        return;
    }
    let found: Vec<usize> = accusers().iter().map(|(_, accuses)| count(tests, accuses)).collect();
    let shares: Vec<String> = found.iter().map(|&found| share(found, tests.len())).collect();
    say(
        text,
        format!(
            "| {name} | {} | {} ({}) | {} | {asked} | {} | {} | {} |",
            tests.len(),
            found[0],
            shares[0],
            at_least(found[0], tests.len()),
            shares[1],
            shares[2],
            shares[3],
        ),
    );
}

fn kinds(text: &mut String, all: &[Outcome]) {
    say(text, "### Other interference, by the right verdict\n");
    say(
        text,
        "| profile | tests | right | at least (95 %) | accused of another kind | Wehe |\n|---|---|---|---|---|---|",
    );
    let mut rows: Vec<(Class, &str)> = all
        .iter()
        .filter(|one| !one.class.is_negative() && !SLOWED.contains(&one.class))
        .map(|one| (one.class, one.profile.as_str()))
        .collect();
    rows.sort_unstable();
    rows.dedup();
    for (class, profile) in rows {
        let tests = of(all, |one| one.class == class && one.profile == profile);
        let right = count(&tests, Outcome::is_right);
        let other = count(&tests, |one| !one.is_right() && one.verdict.accuses());
        let wehe = count(&tests, |one| one.rivals.wehe == Says::Slower);
        say(
            text,
            format!(
                "| {profile} | {} | {right} ({}) | {} | {other} | {} |",
                tests.len(),
                share(right, tests.len()),
                at_least(right, tests.len()),
                share(wehe, tests.len()),
            ),
        );
    }
    say(text, "");
}
