//! One side of a comparison: what is asked of whom under which name.

use std::{net::SocketAddr, time::Duration};

use url::Url;

use crate::{
    clock,
    model::{Exchange, Failure, FailureDetail, FailureKind, Phase, Role, TargetId, TransferCurve},
    probe::{Budgets, Label, Plan, Prober, exchange_id},
};

use super::Shape;

/// Redirects that are followed for one object.
const REDIRECTS_MAX: usize = 5;

/// Body bytes of an exchange that is all about its handshake: they come with the first window.
const LOOK_BYTES: u64 = 1024;

/// One side of a comparison. Its address is pinned by the first exchange of a round, its URL by the first redirects.
#[derive(Debug, Clone)]
pub struct Leg {
    /// The target it stands for.
    pub id: TargetId,
    /// Subject, control or canary.
    pub role: Role,
    /// What is asked for.
    pub url: Url,
    /// The name to show instead of the URL's host.
    pub name: Option<String>,
    /// The `Host` header instead of the URL's host.
    pub host_header: Option<String>,
    /// The address that the round has pinned.
    pub address: Option<SocketAddr>,
    /// Check the certificate.
    pub check_certificate: bool,
}

/// The place of an exchange in its round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) round: u32,
    pub(super) pair: u32,
    pub(super) position: u32,
}

impl Leg {
    /// A leg that asks a target for what its URL says.
    pub fn new(id: TargetId, role: Role, url: Url) -> Self {
        Self { id, role, url, name: None, host_header: None, address: None, check_certificate: true }
    }

    fn plan(&self, shape: &Shape, budgets: Budgets, place: Place, warmup: bool) -> Plan {
        Plan {
            label: Label {
                id: exchange_id(),
                round: place.round,
                pair: place.pair,
                position: place.position,
                role: self.role,
                warmup,
                fallback: false,
            },
            url: self.url.clone(),
            name: self.name.clone(),
            host_header: self.host_header.clone(),
            address: self.address,
            bytes: shape.bytes,
            budgets,
            hello: shape.hello,
            http: shape.http,
            check_certificate: self.check_certificate,
        }
    }

    /// One exchange of its own, outside of any round.
    pub async fn alone(&self, prober: &Prober, shape: &Shape, timeout: Duration) -> Exchange {
        let place = Place { round: 0, pair: 0, position: 0 };
        self.exchange(prober, shape, place, Some(timeout), &mut |_, _| false).await
    }

    /// A small exchange at `address`, which is ended after `patience` without failure: slow is slow. Not compared with
    /// others.
    pub(super) async fn look(
        &self,
        prober: &Prober,
        shape: &Shape,
        place: Place,
        address: SocketAddr,
        patience: Duration,
    ) -> Exchange {
        let plan = Plan {
            address: Some(address),
            bytes: shape.bytes.min(LOOK_BYTES),
            ..self.plan(shape, shape.budgets_within(Some(patience)), place, true)
        };
        let mut exchange = Box::pin(prober.exchange(&plan, clock::now())).await;
        let ended_by_us = |failure: &Failure| failure.detail == Some(FailureDetail::WholeExchange);
        if exchange.failure.as_ref().is_some_and(ended_by_us) {
            exchange.failure = None;
        }
        exchange
    }

    /// One exchange at an address of an independent resolver. The name it shows is its own, checked as ever.
    pub(super) async fn elsewhere(
        &self,
        prober: &Prober,
        shape: &Shape,
        place: Place,
        address: SocketAddr,
        remaining: Option<Duration>,
    ) -> Exchange {
        let mut plan = self.plan(shape, shape.budgets_within(remaining), place, true);
        plan.label.position += 1;
        plan.label.fallback = true;
        plan.address = Some(address);
        Box::pin(prober.exchange(&plan, clock::now())).await
    }

    /// One exchange on the pinned address; `stop` is asked while it transfers.
    pub(super) async fn exchange(
        &self,
        prober: &Prober,
        shape: &Shape,
        place: Place,
        remaining: Option<Duration>,
        stop: &mut (dyn FnMut(&TransferCurve, Duration) -> bool + Send),
    ) -> Exchange {
        let plan = self.plan(shape, shape.budgets_within(remaining), place, false);
        // Boxed: the future of an exchange is some 16 KB, and every caller up to the engine would hold it.
        Box::pin(prober.exchange_until(&plan, clock::now(), stop)).await
    }

    /// The first exchanges of a round with this leg: looks the name up, follows redirects, tries the other address
    /// family when the first does not connect, and pins what was found. All of them are returned, the last one being
    /// the object's own. `warmup` marks them as the first with the object.
    pub(super) async fn open(
        &mut self,
        prober: &Prober,
        shape: &Shape,
        place: Place,
        remaining: Option<Duration>,
        warmup: bool,
    ) -> Vec<Exchange> {
        let mut taken: Vec<Exchange> = Vec::new();
        for hop in 0..=REDIRECTS_MAX {
            let plan = self.plan(shape, shape.budgets_within(remaining), place, warmup);
            let exchange = self.with_fallback(prober, plan, &mut taken).await;
            self.address = exchange.address;
            let next = exchange.redirect.as_deref().and_then(|location| self.url.join(location).ok());
            taken.push(exchange);
            let Some(next) = next.filter(|_| taken.last().is_some_and(|last| last.failure.is_none())) else {
                break;
            };
            let seen = next == self.url || taken.iter().any(|earlier| visited(earlier, &next));
            if seen || hop == REDIRECTS_MAX || !matches!(next.scheme(), "http" | "https") {
                if let Some(last) = taken.last_mut() {
                    last.failure = Some(Failure {
                        phase: Phase::Processing,
                        kind: FailureKind::RedirectLoop,
                        detail: None,
                    });
                }
                break;
            }
            self.address = None;
            self.url = next;
        }
        taken
    }

    /// One exchange; when it cannot connect, a second over the other address family. Where that one works, the failed
    /// one is marked as fallback and kept in `taken`.
    async fn with_fallback(&mut self, prober: &Prober, plan: Plan, taken: &mut Vec<Exchange>) -> Exchange {
        let first = Box::pin(prober.exchange(&plan, clock::now())).await;
        let unreachable = first.failure.as_ref().is_some_and(|failure| failure.phase == Phase::Connect);
        let Some(address) = first.address.filter(|_| unreachable && plan.address.is_none()) else {
            return first;
        };
        let lookup = prober.resolve(&self.url).await;
        let Some(other) = lookup.addresses.iter().find(|found| found.is_ipv4() != address.is_ipv4()) else {
            return first;
        };
        let mut second = plan;
        second.label.id = exchange_id();
        second.address = Some(*other);
        let mut second = Box::pin(prober.exchange(&second, clock::now())).await;
        let works = second.failure.as_ref().is_none_or(|failure| failure.phase != Phase::Connect);
        let mut first = first;
        if works {
            first.fallback = true;
            taken.push(first);
            return second;
        }
        second.fallback = true;
        taken.push(second);
        first
    }
}

/// Whether an earlier hop already asked for `url`.
fn visited(exchange: &Exchange, url: &Url) -> bool {
    let asked = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    url.host_str() == Some(exchange.host_header.split(':').next().unwrap_or_default())
        && exchange.path == asked
        && exchange.hello.is_some() == (url.scheme() == "https")
}
