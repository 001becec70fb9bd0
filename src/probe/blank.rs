//! The record of an exchange before anything has happened: what was planned, and nothing known.

use std::time::Duration;

use super::{Plan, route};
use crate::{
    clock,
    model::{Exchange, Family, Phase, Timeline, TransferCurve},
};

/// An exchange of which nothing is known yet.
pub(super) fn blank(plan: &Plan, family: Option<Family>) -> Exchange {
    let host = route::host(&plan.url);
    let url = &plan.url;
    Exchange {
        id: plan.label.id.clone(),
        round: plan.label.round,
        pair: plan.label.pair,
        position: plan.label.position,
        role: plan.label.role,
        started_at: clock::wall(),
        duration: Duration::ZERO,
        lateness: Duration::ZERO,
        name: plan.name.clone().unwrap_or(host),
        address: plan.address,
        local_address: None,
        announced: Vec::new(),
        family: plan.address.map(Family::from).or(family),
        pinned: false,
        fallback: plan.label.fallback,
        warmup: plan.label.warmup,
        host_header: plan
            .host_header
            .clone()
            .unwrap_or_else(|| url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()),
        path: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
        http_version: None,
        tls_version: None,
        hello: None,
        certificate_sha256: None,
        certificate_checked: true,
        phases: Timeline::default(),
        reached: Phase::Resolve,
        status: None,
        bytes: 0,
        body_sha256: None,
        redirect: None,
        headers: Vec::new(),
        requests: Vec::new(),
        failure: None,
        censored: false,
        tcp: None,
        curve: TransferCurve::default(),
    }
}
