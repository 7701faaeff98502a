//! An exchange on a loopback port that has a bad day: real HTTP, scripted by the clock, seeded.
//!
//! ```text
//! GET    /ticker        200 {"price": 42013.5}
//! POST   /orders        201 {"position": 7}
//! DELETE /positions/7   204
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// What the exchange does, from which hundredth of the day on.
const DAY: [(u32, Mood); 10] = [
    (0, Mood::Well),
    (16, Mood::Throttling),
    (25, Mood::Well),
    (31, Mood::Failing),
    (36, Mood::Hanging), // half-open calls time out: the circuit opens again
    (46, Mood::Well),
    (54, Mood::Dropping),
    (57, Mood::Well),
    (61, Mood::Hanging),
    (67, Mood::Well),
];

/// How the exchange treats whoever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers, some milliseconds later.
    Well,
    /// The first request is one too many: 429, and so are all before its `Retry-After` is over.
    Throttling,
    /// Answers 500 or 503.
    Failing,
    /// Does not answer.
    Hanging,
    /// Closes the connection of the first request without an answer.
    Dropping,
}

impl Mood {
    /// The mood when `elapsed` of a day of `length` are over.
    pub(crate) fn at(elapsed: Duration, length: Duration) -> Self {
        let begun = |&&(hundredth, _): &&(u32, Mood)| elapsed >= length * hundredth / 100;
        DAY.iter().rev().find(begun).map_or(Mood::Well, |&(_, mood)| mood)
    }
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mood::Well => "is well",
            Mood::Throttling => "throttles: 429, Retry-After: 1",
            Mood::Failing => "fails: 500, 503",
            Mood::Hanging => "hangs: no answers",
            Mood::Dropping => "drops a connection",
        })
    }
}

/// The exchange. It is open until its runtime ends.
pub(crate) struct Exchange {
    address: SocketAddr,
    opened: Instant,
    day: Duration,
    desk: Mutex<Desk>,
}

struct Desk {
    dice: Dice,
    price: f64,
    orders: u32,
    positions: BTreeSet<u32>,
    throttled_until: Option<Instant>,
    dropped: bool,
    tally: Tally,
}

/// What the exchange saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u32,
    /// Requests that came although a `Retry-After` told them not to yet.
    pub(crate) impatient: u32,
    pub(crate) open_positions: usize,
}

enum Answer {
    Reply(Response<Full<Bytes>>),
    Silence,
    HangUp,
}

