//! The five phases in order, each with its clock and its budget, written into one [`Exchange`].

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{
    Inner, Plan, Stop,
    blank::blank,
    dial::Dialer,
    failure,
    http::{Answer, Talk},
    link::{self, EndTasks, Tasks, prepare},
    pace::{self, End, Pace},
    route::Route,
    tape::{Answering, Tape, Tapped},
    tcp_info,
    tls::Witness,
    watch::Watch,
};
use crate::{
    clock::{self, Instant},
    model::{Exchange, Failure, FailureKind, Family, Hello, Phase, TcpInfo, TcpStats},
    wire::ja4::ja4,
};

/// Most of a connection's segment that is taken for granted where the kernel does not tell (IPv6's least, RFC 8200).
const SEGMENT_BYTES: u32 = 1220;

/// One exchange under way.
pub(super) struct Run<'a> {
    inner: &'a Inner,
    plan: &'a Plan,
    exchange: Exchange,
    start: Instant,
    /// When the last phase ended.
    mark: Instant,
    /// When the whole must be over.
    whole: Option<Instant>,
    watch: Watch,
    tape: Tape,
    handle: Option<OwnedFd>,
    tcp: TcpStats,
    answer: Answer,
}

impl<'a> Run<'a> {
    pub(super) fn begin(inner: &'a Inner, plan: &'a Plan, due: Instant) -> Self {
        let start = clock::now();
        let mut exchange = blank(plan, inner.options.family);
        exchange.certificate_checked = plan.check_certificate && !inner.options.insecure;
        exchange.lateness = start.saturating_duration_since(due);
        Self {
            inner,
            plan,
            exchange,
            start,
            mark: start,
            whole: plan.budgets.whole.map(|whole| start + whole),
            watch: Watch::new(start),
            tape: Tape::default(),
            handle: None,
            tcp: TcpStats::default(),
            answer: Answer::default(),
        }
    }

    /// All phases. Whatever happens is in the exchange.
    pub(super) async fn go(mut self, stop: Option<Stop<'_>>) -> Exchange {
        let failure = self.phases(stop).await.err();
        self.finish(failure)
    }

