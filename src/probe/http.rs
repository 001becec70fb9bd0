//! HTTP over the connection: the object is asked for again until the wanted bytes have come.
//!
//! What was seen is written into [`Answer`] as it comes, so that a deadline which drops the conversation loses nothing.

use std::{io, net::IpAddr, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderValue, Method, Request as HttpRequest, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;

use super::{Plan, failure, link::Sender, page, tape::Tape};
use crate::{
    clock::{self, Instant},
    model::{Failure, FailureDetail, FailureKind, Phase, Request},
};

/// Most requests on one connection.
const REQUESTS_MAX: usize = 64;
/// Most of an error's or redirect's body that is read, and how long for.
const ASIDE_MAX: u64 = 64 * 1024;
const ASIDE_TIME: Duration = Duration::from_secs(3);
/// Body that is kept until the transfer is over, to be hashed then: the reader does not wait for the hash. A body beyond
/// that is hashed in pieces of this size, less than a millisecond each.
const UNHASHED_MAX: usize = 1024 * 1024;

/// What a browser says.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");

/// What came back, as far as it came.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) requests: Vec<Request>,
    pub(super) status: Option<u16>,
    pub(super) version: Option<&'static str>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) announced: Vec<IpAddr>,
    pub(super) redirect: Option<String>,
    /// Body bytes over all requests.
    pub(super) bytes: u64,
    /// A known block page was seen.
    pub(super) block_page: Option<&'static str>,
    body: Body,
}

/// The body of the first response.
#[derive(Default)]
struct Body {
    unhashed: Vec<u8>,
    hash: Option<digest::Context>,
    began: bool,
}

impl Body {
    fn push(&mut self, data: &[u8]) {
        self.began = true;
        self.unhashed.extend_from_slice(data);
        if self.unhashed.len() >= UNHASHED_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let hash = self.hash.get_or_insert_with(|| digest::Context::new(&digest::SHA256));
        hash.update(&self.unhashed);
        self.unhashed.clear();
    }
}

impl Answer {
    /// The hash of the first response's body. To be asked once, when the transfer is over.
    pub(super) fn body_sha256(&mut self) -> Option<String> {
        if !self.body.began {
            return None;
        }
        self.body.flush();
        self.body.hash.take().map(|hash| super::hex(hash.finish().as_ref()))
    }
}

/// One conversation.
pub(super) struct Talk<'a> {
    pub(super) plan: &'a Plan,
    pub(super) host_header: &'a str,
    pub(super) tape: &'a Tape,
    /// When the exchange began.
    pub(super) start: Instant,
    pub(super) server: IpAddr,
    pub(super) answer: &'a mut Answer,
}

/// What a response asks us to do next.
enum Next {
    Again,
    WithoutRange,
    Done,
}

