//! A whole scenario: builds it, runs its command, says what differed from what was expected.

use std::process::{Command, ExitCode};

use serde_json::Value;

use super::{LineArgs, finished, settings, status_of, tell_lateness, tell_notes};
use crate::cli::EXIT_ERROR;
use crate::clock;
use crate::lab::{self, Interrupt, Lab, LabSettings};
use crate::model::{
    Verdict,
    profile::{Expectation, Profile, Scenario, Truth},
};

/// A report's rate counts TCP payload, a truth's counts IP: full packets of 1500 bytes carry 1448.
const PAYLOAD_SHARE: f64 = 1448.0 / 1500.0;
/// A rate that was found is right within this share of the true one.
const RATE_TOLERANCE: f64 = 0.15;
/// Of a command's output so much is shown where something differed, in bytes.
const SHOWN_MAX: usize = 2000;

pub(super) fn run(mut args: LineArgs, scenario: Scenario, mut profile: Profile) -> anyhow::Result<ExitCode> {
    let quiet = args.quiet;
    if args.seed == 0 {
        args.seed = scenario.seed;
    }
    args.onset = args.onset.or(scenario.onset);
    args.lift = args.lift.or(scenario.lift);
    args.congestion_control = args.congestion_control.or_else(|| scenario.congestion_control.clone());
    profile.line = scenario.line.clone().or(profile.line);
    profile.truth = scenario.truth.unwrap_or(profile.truth);
    let truth = profile.truth;
    profile.coverage = scenario.coverage.unwrap_or(profile.coverage);
    let settings = settings(args, profile)?;
    let status = lab::contain(Interrupt::Ends, move || {
        inside(settings, &scenario, truth, quiet).unwrap_or_else(|error| {
            eprintln!("throttlescope: {error:#}");
            lab::FAILED
        })
    });
    Ok(finished(status))
}

fn inside(settings: LabSettings, scenario: &Scenario, truth: Truth, quiet: bool) -> anyhow::Result<u8> {
    let asked = settings.congestion_control.clone();
    let lab = Lab::start(settings)?;
    tell_notes(&lab, &asked, quiet);
    let this = std::env::current_exe()?.display().to_string();
    let server = lab.servers[0].to_string();
    let words: Vec<String> = scenario
        .command
        .iter()
        .map(|word| word.replace("{server}", &server).replace("{self}", &this))
        .collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stderr(std::process::Stdio::inherit());
    lab.tell(&mut command);
    let start = clock::now();
    let output = command.output().map_err(|error| anyhow::anyhow!("cannot run `{}`: {error}", words[0]))?;
    let took = clock::now() - start;
    let report = lab.finish()?;
    tell_lateness(&report, quiet);
    let text = String::from_utf8_lossy(&output.stdout);
    let document = serde_json::from_str::<Value>(&text).ok();
    if !quiet {
        for summary in document.iter().flat_map(summaries) {
            println!("found: {summary}");
        }
    }
    let differs = differences(&scenario.expect, truth, status_of(output.status), &text, took);
    for difference in &differs {
        println!("differs: {difference}");
    }
    if !differs.is_empty() && !quiet && document.is_none() && !text.is_empty() {
        eprintln!("lab: the command printed:\n{}", shortened(text.trim_end()));
    }
    if differs.is_empty() {
        println!("as expected: {}", scenario.about);
        return Ok(0);
    }
    Ok(EXIT_ERROR)
}

