//! Moments that turn out to lie in the future: the clock was ahead when they were noted, and has been set back.

use jiff::Timestamp;

use crate::model::{DetectorState, Incident};

/// Moves every remembered moment that is later than `now` to now: what is remembered came before. Their order stays, and
/// nothing that is found later can carry a date that is still to come.
pub(super) fn bring_back(state: &mut DetectorState, now: Timestamp) {
    let back = |moment: &mut Timestamp| *moment = now.min(*moment);
    if let Some(open) = &mut state.open {
        back(&mut open.from);
        back(&mut open.until);
    }
    for test in &mut state.recent {
        back(&mut test.from);
        back(&mut test.until);
    }
    state.first_at.iter_mut().for_each(back);
    state.last_at.iter_mut().for_each(back);
    state.incident.iter_mut().for_each(|open| bring_incident_back(&mut open.incident, now));
    state.closed.iter_mut().for_each(|incident| bring_incident_back(incident, now));
}

/// The same for one incident.
pub fn bring_incident_back(incident: &mut Incident, now: Timestamp) {
    let back = |moment: &mut Timestamp| *moment = now.min(*moment);
    back(&mut incident.onset);
    incident.onset_interval.iter_mut().for_each(back);
    back(&mut incident.alarm);
    incident.end.iter_mut().for_each(back);
    incident.end_interval.iter_mut().flatten().for_each(back);
}