impl Exchange {
    /// Opens on a free loopback port. Its day begins now; `on_mood` hears how it goes.
    pub(crate) async fn open(
        seed: u64,
        day: Duration,
        on_mood: impl Fn(Mood) + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let desk = Mutex::new(Desk::new(seed));
        let exchange = Arc::new(Self { address: listener.local_addr()?, opened: Instant::now(), day, desk });
        tokio::spawn(serve(listener, Arc::clone(&exchange)));
        let opened = exchange.opened;
        tokio::spawn(async move {
            for (hundredth, mood) in DAY.iter().skip(1) {
                tokio::time::sleep_until(opened + day * *hundredth / 100).await;
                on_mood(*mood);
            }
        });
        Ok(exchange)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn tally(&self) -> Tally {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        Tally { open_positions: desk.positions.len(), ..desk.tally }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (answer, latency) = {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            let latency = Duration::from_millis(5 + desk.dice.below(20));
            (desk.answer(Mood::at(self.opened.elapsed(), self.day), &request), latency)
        };
        sleep(latency).await;
        match answer {
            Answer::Reply(response) => Ok(response),
            Answer::Silence => std::future::pending().await,
            Answer::HangUp => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

async fn serve(listener: TcpListener, exchange: Arc<Exchange>) {
    while let Ok((stream, _)) = listener.accept().await {
        let exchange = Arc::clone(&exchange);
        let service = service_fn(move |request| Arc::clone(&exchange).answer(request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Desk {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            price: 42_000.0,
            orders: 0,
            positions: BTreeSet::new(),
            throttled_until: None,
            dropped: false,
            tally: Tally::default(),
        }
    }

    fn answer<B>(&mut self, mood: Mood, request: &Request<B>) -> Answer {
        self.tally.requests += 1;
        match mood {
            Mood::Throttling => self.throttle().map_or_else(|| self.trade(request), Answer::Reply),
            Mood::Failing if self.dice.below(2) == 0 => reply(StatusCode::INTERNAL_SERVER_ERROR, ""),
            Mood::Failing => reply(StatusCode::SERVICE_UNAVAILABLE, ""),
            Mood::Hanging => Answer::Silence,
            Mood::Dropping if !std::mem::replace(&mut self.dropped, true) => Answer::HangUp,
            Mood::Dropping | Mood::Well => self.trade(request),
        }
    }

    /// The 429 that this request gets, if it gets one.
    fn throttle(&mut self) -> Option<Response<Full<Bytes>>> {
        let penalty = Duration::from_secs(1);
        match self.throttled_until {
            None => self.throttled_until = Some(Instant::now() + penalty),
            Some(until) if Instant::now() < until => self.tally.impatient += 1,
            Some(_) => return None,
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(RETRY_AFTER, penalty.as_secs().into());
        Some(response)
    }

    fn trade<B>(&mut self, request: &Request<B>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/ticker") => {
                self.price *= 1.0 + self.dice.swing() * 0.004;
                reply(StatusCode::OK, json!({ "price": self.price }))
            }
            (&Method::POST, "/orders") => {
                self.orders += 1;
                self.positions.insert(self.orders);
                reply(StatusCode::CREATED, json!({ "position": self.orders }))
            }
            (&Method::DELETE, path) => {
                let position = path.strip_prefix("/positions/").and_then(|number| number.parse().ok());
                let closed = position.is_some_and(|position: u32| self.positions.remove(&position));
                reply(if closed { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }, "")
            }
            _ => reply(StatusCode::NOT_FOUND, ""),
        }
    }
}

fn reply(status: StatusCode, body: impl ToString) -> Answer {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    Answer::Reply(response)
}

/// Chance with a seed (SplitMix64): the same seed gives the same day.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// From -1 to 1, small swings more often than large ones.
    fn swing(&mut self) -> f64 {
        let mut half = || (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        half() - half()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(desk: &mut Desk, mood: Mood, method: Method, path: &str) -> Option<StatusCode> {
        let request = Request::builder().method(method).uri(path).body(()).expect("a request");
        match desk.answer(mood, &request) {
            Answer::Reply(response) => Some(response.status()),
            Answer::Silence | Answer::HangUp => None,
        }
    }

    #[test]
    fn the_day_has_its_moods_in_order() {
        let moods: Vec<_> =
            (0..100).map(|percent| Mood::at(Duration::from_secs(percent), Duration::from_secs(100))).collect();
        assert_eq!((moods[0], moods[99]), (Mood::Well, Mood::Well));
        let count = |mood| moods.iter().filter(|other| **other == mood).count();
        assert_eq!([Mood::Throttling, Mood::Failing, Mood::Hanging, Mood::Dropping].map(count), [9, 5, 16, 3]);
    }

    #[test]
    fn positions_are_opened_and_closed_once() {
        let mut desk = Desk::new(1);
        assert_eq!(ask(&mut desk, Mood::Well, Method::POST, "/orders"), Some(StatusCode::CREATED));
        assert_eq!(ask(&mut desk, Mood::Well, Method::DELETE, "/positions/1"), Some(StatusCode::NO_CONTENT));
        assert_eq!(ask(&mut desk, Mood::Well, Method::DELETE, "/positions/1"), Some(StatusCode::NOT_FOUND));
        assert_eq!(ask(&mut desk, Mood::Well, Method::GET, "/nonsense"), Some(StatusCode::NOT_FOUND));
        assert_eq!(desk.tally.requests, 4);
    }

    #[test]
    fn it_throttles_who_asks_on_and_drops_one_connection() {
        let mut desk = Desk::new(1);
        let mut ticker = |mood| ask(&mut desk, mood, Method::GET, "/ticker");
        let throttled = Some(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!([ticker(Mood::Throttling), ticker(Mood::Throttling)], [throttled; 2]);
        assert_eq!(ticker(Mood::Hanging), None);
        assert!(ticker(Mood::Failing).is_some_and(|status| status.is_server_error()));
        assert_eq!([ticker(Mood::Dropping), ticker(Mood::Dropping)], [None, Some(StatusCode::OK)]);
        assert_eq!(desk.tally.impatient, 1);
    }

    #[test]
    fn a_seed_is_a_day() {
        let prices = |seed| {
            let mut desk = Desk::new(seed);
            ask(&mut desk, Mood::Well, Method::GET, "/ticker");
            desk.price.to_bits()
        };
        assert_eq!(prices(1), prices(1));
        assert_ne!(prices(1), prices(2));
    }
}
