//! Whether endpoints answer from here today, with how many bytes, and what to use instead.
//!
//! Not a measurement: one request each, a few at a time, everything bounded. Where an endpoint fails or gives too little to
//! be asked for bulk, the platform's own page is read, and the largest file that it links is proposed.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Response, header, redirect};
use serde::Serialize;
use url::Url;

use super::{assets, is_bulk};
use crate::{
    clock,
    config::Config,
    model::{EndpointKind, Exchange, HelloKind, Phase, Role, Target},
    probe::{Budgets, ConnectTo, HttpChoice, Label, Options, Plan, Prober},
};

/// Time that one request may take, body and all.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Requests under way at once: this is courtesy, not a race.
const PARALLEL: usize = 4;

/// Body bytes of a page that are read for its links.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Files larger than this are not proposed: they are downloads that somebody pays for.
const PROPOSED_MAX: u64 = 16 * 1024 * 1024;

/// An object under this is asked for again and again in one bulk exchange; a larger one is worth proposing.
const BULK_OBJECT_MIN: u64 = 64 * 1024;

const REDIRECTS_MAX: usize = 5;

/// What an endpoint answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    /// With a status below 400.
    answers: bool,
    status: Option<u16>,
    /// Size of the object, as far as it is known.
    bytes: Option<u64>,
    /// The object may be larger than that: reading stopped.
    at_least: bool,
    /// Where it redirected to, without query.
    redirected_to: Option<String>,
    /// Why there was no answer, and in which phase, by the names of measurements.
    failure: Option<String>,
    phase: Option<Phase>,
    /// What to use instead.
    proposal: Option<Proposal>,
}

/// A file that the platform's own page links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Proposal {
    url: String,
    bytes: u64,
}

impl Answer {
    fn of(exchange: &Exchange, wanted: u64, redirected_to: Option<String>) -> Self {
        let object = exchange.requests.first().map(|request| request.bytes).filter(|bytes| *bytes > 0);
        let failure = exchange.failure.as_ref();
        Self {
            answers: failure.is_none() && exchange.status.is_some(),
            status: exchange.status,
            bytes: object,
            at_least: object.is_some_and(|bytes| bytes >= wanted),
            redirected_to,
            failure: failure.map(|failure| failure.kind.name().to_owned()),
            phase: failure.map(|failure| failure.phase),
            proposal: None,
        }
    }

    /// For the table.
    pub(super) fn words(&self, wanted: u64) -> String {
        let size = |bytes: u64| bytesize::ByteSize(bytes).display().si().to_string();
        let mut words = match (&self.failure, self.status, self.bytes) {
            (Some(_), Some(status), _) if status >= 400 => format!("HTTP status {status}"),
            (Some(failure), _, _) => {
                let phase = self.phase.map(|phase| format!(" in {}", phase.name())).unwrap_or_default();
                format!("no answer: {failure}{phase}")
            }
            (None, _, Some(bytes)) if self.at_least => format!("answers, {} or more", size(bytes)),
            (None, _, Some(bytes)) if bytes < wanted => {
                format!("answers, {}, asked for again until {} have come", size(bytes), size(wanted))
            }
            (None, _, Some(bytes)) => format!("answers, {}", size(bytes)),
            (None, _, None) => "answers".to_owned(),
        };
        if let Some(proposal) = &self.proposal {
            let _ = write!(words, "; larger: {} ({})", proposal.url, size(proposal.bytes));
        }
        words
    }
}

/// Asks all `targets`; the answers are in their order.
pub(super) async fn check(config: &Config, targets: &[&Target]) -> anyhow::Result<Vec<Answer>> {
    let options = Options {
        ca_file: config.ca_file.clone(),
        connect_to: targets.iter().filter_map(|target| connect_to(target)).collect(),
        ..Options::default()
    };
    let prober = Prober::new(options)?;
    let client = client(config, &prober)?;
    let mut answers: Vec<Answer> =
        stream::iter(targets.iter().map(|target| ask(&prober, target))).buffered(PARALLEL).collect().await;
    let mut links: BTreeMap<String, Vec<Proposal>> = BTreeMap::new();
    for (target, answer) in targets.iter().zip(&mut answers) {
        let Some(platform) = target.id.platform().filter(|_| target.role == Role::Subject) else { continue };
        if !needs_proposal(target, answer) {
            continue;
        }
        if !links.contains_key(platform) {
            links.insert(platform.to_owned(), files_of(config, platform, &client).await);
        }
        let larger =
            |file: &&Proposal| file.bytes > answer.bytes.unwrap_or(0) && file.url != target.url.as_str();
        answer.proposal = links[platform].iter().find(larger).cloned();
    }
    Ok(answers)
}

fn needs_proposal(target: &Target, answer: &Answer) -> bool {
    let too_small = !answer.at_least && answer.bytes.is_none_or(|bytes| bytes < BULK_OBJECT_MIN);
    is_bulk(target) && (!answer.answers || too_small)
}

