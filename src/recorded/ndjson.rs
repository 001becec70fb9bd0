//! Our own export: one measurement a line.

use std::io::{self, BufRead, Read};

use crate::model::{MEASUREMENT_SCHEMA, Measurement};

use super::Malformed;

/// A line longer than this is no measurement (a full curve is about 20 kB).
const LINE_MAX: u64 = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a whole file; `each` is given each measurement, in the order of the file. Its error ends the reading.
pub fn read(
    mut input: impl BufRead,
    mut each: impl FnMut(Measurement) -> io::Result<()>,
) -> io::Result<Malformed> {
    let mut malformed = Malformed::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if Read::take(&mut input, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        // Editors put a byte order mark before the first.
        let text = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1).unwrap_or(&line);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Measurement>(text) {
            Ok(measurement) if measurement.schema == MEASUREMENT_SCHEMA => each(measurement)?,
            Ok(measurement) => {
                malformed.add(number, format!("schema `{}` is not {MEASUREMENT_SCHEMA}", measurement.schema));
            }
            Err(error) => malformed.add(number, format!("not a measurement: {error}")),
        }
    }
    Ok(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lines_that_are_no_measurements() {
        let none = |_| unreachable!("none is a measurement");
        let malformed = read("{}\n\n{\"schema\":1}\nnonsense\n".as_bytes(), none).unwrap();
        assert_eq!(malformed.named.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
