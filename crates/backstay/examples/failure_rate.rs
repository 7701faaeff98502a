//! A service of which three of five requests fail for a while: the failure rate opens a circuit, and a count of
//! consecutive failures does not. A real HTTP server on a loopback port, two breakers before it, and a timeline of three seconds.
//!
//! ```text
//! cargo run --example failure_rate
//! ```

#![allow(clippy::disallowed_methods)] // a service of its own has the real time

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use backstay::circuit_breaker::{CircuitBreaker, Outcome, Window};
use backstay::{BuildError, CallError};

const DAY: Duration = Duration::from_secs(3);
/// While the service is bad, of five requests these fail: never three in a row.
const BAD: [bool; 5] = [true, true, false, true, false];
const COLUMNS: usize = 60;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (server, begun) = (serve()?, Instant::now());
    let [consecutive, rate] = breakers()?;
    rate.on_state_change(|change| eprintln!("{} -> {}: {}", change.from, change.to, change.cause));
    let mut lines = [[' '; COLUMNS]; 2];
    while begun.elapsed() < DAY {
        let column =
            (begun.elapsed().as_millis() * COLUMNS as u128 / DAY.as_millis()).min(COLUMNS as u128 - 1) as usize;
        for (line, breaker) in lines.iter_mut().zip([&consecutive, &rate]) {
            let mark = match breaker.classify(by_status).call(|| get(server)) {
                Ok(200) => '.',
                Ok(_) | Err(CallError::Inner(_)) => 'x',
                Err(CallError::Rejected(_)) => '-',
            };
            // The worst of a column is what is seen.
            if line[column] == ' ' || mark == 'x' {
                line[column] = mark;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("service      {}{}{}", ".".repeat(COLUMNS / 5), "x".repeat(COLUMNS / 5 * 2), ".".repeat(COLUMNS / 5 * 2));
    for (name, line, breaker) in [("consecutive", &lines[0], &consecutive), ("failure rate", &lines[1], &rate)] {
        let stats = breaker.stats();
        println!(
            "{name:<12} {}  {} failed, {} rejected",
            line.iter().collect::<String>(),
            stats.failed,
            stats.rejected
        );
    }
    println!(". answered   x failed   - rejected by the open circuit");
    Ok(())
}

fn breakers() -> Result<[CircuitBreaker; 2], BuildError> {
    let builder = || CircuitBreaker::builder().reset_timeout(Duration::from_millis(300)).half_open_max_calls(5);
    let consecutive = builder().max_failures(5).build()?;
    let window = Window::time(Duration::from_secs(1));
    Ok([consecutive, builder().failure_rate(0.5).window(window).minimum_calls(5).build()?])
}

/// A 5xx is a failure although it is an answer; any other status is a success.
fn by_status(reply: &io::Result<u16>) -> Outcome {
    match reply {
        Ok(500..) => Outcome::Failure,
        other => Outcome::from(other),
    }
}

/// The status of a GET.
fn get(server: SocketAddr) -> io::Result<u16> {
    let mut connection = TcpStream::connect(server)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply)?;
    let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other("no status"))
}

/// A service that is bad for two fifths of the time.
fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let begun = Instant::now();
    std::thread::spawn(move || {
        for (request, connection) in listener.incoming().enumerate() {
            let is_bad = (DAY / 5..DAY / 5 * 3).contains(&begun.elapsed()) && BAD[request % BAD.len()];
            let status = if is_bad { "503 Service Unavailable" } else { "200 OK" };
            let answered = connection.and_then(|mut connection| {
                let _ = connection.read(&mut [0; 256])?;
                write!(connection, "HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n")
            });
            if let Err(error) = answered {
                eprintln!("a request failed: {error}");
            }
        }
    });
    Ok(address)
}
