//! The terminal report: a sentence, a table of phases, reasons for doubt, and the command that repeats it.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::model::{Exchange, Judgement, Phase, Role, Verdict};

use super::{Report, units, words};

/// The report as text. `color` adds ANSI colours to the verdicts.
pub fn render(report: &Report, color: bool) -> String {
    let mut text = String::new();
    for judgement in &report.judgements {
        result(&mut text, judgement, color);
    }
    text
}

fn result(text: &mut String, judgement: &Judgement, color: bool) {
    let verdict = judgement.finding.verdict;
    let _ = writeln!(
        text,
        "{} {}  {}  ({})",
        symbol(verdict),
        painted(verdict, color),
        judgement.subject,
        against(judgement)
    );
    let _ = writeln!(text, "  {}", words::summary(judgement));
    let _ = writeln!(text, "{}", indent(&table(judgement).to_string()));
    for line in failures(&judgement.exchanges) {
        let _ = writeln!(text, "  ! {line}");
    }
    // An inconclusive summary already is the first caveat.
    let told = usize::from(verdict == Verdict::Inconclusive);
    for caveat in judgement.finding.caveats.iter().skip(told) {
        let _ = writeln!(text, "  - {}", words::caveat(caveat));
    }
    let evidence = &judgement.finding.evidence;
    let pairs = if evidence.pairs == 1 { "pair" } else { "pairs" };
    let used = units::size(evidence.bytes_used as f64);
    let _ = writeln!(text, "  {} {pairs}, {used} used.", evidence.pairs);
    let _ = writeln!(text, "  repeat: {}\n", judgement.repeat);
}

fn against(judgement: &Judgement) -> String {
    match &judgement.control {
        Some(control) => format!("{} comparison with {control}", judgement.comparison),
        None => format!("{} comparison", judgement.comparison),
    }
}

/// A shape as well as a colour: not everybody sees colours, and not every terminal has them.
const fn symbol(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "✓",
        Verdict::Throttled => "▼",
        Verdict::Frozen => "■",
        Verdict::Blocked => "✗",
        Verdict::Degraded => "~",
        Verdict::Inconclusive => "?",
    }
}

fn painted(verdict: Verdict, color: bool) -> String {
    let name = verdict.name().to_uppercase();
    if !color {
        return name;
    }
    let code = match verdict {
        Verdict::Normal => "32",
        Verdict::Throttled | Verdict::Frozen | Verdict::Blocked => "1;31",
        Verdict::Degraded => "33",
        Verdict::Inconclusive => "36",
    };
    format!("\u{1b}[{code}m{name}\u{1b}[0m")
}

/// Medians of each phase and of goodput, a row for each role. A trailing `+` marks a median that our own budget cut
/// short: the true value is larger. Goodput is the one that is compared, where there is one.
fn table(judgement: &Judgement) -> Table {
    let (exchanges, evidence) = (&judgement.exchanges, &judgement.finding.evidence);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let titles =
        ["", "exchanges", "resolve", "connect", "tls", "processing", "transfer", "received", "goodput"];
    table.set_header(titles.map(|title| Cell::new(title).set_alignment(CellAlignment::Right)));
    for role in [Role::Subject, Role::Control, Role::Canary] {
        let of_role: Vec<&Exchange> = exchanges.iter().filter(|e| e.role == role && !e.fallback).collect();
        if of_role.is_empty() {
            continue;
        }
        let mut row = vec![role_name(role).to_owned(), of_role.len().to_string()];
        row.extend(Phase::ALL.map(|phase| median_phase(&of_role, phase)));
        row.push(median(of_role.iter().map(|e| received(e) as f64)).map_or_else(dash, units::size));
        let compared = match role {
            Role::Subject => evidence.subject_goodput_bytes_per_second,
            Role::Control => evidence.control_goodput_bytes_per_second,
            Role::Canary => None,
        };
        let goodput = compared.or_else(|| median(of_role.iter().filter_map(|e| goodput(e))));
        row.push(goodput.map_or_else(dash, units::rate));
        table.add_row(row.into_iter().map(|text| Cell::new(text).set_alignment(CellAlignment::Right)));
    }
    table
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Subject => "subject",
        Role::Control => "control",
        Role::Canary => "canary",
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn median_phase(exchanges: &[&Exchange], phase: Phase) -> String {
    let seconds = exchanges.iter().filter_map(|e| e.phases.duration(phase)).map(|span| span.as_secs_f64());
    let Some(seconds) = median(seconds) else { return dash() };
    let cut = exchanges.iter().filter(|e| e.censored && e.reached == phase).count() * 2 > exchanges.len();
    format!("{}{}", units::time(Duration::from_secs_f64(seconds)), if cut { "+" } else { "" })
}

/// Responses that are received in less than this share of the transfer show the round trips between them, no speed.
const RECEIVING_SHARE_MIN: f64 = 0.2;

/// Bytes that came. Of a record that never became whole nothing is body, but its bytes came.
fn received(exchange: &Exchange) -> u64 {
    exchange.bytes.max(exchange.curve.bytes())
}

/// Bytes over the time spent receiving them, as a first impression where nothing was compared.
fn goodput(exchange: &Exchange) -> Option<f64> {
    let transfer = exchange.phases.duration(Phase::Transfer)?.as_secs_f64();
    let receiving = exchange.transfer_seconds();
    let received = received(exchange);
    (received > 0 && receiving > 0.0 && receiving >= RECEIVING_SHARE_MIN * transfer)
        .then(|| received as f64 / receiving)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// One line for each way in which exchanges failed, with how many did.
fn failures(exchanges: &[Exchange]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for exchange in exchanges {
        if let Some(failure) = &exchange.failure {
            let note = if exchange.fallback { ", the other address family works" } else { "" };
            let line = format!("{}: {}{note}", exchange.name, words::failure(failure, exchange.status));
            *counts.entry((role_name(exchange.role), line)).or_default() += 1;
        }
    }
    counts.into_iter().map(|((role, line), n)| format!("{role} {line}, {n} of {}", exchanges.len())).collect()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}
