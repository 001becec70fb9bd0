//! An incident as an alert of Alertmanager's API v2.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use url::Url;

use super::Message;
use crate::model::IncidentChange;

/// Alertmanager takes an alert for over when it has not heard of it until then. It is refreshed much more often, so that
/// a restart of ours resolves nothing.
const BELIEVED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The same as that of the Prometheus rule of this name (`dashboards/prometheus/alerts.yml`).
const SEVERITY: &str = "critical";

/// Where alerts are posted, whatever path it is served under.
pub(super) fn address(base: &Url) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    url.set_path(&format!("{path}/api/v2/alerts"));
    url
}

/// The alert. Its labels are the same from onset to end: Alertmanager knows it by them.
pub(super) fn alert(message: &Message, now: Timestamp) -> Value {
    let record = &message.incident;
    let incident = &record.incident;
    let mut labels = Map::new();
    let mut label = |name: &str, value: String| labels.insert(name.to_owned(), Value::String(value));
    label("alertname", "ThrottlescopeIncident".to_owned());
    label("target", record.target.to_string());
    label("platform", record.target.platform().unwrap_or(record.target.as_str()).to_owned());
    label("verdict", incident.verdict.name().to_owned());
    label("comparison", record.comparison.name().to_owned());
    label("severity", SEVERITY.to_owned());
    if let Some(country) = &message.vantage.country {
        label("country", country.clone());
    }
    if let Some(asn) = message.vantage.asn {
        label("asn", asn.to_string());
    }
    let end = match message.change {
        IncidentChange::Began => now.checked_add(BELIEVED_FOR).unwrap_or(now),
        // Not in the future, or it would go on until then.
        IncidentChange::Ended => incident.end.unwrap_or(now).min(now),
    };
    json!({
        "labels": labels,
        "annotations": {
            "summary": record.summary,
            "incident": record.id,
            "mechanism": record.mechanism.map_or("unknown", crate::model::Mechanism::name),
            "repeat": record.repeat,
        },
        "startsAt": incident.onset.min(end),
        "endsAt": end,
    })
}
