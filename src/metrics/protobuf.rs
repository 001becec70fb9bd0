//! The delimited protobuf exposition, the only one that carries native histograms to Prometheus.
//!
//! The `prometheus` crate's own protobuf form stops at classic buckets, so that this writes the few messages of
//! `io.prometheus.client` (`client_model`, `metrics.proto`) by hand. Field numbers are from there.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::{collect::Collected, histogram::Native};

/// Smallest positive value that is not counted as zero: `client_golang`'s default, 2^-128.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Appends one `MetricFamily`, preceded by its length.
pub(super) fn write_family(collected: &Collected, out: &mut Vec<u8>) {
    let family = &collected.family;
    let mut message = Vec::new();
    text(1, family.name(), &mut message);
    text(2, family.help(), &mut message);
    integer(3, type_number(family), &mut message);
    for (index, metric) in family.get_metric().iter().enumerate() {
        nested(
            4,
            &metric_message(metric, family.get_field_type(), collected.natives.get(index)),
            &mut message,
        );
    }
    varint(message.len() as u64, out);
    out.extend_from_slice(&message);
}

fn type_number(family: &MetricFamily) -> u64 {
    match family.get_field_type() {
        MetricType::COUNTER => 0,
        MetricType::GAUGE => 1,
        MetricType::SUMMARY => 2,
        MetricType::UNTYPED => 3,
        MetricType::HISTOGRAM => 4,
    }
}

fn metric_message(metric: &Metric, kind: MetricType, native: Option<&Native>) -> Vec<u8> {
    let mut message = Vec::new();
    for pair in metric.get_label() {
        let mut label = Vec::new();
        text(1, pair.name(), &mut label);
        text(2, pair.value(), &mut label);
        nested(1, &label, &mut message);
    }
    let mut value = Vec::new();
    match kind {
        MetricType::COUNTER => {
            double(1, metric.get_counter().get_value(), &mut value);
            nested(3, &value, &mut message);
        }
        MetricType::HISTOGRAM => nested(7, &histogram_message(metric, native), &mut message),
        _ => {
            double(1, metric.get_gauge().get_value(), &mut value);
            nested(2, &value, &mut message);
        }
    }
    message
}

fn histogram_message(metric: &Metric, native: Option<&Native>) -> Vec<u8> {
    let histogram = metric.get_histogram();
    let mut message = Vec::new();
    integer(1, histogram.get_sample_count(), &mut message);
    double(2, histogram.get_sample_sum(), &mut message);
    for classic in histogram.get_bucket() {
        let mut bucket = Vec::new();
        integer(1, classic.cumulative_count(), &mut bucket);
        double(2, classic.upper_bound(), &mut bucket);
        nested(3, &bucket, &mut message);
    }
    if let Some(native) = native {
        native_fields(native, &mut message);
    }
    message
}

/// Populated buckets as spans (gap since the last span, length) and the difference of each count to the one before.
fn native_fields(native: &Native, message: &mut Vec<u8>) {
    integer(5, zigzag(native.schema.into()), message);
    double(6, ZERO_THRESHOLD, message);
    integer(7, native.zero, message);
    let mut spans: Vec<(i64, u64)> = Vec::new();
    let mut deltas = Vec::new();
    let (mut next, mut before) = (0_i64, 0_i64);
    for &(index, count) in &native.buckets {
        let (index, count) = (i64::from(index), count.cast_signed());
        match spans.last_mut() {
            Some(span) if index == next => span.1 += 1,
            _ => spans.push((index - next, 1)),
        }
        varint(zigzag(count - before), &mut deltas);
        (next, before) = (index + 1, count);
    }
    for (offset, length) in spans {
        let mut span = Vec::new();
        integer(1, zigzag(offset), &mut span);
        integer(2, length, &mut span);
        nested(12, &span, message);
    }
    if !deltas.is_empty() {
        nested(13, &deltas, message);
    }
}

/// The unsigned form of `sint32` and `sint64`: small magnitudes become small numbers.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn integer(field: u64, value: u64, out: &mut Vec<u8>) {
    varint(field << 3, out);
    varint(value, out);
}

fn double(field: u64, value: f64, out: &mut Vec<u8>) {
    varint(field << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn nested(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn text(field: u64, value: &str, out: &mut Vec<u8>) {
    nested(field, value.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_protocol_says() {
        // Examples of the protobuf encoding guide.
        let mut out = Vec::new();
        varint(150, &mut out);
        assert_eq!(out, [0x96, 0x01]);
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
        let mut out = Vec::new();
        text(2, "testing", &mut out);
        assert_eq!(out, b"\x12\x07testing");
    }

    #[test]
    fn spans_skip_gaps_and_deltas_run_on() {
        let native = Native { schema: 3, zero: 2, buckets: vec![(-2, 5), (-1, 3), (4, 4)] };
        let mut out = Vec::new();
        native_fields(&native, &mut out);
        let mut expected = Vec::new();
        integer(5, 6, &mut expected);
        double(6, ZERO_THRESHOLD, &mut expected);
        integer(7, 2, &mut expected);
        nested(12, &[0x08, 3, 0x10, 2], &mut expected); // offset -2, length 2
        nested(12, &[0x08, 8, 0x10, 1], &mut expected); // four empty buckets, length 1
        nested(13, &[10, 3, 2], &mut expected); // 5, -2, +1
        assert_eq!(out, expected);
    }
}