    async fn phases(&mut self, stop: Option<Stop<'_>>) -> Result<(), Failure> {
        let address = self.resolve().await?;
        let stream = self.connect(address).await?;
        if self.plan.url.scheme() == "http" {
            self.exchange.phases.skip(Phase::Tls);
            return self.talk(stream, false, address.ip(), stop).await;
        }
        let check = self.exchange.certificate_checked;
        let (config, witness) = self.inner.tls.for_exchange(self.plan.hello, self.plan.http, check);
        let result = self.secure(stream, config).await;
        self.witness(&witness);
        let stream = result?;
        let connection = stream.get_ref().1;
        self.exchange.tls_version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => Some("1.3".to_owned()),
            Some(rustls::ProtocolVersion::TLSv1_2) => Some("1.2".to_owned()),
            _ => None,
        };
        let http2 = connection.alpn_protocol() == Some(b"h2");
        self.talk(stream, http2, address.ip(), stop).await
    }

    async fn resolve(&mut self) -> Result<SocketAddr, Failure> {
        let route = match self.plan.address {
            Some(address) => Err(address),
            None => Ok(Route::of(&self.plan.url, &self.inner.options)),
        };
        let address = match route {
            Err(address) => {
                self.skip_resolve();
                address
            }
            Ok(route) if route.addresses.is_some() => {
                self.skip_resolve();
                self.inner.known(&route)?
            }
            Ok(route) => {
                let deadline = self.deadline(self.plan.budgets.resolve);
                let found = self.watch.run(deadline, self.inner.names.look_up(&route.host)).await;
                self.record(Phase::Resolve);
                let found = found.unwrap_or_else(|| Err(self.timeout(Phase::Resolve)))?;
                let first = found.first().ok_or(failure::of(Phase::Resolve, FailureKind::NoAddress))?;
                SocketAddr::new(*first, route.port)
            }
        };
        self.exchange.address = Some(address);
        self.exchange.family = Some(Family::from(address));
        Ok(address)
    }

    fn skip_resolve(&mut self) {
        self.exchange.pinned = true;
        self.exchange.phases.skip(Phase::Resolve);
    }

    async fn connect(&mut self, address: SocketAddr) -> Result<Tapped, Failure> {
        self.exchange.reached = Phase::Connect;
        let deadline = self.deadline(self.plan.budgets.connect);
        let dialled = match Dialer::new(address, &self.inner.source) {
            Ok(mut dialer) => {
                self.handle = dialer.take_handle();
                self.watch.run(deadline, dialer.connect(address)).await
            }
            Err(failure) => Some(Err(failure)),
        };
        self.record(Phase::Connect);
        let stream = dialled.unwrap_or_else(|| Err(self.timeout(Phase::Connect)))?;
        self.exchange.local_address = stream.local_addr().ok().map(|local| local.ip());
        self.tcp.connect = self.tcp_info();
        Ok(Tapped::new(stream, self.tape.clone()))
    }

    async fn secure(
        &mut self,
        stream: Tapped,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<tokio_rustls::client::TlsStream<Tapped>, Failure> {
        self.exchange.reached = Phase::Tls;
        let deadline = self.deadline(self.plan.budgets.tls);
        let Ok(name) = ServerName::try_from(self.exchange.name.clone()) else {
            // A name that no ClientHello can carry: nothing was sent.
            self.record(Phase::Tls);
            return Err(failure::of(Phase::Tls, FailureKind::Local));
        };
        let connecting = TlsConnector::from(config).connect(name, stream);
        let handshake = self.watch.run(deadline, connecting).await;
        self.record(Phase::Tls);
        match handshake {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(self.handshake_failure(&error)),
            None if self.speaks_no_tls() => Err(failure::of(Phase::Tls, FailureKind::NotTls)),
            None => Err(self.timeout(Phase::Tls)),
        }
    }

    fn handshake_failure(&self, error: &std::io::Error) -> Failure {
        if self.speaks_no_tls() {
            return failure::of(Phase::Tls, FailureKind::NotTls);
        }
        // What TLS made of the peer's bytes comes before what the socket said of our answer to them.
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return failure::tls(Phase::Tls, tls);
        }
        let seen = self.tape.look();
        match seen.error {
            Some(kind) => failure::socket(Phase::Tls, kind),
            None if seen.ended => failure::of(Phase::Tls, FailureKind::Closed),
            None => failure::socket(Phase::Tls, error.kind()),
        }
    }

    /// The peer's first byte is no TLS record's type (RFC 8446, section 5.1).
    fn speaks_no_tls(&self) -> bool {
        self.tape.look().greeting.is_some_and(|byte| !(0x14..=0x17).contains(&byte))
    }

    fn witness(&mut self, witness: &Witness) {
        self.exchange.certificate_sha256 = witness.leaf_sha256().map(super::hex);
        let seen = self.tape.look();
        let segment = self.tcp.connect.and_then(|info| info.send_mss_bytes).unwrap_or(SEGMENT_BYTES);
        self.exchange.hello = ja4(&seen.hello).map(|ja4| {
            let bytes = seen.hello.len() as u32;
            Hello { bytes, segments: bytes.div_ceil(segment), ja4 }
        });
    }

    async fn talk<S>(
        &mut self,
        stream: S,
        http2: bool,
        server: IpAddr,
        stop: Option<Stop<'_>>,
    ) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.exchange.reached = Phase::Processing;
        let began = self.mark;
        let tasks = Tasks::default();
        let _end = EndTasks(tasks.clone());
        let stream = Answering::new(stream, self.tape.clone(), http2);
        let tape = self.tape.clone();
        let mut answer = Answer::default();
        let mut pace = Pace {
            tape: &tape,
            processing: began + self.plan.budgets.processing,
            plan: self.plan,
            whole: self.whole,
            stop,
            next_stop: pace::STOP_EVERY,
            handle: self.handle.as_ref(),
            during: None,
        };
        let end = {
            let talk = Talk {
                plan: self.plan,
                host_header: &self.exchange.host_header,
                tape: &tape,
                start: self.start,
                server,
                answer: &mut answer,
            };
            let mut work = pin!(async {
                match prepare(stream, http2, &tasks).await {
                    Ok((sender, connection)) => along(talk.run(sender), connection).await,
                    Err(_) => Err(failure::of(Phase::Processing, FailureKind::Closed)),
                }
            });
            let watch = &mut self.watch;
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(End::Done(result)),
                Poll::Pending => pace.poll(cx, watch),
            })
            .await
        };
        self.tcp.during = pace.during.or(self.tcp_info());
        self.answer = answer;
        self.close(began, end)
    }

    /// Draws the line between `processing` and `transfer` and ends the latter.
    fn close(&mut self, began: Instant, end: End) -> Result<(), Failure> {
        let now = clock::now();
        let tape = self.tape.clone();
        let seen = tape.look();
        let (result, stopped) = match end {
            End::Done(result) => (result, false),
            End::Stopped => (Ok(()), true),
        };
        self.exchange.censored = stopped;
        if (stopped || result.is_err())
            && let Some(request) = self.answer.requests.last_mut()
        {
            request.first_byte = seen.first.map(|at| at - self.start);
            request.end = now - self.start;
        }
        let whole = result.is_ok() && !stopped;
        let over = if whole { seen.last.unwrap_or(now) } else { now };
        match seen.began() {
            Some(first) => {
                self.exchange.phases.record(Phase::Processing, first.saturating_duration_since(began));
                self.exchange.phases.record(Phase::Transfer, over.saturating_duration_since(first));
                self.exchange.reached = Phase::Transfer;
            }
            None => self.exchange.phases.record(Phase::Processing, over.saturating_duration_since(began)),
        }
        result
    }

    fn finish(mut self, failure: Option<Failure>) -> Exchange {
        self.tcp.end = self.tcp_info();
        let seen = std::mem::take(&mut *self.tape.look());
        let body_sha256 = self.answer.body_sha256();
        let mut exchange = self.exchange;
        exchange.duration = exchange.phases.total();
        exchange.lateness = exchange.lateness.max(self.watch.lateness());
        exchange.censored |= failure.as_ref().is_some_and(|failure| failure.kind.is_censoring());
        exchange.failure = failure;
        exchange.status = self.answer.status;
        exchange.http_version = self.answer.version.map(str::to_owned);
        exchange.bytes = self.answer.bytes;
        exchange.body_sha256 = body_sha256;
        exchange.redirect = self.answer.redirect;
        exchange.headers = self.answer.headers;
        exchange.announced = self.answer.announced;
        exchange.requests = self.answer.requests;
        exchange.curve = seen.curve;
        let any = self.tcp.connect.or(self.tcp.during).or(self.tcp.end).is_some();
        exchange.tcp = any.then_some(self.tcp);
        exchange
    }

    fn tcp_info(&self) -> Option<TcpInfo> {
        self.handle.as_ref().and_then(tcp_info::read)
    }

    fn deadline(&self, budget: Duration) -> Instant {
        let phase = self.mark + budget;
        self.whole.map_or(phase, |whole| whole.min(phase))
    }

    fn timeout(&self, phase: Phase) -> Failure {
        pace::timeout(phase, self.whole)
    }

    fn record(&mut self, phase: Phase) {
        let now = clock::now();
        self.exchange.phases.record(phase, now - self.mark);
        self.mark = now;
    }
}

/// Runs the conversation, and the connection below it, in one task: waking another for each read would cost more than
/// the read.
async fn along(
    talk: impl Future<Output = Result<(), Failure>>,
    mut connection: link::Link,
) -> Result<(), Failure> {
    let mut talk = pin!(talk);
    let mut connected = true;
    poll_fn(|cx| {
        // The conversation may have something to send, and the connection then something to hand to it.
        for _ in 0..2 {
            if let Poll::Ready(result) = talk.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if connected && connection.as_mut().poll(cx).is_ready() {
                connected = false;
            }
        }
        Poll::Pending
    })
    .await
}
