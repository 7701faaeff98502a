//! The exchange as the bot sees it: three requests over HTTP, and what can go wrong with them.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// No answer of ours is longer.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Connections to the exchange; clones share them.
#[derive(Clone)]
pub(crate) struct Client {
    http: Http<HttpConnector, Empty<Bytes>>,
    base: String,
}

/// Why a request was in vain.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// 429: we ask too much, and may come back after this time.
    Throttled(Duration),
    /// Any other answer that is no success.
    Status(StatusCode),
    /// No answer, or half of one.
    Connection(String),
    /// An answer that makes no sense.
    Nonsense,
}

impl ExchangeError {
    /// Whether the exchange is well all the same: such an error must not open the circuit.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Throttled(_) => true,
            Self::Status(status) => status.is_client_error(),
            Self::Connection(_) | Self::Nonsense => false,
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled(pause) => write!(f, "429, Retry-After: {}", pause.as_secs()),
            Self::Status(status) => write!(f, "{status}"),
            Self::Connection(error) => f.write_str(error),
            Self::Nonsense => f.write_str("an answer that makes no sense"),
        }
    }
}

impl Client {
    /// A client of the exchange at `url`, such as `http://127.0.0.1:8080`. Connects when first needed.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(format!("{url:?} is not of the form http://HOST:PORT"));
        }
        Ok(Self { http: Http::builder(TokioExecutor::new()).build_http(), base })
    }

    /// What one unit costs now.
    pub(crate) async fn price(&self) -> Result<f64, ExchangeError> {
        self.ask(Method::GET, "/ticker").await?["price"].as_f64().ok_or(ExchangeError::Nonsense)
    }

    /// Buys one unit; the number of the new position.
    pub(crate) async fn order(&self) -> Result<u64, ExchangeError> {
        self.ask(Method::POST, "/orders").await?["position"].as_u64().ok_or(ExchangeError::Nonsense)
    }

    /// Sells what was bought.
    pub(crate) async fn close(&self, position: u64) -> Result<(), ExchangeError> {
        match self.ask(Method::DELETE, &format!("/positions/{position}")).await {
            // It is closed already: the answer that said so was lost.
            Err(ExchangeError::Status(StatusCode::NOT_FOUND)) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, ExchangeError> {
        let broken = |error: &dyn std::error::Error| ExchangeError::Connection(innermost(error));
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base)).body(Empty::new());
        let answer =
            self.http.request(request.map_err(|error| broken(&error))?).await.map_err(|error| broken(&error))?;
        match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => Err(ExchangeError::Throttled(retry_after(answer.headers()))),
            status if !status.is_success() => Err(ExchangeError::Status(status)),
            _ => {
                let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
                let body = body.map_err(|error| broken(&*error))?.to_bytes();
                Ok(serde_json::from_slice(&body).unwrap_or_default())
            }
        }
    }
}

/// The seconds that a 429 asks for; one, where it does not say.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// The cause of all causes, which says most in one line.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
