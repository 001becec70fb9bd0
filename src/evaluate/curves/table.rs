//! The table, in Markdown: per cause how often it was named `policing`, and how far the rate was off.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::analysis::{
    curve::{CurveFinding, CurveMechanism},
    stats::{clopper_pearson, median},
};

use super::{Judged, KINDS, Kind, Recorded};

/// Losses from which a transfer counts as lossy, as in the published recordings.
const LOSSY: u64 = 15;

/// TCP payload in a full packet's share of IP bytes: 1448 of 1500 (IPv4 with timestamps).
const PAYLOAD_SHARE: f64 = 1448.0 / 1500.0;

type Curve = (Recorded, CurveFinding);

/// All tables.
pub fn render(judged: &Judged) -> String {
    let mut text = String::new();
    let all = judged.curves.len();
    say(&mut text, format_args!("{all} curves, {:.0} s; {} gave nothing", judged.seconds, judged.empty));
    for lab in &judged.laboratories {
        say(
            &mut text,
            format_args!(
                "laboratory: {} packets, 1 in 100 over {:.1} ms late, {} refused{}",
                lab.packets,
                lab.p99_s * 1e3,
                lab.refused,
                if lab.overloaded { ", overloaded" } else { "" }
            ),
        );
    }
    causes(&mut text, &judged.curves);
    policers(&mut text, &judged.curves);
    rates(&mut text, &judged.curves);
    text
}

fn say(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _never = writeln!(text, "{line}");
}

fn causes(text: &mut String, curves: &[Curve]) {
    say(text, format_args!("\n### Causes\n"));
    say(
        text,
        format_args!(
            "| cause | curves | named `policing` | 95 % interval | shaping | loss | none | unknown |"
        ),
    );
    say(text, format_args!("|---|---|---|---|---|---|---|---|"));
    for kind in KINDS {
        let of: Vec<&Curve> = curves.iter().filter(|one| one.0.facts.kind == kind).collect();
        row(text, kind.name(), &of);
        if kind.is_policed() {
            let lossy: Vec<&Curve> = of.into_iter().filter(|one| is_lossy(&one.0)).collect();
            row(text, &format!("{}, {LOSSY} losses a flow or more", kind.name()), &lossy);
        }
    }
}

fn row(text: &mut String, name: &str, curves: &[&Curve]) {
    let named = |mechanism: CurveMechanism| curves.iter().filter(|one| one.1.mechanism == mechanism).count();
    let policing = named(CurveMechanism::Policing);
    let [low, high] = clopper_pearson(policing as u64, curves.len() as u64, 0.95).map(|share| share * 100.0);
    let share = 100.0 * policing as f64 / curves.len().max(1) as f64;
    let others =
        [CurveMechanism::Shaping, CurveMechanism::Loss, CurveMechanism::None, CurveMechanism::Unknown]
            .map(|mechanism| named(mechanism).to_string())
            .join(" | ");
    let all = curves.len();
    say(
        text,
        format_args!("| {name} | {all} | {policing} ({share:.1} %) | {low:.1} to {high:.1} % | {others} |"),
    );
}

fn is_lossy(one: &Recorded) -> bool {
    one.dropped >= LOSSY * u64::from(one.facts.flows)
}

/// Rate, bucket and sharing.
fn policers(text: &mut String, curves: &[Curve]) {
    let mut rows: BTreeMap<(Kind, u64, u64), [usize; 4]> = BTreeMap::new();
    for (one, finding) in curves.iter().filter(|one| one.0.facts.kind.is_policed()) {
        let key = (one.facts.kind, one.facts.rate_bits_per_second as u64, one.facts.burst_bytes.unwrap_or(0));
        let counts = rows.entry(key).or_default();
        let named = usize::from(finding.mechanism == CurveMechanism::Policing);
        counts[0] += named;
        counts[1] += 1;
        if is_lossy(one) {
            counts[2] += named;
            counts[3] += 1;
        }
    }
    say(text, format_args!("\n### Policers\n"));
    say(text, format_args!("| cause | rate bit/s | burst bytes | named / curves | of lossy ones |"));
    say(text, format_args!("|---|---|---|---|---|"));
    for ((kind, rate, burst), [named, all, named_lossy, lossy]) in rows {
        say(
            text,
            format_args!(
                "| {} | {rate} | {burst} | {named} / {all} | {named_lossy} / {lossy} |",
                kind.name()
            ),
        );
    }
}

fn rates(text: &mut String, curves: &[Curve]) {
    let ratio = |one: &Curve| {
        let limit = one.1.limit.filter(|_| one.1.mechanism == CurveMechanism::Policing)?;
        Some(limit.value * 8.0 / (one.0.facts.rate_bits_per_second * PAYLOAD_SHARE))
    };
    let errors: Vec<f64> = curves
        .iter()
        .filter(|one| one.0.facts.kind == Kind::Policed)
        .filter(|one| (0.5e6..=3e6).contains(&one.0.facts.rate_bits_per_second))
        .filter_map(ratio)
        .map(|ratio| (ratio - 1.0).abs())
        .collect();
    if let Some(middle) = median(&errors) {
        say(
            text,
            format_args!(
                "\nRate of the {} policed alone at 0.5 to 3 Mbit/s and named: off by {:.1} % in the median.",
                errors.len(),
                middle * 100.0
            ),
        );
    }
}
