//! The JSON report: `throttlescope/report/1`, whose schema is `docs/schema/report-1.json`.

use serde::Serialize;

use crate::model::{
    BlockedAt, Comparison, Evidence, Exchange, Judgement, Mechanism, TargetId, Vantage, Verdict,
};

use super::{Report, words};

/// The version of the document.
pub const REPORT_SCHEMA: &str = "throttlescope/report/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'a str,
    version: &'a str,
    started_at: jiff::Timestamp,
    duration_s: f64,
    vantage: &'a Vantage,
    results: Vec<ResultEntry<'a>>,
}

#[derive(Serialize)]
struct ResultEntry<'a> {
    subject: &'a TargetId,
    control: Option<&'a TargetId>,
    comparison: Comparison,
    verdict: Verdict,
    mechanism: Option<Mechanism>,
    blocked_at: Option<BlockedAt>,
    evidence: &'a Evidence,
    summary: String,
    caveats: Vec<String>,
    repeat: &'a str,
    exchanges: &'a [Exchange],
}

impl<'a> From<&'a Judgement> for ResultEntry<'a> {
    fn from(judgement: &'a Judgement) -> Self {
        let finding = &judgement.finding;
        Self {
            subject: &judgement.subject,
            control: judgement.control.as_ref(),
            comparison: judgement.comparison,
            verdict: finding.verdict,
            mechanism: finding.mechanism,
            blocked_at: finding.blocked_at,
            evidence: &finding.evidence,
            summary: words::summary(judgement),
            caveats: finding.caveats.iter().map(words::caveat).collect(),
            repeat: &judgement.repeat,
            exchanges: &judgement.exchanges,
        }
    }
}

/// The document, with a newline at its end.
pub fn render(report: &Report) -> Result<Vec<u8>, serde_json::Error> {
    let document = Document {
        schema: REPORT_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        started_at: report.started_at,
        duration_s: report.duration.as_secs_f64(),
        vantage: &report.vantage,
        results: report.judgements.iter().map(ResultEntry::from).collect(),
    };
    let mut text = serde_json::to_vec(&document)?;
    text.push(b'\n');
    Ok(text)
}
