//! The shell: laboratories with a lane for each test, and the program's own comparison in each lane.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rand::{SeedableRng as _, rngs::ChaCha8Rng};
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};
use url::Url;

use crate::{
    clock,
    engine::{Allowance, OneShot, Subject, subjects},
    lab::{Lab, LabError, LabSettings, LaneSettings, LatenessReport, client_addresses, profiles},
    methods::{Leg, Shape},
    model::{Exchange, HelloKind, Judgement, Role, TargetId},
    probe::{Budgets, HttpChoice, Options, Prober, ResolveOverride, SetupError},
};

use super::{
    corpus::{BYTES, CONTROL, Class, Condition, FAR_CONTROL, FAR_SUBJECT, SUBJECT, draw},
    outcome::{Outcome, Recorded},
    truth::TrueSlowdown,
};

/// Transfers with the rule on, and as many with it off, from which the true slowdown is taken.
const TRUTH_TRANSFERS: usize = 9;

/// The same where chance decides over every transfer and their median scatters more; as many as this time allows.
const TRUTH_TRANSFERS_LOSSY: usize = 25;
const TRUTH_SECONDS_LOSSY: Duration = Duration::from_mins(3);

/// A transfer that takes longer is known to take at least so long.
const TRUTH_TIMEOUT: Duration = Duration::from_secs(30);

/// A test that lasts longer ends without an answer: a user would have given up as well.
const TEST_SECONDS_MAX: Duration = Duration::from_mins(5);

/// Tests of one laboratory: each takes up to three of its lanes, and its account of lateness is theirs together.
const BATCH: u32 = 2000;

/// Between the starts of two tests, so that a hundred handshakes do not begin in one millisecond.
const BETWEEN_STARTS: Duration = Duration::from_millis(25);

/// How large, and from what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tests.
    pub tests: u32,
    /// What the corpus is drawn from.
    pub seed: u64,
    /// Tests under way at once.
    pub parallel: usize,
    /// Most pairs of a comparison.
    pub pairs: u32,
    /// Keeps every exchange here, one test a line.
    pub record: Option<PathBuf>,
}

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// No laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// No prober.
    #[error(transparent)]
    Probe(#[from] SetupError),
    /// The recording cannot be written or read.
    #[error("cannot use the recording {}: {what}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No runtime.
    #[error("cannot start the threads of the measurement")]
    Runtime(#[from] std::io::Error),
}

/// How late a laboratory was, beside the tests it served.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LabLateness {
    /// Its tests: the first.
    pub first: u32,
    /// How many.
    pub tests: u32,
    /// Its account.
    #[serde(flatten)]
    pub report: LatenessReport,
}

/// All tests.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// What the corpus was drawn from.
    pub seed: u64,
    /// Tests under way at once.
    pub parallel: usize,
    /// Tests that were drawn.
    pub tests: u32,
    /// How long it took.
    pub seconds: f64,
    /// The laboratories.
    pub laboratories: Vec<LabLateness>,
    /// The tests, by number.
    pub outcomes: Vec<Outcome>,
}

/// Runs the corpus. To be called inside [`crate::lab::contain()`]; `seen` is told every outcome as it comes.
pub fn inside(settings: &Settings, seen: &mut dyn FnMut(&Outcome)) -> Result<Evaluation, EvaluateError> {
    let start = clock::now();
    let mut evaluation = Evaluation {
        seed: settings.seed,
        parallel: settings.parallel,
        tests: settings.tests,
        seconds: 0.0,
        laboratories: Vec::new(),
        outcomes: Vec::new(),
    };
    let mut recording = settings.record.clone().map(Recording::create).transpose()?;
    for first in (0..settings.tests).step_by(BATCH as usize) {
        let numbers = first..(first + BATCH).min(settings.tests);
        let conditions: Vec<Condition> = numbers.map(|number| draw(settings.seed, number)).collect();
        let (mut outcomes, report) = batch(settings, &conditions, &mut recording, seen)?;
        for one in &mut outcomes {
            one.overloaded = report.overloaded;
        }
        evaluation.laboratories.push(LabLateness { first, tests: conditions.len() as u32, report });
        evaluation.outcomes.extend(outcomes);
    }
    evaluation.outcomes.sort_by_key(|one| one.number);
    evaluation.seconds = (clock::now() - start).as_secs_f64();
    Ok(evaluation)
}

