//! What Prometheus scrapes: its text format, version 0.0.4.

use std::fmt::Write;

use super::board::{Board, Service};
use crate::verdict::{Look, State};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `serve` says of itself.
pub(super) struct Own {
    pub(super) requests: u64,
    pub(super) connections: usize,
    /// Seconds since the last look.
    pub(super) look_age: f64,
    pub(super) is_ready: bool,
}

pub(super) fn text(board: Option<&Board>, own: &Own) -> String {
    let mut page = Page(String::new());
    let services = board.map_or(&[][..], |board| &board.services);
    let flag = |holds: bool| Some(if holds { 1.0 } else { 0.0 });
    page.each(services, "up", "gauge", "Whether the service is alive.", |service| {
        flag(service.sighting.verdict.state() == State::Alive)
    });
    page.each(services, "ready", "gauge", "Whether it is alive, and not degraded, starting or stopping.", |service| {
        flag(service.look() == Look::Well)
    });
    let help = "Exit code of `backstay probe`: 0 alive, 3 stale, 4 process gone, 6 stopped, 7 missing, 8 damaged, 12 not running.";
    page.each(services, "code", "gauge", help, |service| Some(f64::from(service.sighting.verdict.code())));
    page.each(services, "age_seconds", "gauge", "Time since the last beat.", |service| {
        service.sighting.age.map(|age| age.as_secs_f64())
    });
    page.each(services, "beats_total", "counter", "Beats that its process wrote.", |service| {
        service.sighting.heartbeat.as_ref()?.sequence.map(float)
    });
    page.each(services, "restarts_total", "counter", "Restarts by `backstay run`.", |service| {
        service.count("restarts").map(float)
    });
    page.each(services, "freezes_total", "counter", "Freezes that `backstay run` saw.", |service| {
        service.count("freezes").map(float)
    });
    let left_out = board.map_or(0, |board| board.left_out);
    for (name, kind, help, value) in [
        ("ready", "gauge", "Whether the folder can be read.", flag(own.is_ready).unwrap_or_default()),
        ("looks_total", "counter", "Looks at the folder.", float(board.map_or(0, |board| board.number))),
        ("look_age_seconds", "gauge", "Time since the last look.", own.look_age),
        ("left_out", "gauge", "Heartbeats beyond what is shown.", float(left_out as u64)),
        ("requests_total", "counter", "Requests that were answered.", float(own.requests)),
        ("connections", "gauge", "Connections that are open.", float(own.connections as u64)),
    ] {
        page.head(&format!("backstay_serve_{name}"), kind, help);
        page.line(&format!("backstay_serve_{name}"), value);
    }
    page.0
}

struct Page(String);

impl Page {
    fn each(
        &mut self,
        services: &[Service],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&Service) -> Option<f64>,
    ) {
        let name = format!("backstay_heartbeat_{name}");
        self.head(&name, kind, help);
        for service in services {
            if let Some(value) = value(service) {
                self.line(&format!("{name}{{name=\"{}\"}}", label(&service.name)), value);
            }
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, series: &str, value: f64) {
        let _ = writeln!(self.0, "{series} {value}");
    }
}

/// As the format wants it: what would end the label or the line is escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Prometheus counts in floating point; beyond 2^53 it is inexact as well.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_end_early() {
        assert_eq!(label("a\"} 1\nb\\"), r#"a\"} 1\nb\\"#);
    }
}
