//! Durations as seconds in every serialised form: `#[serde(with = "seconds")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a duration as a number of seconds.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Reads a duration from a number of seconds; negative, infinite and NaN are errors.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(f64::deserialize(deserializer)?)
}

pub(super) fn parse<E: Error>(seconds: f64) -> Result<Duration, E> {
    // Through nanoseconds, rounded: `from_secs_f64` alone truncates, and 0.005 would come back as 4.999999 ms.
    let rounded = (seconds * 1e9).round() / 1e9;
    Duration::try_from_secs_f64(rounded)
        .map_err(|_| E::custom(format!("{seconds} is not a duration in seconds")))
}

/// The same for durations that may be unknown (`null`).
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// Writes seconds or `null`.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads seconds or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?.map(super::parse).transpose()
    }
}
