//! The web configuration in use: read again whenever the file or what it names changes, so that certificates and
//! passwords rotate without a restart. A new one that is wrong is said once and the old one stays.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    WebError,
    settings::{RateLimit, WebConfig},
};
use crate::clock;

/// Modification time and size of each file; `None` where it cannot be seen.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// The configuration and its bucket of requests.
#[derive(Debug)]
pub(super) struct Live {
    path: Option<PathBuf>,
    current: Mutex<(Fingerprint, Arc<WebConfig>)>,
    bucket: Mutex<Option<Bucket>>,
}

/// How many requests may come now.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    limit: RateLimit,
    /// Time worth of requests that is saved up, at most `burst` intervals.
    saved: Duration,
    at: Instant,
}

impl Live {
    /// Reads the file, if any.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, WebError> {
        let config = match path {
            Some(path) => WebConfig::load(path)?,
            None => WebConfig::plain(),
        };
        Ok(Self {
            path: path.map(Path::to_owned),
            current: Mutex::new((fingerprint(&config.files), Arc::new(config))),
            bucket: Mutex::new(None),
        })
    }

    /// The configuration as it stands now.
    pub(super) fn current(&self) -> Arc<WebConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else { return Arc::clone(&current.1) };
        let seen = fingerprint(&current.1.files);
        if seen != current.0 {
            match WebConfig::load(path) {
                Ok(config) => *current = (fingerprint(&config.files), Arc::new(config)),
                Err(error) => {
                    tracing::error!(%error, "the changed web configuration is not used; the old one stays");
                    current.0 = seen;
                }
            }
        }
        Arc::clone(&current.1)
    }

    /// Takes one request out of the rate limit; false when there is none left.
    pub(super) fn take(&self, limit: Option<RateLimit>) -> bool {
        let Some(limit) = limit else { return true };
        let now = clock::now();
        let full = limit.interval * limit.burst;
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let before = bucket.filter(|bucket| bucket.limit == limit);
        let saved = before.map_or(full, |bucket| full.min(bucket.saved + (now - bucket.at)));
        let left = saved.checked_sub(limit.interval);
        *bucket = Some(Bucket { limit, saved: left.unwrap_or(saved), at: now });
        left.is_some()
    }
}

fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let look = |path: &PathBuf| {
        let seen = std::fs::metadata(path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        (path.clone(), seen)
    };
    files.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_request_each_interval() {
        let live = Live::load(None).unwrap();
        let limit = Some(RateLimit { interval: Duration::from_secs(1), burst: 2 });
        assert_eq!([0; 3].map(|_| live.take(limit)), [true, true, false]);
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!([0; 2].map(|_| live.take(limit)), [true, false]);
        assert!(live.take(None));
    }
}