/// Where a target's host is to be found instead.
fn connect_to(target: &Target) -> Option<ConnectTo> {
    let (host, port) = target.connect_to.as_ref()?.rsplit_once(':')?;
    Some(ConnectTo {
        from_host: target.url.host_str().map(str::to_owned),
        from_port: target.url.port_or_known_default(),
        to_host: Some(host.trim_start_matches('[').trim_end_matches(']').to_owned()),
        to_port: port.parse().ok(),
    })
}

/// For pages and sizes of files, which are no measurement.
fn client(config: &Config, prober: &Prober) -> anyhow::Result<Client> {
    // The line is what is asked about, not a proxy beyond it.
    let mut builder = Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(prober.tls_config())
        .redirect(redirect::Policy::limited(REDIRECTS_MAX))
        .timeout(TIMEOUT);
    for configured in &config.targets {
        let Some(connect_to) = &configured.target.connect_to else { continue };
        let host = configured.target.url.host_str().unwrap_or_default();
        let address = std::net::ToSocketAddrs::to_socket_addrs(connect_to.as_str())
            .ok()
            .and_then(|mut addresses| addresses.next())
            .with_context(|| {
                format!("{}: connect_to {connect_to}: no address was found", configured.target.id)
            })?;
        builder = builder.resolve(host, address);
    }
    Ok(builder.build()?)
}

/// One request, and one for each redirect.
async fn ask(prober: &Prober, target: &Target) -> Answer {
    let mut url = target.url.clone();
    let mut redirected_to = None;
    for _ in 0..=REDIRECTS_MAX {
        let plan = plan(target, url.clone());
        let exchange = prober.exchange(&plan, clock::now()).await;
        let next = exchange.redirect.as_ref().and_then(|redirect| url.join(redirect).ok());
        match next.filter(|next| matches!(next.scheme(), "http" | "https")) {
            Some(next) => url = next,
            None => return Answer::of(&exchange, plan.bytes, redirected_to),
        }
        redirected_to = Some(url.to_string());
    }
    Answer { failure: Some("redirect_loop".to_owned()), redirected_to, ..Answer::default() }
}

fn plan(target: &Target, url: Url) -> Plan {
    Plan {
        label: Label { warmup: true, ..Label::lone(target.role) },
        url,
        name: None,
        host_header: None,
        address: None,
        // Enough of a body to know that it is enough.
        bytes: target.bytes.max(BULK_OBJECT_MIN),
        budgets: Budgets { whole: Some(TIMEOUT), ..Budgets::default() },
        hello: HelloKind::Small,
        http: HttpChoice::Http1,
        check_certificate: target.check_certificate,
    }
}

/// The whole object's size, as the server states it.
fn announced(response: &Response) -> Option<u64> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let of_range = text(header::CONTENT_RANGE).and_then(|range: &str| range.rsplit_once('/')?.1.parse().ok());
    of_range.or_else(|| text(header::CONTENT_LENGTH)?.parse().ok())
}

/// Reads up to `most` bytes, and whether that was all.
async fn read(mut response: Response, most: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() >= most {
            body.truncate(most);
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// The files that the platform's pages link, largest first.
async fn files_of(config: &Config, platform: &str, client: &Client) -> Vec<Proposal> {
    let targets = config.targets.iter().map(|configured| &configured.target);
    let pages = targets
        .filter(|target| target.id.platform() == Some(platform) && target.kind == EndpointKind::Page)
        .map(|target| target.url.clone());
    let mut links: Vec<Url> = Vec::new();
    for page in pages {
        let Ok(response) = client.get(page).send().await else { continue };
        let base = response.url().clone();
        let Ok((body, _)) = read(response, PAGE_BYTES_MAX).await else { continue };
        let is_own = |host: &str| match config.catalog.platform(platform) {
            Some(platform) => platform.owns(host),
            None => base.host_str() == Some(host),
        };
        links.extend(assets::linked(&base, &String::from_utf8_lossy(&body), is_own));
        if !links.is_empty() {
            break;
        }
    }
    let size = |url: Url| {
        let client = client.clone();
        async move { Some(Proposal { bytes: size(&client, &url).await?, url: url.into() }) }
    };
    let mut files: Vec<Proposal> = stream::iter(links.into_iter().map(size))
        .buffered(PARALLEL)
        .filter_map(std::future::ready)
        .collect()
        .await;
    files.retain(|file| (BULK_OBJECT_MIN..=PROPOSED_MAX).contains(&file.bytes));
    files.sort_by_key(|file| std::cmp::Reverse(file.bytes));
    files
}

/// The size of a file, by `HEAD`, else by asking for its first byte.
async fn size(client: &Client, url: &Url) -> Option<u64> {
    let head = client.head(url.clone()).header(header::ACCEPT_ENCODING, "identity").send().await;
    if let Some(bytes) =
        head.ok().filter(|response| response.status().is_success()).and_then(|head| announced(&head))
    {
        return Some(bytes);
    }
    let request = client
        .get(url.clone())
        .header(header::RANGE, "bytes=0-0")
        .header(header::ACCEPT_ENCODING, "identity");
    let response = request.send().await.ok().filter(|response| response.status().is_success())?;
    announced(&response)
}
