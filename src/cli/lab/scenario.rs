//! A whole scenario: builds it, runs its command, says what differed from what was expected.

use std::process::{Command, ExitCode};

use serde_json::Value;

use super::{LineArgs, finished, settings, status_of, tell_lateness, tell_notes};
use crate::cli::EXIT_ERROR;
use crate::clock;
use crate::lab::{self, Interrupt, Lab, LabSettings};
use crate::model::profile::{Expectation, Profile, Scenario};

pub(super) fn run(mut args: LineArgs, scenario: Scenario, mut profile: Profile) -> anyhow::Result<ExitCode> {
    let quiet = args.quiet;
    if args.seed == 0 {
        args.seed = scenario.seed;
    }
    args.onset = args.onset.or(scenario.onset);
    args.lift = args.lift.or(scenario.lift);
    args.congestion_control = args.congestion_control.or_else(|| scenario.congestion_control.clone());
    profile.line = scenario.line.clone().or(profile.line);
    profile.coverage = scenario.coverage.unwrap_or(profile.coverage);
    let settings = settings(args, profile)?;
    let status = lab::contain(Interrupt::Ends, move || {
        inside(settings, &scenario, quiet).unwrap_or_else(|error| {
            eprintln!("throttlescope: {error:#}");
            lab::FAILED
        })
    });
    Ok(finished(status))
}

fn inside(settings: LabSettings, scenario: &Scenario, quiet: bool) -> anyhow::Result<u8> {
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
    let differs = differences(&scenario.expect, status_of(output.status), &text, took);
    for difference in &differs {
        println!("differs: {difference}");
    }
    if differs.is_empty() {
        println!("as expected: {}", scenario.about);
        return Ok(0);
    }
    Ok(EXIT_ERROR)
}

/// What is not as expected, one sentence each.
fn differences(expect: &Expectation, status: u8, output: &str, took: std::time::Duration) -> Vec<String> {
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
    if !expect.json.is_empty() {
        match serde_json::from_str::<Value>(output) {
            Err(error) => differs.push(format!("the output is no JSON document: {error}")),
            Ok(document) => differs.extend(fields(expect, &document)),
        }
    }
    differs
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
    use super::*;

    #[test]
    fn each_difference_is_one_sentence() {
        let expect: Expectation = toml::from_str(
            "exit = 1\nat_least = '2s'\noutput_contains = ['x']\njson = { 'results.0.verdict' = 'throttled' }",
        )
        .unwrap();
        let output = r#"{"results": [{"verdict": "normal"}]}"#;
        let found = differences(&expect, 0, output, std::time::Duration::from_secs(1));
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
