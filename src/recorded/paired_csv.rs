//! Paired CSV: one row is one subject and one control exchange taken together, goodputs in bits per second.
//!
//! Columns are named by the header, in any order, and more are ignored; an empty goodput is unknown. A row that cannot
//! be read is counted, its line named, and the rest is read on.

use std::{collections::BTreeMap, io::Read};

use csv::ByteRecord;
use jiff::Timestamp;

use super::rows::Rows;
use crate::model::PairedRow;

/// The columns without which nothing can be judged.
pub const REQUIRED: [&str; 5] = ["time", "vantage", "target", "subject_bps", "control_bps"];

/// The columns that may be absent.
const CANARY: &str = "canary_bps";
const OPERATOR: &str = "operator";

/// So many malformed rows are named; all are counted.
pub const NAMED_MAX: usize = 20;

/// Why a file cannot be read as paired CSV at all.
#[derive(Debug, thiserror::Error)]
pub enum PairedCsvError {
    /// A column is missing from the header.
    #[error(
        "the header has no column `{0}`; paired CSV needs time, vantage, target, subject_bps and control_bps"
    )]
    NoColumn(&'static str),
    /// Two columns have one name.
    #[error("the header has two columns `{0}`; remove or rename one")]
    TwoColumns(&'static str),
    /// The file cannot be read.
    #[error("cannot be read as CSV")]
    Csv(#[from] csv::Error),
}

/// What a file held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairedCsv {
    /// The rows, in the order of the file.
    pub rows: Vec<PairedRow>,
    /// Who runs the network of a vantage; of several names the first by alphabet.
    pub operators: BTreeMap<String, String>,
    /// Rows that could not be read.
    pub malformed: u64,
    /// The first of them.
    pub named: Vec<MalformedRow>,
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedRow {
    /// Its line in the file, the header being line 1.
    pub line: u64,
    /// Why, in words.
    pub reason: String,
}

/// Whether a header line is one of paired CSV: it names the time and both goodputs.
pub fn is_header(line: &str) -> bool {
    let names: Vec<&str> =
        line.trim_start_matches('\u{feff}').split(',').map(|name| name.trim().trim_matches('"')).collect();
    ["time", "subject_bps", "control_bps"]
        .iter()
        .all(|wanted| names.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
}

/// Reads a whole file.
pub fn read(input: impl Read) -> Result<PairedCsv, PairedCsvError> {
    let mut rows = Rows::of(input);
    let columns = Columns::find(rows.header()?)?;
    let mut found = PairedCsv::default();
    while let Some((line, record)) = rows.next()? {
        match columns.row(record) {
            Ok(row) => {
                if let Some(operator) = columns.operator(record) {
                    let known =
                        found.operators.entry(row.vantage.clone()).or_insert_with(|| operator.clone());
                    if operator < *known {
                        *known = operator;
                    }
                }
                found.rows.push(row);
            }
            Err(reason) => {
                found.malformed += 1;
                if found.named.len() < NAMED_MAX {
                    found.named.push(MalformedRow { line, reason });
                }
            }
        }
    }
    Ok(found)
}

/// Where each column stands.
struct Columns {
    time: usize,
    vantage: usize,
    target: usize,
    subject: usize,
    control: usize,
    canary: Option<usize>,
    operator: Option<usize>,
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, PairedCsvError> {
        let position = |wanted: &'static str| {
            let mut places = header.iter().enumerate().filter(|(_, name)| {
                name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name).eq_ignore_ascii_case(wanted.as_bytes())
            });
            match (places.next(), places.next()) {
                (_, Some(_)) => Err(PairedCsvError::TwoColumns(wanted)),
                (place, None) => Ok(place.map(|(index, _)| index)),
            }
        };
        let required = |wanted| position(wanted)?.ok_or(PairedCsvError::NoColumn(wanted));
        Ok(Self {
            time: required(REQUIRED[0])?,
            vantage: required(REQUIRED[1])?,
            target: required(REQUIRED[2])?,
            subject: required(REQUIRED[3])?,
            control: required(REQUIRED[4])?,
            canary: position(CANARY)?,
            operator: position(OPERATOR)?,
        })
    }

    /// A name that is not UTF-8 is no name.
    fn operator(&self, record: &ByteRecord) -> Option<String> {
        let name = field(record, self.operator?, OPERATOR).ok()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn row(&self, record: &ByteRecord) -> Result<PairedRow, String> {
        let time = field(record, self.time, REQUIRED[0])?;
        let name = |index, column: &str| match field(record, index, column)? {
            "" => Err(format!("`{column}` is empty")),
            name => Ok(name.to_owned()),
        };
        Ok(PairedRow {
            at: time
                .parse::<Timestamp>()
                .map_err(|_| format!("`{time}` is not a time such as 2021-03-13T00:00:00Z"))?,
            vantage: name(self.vantage, REQUIRED[1])?,
            target: name(self.target, REQUIRED[2])?,
            subject: goodput(record, self.subject, REQUIRED[3])?,
            control: goodput(record, self.control, REQUIRED[4])?,
            canary: self.canary.map_or(Ok(None), |index| goodput(record, index, CANARY))?,
        })
    }
}

fn field<'a>(record: &'a ByteRecord, index: usize, column: &str) -> Result<&'a str, String> {
    let bytes = record.get(index).ok_or_else(|| format!("the row ends before `{column}`"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("`{column}` is not UTF-8"))
}

/// Bits per second into bytes per second; empty is unknown.
fn goodput(record: &ByteRecord, index: usize, column: &str) -> Result<Option<f64>, String> {
    let text = field(record, index, column)?;
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(bits) if bits.is_finite() && bits >= 0.0 => Ok(Some(bits / 8.0)),
        _ => Err(format!("`{column}` is `{text}`, which is not a number of bits per second")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_columns_in_any_order_and_names_bad_rows() {
        let text = "\u{feff}control_bps,extra,time,Vantage,target,subject_bps\n\
            8000,x,2021-03-13T03:00:00+03:00,AS1,a,80\n\
            8000,x,yesterday,AS1,a,80\n\
            ,x,2021-03-13T00:05:00Z,AS1,a,\n\
            -1,x,2021-03-13T00:05:00Z,AS1,a,80\n\
            8000,x,2021-03-13T00:05:00Z,,a,80\n\
            8000,x\n";
        let found = read(text.as_bytes()).unwrap();
        assert_eq!(found.rows.len(), 2);
        assert_eq!(found.rows[0].at, "2021-03-13T00:00:00Z".parse().unwrap());
        assert_eq!((found.rows[0].subject, found.rows[0].control), (Some(10.0), Some(1000.0)));
        assert_eq!((found.rows[1].subject, found.rows[1].control), (None, None));
        assert_eq!(found.malformed, 4);
        assert_eq!(found.named.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 5, 6, 7]);
        assert!(found.named[3].reason.contains("ends before"), "{}", found.named[3].reason);
    }

    #[test]
    fn lines_are_counted_whatever_they_end_with() {
        let text = "time,vantage,target,subject_bps,control_bps\n2021-03-13T00:00:00Z,AS1,x,1,2\n\n\
            yesterday,AS1,\"x\ny\",1,2\ntoday,AS1,x,1,2";
        for text in [text.to_owned(), text.replace('\n', "\r\n"), text.to_owned() + "\n\n"] {
            let found = read(text.as_bytes()).unwrap();
            assert_eq!(found.rows.len(), 1, "{text:?}");
            assert_eq!(found.named.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 6], "{text:?}");
        }
    }

    #[test]
    fn says_which_column_is_missing() {
        let error = read("time,vantage,target,subject_bps\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("no column `control_bps`"), "{error}");
        let error = read("time,time,vantage,target,subject_bps,control_bps\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("two columns `time`"), "{error}");
    }

    #[test]
    fn knows_its_header() {
        assert!(is_header("time,vantage,country,operator,network,target,subject_bps,control_bps,canary_bps"));
        assert!(!is_header("trace_id,t_ms,bytes"));
    }
}
