//! Which kind of recording a file is, told by its content; gzip is unpacked on the way.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::{curve_csv, paired_csv};

/// What a recording holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A packet capture, pcap or pcapng.
    Capture,
    /// Our own measurements, one JSON document a line.
    Ndjson,
    /// Paired tests.
    PairedCsv,
    /// Transfer curves.
    CurveCsv,
    /// A document of ours in which all is judged already, by the kind in its schema.
    Judged(&'static str),
    /// Nothing at all.
    Empty,
}

/// A recording, opened and unpacked.
pub type Recording = Box<dyn BufRead + Send>;

/// Bytes that are looked at to tell a format: a CSV header is shorter.
const HEAD: usize = 64 * 1024;

/// Opens a file and tells its format; `None` where it is none of ours.
pub fn open(path: &Path) -> io::Result<(Option<Format>, Recording)> {
    let mut file = BufReader::with_capacity(HEAD, File::open(path)?);
    let packed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut recording: Recording = if packed {
        Box::new(BufReader::with_capacity(HEAD, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    let mut head = Vec::with_capacity(HEAD);
    recording.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let format = of(&head);
    Ok((format, Box::new(BufReader::with_capacity(HEAD, io::Cursor::new(head).chain(recording)))))
}

/// Tells the format by the first bytes.
fn of(head: &[u8]) -> Option<Format> {
    const CAPTURES: [[u8; 4]; 7] = [
        [0x0a, 0x0d, 0x0d, 0x0a], // pcapng
        [0xd4, 0xc3, 0xb2, 0xa1], // pcap, microseconds, little endian
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0x4d, 0x3c, 0xb2, 0xa1], // nanoseconds
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x34, 0xcd, 0xb2, 0xa1], // modified
        [0xa1, 0xb2, 0xcd, 0x34],
    ];
    if CAPTURES.iter().any(|magic| head.starts_with(magic)) {
        return Some(Format::Capture);
    }
    let text = String::from_utf8_lossy(head);
    let Some(line) = text.trim_start_matches('\u{feff}').lines().find(|line| !line.trim().is_empty()) else {
        return Some(Format::Empty);
    };
    if line.trim_start().starts_with('{') {
        Some(judged(&text).map_or(Format::Ndjson, Format::Judged))
    } else if paired_csv::is_header(line) {
        Some(Format::PairedCsv)
    } else if curve_csv::is_header(line) {
        Some(Format::CurveCsv)
    } else {
        None
    }
}

/// Which of our documents this is, where it is one that judges.
fn judged(text: &str) -> Option<&'static str> {
    let (_, after) = text.split_once("\"schema\"")?;
    let schema = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix("\"throttlescope/")?;
    ["report", "analysis"].into_iter().find(|kind| schema.starts_with(&format!("{kind}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_formats_by_their_content() {
        assert_eq!(of(&[0x0a, 0x0d, 0x0d, 0x0a, 1]), Some(Format::Capture));
        assert_eq!(of(b"\n{\"schema\":\"x\"}\n"), Some(Format::Ndjson));
        assert_eq!(of(b"{\"schema\":\"throttlescope/measurement/1\"}\n"), Some(Format::Ndjson));
        assert_eq!(of(b"{\n  \"schema\": \"throttlescope/report/1\",\n"), Some(Format::Judged("report")));
        assert_eq!(of(b"t_ms,bytes,trace_id\n"), Some(Format::CurveCsv));
        assert_eq!(of(b"time,vantage,target,subject_bps,control_bps\n"), Some(Format::PairedCsv));
        assert_eq!(of(b" \n"), Some(Format::Empty));
        assert_eq!(of(b"hello\n"), None);
        assert_eq!(of(&[0xff, 0xfe, 0x00]), None);
    }
}
