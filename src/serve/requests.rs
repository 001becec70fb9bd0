//! What is answered to which request.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};

use super::{
    Settings,
    content::{Content, Range},
    limits::Visit,
};
use crate::{clock, wire::http::ADDRESSES_HEADER};

/// A response body: a few words, or a stretch of the content.
pub(super) type Body = Either<Full<Bytes>, Content>;

/// Longest wait that a request may ask for.
const DELAY_MAX: Duration = Duration::from_secs(30);

const ABOUT: &str = "This is a throttlescope measurement server.

It sends and takes bytes under any name, so that people can find out whether their network slows some names down.
It keeps no addresses and no names, and hosts nothing else.

GET  /bytes/N   N incompressible bytes, also in part (Range); ?rate=BYTES_PER_SECOND paces, ?delay=SECONDS waits
POST /upload    counts the bytes you send
GET  /healthz   ok
";

/// One connection's share of what requests need.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) settings: std::sync::Arc<Settings>,
    pub(super) visit: Visit,
    /// The name shown in the `ClientHello`, lower case.
    pub(super) name: Option<String>,
}

impl Desk {
    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let http1 = request.version() < http::Version::HTTP_2;
        let mut response = self.route(request).await.unwrap_or_else(Refusal::response);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !self.settings.announce.is_empty() {
            let addresses: Vec<String> = self.settings.announce.iter().map(ToString::to_string).collect();
            headers.insert(ADDRESSES_HEADER, text(addresses.join(", ")));
        }
        if http1 && self.visit.refused.is_some() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        self.visit.ask(clock::now()).map_err(Refusal::TooMuch)?;
        let path = request.uri().path();
        if path == "/upload" {
            return match *request.method() {
                Method::POST | Method::PUT => self.upload(request).await,
                _ => Err(Refusal::Method("POST, PUT")),
            };
        }
        let length = match path.strip_prefix("/bytes/") {
            Some(length) => Some(self.length(length)?),
            None if matches!(path, "/" | "/healthz") => None,
            None => Some(self.settings.any_path_bytes.ok_or(Refusal::NotHere)?),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method("GET, HEAD"));
        }
        match length {
            Some(length) => self.content(&request, length).await,
            None if path == "/" => Ok(say(StatusCode::OK, ABOUT)),
            None => Ok(say(StatusCode::OK, "ok\n")),
        }
    }

    fn length(&self, text: &str) -> Result<u64, Refusal> {
        let max = self.settings.bytes_max;
        text.parse().ok().filter(|length| *length <= max).ok_or(Refusal::Length { max })
    }

    async fn content<B>(&self, request: &Request<B>, length: u64) -> Result<Response<Body>, Refusal> {
        let Asked { rate, delay } = Asked::parse(request.uri().query().unwrap_or_default())?;
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
        let range = range.map_or(Range::Whole, |range| Range::parse(range, length));
        let (status, first, part) = match range {
            Range::Whole => (StatusCode::OK, 0, length),
            Range::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Range::Unsatisfiable => return Err(Refusal::Range { length }),
        };
        let body = if request.method() == Method::HEAD {
            Either::Left(Full::default())
        } else {
            let reservation = self.visit.reserve(part, clock::now()).map_err(Refusal::TooMuch)?;
            let rate = [rate, self.pace(request)].into_iter().flatten().min();
            Either::Right(Content::new(first, part, rate, reservation))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, part.into());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status == StatusCode::PARTIAL_CONTENT {
            let last = first + part - 1;
            headers.insert(header::CONTENT_RANGE, text(format!("bytes {first}-{last}/{length}")));
        }
        Ok(response)
    }

    /// The pace set for the name in the `ClientHello`, or where there is none for the host asked.
    fn pace<B>(&self, request: &Request<B>) -> Option<u64> {
        let paces = &self.settings.paces;
        if paces.is_empty() {
            return None;
        }
        let host = || {
            let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            let authority = header.or_else(|| request.uri().authority().map(http::uri::Authority::as_str))?;
            let authority: http::uri::Authority = authority.parse().ok()?;
            Some(authority.host().to_ascii_lowercase())
        };
        let name = self.name.clone().or_else(host);
        name.and_then(|name| paces.get(&name)).or_else(|| paces.get("*")).copied()
    }

    async fn upload(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let max = self.settings.upload_max;
        let mut body = request.into_body();
        let announced = body.size_hint().exact();
        if announced.is_some_and(|announced| announced > max) {
            return Err(Refusal::TooLarge { max });
        }
        let mut reservation =
            self.visit.reserve(announced.unwrap_or(max), clock::now()).map_err(Refusal::TooMuch)?;
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::BrokenOff)?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            reservation.used(length);
            bytes += length;
            if bytes > max {
                return Err(Refusal::TooLarge { max });
            }
        }
        let mut response = say(StatusCode::OK, format!("{{\"bytes\":{bytes}}}\n"));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// Why a request is not served.
