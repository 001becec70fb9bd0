//! Curve CSV: `trace_id,t_ms,bytes`, cumulative bytes over milliseconds, many traces in one file, in any order of traces.

use std::{collections::HashMap, io::Read, time::Duration};

use csv::ByteRecord;

use crate::model::CurvePoint;

use super::{Malformed, RecordedCurve, rows::Rows};

/// The columns; more are ignored, any order will do.
pub const COLUMNS: [&str; 3] = ["trace_id", "t_ms", "bytes"];

/// A time beyond this (a year) is a mistake, not a transfer.
const MILLISECONDS_MAX: f64 = 365.0 * 86_400_000.0;

/// Why a file cannot be read as curve CSV at all.
#[derive(Debug, thiserror::Error)]
pub enum CurveCsvError {
    /// A column is missing from the header.
    #[error("the header has no column `{0}`; curve CSV needs trace_id, t_ms and bytes")]
    NoColumn(&'static str),
    /// The file cannot be read.
    #[error("cannot be read as CSV")]
    Csv(#[from] csv::Error),
}

/// Whether a header line is one of curve CSV.
pub fn is_header(line: &str) -> bool {
    let names: Vec<&str> =
        line.trim_start_matches('\u{feff}').split(',').map(|name| name.trim().trim_matches('"')).collect();
    COLUMNS.iter().all(|wanted| names.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
}

/// Reads a whole file: the curves in the order of their first rows.
pub fn read(input: impl Read) -> Result<(Vec<RecordedCurve>, Malformed), CurveCsvError> {
    let mut rows = Rows::of(input);
    let header = rows.header()?;
    let place = |wanted: &'static str| {
        header
            .iter()
            .position(|name| {
                name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name).eq_ignore_ascii_case(wanted.as_bytes())
            })
            .ok_or(CurveCsvError::NoColumn(wanted))
    };
    let places = [place(COLUMNS[0])?, place(COLUMNS[1])?, place(COLUMNS[2])?];
    let mut curves: Vec<RecordedCurve> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    let mut malformed = Malformed::default();
    while let Some((line, record)) = rows.next()? {
        let row = parse(record, places).and_then(|(id, point)| {
            // Rows of one trace mostly follow one another.
            let index = match curves.last() {
                Some(last) if last.id == id => curves.len() - 1,
                _ => *by_id.entry(id.to_owned()).or_insert_with(|| {
                    curves.push(RecordedCurve { id: id.to_owned(), ..RecordedCurve::default() });
                    curves.len() - 1
                }),
            };
            push(&mut curves[index].points, point)
        });
        if let Err(reason) = row {
            malformed.add(line, reason);
        }
    }
    curves.retain(|curve| !curve.points.is_empty());
    Ok((curves, malformed))
}

fn parse(record: &ByteRecord, places: [usize; 3]) -> Result<(&str, CurvePoint), String> {
    let text = |index: usize| -> Result<&str, String> {
        let bytes =
            record.get(places[index]).ok_or_else(|| format!("the row ends before `{}`", COLUMNS[index]))?;
        std::str::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8", COLUMNS[index]))
    };
    let id = text(0)?;
    if id.is_empty() {
        return Err("`trace_id` is empty".to_owned());
    }
    let milliseconds = text(1)?;
    let at = milliseconds
        .parse::<f64>()
        .ok()
        .filter(|value| (0.0..MILLISECONDS_MAX).contains(value))
        .ok_or_else(|| format!("`{milliseconds}` is not a time in milliseconds"))?;
    let bytes = text(2)?;
    let bytes = bytes
        .parse::<u64>()
        .map_err(|_| format!("`{bytes}` is not a number of bytes (cumulative, whole)"))?;
    Ok((id, CurvePoint { at: Duration::from_nanos((at * 1e6).round() as u64), bytes }))
}

/// Adds a point. A repeated count is no news; a step back is a mistake.
fn push(points: &mut Vec<CurvePoint>, point: CurvePoint) -> Result<(), String> {
    match points.last_mut() {
        Some(last) if point.at < last.at => Err("time steps back within the trace".to_owned()),
        Some(last) if point.bytes < last.bytes => Err("bytes step back within the trace".to_owned()),
        Some(last) if point.bytes == last.bytes => Ok(()),
        Some(last) if point.at == last.at => {
            last.bytes = point.bytes;
            Ok(())
        }
        None if point.bytes == 0 => Ok(()),
        _ => {
            points.push(point);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_malformed_rows_and_reads_the_rest() {
        let text = "bytes,extra,trace_id,t_ms\n1448,,a,100\n2896,,b,100\nx,,a,110\n4344,,a,120\n100,,a,130\n\
                    2896,,,5\n5000,,b,90\n7240,,b,1e400\n5792,,b,140.5\n";
        let (curves, malformed) = read(text.as_bytes()).unwrap();
        let counts: Vec<Vec<u64>> =
            curves.iter().map(|curve| curve.points.iter().map(|point| point.bytes).collect()).collect();
        assert_eq!(counts, [vec![1448, 4344], vec![2896, 5792]]);
        assert_eq!(curves[1].points[1].at, Duration::from_micros(140_500));
        assert_eq!(malformed.count, 5);
        let lines: Vec<u64> = malformed.named.iter().map(|row| row.line).collect();
        assert_eq!(lines, [4, 6, 7, 8, 9]);
        assert_eq!(read(text.replace('\n', "\r\n").as_bytes()).unwrap(), (curves, malformed));
    }

    #[test]
    fn a_missing_column_is_one_clear_sentence() {
        let error = read("trace_id,bytes\na,1\n".as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the header has no column `t_ms`; curve CSV needs trace_id, t_ms and bytes"
        );
    }
}