impl Talk<'_> {
    /// Asks until the wanted bytes have come, the server ends the connection, or the object is empty.
    pub(super) async fn run(mut self, mut sender: Sender) -> Result<(), Failure> {
        let mut range = self.plan.bytes > 0;
        while self.answer.requests.len() < REQUESTS_MAX {
            let later = !self.answer.requests.is_empty();
            if later && !sender.ready().await {
                return Ok(());
            }
            let wanted = self.plan.bytes - self.answer.bytes;
            let request = self.request(&sender, range.then_some(wanted))?;
            let now = clock::now();
            self.tape.begin_request(now);
            let start = now - self.start;
            self.answer.requests.push(Request { start, first_byte: None, end: start, bytes: 0 });
            let response = match sender.send(request).await {
                Ok(response) => response,
                Err(error) => {
                    if later && self.closed_between() {
                        self.answer.requests.pop();
                        return Ok(());
                    }
                    return Err(self.fault(&error, false));
                }
            };
            let next = self.response(response, range).await;
            self.close_request();
            match next? {
                Next::Again => {}
                Next::WithoutRange => range = false,
                Next::Done => return Ok(()),
            }
        }
        Ok(())
    }

    fn request(&self, sender: &Sender, range: Option<u64>) -> Result<HttpRequest<Empty<Bytes>>, Failure> {
        let url = &self.plan.url;
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let http2 = matches!(sender, Sender::Http2(_));
        let uri: Result<Uri, http::Error> = if http2 {
            Uri::builder().scheme("https").authority(self.host_header).path_and_query(path).build()
        } else {
            path.parse::<Uri>().map_err(Into::into)
        };
        let mut builder = HttpRequest::builder().method(Method::GET);
        if let Ok(uri) = uri {
            builder = builder.uri(uri);
        }
        if !http2 {
            builder = builder.header(header::HOST, self.host_header);
        }
        builder = builder
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, HeaderValue::from_static("*/*"))
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(wanted) = range.filter(|&wanted| wanted > 0) {
            builder = builder.header(header::RANGE, format!("bytes=0-{}", wanted - 1));
        }
        // A host or path that HTTP cannot carry: nothing was sent.
        builder.body(Empty::new()).map_err(|_| failure::of(Phase::Processing, FailureKind::Local))
    }

    async fn response(&mut self, response: Response<Incoming>, ranged: bool) -> Result<Next, Failure> {
        let status = response.status();
        let first = self.answer.requests.len() == 1;
        self.answer.status = Some(status.as_u16());
        self.answer.version = version(response.version());
        if first || status.as_u16() >= 300 {
            self.answer.headers = page::headers(response.headers(), self.server);
            self.answer.announced = page::announced(response.headers(), self.server);
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE && ranged {
            // An empty object has no range; it is no error of the server's.
            self.aside(response.into_body()).await?;
            return Ok(Next::WithoutRange);
        }
        if status.is_redirection() || status.as_u16() >= 400 {
            return self.other(status, response).await;
        }
        let got = self.body(response.into_body(), first).await?;
        if first && self.answer.bytes <= ASIDE_MAX {
            self.answer.block_page = page::block_page(&self.answer.body.unhashed);
            if self.answer.block_page.is_some() {
                return Err(self.http_error());
            }
        }
        Ok(if got == 0 || self.answer.bytes >= self.plan.bytes { Next::Done } else { Next::Again })
    }

    /// A redirect or an error.
    async fn other(&mut self, status: StatusCode, response: Response<Incoming>) -> Result<Next, Failure> {
        if status.is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            self.answer.redirect = location.map(|location| page::redirect(location, self.server));
            self.answer.block_page = location.and_then(|location| page::block_page(location.as_bytes()));
        }
        let body = self.aside(response.into_body()).await?;
        self.answer.block_page = self.answer.block_page.or_else(|| page::block_page(&body));
        if status.as_u16() >= 400 || self.answer.block_page.is_some() {
            return Err(self.http_error());
        }
        Ok(Next::Done)
    }

    fn http_error(&self) -> Failure {
        let detail = self.answer.block_page.map(|id| FailureDetail::BlockPage(id.to_owned()));
        Failure { detail, ..failure::of(Phase::Processing, FailureKind::HttpError) }
    }

    /// Reads a response's body up to the wanted bytes, and says how much of it came.
    async fn body(&mut self, mut body: Incoming, first: bool) -> Result<u64, Failure> {
        let mut got = 0;
        while self.answer.bytes < self.plan.bytes {
            let frame = match body.frame().await {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(self.fault(&error, true)),
            };
            let Some(data) = frame.data_ref() else { continue };
            let room = usize::try_from(self.plan.bytes - self.answer.bytes).unwrap_or(usize::MAX);
            let data = &data[..data.len().min(room)];
            got += data.len() as u64;
            self.count(data.len() as u64);
            if first {
                self.answer.body.push(data);
            }
            // Framing may not outweigh what it frames.
            if self.tape.look().bytes > 4 * self.plan.bytes + 1024 * 1024 {
                let detail = Some(FailureDetail::Body);
                return Err(Failure { detail, ..failure::of(Phase::Transfer, FailureKind::TooLarge) });
            }
        }
        Ok(got)
    }

    /// Reads a little of a body that is not the object, for its hash and to know a block page.
    async fn aside(&mut self, mut body: Incoming) -> Result<Vec<u8>, Failure> {
        let mut kept = Vec::new();
        let read = async {
            while (kept.len() as u64) < ASIDE_MAX {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        let data = frame.data_ref().map_or(&[][..], |data| data);
                        let room = ASIDE_MAX as usize - kept.len();
                        kept.extend_from_slice(&data[..data.len().min(room)]);
                    }
                    // The status is known, and says more than how the page ended.
                    Some(Err(_)) | None => break,
                }
            }
        };
        // The page is not what was wanted, so that half of it is good enough.
        let _ = tokio::time::timeout(ASIDE_TIME, read).await;
        self.count(kept.len() as u64);
        if self.answer.requests.len() == 1 {
            self.answer.body.push(&kept);
        }
        Ok(kept)
    }

    fn count(&mut self, bytes: u64) {
        self.answer.bytes += bytes;
        if let Some(request) = self.answer.requests.last_mut() {
            request.bytes += bytes;
        }
    }

    fn close_request(&mut self) {
        let seen = self.tape.look();
        if let Some(request) = self.answer.requests.last_mut() {
            request.first_byte = seen.first.map(|at| at - self.start);
            request.end = seen.last.map_or(request.start, |at| (at - self.start).max(request.start));
        }
    }

    /// Whether the server ended the connection after a whole response, crossing our next request. Where it closed with
    /// that request unread its system says so with a reset.
    fn closed_between(&self) -> bool {
        let seen = self.tape.look();
        let reset = matches!(seen.error, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe));
        seen.first.is_none() && (seen.ended || reset)
    }

    fn fault(&self, error: &hyper::Error, in_body: bool) -> Failure {
        let seen = self.tape.look();
        let phase = if seen.first.is_some() || self.answer.requests.len() > 1 {
            Phase::Transfer
        } else {
            Phase::Processing
        };
        if let Some(kind) = seen.error {
            return failure::socket(phase, kind);
        }
        if let Some(tls) = &seen.tls_error {
            return failure::tls(phase, tls);
        }
        if error.is_parse_too_large() {
            let detail = Some(FailureDetail::Headers);
            return Failure { detail, ..failure::of(phase, FailureKind::TooLarge) };
        }
        let kind = if in_body && seen.ended {
            FailureKind::ShortBody
        } else if seen.ended && !error.is_parse() {
            FailureKind::Closed
        } else {
            FailureKind::Malformed
        };
        failure::of(phase, kind)
    }
}

const fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}
