//! What the detector of series states against what happens where nobody interferes, and what each of its parts buys.

use throttlescope::analysis::series::Part;

use super::*;

/// Lines on which nobody interferes.
const LINES: [(&str, Line); 8] = [
    ("independent, heavy tails", PLAIN),
    ("autocorrelated 0.5", Line { memory: 0.5, ..PLAIN }),
    ("evenings 2x slower to the subject", Line { memory: 0.3, evening: 1.0, ..PLAIN }),
    ("an hourly cycle of 3x either way", Line { cycle: 1.6, ..PLAIN }),
    ("one exchange in fifty stalls tenfold", Line { stalls: 0.02, ..PLAIN }),
    ("1.5x farther from some moment on", Line { step: 0.6, ..PLAIN }),
    ("tunnelled visitors as in 2021", AS_IN_2021),
    ("the same, and evenings 1.4x slower", Line { evening: 0.5, ..AS_IN_2021 }),
];

/// Lines on which nobody interferes either, but slow tests come more often, or more of them in a row, than is assumed.
const BROKEN: [(&str, Line); 4] = [
    (
        "tunnelled visitors who test again in 30 %",
        Line { evening: 0.5, visitor: 0.006, repeat: 0.3, ..PLAIN },
    ),
    ("autocorrelated 0.9", Line { memory: 0.9, ..PLAIN }),
    ("3x farther from some moment on", Line { step: 1.6, ..PLAIN }),
    ("one exchange in seven stalls tenfold", Line { stalls: 1.0 / 7.0, ..PLAIN }),
];

/// False incidents and tests of one series.
fn watch(line: Line, seed: u64, length: i64, settings: Settings) -> (u32, u64) {
    let (mut draw, mut detector) = (Draw::new(line, seed), SeriesDetector::new(settings));
    let mut alarms = 0;
    for n in 0..length {
        let sample = draw.pair(n * 5, false);
        let events = detector.observe(at(n * 5), sample);
        alarms += events.iter().filter(|event| matches!(event, SeriesEvent::Onset(_))).count() as u32;
    }
    (alarms, detector.memory().tests)
}

