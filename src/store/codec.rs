//! A round as bytes: its JSON without curves, deflated, then the curves as differences.
//!
//! Exchanges of one round say nearly the same, so that together they compress to about a tenth of their JSON. Times of
//! curve points are kept to the microsecond.

use std::{io::Read as _, time::Duration};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde::{Deserialize, Serialize};

use crate::model::{
    CURVE_POINTS_MAX, Comparison, Exchange, Finding, MEASUREMENT_SCHEMA, Measurement, TargetId,
    TransferCurve, Vantage,
};

/// The first byte: how the rest is to be read.
const FORM: u8 = 1;

/// No record inflates to more: a round has at most some thirty exchanges of a few kilobytes.
const INFLATED_MAX: u64 = 4 * 1024 * 1024;

/// All of a round that is not in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) vantage: Vantage,
    pub(super) subject: TargetId,
    pub(super) control: Option<TargetId>,
    pub(super) comparison: Comparison,
    pub(super) closer: bool,
    pub(super) finding: Option<Finding>,
    pub(super) repeat: String,
    pub(super) exchanges: Vec<Exchange>,
}

impl Record {
    /// One of its exchanges with its context.
    pub(super) fn measurement(&self, place: usize) -> Option<Measurement> {
        Some(Measurement {
            schema: MEASUREMENT_SCHEMA.to_owned(),
            vantage: self.vantage.clone(),
            subject: self.subject.clone(),
            control: self.control.clone(),
            comparison: self.comparison,
            exchange: self.exchanges.get(place)?.clone(),
        })
    }
}

/// The record as bytes. The curves of `record` are taken out.
pub(super) fn encode(record: &mut Record) -> serde_json::Result<Vec<u8>> {
    let curves: Vec<TransferCurve> =
        record.exchanges.iter_mut().map(|exchange| std::mem::take(&mut exchange.curve)).collect();
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut deflated, record)?;
    let deflated = deflated.finish().map_err(serde_json::Error::io)?;
    let mut out = vec![FORM];
    put(&mut out, deflated.len() as u64);
    out.extend_from_slice(&deflated);
    for curve in &curves {
        put(&mut out, curve.points().len() as u64);
        let (mut at, mut bytes) = (0, 0);
        for point in curve.points() {
            let now = point.at.as_micros() as u64;
            put(&mut out, now - at);
            put(&mut out, point.bytes - bytes);
            (at, bytes) = (now, point.bytes);
        }
    }
    Ok(out)
}

/// The record of such bytes; `None` where they are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let (&form, mut rest) = bytes.split_first()?;
    let length = usize::try_from(take(&mut rest)?).ok()?;
    if form != FORM || length > rest.len() {
        return None;
    }
    let (deflated, mut rest) = rest.split_at(length);
    let mut text = Vec::new();
    DeflateDecoder::new(deflated).take(INFLATED_MAX).read_to_end(&mut text).ok()?;
    let mut record: Record = serde_json::from_slice(&text).ok()?;
    for exchange in &mut record.exchanges {
        let count = usize::try_from(take(&mut rest)?).ok().filter(|count| *count <= CURVE_POINTS_MAX)?;
        let (mut at, mut bytes) = (0_u64, 0_u64);
        for _ in 0..count {
            at = at.checked_add(take(&mut rest)?)?;
            bytes = bytes.checked_add(take(&mut rest)?)?;
            exchange.curve.push(Duration::from_micros(at), bytes);
        }
    }
    Some(record)
}

/// A number in seven bits a byte, the lowest first (LEB128).
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
