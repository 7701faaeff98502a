//! Parsers for values on the command line, with their error messages.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use backstay::heartbeat::INTERVAL_LIMITS;
use clap::builder::RangedI64ValueParser;

/// Parses seconds, or a duration such as "1m 30s", "500ms" or "PT1M".
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected seconds or a duration such as 10s, 500ms or \"1m 30s\"".to_owned();
    let text = text.trim();
    let length = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok()),
    };
    length.ok_or_else(wrong)
}

/// Parses a file name without a path.
pub(crate) fn file_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && !text.contains(['/', '\0']);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected a file name of at most 100 bytes that does not begin with a dot".to_owned())
    }
}

/// Parses octal permissions, as for chmod(1). The owner must be able to read and write.
pub(crate) fn file_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| "expected an octal mode from 600 to 777, such as 644".to_owned())
}

/// Parses an address to listen on. Host names are rejected, because they can have several addresses.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected a numeric address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Parses a refresh interval, clamped to at least 20 ms: a shorter interval would only waste processor time.
pub(crate) fn every(text: &str) -> Result<Duration, String> {
    duration(text).map(|time| time.max(Duration::from_millis(20)))
}

/// Parses a period for the rate limiter or the circuit breaker of `run`, within the bounds that these accept.
pub(crate) fn restart_period(text: &str) -> Result<Duration, String> {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    within(text, Duration::from_millis(1)..=CENTURY, "1ms to 100 years")
}

/// Parses a heartbeat interval.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    within(text, INTERVAL_LIMITS, "1ms to a day")
}

fn within(text: &str, bounds: RangeInclusive<Duration>, shown: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if bounds.contains(&time) { Ok(time) } else { Err(format!("out of range: expected {shown}")) }
}

/// Parses a number of restarts or crashes, with the bounds of the configuration.
pub(crate) fn count() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1_000_000)
}

/// Parses a duration that is not zero.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("must be positive".to_owned()) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_numeric_and_has_a_port() {
        for wrong in ["localhost:0", "80", "127.0.0.1", "::1", "127.0.0.1:99999", ""] {
            assert!(address(wrong).unwrap_err().contains("127.0.0.1:8080"), "{wrong}");
        }
        assert_eq!(address("[::1]:0"), Ok(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(file_mode("640"), Ok(0o640));
        assert_eq!(file_mode("0644"), Ok(0o644));
        for wrong in ["", "8", "-1", "44", "1777", "u+r"] {
            assert!(file_mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_seconds_or_texts() {
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "-1", "soon", "NaN", "inf", "-3s", "1e300"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