/// The tests of one laboratory.
fn batch(
    settings: &Settings,
    conditions: &[Condition],
    recording: &mut Option<Recording>,
    seen: &mut dyn FnMut(&Outcome),
) -> Result<(Vec<Outcome>, LatenessReport), EvaluateError> {
    let mut lanes = Vec::new();
    let tests: Vec<Test> = conditions.iter().map(|condition| Test::new(condition, &mut lanes)).collect();
    let lab = Lab::start(LabSettings { lanes, ..LabSettings::default() })?;
    let prober = Prober::new(options(&lab.servers))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (server, pairs) = (lab.servers[0], settings.pairs);
    let outcomes = runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(settings.parallel));
        let mut running = JoinSet::new();
        let mut outcomes = Vec::new();
        for test in tests {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let prober = prober.clone();
            running.spawn(async move {
                let _permit = permit;
                test.run(&prober, server, pairs).await
            });
            tokio::time::sleep(BETWEEN_STARTS).await;
            while let Some(done) = running.try_join_next() {
                finished(done.ok().flatten(), &mut outcomes, recording, seen);
            }
        }
        while let Some(done) = running.join_next().await {
            finished(done.ok().flatten(), &mut outcomes, recording, seen);
        }
        outcomes
    });
    drop(runtime);
    let report = lab.finish()?;
    Ok((outcomes, report.lateness))
}

fn finished(
    done: Option<Recorded>,
    outcomes: &mut Vec<Outcome>,
    recording: &mut Option<Recording>,
    seen: &mut dyn FnMut(&Outcome),
) {
    let Some(done) = done else { return };
    if let Some(open) = recording
        && open.write(&done).is_err()
    {
        // A full disk ends the recording, not the evaluation.
        *recording = None;
    }
    seen(&done.outcome);
    outcomes.push(done.outcome);
}

struct Recording(BufWriter<File>);

impl Recording {
    fn create(file: PathBuf) -> Result<Self, EvaluateError> {
        match File::create(&file) {
            Ok(open) => Ok(Self(BufWriter::new(open))),
            Err(error) => Err(EvaluateError::Record { file, what: error.to_string() }),
        }
    }

    fn write(&mut self, test: &Recorded) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.0, test)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}

/// Both hosts by name; certificates are nobody's business here.
fn options(servers: &[IpAddr]) -> Options {
    let at = |host: &str, server: IpAddr| ResolveOverride {
        host: host.to_owned(),
        port: 443,
        addresses: vec![server],
    };
    let resolve = vec![
        at(SUBJECT, servers[0]),
        at(CONTROL, servers[0]),
        at(FAR_SUBJECT, servers[1]),
        at(FAR_CONTROL, servers[1]),
    ];
    Options { insecure: true, resolve, ..Options::default() }
}

fn shape() -> Shape {
    Shape { bytes: BYTES, budgets: Budgets::default(), hello: HelloKind::Small, http: HttpChoice::Http1 }
}

/// A test and its lanes.
struct Test {
    condition: Condition,
    lane: u16,
    /// The lanes with the rule on and off, where the truth is to be measured.
    truth: Option<[u16; 2]>,
}