fn watch_all(line: Line, series: usize, length: i64, settings: Settings) -> (u32, u64) {
    (0..series as u64)
        .map(|seed| watch(line, seed, length, settings))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn lines_without_interference_stay_without_incident() {
    let settings = Settings::recorded(1);
    println!("Stated: {} tests between false incidents, at least.\n", settings.run_length);
    println!("| line | series | tests | false incidents | tests between, observed | 95 % lower bound |");
    println!("|---|---|---|---|---|---|");
    for (index, (name, line)) in LINES.into_iter().chain(BROKEN).enumerate() {
        for (series, length) in [(1_000 * size(), 100), (size(), 20_000)] {
            let (alarms, tests) = watch_all(line, series, length, settings);
            let observed =
                if alarms == 0 { "-".into() } else { format!("{:.0}", tests as f64 / f64::from(alarms)) };
            let bound = tests as f64 / poisson_upper(alarms);
            println!("| {name} | {series} of {length} | {tests} | {alarms} | {observed} | {bound:.0} |");
            // More than the stated run length allows, with a chance of one in a thousand at most.
            let allowed = tests as f64 / settings.run_length;
            let kept = f64::from(alarms) <= allowed + 3.1 * allowed.sqrt() + 3.0;
            assert!(kept || index >= LINES.len(), "{name}: {alarms} in {tests}");
        }
    }
}

/// What is done to a line from its first test on.
#[derive(Clone, Copy)]
enum Interference {
    /// To 108 kbit/s, this share of the tests.
    Throttled(f64),
    /// All tests, so many times.
    Slower(f64),
}

fn slower(test: PairedTest, times: f64) -> PairedTest {
    let Observed::Goodput(subject) = test.subject else { return test };
    PairedTest { subject: Observed::Goodput(subject / times), ..test }
}

/// Tests until an onset is found from the beginning of a series, the median, and how many within 4 and 15.
fn delays(interference: Interference, series: usize, settings: Settings) -> (f64, usize, usize) {
    let mut delays: Vec<f64> = (0..series as u64)
        .map(|seed| {
            let line = Line { memory: 0.3, visitor: 0.003, repeat: 0.12, ..PLAIN };
            let (mut draw, mut detector) = (Draw::new(line, seed), SeriesDetector::new(settings));
            let found = (0..300).find(|n| {
                let sample = match interference {
                    Interference::Throttled(share) => {
                        let affected = draw.random.random_bool(share);
                        draw.pair(n * 5, affected)
                    }
                    Interference::Slower(times) => slower(draw.pair(n * 5, false), times),
                };
                !detector.observe(at(n * 5), sample).is_empty()
            });
            // A test is counted when the next one comes.
            found.map_or(f64::INFINITY, |n| n as f64)
        })
        .collect();
    let within = |limit: f64| delays.iter().filter(|&&delay| delay <= limit).count();
    let (four, fifteen) = (within(4.0), within(15.0));
    (quantile(&mut delays, 0.5), four, fifteen)
}

#[test]
fn ablation_of_parts() {
    let whole = Settings::recorded(1);
    let without = |part| Settings { without: Some(part), ..whole };
    let cases = [
        ("nothing", whole),
        ("learned noise", without(Part::LearnedNoise)),
        ("learned repeats", without(Part::LearnedRepeats)),
        ("moderate grade", without(Part::Moderate)),
        ("third alternative", without(Part::Milder)),
    ];
    let nulls = [LINES[2], LINES[6], BROKEN[0], BROKEN[3]];
    println!(
        "| left out | tests between false incidents: {} | all affected: tests, found by the 4th | 35 %: tests, by the 15th | 7 times slower: tests, by the 15th |",
        nulls.map(|(name, _)| name).join(" | ")
    );
    println!("|---|{}---|---|---|", "---|".repeat(nulls.len()));
    for (name, settings) in cases {
        let cells = nulls.map(|(_, line)| {
            let (alarms, tests) = watch_all(line, size(), 20_000, settings);
            if alarms == 0 {
                format!("none in {tests}")
            } else {
                format!("{:.0}", tests as f64 / f64::from(alarms))
            }
        });
        let series = 100 * size();
        let (all, all_four, _) = delays(Interference::Throttled(1.0), series, settings);
        let (third, _, third_fifteen) = delays(Interference::Throttled(0.35), series, settings);
        let (seven, _, seven_fifteen) = delays(Interference::Slower(7.0), series, settings);
        println!(
            "| {name} | {} | {all}, {all_four}/{series} | {third}, {third_fifteen}/{series} | {seven}, {seven_fifteen}/{series} |",
            cells.join(" | ")
        );
        assert!(all_four * 5 >= series * 4, "{name}: {all_four} of {series} found by the fourth test");
    }
}

/// Control against canary: two hosts that nobody slowed down. A fair coin says which of them is the subject, so that every
/// incident is false, on lines with all the visitors and evenings of 2021.
#[test]
fn crowd_of_2021_control_against_canary() {
    let Some(rows) = crowd() else { return };
    let rows: Vec<&PairedRow> =
        rows.iter().filter(|row| row.canary.is_some() && row.control.is_some()).collect();
    let (mut tests, mut incidents, mut severe, mut moderate, mut graded) = (0, 0, 0_u64, 0_u64, 0_u64);
    for seed in 0..size() as u64 {
        let mut coin = ChaCha8Rng::seed_from_u64(seed);
        let drawn: Vec<PairedRow> = rows
            .iter()
            .map(|row| {
                let (one, other) = (row.control, row.canary);
                let (subject, control) = if coin.random() { (one, other) } else { (other, one) };
                PairedRow { subject, control, canary: None, ..(*row).clone() }
            })
            .collect();
        for row in &drawn {
            let ratio = row.subject.unwrap() / row.control.unwrap();
            graded += u64::from(ratio.is_finite());
            severe += u64::from(ratio < 1.0 / 8.0);
            moderate += u64::from((1.0 / 8.0..1.0 / 5.0).contains(&ratio));
        }
        for report in judge(&drawn) {
            tests += report.tests;
            incidents += report.incidents.len();
        }
    }
    let share = |count: u64| 100.0 * count as f64 / graded as f64;
    println!(
        "control against canary: {incidents} false incidents in {tests} tests; severe {:.2} % (assumed 1 %), moderate {:.2} % (3 %)",
        share(severe),
        share(moderate)
    );
    assert!(incidents as f64 <= 0.3 * size() as f64 + 3.0, "{incidents} in {tests}");
}