#[derive(Debug)]
enum Refusal {
    NotHere,
    Method(&'static str),
    Length { max: u64 },
    Query,
    Range { length: u64 },
    TooLarge { max: u64 },
    BrokenOff,
    TooMuch(Duration),
}

impl Refusal {
    fn response(self) -> Response<Body> {
        let (status, words) = match &self {
            Self::NotHere => (StatusCode::NOT_FOUND, "not here".into()),
            Self::Method(allowed) => (StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}")),
            Self::Length { max } => {
                (StatusCode::BAD_REQUEST, format!("ask for /bytes/N with N from 0 to {max}"))
            }
            Self::Query => (
                StatusCode::BAD_REQUEST,
                format!("rate is whole bytes per second, delay is seconds up to {}", DELAY_MAX.as_secs()),
            ),
            Self::Range { length } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, format!("there are {length} bytes"))
            }
            Self::TooLarge { max } => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {max} bytes are taken"))
            }
            Self::BrokenOff => (StatusCode::BAD_REQUEST, "the upload broke off".into()),
            Self::TooMuch(_) => (StatusCode::TOO_MANY_REQUESTS, "over this server's limits; wait".into()),
        };
        let mut response = say(status, format!("{words}\n"));
        let header = match self {
            Self::Method(allowed) => Some((header::ALLOW, HeaderValue::from_static(allowed))),
            Self::Range { length } => Some((header::CONTENT_RANGE, text(format!("bytes */{length}")))),
            Self::TooMuch(wait) => {
                Some((header::RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64)))
            }
            _ => None,
        };
        response.headers_mut().extend(header);
        response
    }
}

/// What the query asks for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    rate: Option<u64>,
    delay: Option<Duration>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut asked = Self::default();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("rate", rate)) => {
                    asked.rate = Some(rate.parse().ok().filter(|rate| *rate > 0).ok_or(Refusal::Query)?);
                }
                Some(("delay", seconds)) => {
                    let delay = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                    asked.delay = Some(delay.filter(|delay| *delay <= DELAY_MAX).ok_or(Refusal::Query)?);
                }
                // Anything else may be there to get past a cache.
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn say(status: StatusCode, words: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(words.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("digits and punctuation are a valid header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_strictly_where_it_is_ours() {
        let asked = |query| Asked::parse(query).ok();
        assert_eq!(asked(""), Some(Asked::default()));
        assert_eq!(asked("nocache=17"), Some(Asked::default()));
        let both = Asked { rate: Some(1000), delay: Some(Duration::from_millis(1500)) };
        assert_eq!(asked("rate=1000&delay=1.5"), Some(both));
        for query in ["rate=0", "rate=-1", "rate=fast", "delay=-1", "delay=31", "delay=nan", "delay=inf"] {
            assert!(asked(query).is_none(), "{query}");
        }
    }
}
