//! The story: normal, onset, verdict and incident, lift, normal again. Each stage begins when the one before is seen.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time};

use super::{SLOWED, Throttle};
use crate::model::{Snapshot, TargetStatus, Verdict};

/// The throttle sets in when the name has been normal for so long, and is lifted so long after it was found.
const NORMAL_FOR: Duration = Duration::from_secs(10);
const FOUND_FOR: Duration = Duration::from_secs(20);

/// The story goes on where a stage is not seen within this: a machine may be too busy to judge anything.
const STAGE_MAX: Duration = Duration::from_mins(2);

/// A stage of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The page is there.
    Page(SocketAddr),
    /// Everything is normal.
    Normal,
    /// The emulated throttler was switched on.
    Onset,
    /// The daemon found it.
    Found(Verdict),
    /// The emulated throttler was switched off.
    Lift,
    /// The daemon found that as well.
    Over,
    /// A stage was not seen in time.
    Missed,
}

/// Tells it to its end.
pub(super) async fn tell(
    throttle: &Throttle,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    tell: &mut impl FnMut(&Stage),
) {
    let normal = |verdict| (verdict == Verdict::Normal).then_some(Stage::Normal);
    let found = |verdict: Verdict| verdict.accuses().then_some(Stage::Found(verdict));
    let over = |verdict: Verdict| (!verdict.accuses()).then_some(Stage::Over);
    tell(&wait(&mut snapshots, normal).await);
    time::sleep(NORMAL_FOR).await;
    throttle.set(true);
    tell(&Stage::Onset);
    let was_found = wait(&mut snapshots, found).await;
    tell(&was_found);
    time::sleep(FOUND_FOR).await;
    throttle.set(false);
    tell(&Stage::Lift);
    // What was never found cannot be seen to end.
    if was_found != Stage::Missed {
        tell(&wait(&mut snapshots, over).await);
    }
}

/// Waits until the verdict on the slowed name makes a stage.
async fn wait(
    snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    stage: impl Fn(Verdict) -> Option<Stage>,
) -> Stage {
    let seen = |snapshot: &Snapshot| {
        let is_it = |target: &&TargetStatus| target.id.as_str().ends_with(SLOWED);
        snapshot.targets.iter().find(is_it).and_then(|target| stage(target.verdict?))
    };
    let watched = time::timeout(STAGE_MAX, snapshots.wait_for(|snapshot| seen(snapshot).is_some())).await;
    match watched {
        Ok(Ok(snapshot)) => seen(&snapshot).unwrap_or(Stage::Missed),
        _ => Stage::Missed,
    }
}
