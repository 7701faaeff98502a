//! Answers requests from the last snapshot, without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstay::clock::Clock;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::hosts::Hosts;
use super::metrics::{self, Own};
use super::snapshot::{Latest, Snapshot};

/// Content security policy: only scripts and styles of this site, no other sites, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 5] = [
    (HeaderName::from_static("content-security-policy"), POLICY),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

pub(super) struct Site {
    pub(super) latest: Latest,
    pub(super) hosts: Hosts,
    pub(super) clock: Clock,
    /// If the last snapshot is older than this, reading the folder hangs.
    pub(super) hang_after: Duration,
    pub(super) requests: AtomicU64,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Site {
    pub(super) fn answer<B>(&self, request: &Request<B>, connections: usize) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut answer = self.find(request, connections);
        for (name, value) in HEADERS {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        // The browser asks every time; the ETag saves sending an unchanged body.
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }

    fn find<B>(&self, request: &Request<B>, connections: usize) -> Answer {
        // An HTTP/1.0 health check may send no Host header. Browsers always send one, and these two paths reveal nothing.
        let is_check = request.version() == Version::HTTP_10
            && !request.headers().contains_key(HOST)
            && matches!(request.uri().path(), "/healthz" | "/readyz");
        if !is_check && !self.hosts.allow(request.headers()) {
            return text(StatusCode::MISDIRECTED_REQUEST, "not under this name: see --allow-host\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/" => asset("text/html; charset=utf-8", include_str!("page.html")),
            "/page.css" => asset("text/css; charset=utf-8", include_str!("page.css")),
            "/page.js" => asset("text/javascript; charset=utf-8", include_str!("page.js")),
            "/icon.svg" => asset("image/svg+xml", include_str!("icon.svg")),
            "/api/status" => self.snapshot_answer(request, Snapshot::status),
            "/api/page" => self.snapshot_answer(request, Snapshot::page),
            "/metrics" => {
                let own = Own {
                    requests: self.requests.load(Ordering::Relaxed),
                    connections,
                    read_age: self.read_age().map_or(f64::NAN, |age| age.as_secs_f64()),
                    is_ready: self.trouble().is_none(),
                };
                let page = metrics::text(self.latest.snapshot().as_deref(), &own);
                body(StatusCode::OK, metrics::CONTENT_TYPE, page)
            }
            "/healthz" => text(StatusCode::OK, "serves\n"),
            "/readyz" => match self.trouble() {
                None => text(StatusCode::OK, "ready\n"),
                Some(trouble) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there is /, /metrics, /healthz, /readyz and /api/status\n"),
        }
    }

    /// Returns the reason if the last snapshot is missing or out of date.
    pub(super) fn trouble(&self) -> Option<String> {
        let Some(snapshot) = self.latest.snapshot() else { return Some("the folder was not looked at yet".to_owned()) };
        if let Some(trouble) = &snapshot.trouble {
            return Some(format!("the folder cannot be read: {trouble}"));
        }
        let age = self.read_age().filter(|age| *age > self.hang_after)?;
        Some(format!("looking at the folder hangs: the last look was {} s ago", age.as_secs()))
    }

    fn read_age(&self) -> Option<Duration> {
        self.latest.snapshot().map(|snapshot| self.clock.now().since(snapshot.at))
    }

    fn snapshot_answer<B>(&self, request: &Request<B>, show: impl Fn(&Snapshot) -> Bytes) -> Answer {
        let Some(snapshot) = self.latest.snapshot() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the folder was not looked at yet\n");
        };
        let is_known = request.headers().get_all(IF_NONE_MATCH).iter().any(|tags| {
            tags.to_str()
                .is_ok_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == snapshot.tag))
        });
        let mut answer = match is_known {
            true => body(StatusCode::NOT_MODIFIED, JSON, Bytes::new()),
            false => body(StatusCode::OK, JSON, show(&snapshot)),
        };
        if let Ok(tag) = HeaderValue::from_str(&snapshot.tag) {
            answer.headers_mut().insert(ETAG, tag);
        }
        answer
    }
}

fn asset(kind: &'static str, text: &'static str) -> Answer {
    body(StatusCode::OK, kind, text)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    body(status, TEXT, text)
}

fn body(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The site, as the threads share it.
pub(super) type Shared = Arc<Site>;
