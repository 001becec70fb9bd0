//! What is stated against what happens, in simulation: false alarms under optional stopping, coverage, power and cost, and
//! what each part of the method buys.
//!
//! `THROTTLESCOPE_SIMULATE=1000000` prints the tables of `docs/calibration.md` and, smaller, of `docs/ablations.md`; without
//! the variable a small size of the same runs as a test. `THROTTLESCOPE_SIMULATE_LINES=Step,White` simulates those lines alone.

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use super::{
    super::{
        betting::Bettor,
        compare::{SPREAD_MIN, Sample, Unit},
    },
    *,
};
use crate::analysis::stats::{Bounded, clopper_pearson, difference_interval, median};

/// Rounds of each kind.
fn rounds() -> u64 {
    std::env::var("THROTTLESCOPE_SIMULATE").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// What the line does to the logarithm of an exchange's pace, whatever its name.
#[derive(Debug, Clone, Copy)]
enum Noise {
    /// Independent and normal.
    White,
    /// Independent with heavy tails: Student's with three degrees of freedom.
    HeavyTails,
    /// One exchange in seven stalls for up to five times its length.
    Stalls,
    /// Autoregressive: nine tenths of the last exchange's deviation remain.
    Autoregressive,
    /// A sine over a random period of two to twelve exchanges.
    Cyclic,
    /// The line becomes eight times slower at some exchange, for good.
    Step,
}

const NOISES: [Noise; 6] =
    [Noise::White, Noise::HeavyTails, Noise::Stalls, Noise::Autoregressive, Noise::Cyclic, Noise::Step];

/// The lines to simulate: all, or those that `THROTTLESCOPE_SIMULATE_LINES` names.
fn noises() -> impl Iterator<Item = Noise> {
    let names = std::env::var("THROTTLESCOPE_SIMULATE_LINES").ok();
    NOISES.into_iter().filter(move |noise| {
        names.as_ref().is_none_or(|names| names.split(',').any(|name| name == format!("{noise:?}")))
    })
}

/// A line: one deviation after the other.
struct Line {
    noise: Noise,
    spread: f64,
    rng: ChaCha8Rng,
    state: f64,
    count: f64,
    period: f64,
    phase: f64,
    step_at: f64,
}

impl Line {
    fn new(noise: Noise, spread: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let period = 2.0 + 10.0 * rng.random::<f64>();
        let phase = rng.random::<f64>() * std::f64::consts::TAU;
        let step_at = (rng.random::<f64>() * 30.0).floor();
        let state = normal(&mut rng);
        Self { noise, spread, rng, state, count: 0.0, period, phase, step_at }
    }

    /// Bounded to a factor of 400, which no budget would outlast.
    fn next(&mut self) -> f64 {
        self.unbounded().clamp(-6.0, 6.0)
    }

    fn unbounded(&mut self) -> f64 {
        let white = normal(&mut self.rng);
        self.count += 1.0;
        match self.noise {
            Noise::White => self.spread * white,
            Noise::HeavyTails => {
                let squares: f64 = (0..3).map(|_| normal(&mut self.rng).powi(2)).sum();
                self.spread * white / (squares / 3.0).sqrt()
            }
            Noise::Stalls => {
                let stalls = self.rng.random::<f64>() < 1.0 / 7.0;
                let extra = if stalls { (1.0 + 4.0 * self.rng.random::<f64>()).ln() } else { 0.0 };
                self.spread * white + extra
            }
            Noise::Autoregressive => {
                self.state = 0.9 * self.state + (1.0_f64 - 0.81).sqrt() * white;
                3.0 * self.spread * self.state
            }
            Noise::Cyclic => {
                let angle = std::f64::consts::TAU * self.count / self.period + self.phase;
                1.0 * angle.sin() + self.spread * white
            }
            Noise::Step => {
                let slow = if self.count > self.step_at { 8.0_f64.ln() } else { 0.0 };
                slow + self.spread * white
            }
        }
    }
}

/// Box and Muller (Annals of Mathematical Statistics 29, 1958).
fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random::<f64>().max(1e-300), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Seconds for the bytes after the burst on an undisturbed line.
const SECONDS: f64 = 0.1;

/// Turns `exchange` into one whose bytes after the burst take `seconds_after`; stopped at `stop` where that is earlier.
fn shape(exchange: &mut Exchange, role: Role, seconds_after: f64, stop: Option<f64>) {
    let burst_over = 0.04;
    let stopped = stop.filter(|&stop| stop < seconds_after);
    let end = burst_over + stopped.unwrap_or(seconds_after);
    let bytes = stopped.map_or(131_072, |stop| 32_000 + (99_072.0 * stop / seconds_after) as u64);
    exchange.curve = [(seconds(burst_over), 32_000), (seconds(end), bytes)].into_iter().collect();
    exchange.phases = Timeline::default();
    exchange.phases.skip(Phase::Resolve);
    for (phase, span) in [
        (Phase::Connect, 0.03),
        (Phase::Tls, 0.06),
        (Phase::Processing, burst_over),
        (Phase::Transfer, end - burst_over),
    ] {
        exchange.phases.record(phase, seconds(span));
    }
    exchange.requests[0].end = exchange.requests[0].start + seconds(end);
    exchange.duration = exchange.phases.total();
    exchange.bytes = bytes;
    exchange.censored = stopped.is_some();
    exchange.role = role;
}

/// A round as the engine takes it, one exchange after the other: `slowdown` times slower under the subject's name.
struct Simulated {
    line: Line,
    slowdown: f64,
    coin: ChaCha8Rng,
    controls: Vec<f64>,
    stops: bool,
}

impl Simulated {
    fn new(noise: Noise, spread: f64, round: u64, slowdown: f64) -> Self {
        let (line, coin) = (Line::new(noise, spread, round), ChaCha8Rng::seed_from_u64(round ^ 0xC0_1D));
        Self { line, slowdown, coin, controls: Vec::new(), stops: true }
    }

    fn next(&mut self, exchange: &mut Exchange, role: Role) {
        let name = if role == Role::Subject { self.slowdown } else { 1.0 };
        let after = SECONDS * name * self.line.next().exp();
        let stop = (self.stops && role == Role::Subject)
            .then(|| median(&self.controls))
            .flatten()
            .map(|median: f64| (5.0 * median).max(1.5));
        if role == Role::Control {
            self.controls.push(after);
        }
        shape(exchange, role, after, stop);
    }

    /// Takes the round with the judge itself. Calls `each` after every draw; ends with it.
    fn judged(
        &mut self,
        settings: RoundSettings,
        template: &Exchange,
        mut each: impl FnMut(&RoundJudge, usize) -> bool,
    ) -> RoundJudge {
        let mut judge = RoundJudge::new(settings);
        for pair in 0.. {
            let order = if pair < 2 { &[Role::Control][..] } else { judge.order(self.coin.random()) };
            for (position, &role) in order.iter().enumerate() {
                let mut exchange = Exchange { pair, position: position as u32, ..template.clone() };
                self.next(&mut exchange, role);
                judge.add(exchange);
            }
            if pair >= 2 && each(&judge, pair as usize - 1) {
                break;
            }
        }
        judge
    }

    /// The same bets and orders without the rest of the judge, which would look at every exchange again after each.
    /// The highest log e-value of [`DRAWS`] draws.
    fn bets(&mut self, scratch: &mut [Exchange; 2]) -> f64 {
        let settings = sni();
        let mut openings = scratch.clone();
        for exchange in &mut openings {
            self.next(exchange, Role::Control);
        }
        let mut bettor = Bettor::new(&Sorted::of(&openings.each_ref()), &settings);
        let (mut best, mut pairs) = (f64::NEG_INFINITY, 0);
        for _ in 0..DRAWS {
            let order = order(&settings, pairs, bettor.capital(), self.coin.random());
            for (exchange, &role) in scratch.iter_mut().zip(order) {
                self.next(exchange, role);
            }
            let drawn = &scratch[..order.len()];
            let of = |role| drawn.iter().find(|one| one.role == role).map(Sample::of);
            bettor.bet(&Unit { subject: of(Role::Subject), control: of(Role::Control) });
            pairs += usize::from(order.len() == 2);
            best = best.max(bettor.capital().log_e_value);
        }
        best
    }
}

fn template() -> Exchange {
    Exchange { headers: vec![], ..exchange(Role::Control, 0, 0, FAST) }
}

/// Draws after which even an undecided round ends.
const DRAWS: usize = 60;

/// The scatter of an exchange's logarithm, in turn.
fn spread(round: u64) -> f64 {
    [0.05, 0.2, 0.5][round as usize % 3]
}

#[test]
fn calibration_of_false_alarms() {
    let (template, rounds) = (template(), rounds());
    let mut scratch = [template.clone(), template.clone()];
    println!("| line | e ≥ 10 (10 %) | e ≥ 100 (1 %) | e ≥ 1000 (0.1 %) | rounds |\n|---|---|---|---|---|");
    for noise in noises() {
        let mut reached = [0_u64; 3];
        for round in 0..rounds {
            let best = Simulated::new(noise, spread(round), round, 1.0).bets(&mut scratch);
            if round % 1_000 == 0 {
                let mut whole = f64::NEG_INFINITY;
                let mut simulated = Simulated::new(noise, spread(round), round, 1.0);
                simulated.judged(
                    RoundSettings { pairs_max: DRAWS as u32, ..sni() },
                    &template,
                    |judge, draws| {
                        whole = whole.max(judge.finding().evidence.e_value.ln());
                        draws >= DRAWS
                    },
                );
                assert!((whole - best).abs() < 1e-9, "{noise:?} {round}: the judge has {whole}, not {best}");
            }
            for (count, limit) in reached.iter_mut().zip([10.0_f64, 100.0, 1000.0]) {
                *count += u64::from(best >= limit.ln());
            }
        }
        let shares = reached.map(|count| 100.0 * count as f64 / rounds as f64);
        println!("| {noise:?} | {:.2} % | {:.3} % | {:.4} % | {rounds} |", shares[0], shares[1], shares[2]);
        for (count, stated) in reached.into_iter().zip([0.1, 0.01, 0.001]) {
            let [low, _] = clopper_pearson(count, rounds, 0.999);
            assert!(low <= stated, "{noise:?}: {count} of {rounds} reached, stated {stated}");
        }
    }
}

/// The interval moves with the logarithm of a slowdown, so that one slowdown shows all.
#[test]
fn calibration_of_coverage() {
    const STATED: [f64; 3] = [0.9, 0.95, 0.99];
    let (template, rounds) = (template(), rounds());
    println!("| line | misses of 90 % | of 95 % | of 99 % | of 99 % at 3 pairs | at 60 | rounds |");
    println!("|---|---|---|---|---|---|---|");
    for noise in noises() {
        let (mut missed, mut at) = ([0_u64; 3], [0_u64; 2]);
        for round in 0..rounds {
            let mut coin = ChaCha8Rng::seed_from_u64(round ^ 0xC0_1D);
            let mut line = Line::new(noise, spread(round), round);
            let logs: Vec<[Bounded; 2]> = (0..DRAWS)
                .map(|_| {
                    let pair = [line.next(), line.next()].map(Bounded::known);
                    if coin.random() { pair } else { [pair[1], pair[0]] }
                })
                .collect();
            let misses = |n: usize, stated: f64| {
                let [low, high] = difference_interval(&logs[..n], stated, SPREAD_MIN, None);
                low.is_some_and(|low| low > 0.0) || high.is_some_and(|high| high < 0.0)
            };
            for (count, stated) in missed.iter_mut().zip(STATED) {
                *count += u64::from(LOOKS.into_iter().any(|n| misses(n, stated)));
            }
            for (count, n) in at.iter_mut().zip([3, DRAWS]) {
                *count += u64::from(misses(n, 0.99));
            }
            if round % 1_000 == 0 {
                same_as_judged(&logs, &template);
            }
        }
        let share = |count: u64| 100.0 * count as f64 / rounds as f64;
        println!(
            "| {noise:?} | {:.2} % | {:.2} % | {:.3} % | {:.3} % | {:.3} % | {rounds} |",
            share(missed[0]),
            share(missed[1]),
            share(missed[2]),
            share(at[0]),
            share(at[1])
        );
        for (count, stated) in missed.into_iter().zip(STATED) {
            // A fixed cycle of a few exchanges is what independence excludes; docs/calibration.md gives the number.
            let stated = (1.0 - stated) * if matches!(noise, Noise::Cyclic) { 2.0 } else { 1.0 };
            let [low, _] = clopper_pearson(count, rounds, 0.999);
            assert!(low <= stated, "{noise:?}: {count} of {rounds} missed, stated {stated}");
        }
    }
}

/// The numbers of pairs at which one looks.
const LOOKS: [usize; 12] = [3, 4, 5, 6, 8, 12, 16, 20, 24, 30, 42, 60];

/// The judge, given exchanges that took so long, has the same interval.
fn same_as_judged(logs: &[[Bounded; 2]], template: &Exchange) {
    let mut judge = RoundJudge::new(sni());
    for (pair, logs) in logs.iter().enumerate() {
        for (position, (role, log)) in [Role::Subject, Role::Control].into_iter().zip(logs).enumerate() {
            let mut exchange = Exchange { pair: pair as u32, position: position as u32, ..template.clone() };
            shape(&mut exchange, role, SECONDS * log.low.unwrap().exp(), None);
            judge.add(exchange);
        }
    }
    let of = |interval: [Option<f64>; 2]| interval.map(Option::unwrap);
    let [low, high] = of(judge.finding().evidence.slowdown_ci).map(f64::ln);
    let [wanted_low, wanted_high] = of(difference_interval(logs, 0.99, SPREAD_MIN, None));
    assert!((low - wanted_low).abs() < 1e-4 && (high - wanted_high).abs() < 1e-4, "{low} {wanted_low}");
}

/// Verdicts and cost of many rounds.
#[derive(Default)]
struct Tally {
    rounds: u64,
    normal: u64,
    throttled: u64,
    draws: Vec<f64>,
    megabytes: Vec<f64>,
    seconds: Vec<f64>,
}

impl Tally {
    fn add(&mut self, mut simulated: Simulated, settings: RoundSettings, template: &Exchange) {
        let mut taken = 0;
        let judge = simulated.judged(settings, template, |judge, draws| {
            taken = draws;
            judge.next() == Next::Enough
        });
        let finding = judge.finding();
        self.rounds += 1;
        self.normal += u64::from(finding.verdict == Verdict::Normal);
        self.throttled += u64::from(finding.verdict == Verdict::Throttled);
        self.draws.push(taken as f64);
        self.megabytes.push(finding.evidence.bytes_used as f64 / 1e6);
        self.seconds.push(judge.exchanges.iter().map(|one| one.duration.as_secs_f64()).sum());
    }

    fn share(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.rounds as f64
    }

    /// No slowdown: of these rounds at most one in a thousand may accuse.
    fn is_innocent(&self) -> bool {
        clopper_pearson(self.throttled, self.rounds, 0.999)[0] <= 0.001
    }
}

fn middle(values: &[f64]) -> f64 {
    median(values).unwrap()
}

#[test]
fn calibration_of_power_and_cost() {
    let (template, rounds) = (template(), (rounds() / 5_000).clamp(20, 200));
    println!(
        "| line | spread | slowdown | normal | throttled | median draws | median MB | rounds |\n|---|---|---|---|---|---|---|---|"
    );
    for noise in noises() {
        for (spread, slowdown) in
            [0.1, 0.3].into_iter().flat_map(|s| [1.0, 1.3, 2.0, 3.0, 5.0, 10.0, 25.0].map(|r| (s, r)))
        {
            let mut tally = Tally::default();
            for round in 0..rounds {
                let settings = RoundSettings { pairs_max: DRAWS as u32, ..sni() };
                tally.add(Simulated::new(noise, spread, round, slowdown), settings, &template);
            }
            println!(
                "| {noise:?} | {spread} | {slowdown} | {:.1} % | {:.1} % | {} | {:.1} | {rounds} |",
                tally.share(tally.normal),
                tally.share(tally.throttled),
                middle(&tally.draws),
                middle(&tally.megabytes)
            );
            assert!(slowdown > 1.1 || tally.is_innocent(), "{noise:?}: {} accused", tally.throttled);
        }
    }
}

/// Verdicts and cost with one part left out, all lines together. Cost of rounds without and with a clear slowdown.
#[test]
fn ablation_of_parts() {
    let (template, rounds) = (template(), (rounds() / 5_000).clamp(3, 200));
    let cases: [(&str, Option<Part>, bool); 9] = [
        ("nothing", None, true),
        ("singles", Some(Part::Singles), true),
        ("learned stake", Some(Part::LearnedStake), true),
        ("Welch below six pairs", Some(Part::Interval(IntervalPart::Welch)), true),
        ("trimmed mean at six and seven", Some(Part::Interval(IntervalPart::Trimmed)), true),
        ("ranks from eight pairs on", Some(Part::Interval(IntervalPart::Ranks)), true),
        ("e-value", Some(Part::Evidence), true),
        ("early end", Some(Part::EarlyEnd), true),
        ("stopping a slow subject", None, false),
    ];
    println!(
        "| left out | alike: normal | accused | MB | 3 times slower: found | MB | 10 times: found | MB | s | rounds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, without, stops) in cases {
        let [alike, three, ten] = [1.0, 3.0, 10.0].map(|slowdown| {
            let mut tally = Tally::default();
            for (noise, spread) in noises().flat_map(|noise| [0.1, 0.3].map(|spread| (noise, spread))) {
                for round in 0..rounds {
                    let settings = RoundSettings { pairs_max: DRAWS as u32, without, ..sni() };
                    let simulated = Simulated { stops, ..Simulated::new(noise, spread, round, slowdown) };
                    tally.add(simulated, settings, &template);
                }
            }
            tally
        });
        println!(
            "| {name} | {:.1} % | {:.2} % | {:.2} | {:.1} % | {:.2} | {:.1} % | {:.2} | {:.1} | {} |",
            alike.share(alike.normal),
            alike.share(alike.throttled),
            middle(&alike.megabytes),
            three.share(three.throttled),
            middle(&three.megabytes),
            ten.share(ten.throttled),
            middle(&ten.megabytes),
            middle(&ten.seconds),
            alike.rounds,
        );
        assert!(
            without == Some(Part::Evidence) || alike.is_innocent(),
            "{name}: {} accused",
            alike.throttled
        );
    }
}
