//! The tables of what is said beside the verdict: mechanism, limit, and what it cost.

use std::fmt::Write as _;

use crate::{
    analysis::stats::median,
    model::{Mechanism, Verdict},
};

use super::{
    super::{corpus::Class, outcome::Outcome},
    SLOWED, count, number, of, quantile, say, share,
};

pub(super) fn mechanisms(text: &mut String, all: &[Outcome]) {
    const SAID: [Mechanism; 6] = [
        Mechanism::Policing,
        Mechanism::Shaping,
        Mechanism::Loss,
        Mechanism::HandshakeDelay,
        Mechanism::ConnectionLimit,
        Mechanism::Unknown,
    ];
    say(text, "### Mechanism of the throttles found\n");
    let names: Vec<&str> = SAID.iter().map(|mechanism| mechanism.name()).collect();
    say(text, format!("| true | found | right | {} |", names.join(" | ")));
    say(text, format!("|---|---|---|{}", "---|".repeat(names.len())));
    let found = of(all, |one| !one.class.is_negative() && one.verdict == Verdict::Throttled);
    for truth in SAID {
        let tests: Vec<&Outcome> =
            found.iter().copied().filter(|one| one.truth.mechanism == Some(truth)).collect();
        if tests.is_empty() {
            continue;
        }
        let cells: Vec<String> =
            SAID.iter().map(|&said| count(&tests, |one| one.mechanism == Some(said)).to_string()).collect();
        let right = count(&tests, |one| one.mechanism == one.truth.mechanism);
        say(
            text,
            format!(
                "| {} | {} | {} | {} |",
                truth.name(),
                tests.len(),
                share(right, tests.len()),
                cells.join(" | ")
            ),
        );
    }
    let right = count(&found, |one| one.mechanism == one.truth.mechanism);
    say(
        text,
        format!("\nTogether {right} of {} ({}); asked 95 %.\n", found.len(), share(right, found.len())),
    );
}

pub(super) fn limits(text: &mut String, all: &[Outcome]) {
    say(text, "### Limit\n");
    say(
        text,
        "| mechanism | found | with a limit | median error | interval covers | stated |\n|---|---|---|---|---|---|",
    );
    for mechanism in [Mechanism::Policing, Mechanism::Shaping] {
        let found = of(all, |one| {
            !one.class.is_negative()
                && one.verdict == Verdict::Throttled
                && one.truth.mechanism == Some(mechanism)
                && one.limit_bytes_per_second.is_some()
        });
        let both: Vec<(&Outcome, f64, f64)> = found
            .iter()
            .filter_map(|one| Some((*one, one.evidence.limit_bytes_per_second?, one.limit_bytes_per_second?)))
            .collect();
        let errors: Vec<f64> = both.iter().map(|(_, said, truth)| (said / truth - 1.0).abs()).collect();
        let covered = both
            .iter()
            .filter(|(one, _, truth)| {
                one.evidence.limit_ci.is_some_and(|[low, high]| (low..=high).contains(truth))
            })
            .count();
        let with_interval = both.iter().filter(|(one, ..)| one.evidence.limit_ci.is_some()).count();
        say(
            text,
            format!(
                "| {} | {} | {} | {} % | {covered} of {with_interval} ({}) | 99 % |",
                mechanism.name(),
                found.len(),
                both.len(),
                number(median(&errors).map(|error| 100.0 * error), 1),
                share(covered, with_interval),
            ),
        );
    }
    let known = of(all, |one| {
        SLOWED.contains(&one.class)
            && one.slowdown.is_some_and(|slowdown| !slowdown.at_least && slowdown.transfer.is_some())
            && one.evidence.slowdown_ci.iter().any(Option::is_some)
    });
    let covered = count(&known, |one| {
        let truth = one.true_slowdown().unwrap_or(f64::NAN);
        let [low, high] = one.evidence.slowdown_ci;
        low.is_none_or(|low| low <= truth) && high.is_none_or(|high| truth <= high)
    });
    say(
        text,
        format!(
            "\nThe slowdown's interval holds the slowdown of the nine transfers in {covered} of {} tests ({}); stated 99 %, and the \
         nine have an error of their own.\n",
            known.len(),
            share(covered, known.len())
        ),
    );
}

pub(super) fn costs(text: &mut String, all: &[Outcome]) {
    say(text, "### Cost and delay\n");
    say(
        text,
        "| condition | tests | bytes, median | 90 % | seconds to the verdict, median | 90 % | exchanges, median |",
    );
    say(text, "|---|---|---|---|---|---|---|");
    let mut row = |name: &str, tests: Vec<&Outcome>| {
        if tests.is_empty() {
            return;
        }
        let bytes: Vec<f64> = tests.iter().map(|one| one.bytes as f64 / 1e6).collect();
        let seconds: Vec<f64> = tests.iter().map(|one| one.seconds).collect();
        let exchanges: Vec<f64> = tests.iter().map(|one| f64::from(one.exchanges)).collect();
        let mut line = format!("| {name} | {}", tests.len());
        for (values, decimals) in [(&bytes, 2), (&seconds, 1)] {
            let _ = write!(
                line,
                " | {} | {}",
                number(quantile(values, 0.5), decimals),
                number(quantile(values, 0.9), decimals)
            );
        }
        say(text, format!("{line} | {} |", number(quantile(&exchanges, 0.5), 0)));
    };
    for class in Class::ALL {
        row(class.name(), of(all, |one| one.class == class));
    }
    row(
        "throttled at 128 to 150 kbit/s, found",
        of(all, |one| one.profile.starts_with("tspu-2021") && one.verdict == Verdict::Throttled),
    );
    say(text, "\nBytes in MB of payload.\n");
}
