//! The rows of a CSV file, each with the line at which it begins.

use std::io::{Chain, Read};

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator, Trim};

/// Reads rows of any length, their fields trimmed. Lines end as on Unix or on Windows, empty ones are passed over.
pub(super) struct Rows<R> {
    reader: Reader<Chain<R, &'static [u8]>>,
    record: ByteRecord,
}

impl<R: Read> Rows<R> {
    pub(super) fn of(input: R) -> Self {
        // With one character as the end of a line, and one at the end of the file, the reader's count after a row is exact:
        // its position of a row is behind where `\r\n` or empty lines come before. Trimming takes the `\r` away.
        let input = input.chain(&b"\n"[..]);
        let mut builder = ReaderBuilder::new();
        builder.flexible(true).trim(Trim::All).terminator(Terminator::Any(b'\n'));
        Self { reader: builder.from_reader(input), record: ByteRecord::new() }
    }

    pub(super) fn header(&mut self) -> csv::Result<&ByteRecord> {
        self.reader.byte_headers()
    }

    /// The next row and its line, the file's first line being line 1.
    pub(super) fn next(&mut self) -> csv::Result<Option<(u64, &ByteRecord)>> {
        loop {
            if !self.reader.read_byte_record(&mut self.record)? {
                return Ok(None);
            }
            if self.record.len() > 1 || self.record.iter().any(|field| !field.is_empty()) {
                break;
            }
        }
        let lines = self.record.as_slice().split(|&byte| byte == b'\n').count() as u64;
        Ok(Some((self.reader.position().line().saturating_sub(lines), &self.record)))
    }
}
