//! Checks the host name of requests. This prevents DNS rebinding: a web page of another site could let its own name point
//! to this machine, and read the heartbeats through a browser here.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HOST;
use hyper::http::HeaderMap;

pub(super) struct Hosts {
    /// The allowed names; `None` allows all.
    allowed: Option<Vec<String>>,
}

impl Hosts {
    /// Checks names on a loopback address, or if names are given. On other addresses the valid names are unknown.
    pub(super) fn new(listen: SocketAddr, names: &[String]) -> Self {
        let is_checked = listen.ip().to_canonical().is_loopback() || !names.is_empty();
        Self { allowed: is_checked.then(|| names.iter().map(|name| name.to_ascii_lowercase()).collect()) }
    }

    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let host = host.to_str().unwrap_or_default().to_ascii_lowercase();
        let name = without_port(&host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        is_address || name == "localhost" || name.ends_with(".localhost") || allowed.iter().any(|other| other == name)
    }
}

/// Parses a name for `--allow-host`. A port is ignored.
pub(super) fn name(text: &str) -> Result<String, String> {
    let name = without_port(text);
    let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "/:@?#*".contains(c));
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_name || is_address { Ok(name.to_owned()) } else { Err("must be a name such as status.example".to_owned()) }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listen: &str, names: &[&str], hosts: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|&text| name(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        Hosts::new(listen.parse().unwrap(), &names).allow(&headers)
    }

    #[test]
    fn a_loopback_address_allows_only_addresses_and_localhost() {
        for listen in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1"] {
            for host in ["localhost", "LocalHost:80", "a.localhost", "127.0.0.1:8642", "[::1]:8642", "[::1]"] {
                assert!(allows(listen, &[], &[host]), "{listen} {host}");
            }
            for host in ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.evil", "", ":80"] {
                assert!(!allows(listen, &[], &[host]), "{listen} {host}");
            }
            assert!(!allows(listen, &[], &[]));
            assert!(!allows(listen, &[], &["localhost", "evil.example"]));
        }
    }

    #[test]
    fn names_can_be_allowed() {
        assert!(allows("127.0.0.1:1", &["Status.example"], &["status.example:443"]));
        assert!(!allows("0.0.0.0:1", &["status.example"], &["evil.example"]));
        assert!(allows("0.0.0.0:1", &[], &["whatever.example"]));
    }

    #[test]
    fn the_port_of_a_name_is_ignored() {
        for host in ["status.example", "status.example:443", "status.example:8443"] {
            assert!(allows("127.0.0.1:1", &["status.example:443"], &[host]), "{host}");
        }
        for wrong in ["", ":443", "https://status.example", "status.example/", "a b", "u@h", "*.example", "a:b:1"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name("[::1]:443").as_deref(), Ok("[::1]"));
    }
}
