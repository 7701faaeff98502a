//! Polls a health URL on a thread of its own: plain HTTP/1.1, one request at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV6, TcpStream, ToSocketAddrs};
use std::time::Duration;

use backstay::clock::{Clock, Moment};

use super::health_checks::LastSeen;

/// Maximum number of bytes of an answer that are read.
const LONGEST: usize = 64 << 10;

/// A health URL: `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthUrl {
    authority: String,
    address: String,
    path: String,
}

impl HealthUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{url:?} {what}; must be like http://127.0.0.1:8080/healthz");
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            _ => return Err(wrong("is not an http:// URL")),
        };
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("has a space or a control character"));
        }
        // The fragment is not sent to the server.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'/' => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
            None => (rest, "/".to_owned()),
        };
        let (host, port) = match authority.rsplit_once(':') {
            // A colon within brackets is part of the address.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, "80"),
        };
        let is_host = if host.starts_with('[') {
            format!("{host}:1").parse::<SocketAddrV6>().is_ok()
        } else {
            !host.is_empty() && !host.contains(['@', ':', '[', ']'])
        };
        if !is_host {
            return Err(wrong("has no valid host"));
        }
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if !is_port {
            return Err(wrong("has no port from 1 to 65535"));
        }
        Ok(Self { authority: authority.to_owned(), address: format!("{host}:{port}"), path })
    }

    /// Sends one request. Returns when the server answered with status 2xx or 3xx, or `None` for another answer. The head of
    /// the answer must come within `time`; reading the rest may take `rest`.
    fn get(&self, time: Duration, rest: Duration, clock: &Clock) -> io::Result<Option<Moment>> {
        let until = clock.now() + time;
        let left = || {
            let left = until.since(clock.now());
            if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.address.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, left()?) {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            stream.set_write_timeout(Some(left()?))?;
            let (path, host) = (&self.path, &self.authority);
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: backstay\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            // Only the first digit of the status is needed: "HTTP/1.1 200".
            let mut head = [0; 12];
            let mut length = 0;
            while length < head.len() {
                stream.set_read_timeout(Some(left()?))?;
                match stream.read(&mut head[length..])? {
                    0 => return Ok(None),
                    read => length += read,
                }
            }
            let answered = clock.now();
            let is_success = head.starts_with(b"HTTP/1.") && matches!(head[9], b'2' | b'3');
            read_rest(&mut stream, answered + rest, clock);
            return Ok(is_success.then_some(answered));
        }
        Err(last)
    }

    /// Polls the URL three times in each `timeout`, until the process ends.
    pub(crate) fn start_polling(self, timeout: Duration, seen: LastSeen) -> io::Result<()> {
        let every = (timeout / 3).clamp(Duration::from_millis(50), Duration::from_secs(10));
        let clock = Clock::system();
        let polling = move || {
            loop {
                let until = clock.now() + every;
                if let Ok(Some(answered)) = self.get(timeout, every, &clock) {
                    seen.set(answered);
                }
                while clock.now() < until {
                    std::thread::park_timeout(until.since(clock.now()));
                }
            }
        };
        std::thread::Builder::new().name("backstay-health".to_owned()).spawn(polling).map(drop)
    }
}

/// Reads to the end of the answer: closing the connection earlier would reset it, which ends simple servers.
fn read_rest(stream: &mut TcpStream, until: Moment, clock: &Clock) {
    let mut chunk = [0; 4096];
    let mut length = 0;
    while length < LONGEST {
        let left = until.since(clock.now());
        // A timeout of zero is an error.
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => length += read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_whole_answer_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = HealthUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request)?;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            stream.write_all(&[b'x'; 60_000])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read(&mut request)
        });
        let timeout = Duration::from_secs(60);
        assert!(url.get(timeout, timeout, &Clock::system()).unwrap().is_some());
        assert_eq!(server.join().unwrap().unwrap(), 0, "closed in order");
    }

    #[test]
    fn urls_are_parsed() {
        let parts = |url| HealthUrl::parse(url).map(|url| (url.authority, url.address, url.path)).unwrap();
        let parts = |url| {
            let (authority, address, path) = parts(url);
            [authority, address, path].join(" ")
        };
        assert_eq!(parts("http://localhost"), "localhost localhost:80 /");
        assert_eq!(parts("http://127.0.0.1:8080/healthz?x=1"), "127.0.0.1:8080 127.0.0.1:8080 /healthz?x=1");
        assert_eq!(parts("http://[::1]/"), "[::1] [::1]:80 /");
        assert_eq!(parts("http://[::1]:81?a"), "[::1]:81 [::1]:81 /?a");
        assert_eq!(parts("HTTP://h/a#b?c/d"), "h h:80 /a");
        assert_eq!(parts("http://h:81#/a"), "h:81 h:81 /");
        assert_eq!(parts("http://h/a:b/[c]@d"), "h h:80 /a:b/[c]@d");
    }

    #[test]
    fn an_invalid_url_is_rejected() {
        for (wrong, what) in [
            ("https://x", "is not an http:// URL"),
            ("x", "is not an http:// URL"),
            ("http:/h", "is not an http:// URL"),
            ("http://a b", "has a space"),
            ("http://a\r\nX: y", "has a space"),
            ("http://", "has no valid host"),
            ("http://#h", "has no valid host"),
            ("http://u@h", "has no valid host"),
            ("http://[::1", "has no valid host"),
            ("http://[zz]/", "has no valid host"),
            ("http://[::1]x/", "has no valid host"),
            ("http://::1/", "has no valid host"),
            ("http://a:b:c/", "has no valid host"),
            ("http://:80", "has no valid host"),
            ("http://h:80:80/", "has no valid host"),
            ("http://h:/", "has no port"),
            ("http://h:0/", "has no port"),
            ("http://h:+1/", "has no port"),
            ("http://[::1]:/", "has no port"),
            ("http://127.0.0.1:99999/", "has no port"),
        ] {
            let error = HealthUrl::parse(wrong).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
