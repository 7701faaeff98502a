//! Limits that keep one client from blocking the others.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::{Served, answer, stale};

const REQUEST: &str = "GET /api/page HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_head_of_a_request_is_limited() {
    let served = Served::start(&[]);
    let long = format!("Host: localhost\r\nX: {}\r\n", "x".repeat(15_000));
    assert_eq!(served.ask("GET /healthz", &long).status, 200);
    let many = format!("Host: localhost\r\n{}", "X: y\r\n".repeat(70));
    assert_eq!(served.ask("GET /healthz", &many).status, 431);
    // A longer head gets an error, or the connection is closed.
    let mut stream = served.connect();
    let _ = write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    let mut written = 0;
    while written < 100 << 20 {
        match stream.write(&[b'x'; 1 << 16]) {
            Ok(more) if more > 0 => written += more,
            _ => break,
        }
    }
    assert!(written < 100 << 20, "it reads without limit");
    let mut first = [0; 12];
    if stream.read_exact(&mut first).is_ok() {
        assert_eq!(&first, b"HTTP/1.1 431");
    }
    assert_eq!(served.read("/healthz").status, 200);
}

// More connections than the limit, each silent in the middle of its request.
#[test]
fn an_unfinished_request_is_closed() {
    let served = Served::start(&[]);
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
            stream
        })
        .collect();
    assert_eq!(served.read("/healthz").status, 200, "a complete request is answered");
    for mut stream in silent {
        let mut rest = Vec::new();
        // Closed in order, or by a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let served = Served::start(&[]);
    for index in 0..1000 {
        stale(&served.folder(), &format!("{index}"), &json!({"large": "x".repeat(8000)}));
    }
    served.read_until("/api/page", |answer| answer.body.len() > 8_000_000);
    let mut slow = served.connect();
    slow.write_all(REQUEST.as_bytes()).unwrap();
    let places = |taken: u32| format!("\nbackstay_serve_connections {taken}\n");
    served.read_until("/metrics", |answer| answer.body.contains(&places(2)));
    served.read_until("/metrics", |answer| answer.body.contains(&places(1)));
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.starts_with(b"HTTP/1.1 200") && rest.len() < 8_000_000, "{}", rest.len());
}

#[test]
fn a_thousand_clients_are_answered() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.map(|most| most.min(4096)), ..limit }).unwrap();
    let served = Served::start(&[]);
    stale(&served.folder(), "a", &json!({}));
    served.read_until("/api/page", |answer| answer.body.contains("a.heartbeat"));
    let clients: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(REQUEST.as_bytes()).unwrap();
            stream
        })
        .collect();
    for client in clients {
        let answer = answer(client);
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("a.heartbeat"));
    }
}

// SD-1: a signal ends it in order, also with open connections.
#[test]
fn it_stops_with_clients_connected() {
    let mut served = Served::start(&[]);
    let mut idle: Vec<TcpStream> = (0..20).map(|_| served.connect()).collect();
    idle[0].write_all(b"GET / HTTP/1.1\r\n").unwrap();
    // All connections are accepted.
    served.read_until("/metrics", |answer| answer.body.contains("\nbackstay_serve_connections 21\n"));
    served.terminate();
    assert_eq!(served.wait().code(), Some(0));
    assert!(TcpStream::connect(served.address).is_err());
}

#[test]
fn the_longest_interval_is_accepted() {
    let it = Served::start(&["--every", "18446744073709549568"]);
    it.read_until("/readyz", |answer| answer.status == 200);
}
