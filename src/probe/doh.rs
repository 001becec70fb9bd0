//! A second opinion on where a host is: an independent resolver asked over HTTPS (RFC 8484). Only where one is configured.

use std::{net::IpAddr, time::Duration};

use http::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, redirect};
use url::Url;

use super::SetupError;
use crate::{model::Family, wire::dns};

/// Time for one question, the connection included: as much as the system's resolver has.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read; a message of DNS is no longer.
const ANSWER_BYTES_MAX: usize = 65_535;

const MESSAGE: &str = "application/dns-message";

/// The independent resolver.
pub(super) struct Doh {
    url: Url,
    client: Client,
}

impl Doh {
    pub(super) fn new(url: Url, mut tls: rustls::ClientConfig) -> Result<Self, SetupError> {
        // RFC 8484 wants HTTP/2; some resolvers speak nothing else.
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| SetupError::Tls { reason: error.to_string() })?;
        Ok(Self { url, client })
    }

    /// The host's addresses; empty where the resolver does not answer, or knows none.
    pub(super) async fn look_up(&self, host: &str, family: Option<Family>) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for asked in [Family::Ipv4, Family::Ipv6] {
            if family.is_none_or(|family| family == asked) {
                found.extend(self.ask(host, asked).await.unwrap_or_default());
            }
        }
        found
    }

    async fn ask(&self, host: &str, family: Family) -> Option<Vec<IpAddr>> {
        let question = dns::ask(host, family)?;
        let request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, MESSAGE).header(ACCEPT, MESSAGE);
        let mut answer = request.body(question).send().await.ok()?.error_for_status().ok()?;
        let mut message = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            message.extend_from_slice(&chunk);
            if message.len() > ANSWER_BYTES_MAX {
                return None;
            }
        }
        dns::addresses(&message)
    }
}
