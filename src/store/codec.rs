//! A round as bytes: its JSON without curves, then the curves as differences, deflated.
//!
//! Rounds say nearly the same, so that what is written is the difference from a round as they usually are
//! (`usual.txt`), a quarter of what deflate alone makes of it. Times of curve points are kept to the microsecond.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use flate2::{
    Compress, Compression, Decompress,
    read::{DeflateDecoder, ZlibDecoder},
    write::ZlibEncoder,
};
use serde::{Deserialize, Serialize};

use crate::model::{
    CURVE_POINTS_MAX, Comparison, Exchange, Finding, MEASUREMENT_SCHEMA, Measurement, TargetId,
    TransferCurve, Vantage,
};

/// The first byte: how the rest is to be read.
const FORM: u8 = 2;

/// The form of schema version 1, which is still read: the JSON deflated by itself, the curves beside it.
const FORM_OF_VERSION_1: u8 = 1;

/// A round as they usually are. It is part of the form: another one would need another form.
static USUAL: &[u8] = include_bytes!("usual.txt");

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
    let mut plain = serde_json::to_vec(record)?;
    let mut out = vec![FORM];
    put(&mut out, plain.len() as u64);
    for curve in &curves {
        put_curve(&mut plain, curve);
    }
    deflate(out, &plain).map_err(serde_json::Error::io)
}

/// Appends these bytes to `out`, as what they differ from the usual. Raw deflate: the page of the database has no use for
/// a checksum of its own.
fn deflate(out: Vec<u8>, plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::default(), false);
    compress.set_dictionary(USUAL)?;
    let mut deflated = ZlibEncoder::new_with_compress(out, compress);
    deflated.write_all(plain)?;
    deflated.finish()
}

/// All times first, then all bytes: each of the two resembles itself.
fn put_curve(out: &mut Vec<u8>, curve: &TransferCurve) {
    put(out, curve.points().len() as u64);
    let mut before = 0;
    for point in curve.points() {
        let now = point.at.as_micros() as u64;
        put(out, now - before);
        before = now;
    }
    let mut before = 0;
    for point in curve.points() {
        put(out, point.bytes - before);
        before = point.bytes;
    }
}

/// The record of such bytes; `None` where they are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let (&form, mut rest) = bytes.split_first()?;
    let length = usize::try_from(take(&mut rest)?).ok()?;
    match form {
        FORM => {
            let plain = inflate(rest)?;
            let (text, mut curves) = plain.split_at_checked(length)?;
            read(text, &mut curves, take_curve)
        }
        FORM_OF_VERSION_1 => {
            let (deflated, mut curves) = rest.split_at_checked(length)?;
            let mut text = Vec::new();
            DeflateDecoder::new(deflated).take(INFLATED_MAX).read_to_end(&mut text).ok()?;
            read(&text, &mut curves, take_curve_of_version_1)
        }
        _ => None,
    }
}

fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decompress = Decompress::new(false);
    decompress.set_dictionary(USUAL).ok()?;
    let mut plain = Vec::new();
    ZlibDecoder::new_with_decompress(bytes, decompress).take(INFLATED_MAX).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// The JSON, with each exchange's curve put back.
fn read(text: &[u8], curves: &mut &[u8], curve: fn(&mut &[u8]) -> Option<TransferCurve>) -> Option<Record> {
    let mut record: Record = serde_json::from_slice(text).ok()?;
    for exchange in &mut record.exchanges {
        exchange.curve = curve(curves)?;
    }
    Some(record)
}

fn take_curve(bytes: &mut &[u8]) -> Option<TransferCurve> {
    let count = take_count(bytes)?;
    let mut at = 0_u64;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        at = at.checked_add(take(bytes)?)?;
        times.push(Duration::from_micros(at));
    }
    let mut received = 0_u64;
    let mut curve = TransferCurve::default();
    for time in times {
        received = received.checked_add(take(bytes)?)?;
        curve.push(time, received);
    }
    Some(curve)
}

/// Time and bytes of each point in turn.
fn take_curve_of_version_1(bytes: &mut &[u8]) -> Option<TransferCurve> {
    let (mut at, mut received) = (0_u64, 0_u64);
    let mut curve = TransferCurve::default();
    for _ in 0..take_count(bytes)? {
        at = at.checked_add(take(bytes)?)?;
        received = received.checked_add(take(bytes)?)?;
        curve.push(Duration::from_micros(at), received);
    }
    Some(curve)
}

fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(take(bytes)?).ok().filter(|count| *count <= CURVE_POINTS_MAX)
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
