//! Tells people of incidents: a JSON document to a webhook, an alert to an Alertmanager.
//!
//! A message is made once, and says to whom it goes; sending it is one request, which either arrived, or is worth another
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

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receiver {
    /// A JSON document is posted there.
    Webhook(Url),
    /// The base address of an Alertmanager.
    Alertmanager(Url),
}

impl fmt::Display for Receiver {
    /// Kind and host: the rest of the address may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, url) = match self {
            Self::Webhook(url) => ("webhook", url),
            Self::Alertmanager(url) => ("alertmanager", url),
        };
        write!(f, "{kind} at {}", url.host_str().unwrap_or_default())
    }
}

/// Something to tell one receiver, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// To whom.
    pub receiver: Receiver,
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
        let (Receiver::Webhook(url) | Receiver::Alertmanager(url)) = &self.receiver;
        format!("{} {} {url}", self.incident.id, self.change.name())
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

    /// Sends one message. `now` is when an alert is to be believed.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), SendError> {
        let request = match &message.receiver {
            Receiver::Webhook(url) => {
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
            Receiver::Alertmanager(url) => {
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
