//! Looking for an `sni` leg: the subject's name on the control's server.
//!
//! The subject's name is sent to the control's address; inner `Host` and request are the control's, the certificate is
//! not checked. That is usable where the server answers every name alike. Three cheap exchanges tell: the control's own
//! name, a name nobody owns, and the subject's. If a stranger's name gets the control's very body, then a subject's name
//! that fares differently fares so because of the name, on the way.

use std::time::Duration;

use rand::{RngExt as _, rngs::ChaCha8Rng};

use crate::{
    model::{Exchange, Role},
    probe::Prober,
};

use super::{Leg, Shape, leg::Place};

/// The two legs of an `sni` comparison.
#[derive(Debug, Clone)]
pub struct SniLegs {
    /// The subject's name on the control's server.
    pub subject: Leg,
    /// The control's name on it.
    pub control: Leg,
}

/// Looks for an `sni` leg; `None` where the control's server does not answer strangers alike, or plain HTTP is spoken.
/// All exchanges are cheap; `seen` is told each.
pub async fn find_sni_legs(
    prober: &Prober,
    subject: &Leg,
    control: &Leg,
    shape: &Shape,
    remaining: Option<Duration>,
    rng: &mut ChaCha8Rng,
    seen: &mut (dyn FnMut(&Exchange) + Send),
) -> Option<SniLegs> {
    let subject_name = subject.url.domain().filter(|_| subject.url.scheme() == "https")?.to_owned();
    if control.url.scheme() != "https" || control.url.domain() == Some(subject_name.as_str()) {
        return None;
    }
    let mut control = control.clone();
    let shape = shape.cheap();
    let place = Place { round: 0, pair: 0, position: 0 };
    let opened = control.open(prober, &shape, place, remaining, true).await;
    opened.iter().for_each(&mut *seen);
    let own = opened.into_iter().next_back().filter(Exchange::is_complete)?;
    let mut stranger = control.clone();
    stranger.role = Role::Canary;
    stranger.name = Some(stranger_name(rng));
    stranger.check_certificate = false;
    let answer = stranger.exchange(prober, &shape, place, remaining, &mut |_, _| false).await;
    seen(&answer);
    if !answer.is_complete() || answer.body_sha256.is_none() || answer.body_sha256 != own.body_sha256 {
        return None;
    }
    let mut swapped = control.clone();
    swapped.id = subject.id.clone();
    swapped.role = Role::Subject;
    swapped.name = Some(subject_name);
    swapped.check_certificate = false;
    Some(SniLegs { subject: swapped, control })
}

/// A name nobody owns and no list holds: twelve random letters.
fn stranger_name(rng: &mut ChaCha8Rng) -> String {
    let letters: String = (0..12).map(|_| char::from(b'a' + rng.random_range(0..26_u8))).collect();
    format!("www.{letters}.com")
}
