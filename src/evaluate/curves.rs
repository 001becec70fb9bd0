//! How right the judge of one curve is: real transfers through known causes, each judged alone.
//!
//! `corpus` draws the conditions, `transfer` moves the bytes as a plain client does and keeps every read, `table` says how
//! often each cause was named `policing`. A recording is judged again without measuring.

mod corpus;
mod table;
mod transfer;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    analysis::curve::{self, Clues, CurveFinding},
    clock,
    lab::{Lab, LabSettings, LaneSettings, LatenessReport, client_addresses},
    model::CurvePoint,
};

use super::EvaluateError;
use corpus::Condition;
pub use corpus::{Facts, KINDS, Kind};
pub use table::render;

/// Lanes of one laboratory; each transfer takes one.
const BATCH: usize = 1_000;

/// Between the starts of two transfers, so that a hundred handshakes do not begin in one millisecond.
const BETWEEN_STARTS: Duration = Duration::from_millis(15);

/// How large, and from what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Curves of each kind.
    pub curves: u32,
    /// What the conditions are drawn from.
    pub seed: u64,
    /// Transfers under way at once.
    pub parallel: usize,
    /// Keeps every curve here, one a line.
    pub record: Option<PathBuf>,
}

/// One curve with its truth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recorded {
    /// What was drawn.
    #[serde(flatten)]
    pub facts: Facts,
    /// Packets that the lane dropped, of all its flows.
    pub dropped: u64,
    /// Time of the handshake, which is the round trip that the judge is told.
    pub handshake_s: f64,
    /// What the client read, from the request on.
    pub points: Vec<CurvePoint>,
}

impl Recorded {
    fn judge(&self) -> CurveFinding {
        let clues = Clues { rtt: Duration::try_from_secs_f64(self.handshake_s).ok(), ..Clues::default() };
        curve::classify(&self.points, &clues)
    }
}

/// All curves, judged.
#[derive(Debug)]
pub struct Judged {
    /// The curves and what the judge says of them.
    pub curves: Vec<(Recorded, CurveFinding)>,
    /// Transfers that gave no byte.
    pub empty: usize,
    /// How late the laboratories were; nothing for a recording.
    pub laboratories: Vec<LatenessReport>,
    /// How long it took.
    pub seconds: f64,
}

/// Measures the curves. To be called inside [`crate::lab::contain()`]; `seen` is called after each transfer.
pub fn inside(settings: &Settings, seen: &mut dyn FnMut()) -> Result<Judged, EvaluateError> {
    let start = clock::now();
    let all: Vec<Condition> = (0..settings.curves)
        .flat_map(|number| KINDS.map(|kind| corpus::draw(settings.seed, kind, number)))
        .collect();
    let mut recording = settings.record.as_deref().map(create).transpose()?;
    let mut judged = Judged { curves: Vec::new(), empty: 0, laboratories: Vec::new(), seconds: 0.0 };
    for conditions in all.chunks(BATCH) {
        let (curves, lateness) = batch(conditions, settings.parallel, seen)?;
        judged.laboratories.push(lateness);
        for one in curves {
            if one.points.is_empty() {
                judged.empty += 1;
                continue;
            }
            if let (Some(open), Some(file)) = (&mut recording, &settings.record) {
                write(open, &one).map_err(|error| wrong(file, error.to_string()))?;
            }
            let finding = one.judge();
            judged.curves.push((one, finding));
        }
    }
    judged.seconds = (clock::now() - start).as_secs_f64();
    Ok(judged)
}

/// The curves of a recording, judged by the judge as it is now.
pub fn again(file: &Path) -> Result<Judged, EvaluateError> {
    let open = File::open(file).map_err(|error| wrong(file, error.to_string()))?;
    let mut curves = Vec::new();
    for (index, line) in BufReader::new(open).lines().enumerate() {
        let line = line.map_err(|error| wrong(file, error.to_string()))?;
        let one: Recorded = serde_json::from_str(&line)
            .map_err(|error| wrong(file, format!("line {}: {error}", index + 1)))?;
        let finding = one.judge();
        curves.push((one, finding));
    }
    if curves.is_empty() {
        return Err(wrong(file, "it holds no curve".to_owned()));
    }
    Ok(Judged { curves, empty: 0, laboratories: Vec::new(), seconds: 0.0 })
}

fn wrong(file: &Path, what: String) -> EvaluateError {
    EvaluateError::Record { file: file.to_owned(), what }
}

fn create(file: &Path) -> Result<BufWriter<File>, EvaluateError> {
    File::create(file).map(BufWriter::new).map_err(|error| wrong(file, error.to_string()))
}

fn write(open: &mut BufWriter<File>, one: &Recorded) -> std::io::Result<()> {
    serde_json::to_writer(&mut *open, one)?;
    open.write_all(b"\n")?;
    open.flush()
}

/// The transfers of one laboratory.
fn batch(
    conditions: &[Condition],
    parallel: usize,
    seen: &mut dyn FnMut(),
) -> Result<(Vec<Recorded>, LatenessReport), EvaluateError> {
    let lane = |one: &Condition| LaneSettings {
        line: one.line.clone(),
        profile: one.profile.clone(),
        seed: one.seed,
    };
    let lanes = conditions.iter().map(lane).collect();
    let lab = Lab::start(LabSettings { lanes, ..LabSettings::default() })?;
    let server = lab.servers[0];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut read = runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(parallel));
        let mut running = JoinSet::new();
        let mut done = Vec::new();
        for (index, one) in conditions.iter().enumerate() {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let facts = one.facts;
            let client = client_addresses(index as u16).0;
            running.spawn(async move {
                let _permit = permit;
                (index, transfer::read(client, server, &facts).await)
            });
            tokio::time::sleep(BETWEEN_STARTS).await;
            while let Some(one) = running.try_join_next() {
                seen();
                done.extend(one.ok());
            }
        }
        while let Some(one) = running.join_next().await {
            seen();
            done.extend(one.ok());
        }
        done
    });
    drop(runtime);
    let report = lab.finish()?;
    read.sort_by_key(|(index, _)| *index);
    let recorded = read.into_iter().map(|(index, read)| {
        let counters = &report.lanes[index];
        Recorded {
            facts: conditions[index].facts,
            dropped: counters.lost + counters.middlebox.dropped,
            handshake_s: read.handshake_s,
            points: read.points,
        }
    });
    Ok((recorded.collect(), report.lateness))
}
