//! Our own export: one measurement a line.

use std::io::{self, BufRead};

use crate::model::{MEASUREMENT_SCHEMA, Measurement};

use super::Malformed;

/// A line longer than this is no measurement (a full curve is about 20 kB).
const LINE_MAX: u64 = 4 * 1024 * 1024;

/// Reads a whole file.
pub fn read(mut input: impl BufRead) -> io::Result<(Vec<Measurement>, Malformed)> {
    let mut measurements = Vec::new();
    let mut malformed = Malformed::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if io::Read::take(&mut input, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Measurement>(&line) {
            Ok(measurement) if measurement.schema == MEASUREMENT_SCHEMA => measurements.push(measurement),
            Ok(measurement) => {
                malformed.add(number, format!("schema `{}` is not {MEASUREMENT_SCHEMA}", measurement.schema));
            }
            Err(error) => malformed.add(number, format!("not a measurement: {error}")),
        }
    }
    Ok((measurements, malformed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lines_that_are_no_measurements() {
        let (measurements, malformed) = read("{}\n\n{\"schema\":1}\nnonsense\n".as_bytes()).unwrap();
        assert!(measurements.is_empty());
        assert_eq!(malformed.named.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