impl Test {
    fn new(condition: &Condition, lanes: &mut Vec<LaneSettings>) -> Self {
        let mut lane = |profile, seed| {
            lanes.push(LaneSettings { line: condition.line.clone(), profile, seed });
            (lanes.len() - 1) as u16
        };
        let judged = lane(condition.profile.clone(), condition.seed);
        let slows = matches!(
            condition.class,
            Class::Policed | Class::Shaped | Class::Lossy | Class::Handshake | Class::Patchy
        );
        let truth = slows.then(|| {
            let mut on = condition.profile.clone();
            on.coverage.share = 1.0;
            let off = profiles::profile("clean").expect("a built-in profile is sound, as its own test shows");
            [lane(on, condition.seed ^ 1), lane(off, condition.seed ^ 2)]
        });
        Self { condition: condition.clone(), lane: judged, truth }
    }

    /// The comparison, and beside it the truth.
    async fn run(self, prober: &Prober, server: IpAddr, pairs: u32) -> Option<Recorded> {
        let from = |lane: u16| prober.sent_from(client_addresses(lane).0.into());
        let judged = async {
            let prober = from(self.lane);
            let allowance = Allowance { pairs, time: Some(TEST_SECONDS_MAX), bytes: 1 << 30 };
            let engine = OneShot { prober: &prober, shape: shape(), allowance };
            let mut rng = ChaCha8Rng::seed_from_u64(self.condition.seed);
            let start = clock::now();
            let subject = subject(&self.condition, server)?;
            let judgements = engine.run(vec![subject], &mut rng, &mut |_| {}).await;
            Some((judgements, (clock::now() - start).as_secs_f64()))
        };
        let truth = async {
            let [on, off] = self.truth?;
            let (on, off) = (from(on), from(off));
            let lossy = self.condition.class == Class::Lossy;
            let transfers = if lossy { TRUTH_TRANSFERS_LOSSY } else { TRUTH_TRANSFERS };
            let (on, off) = tokio::join!(alone(&on, server, transfers), alone(&off, server, transfers));
            Some(TrueSlowdown::of(&on?, &off?))
        };
        let (judged, truth) = tokio::join!(Box::pin(judged), Box::pin(truth));
        let (judgements, seconds) = judged?;
        let outcome = Outcome::of(&self.condition, &judgements, seconds, truth)?;
        let rounds =
            judgements.into_iter().map(|Judgement { comparison, exchanges, .. }| (comparison, exchanges));
        Some(Recorded { outcome, rounds: rounds.collect() })
    }
}

fn url(host: &str) -> Option<Url> {
    Url::parse(&format!("https://{host}/bytes/{BYTES}")).ok()
}

/// `compare` on one server; two hosts as `measure` has them.
fn subject(condition: &Condition, server: IpAddr) -> Option<Subject> {
    if condition.class != Class::OtherHost {
        return Some(subjects::same_server(
            TargetId::new(SUBJECT),
            &url(&server.to_string())?,
            CONTROL,
            SUBJECT,
            CONTROL,
        ));
    }
    let (subject, control) =
        if condition.far_control { (SUBJECT, FAR_CONTROL) } else { (FAR_SUBJECT, CONTROL) };
    Some(Subject {
        leg: Leg::new(TargetId::new(subject), Role::Subject, url(subject)?),
        controls: vec![Leg::new(TargetId::new(control), Role::Control, url(control)?)],
        same_server: false,
        repeat: String::new(),
    })
}

/// Transfers of the subject one after another, judged by nobody.
async fn alone(prober: &Prober, server: IpAddr, transfers: usize) -> Option<Vec<Exchange>> {
    let mut leg = Leg::new(TargetId::new(SUBJECT), Role::Subject, url(&server.to_string())?);
    leg.name = Some(SUBJECT.to_owned());
    leg.host_header = Some(CONTROL.to_owned());
    leg.check_certificate = false;
    let start = clock::now();
    let mut exchanges = Vec::new();
    while exchanges.len() < TRUTH_TRANSFERS
        || (exchanges.len() < transfers && clock::now() - start < TRUTH_SECONDS_LOSSY)
    {
        exchanges.push(leg.alone(prober, &shape(), TRUTH_TIMEOUT).await);
    }
    Some(exchanges)
}