/// The sentences of a report, one for each of its results.
fn summaries(document: &Value) -> Vec<&str> {
    let results = document["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    results.iter().filter_map(|result| result["summary"].as_str()).collect()
}

/// The end of a text, where it is long.
fn shortened(text: &str) -> &str {
    let from = text.len().saturating_sub(SHOWN_MAX);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[from..]
}

/// What is not as expected, one sentence each.
fn differences(
    expect: &Expectation,
    truth: Truth,
    status: u8,
    output: &str,
    took: std::time::Duration,
) -> Vec<String> {
    let mut differs = Vec::new();
    if let Some(expected) = expect.exit
        && expected != status
    {
        differs.push(format!("exit status {status}, expected {expected}"));
    }
    for text in &expect.output_contains {
        if !output.contains(text) {
            differs.push(format!("the output does not contain `{text}`"));
        }
    }
    let seconds = took.as_secs_f64();
    if let Some(least) = expect.at_least
        && took < least.0
    {
        differs.push(format!("took {seconds:.2} s, expected at least {least}"));
    }
    if let Some(most) = expect.at_most
        && took > most.0
    {
        differs.push(format!("took {seconds:.2} s, expected at most {most}"));
    }
    if expect.truth || !expect.json.is_empty() {
        match serde_json::from_str::<Value>(output) {
            Err(error) => differs.push(format!("the output is no JSON document: {error}")),
            Ok(document) => {
                differs.extend(fields(expect, &document));
                if expect.truth {
                    differs.extend(errors(truth, &document));
                }
            }
        }
    }
    differs
}

/// Where a report's results are not the truth.
fn errors(truth: Truth, document: &Value) -> Vec<String> {
    let Some(results) = document["results"].as_array().filter(|results| !results.is_empty()) else {
        return vec![
            "the output is no report; `truth` wants one, as `{self} compare --json` prints it".to_owned(),
        ];
    };
    let mut errors = Vec::new();
    for (number, result) in results.iter().enumerate() {
        let mut word = |what: &str, right: Value| {
            let found = &result[what];
            if *found != right {
                errors.push(format!("results.{number}.{what} is {found}, truly {right}"));
            }
        };
        // Two names on a server that is slow for everybody are alike; what it sends elsewhere no such report knows.
        let alike = truth.verdict == Verdict::Degraded && result["verdict"] == Verdict::Normal.name();
        if !alike {
            word("verdict", serde_json::to_value(truth.verdict).unwrap_or(Value::Null));
        }
        if let Some(mechanism) = truth.mechanism {
            word("mechanism", serde_json::to_value(mechanism).unwrap_or(Value::Null));
        }
        // A report may know of a throttle without knowing its rate.
        if let (Some(rate), Some(found)) = (truth.rate, result["evidence"]["limit_bytes_per_second"].as_f64())
        {
            let right = rate.0 * PAYLOAD_SHARE;
            if (found / right - 1.0).abs() > RATE_TOLERANCE {
                errors.push(format!(
                    "results.{number}.evidence.limit_bytes_per_second is {found:.0}, truly {right:.0}"
                ));
            }
        }
    }
    errors
}

fn fields(expect: &Expectation, document: &Value) -> Vec<String> {
    let mut differs = Vec::new();
    for (path, expected) in &expect.json {
        let pointer = format!("/{}", path.replace('.', "/"));
        let found = document.pointer(&pointer).unwrap_or(&Value::Null);
        let wanted = serde_json::to_value(expected).unwrap_or(Value::Null);
        let same = match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-9,
            _ => *found == wanted,
        };
        if !same {
            differs.push(format!("{path} is {found}, expected {wanted}"));
        }
    }
    differs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TRUTH: Truth = Truth {
        verdict: Verdict::Throttled,
        mechanism: Some(crate::model::Mechanism::Policing),
        rate: Some(crate::model::profile::Rate(16_250.0)),
    };

    #[test]
    fn a_report_is_held_against_the_truth() {
        let expect = Expectation { truth: true, ..Expectation::default() };
        let found = |output: &str| differences(&expect, TRUTH, 1, output, std::time::Duration::ZERO);
        let report = |verdict: &str, mechanism: &str, limit: &str| {
            format!(
                r#"{{"results": [{{"verdict": "{verdict}", "mechanism": "{mechanism}",
                    "evidence": {{"limit_bytes_per_second": {limit}}}}}]}}"#
            )
        };
        assert!(found(&report("throttled", "policing", "15800")).is_empty());
        assert!(found(&report("throttled", "policing", "null")).is_empty());
        assert_eq!(
            found(&report("normal", "shaping", "50000")),
            [
                "results.0.verdict is \"normal\", truly \"throttled\"",
                "results.0.mechanism is \"shaping\", truly \"policing\"",
                "results.0.evidence.limit_bytes_per_second is 50000, truly 15687",
            ]
        );
        assert_eq!(found("{}").len(), 1);
        let slow_for_all = Truth { verdict: Verdict::Degraded, mechanism: None, rate: None };
        let report = |verdict: &str| json!({"results": [{"verdict": verdict}]});
        assert_eq!(errors(slow_for_all, &report("normal")), Vec::<String>::new());
        assert_eq!(errors(slow_for_all, &report("throttled")).len(), 1);
    }

    #[test]
    fn each_difference_is_one_sentence() {
        let expect: Expectation = toml::from_str(
            "exit = 1\nat_least = '2s'\noutput_contains = ['x']\njson = { 'results.0.verdict' = 'throttled' }",
        )
        .unwrap();
        let output = r#"{"results": [{"verdict": "normal"}]}"#;
        let found = differences(&expect, TRUTH, 0, output, std::time::Duration::from_secs(1));
        assert_eq!(
            found,
            [
                "exit status 0, expected 1",
                "the output does not contain `x`",
                "took 1.00 s, expected at least 2s",
                "results.0.verdict is \"normal\", expected \"throttled\"",
            ]
        );
    }
}
