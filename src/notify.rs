//! Tells people of incidents: a JSON document to a webhook, an alert to an Alertmanager.
//!
//! A message is made once, and names its receiver; sending it is one request, which either arrived, or is worth another
//! attempt, or is not. Who repeats it, and remembers what was sent, is the engine.

mod alertmanager;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, StatusCode, redirect};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::model::{IncidentChange, IncidentRecord, Vantage};

/// The version of the document that webhooks get.
pub const NOTIFICATION_SCHEMA: &str = "throttlescope/notification/1";

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JSON document is posted to its address.
    Webhook,
    /// An Alertmanager; its address is the base of its API.
    Alertmanager,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    name: String,
    kind: Kind,
    url: Url,
}

impl Receiver {
    /// Receivers in the order of the configuration. Each is named by its kind and host, and by its place among those that
    /// share both: the rest of its address may be a secret, which is neither stored nor shown.
    pub fn all<'a>(configured: impl IntoIterator<Item = (Kind, &'a Url)>) -> Vec<Self> {
        let mut receivers: Vec<Self> = Vec::new();
        for (kind, url) in configured {
            let what = match kind {
                Kind::Webhook => "webhook",
                Kind::Alertmanager => "alertmanager",
            };
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let first = format!("{what} at {}{port}", url.host_str().unwrap_or_default());
            let same = receivers.iter().filter(|known| known.name.split(" #").next() == Some(&first)).count();
            let name = if same == 0 { first } else { format!("{first} #{}", same + 1) };
            receivers.push(Self { name, kind, url: url.clone() });
        }
        receivers
    }

    /// Unique among the receivers, without secrets, and the same after a restart.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it understands.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Something to tell one receiver, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// To whom: a receiver's name.
    pub receiver: String,
    /// What happened.
    pub change: IncidentChange,
    /// The incident as it was then.
    pub incident: IncidentRecord,
    /// Where the probe stands.
    pub vantage: Vantage,
    /// When the message was made.
    pub at: Timestamp,
}

impl Message {
    /// Unique among all messages: the incident, what happened to it, and the receiver.
    pub fn id(&self) -> String {
        format!("{} {} {}", self.incident.id, self.change.name(), self.receiver)
    }
}

/// What a webhook gets.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: &'static str,
    change: IncidentChange,
    at: Timestamp,
    vantage: &'a Vantage,
    incident: &'a IncidentRecord,
}

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SendError {
    /// One sentence.
    pub problem: String,
    /// It may arrive later: the receiver was not reached, or was busy.
    pub again: bool,
    /// So long the receiver asked to be left alone.
    pub after: Option<Duration>,
}

/// Sends messages.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
}

impl Sender {
    /// A sender that trusts what `tls` trusts: the one configuration that measuring uses.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, SendError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TIMEOUT)
            // Where it is told to go elsewhere the address is wrong; following would tell others.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("throttlescope/", env!("CARGO_PKG_VERSION")))
            .build();
        let client =
            client.map_err(|error| SendError { problem: describe(&error), again: false, after: None })?;
        Ok(Self { client })
    }

    /// Sends one message to its receiver. `now` is when an alert is to be believed.
    pub async fn send(
        &self,
        message: &Message,
        receiver: &Receiver,
        now: Timestamp,
    ) -> Result<(), SendError> {
        let url = &receiver.url;
        let request = match receiver.kind {
            Kind::Webhook => {
                // Where a receiver sees a message twice (we ended between its answer and our note), it can tell.
                self.client.post(url.clone()).header("idempotency-key", key(&message.id())).json(&Document {
                    schema: NOTIFICATION_SCHEMA,
                    version: env!("CARGO_PKG_VERSION"),
                    change: message.change,
                    at: message.at,
                    vantage: &message.vantage,
                    incident: &message.incident,
                })
            }
            Kind::Alertmanager => {
                let alerts = [alertmanager::alert(message, now)];
                self.client.post(alertmanager::address(url)).json(&alerts)
            }
        };
        let response = request.send().await.map_err(|error| {
            let problem = describe(&error);
            SendError { problem, again: true, after: None }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let again = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(SendError { problem: format!("it answered {status}"), again, after: retry_after(&response) })
    }
}

/// The seconds of a `Retry-After`; dates are as good as none, our clocks may differ.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?;
    Some(Duration::from_secs(value.to_str().ok()?.trim().parse().ok()?))
}

/// A header value: letters that are none are left out.
fn key(id: &str) -> String {
    id.chars().filter(char::is_ascii_graphic).collect()
}

/// An error without the address, which may hold a secret.
fn describe(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the request failed"
    };
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    last.map_or_else(|| kind.to_owned(), |last| format!("{kind}: {last}"))
}
