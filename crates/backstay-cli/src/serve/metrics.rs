//! Metrics in the text format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::snapshot::{ServiceSnapshot, Snapshot};
use crate::heartbeats::{Severity, State};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of `serve` itself.
pub(super) struct Own {
    pub(super) requests: u64,
    pub(super) connections: usize,
    /// Seconds since the last snapshot.
    pub(super) read_age: f64,
    pub(super) is_ready: bool,
}

pub(super) fn text(snapshot: Option<&Snapshot>, own: &Own) -> String {
    let mut page = Page(String::new());
    let services = snapshot.map_or(&[][..], |snapshot| &snapshot.services);
    let flag = |holds: bool| Some(if holds { 1.0 } else { 0.0 });
    page.each(services, "up", "gauge", "Whether the service is alive.", |service| {
        flag(service.check.result.state() == State::Alive)
    });
    page.each(services, "ready", "gauge", "Whether it is alive, and not degraded, starting or stopping.", |service| {
        flag(service.severity() == Severity::Healthy)
    });
    let help = "Exit code of `backstay probe`: 0 alive, 3 stale, 4 process gone, 6 stopped, 7 missing, 8 damaged, 12 not running.";
    page.each(services, "code", "gauge", help, |service| Some(f64::from(service.check.result.code())));
    page.each(services, "age_seconds", "gauge", "Time since the last beat.", |service| {
        service.check.age.map(|age| age.as_secs_f64())
    });
    page.each(services, "beats_total", "counter", "Beats that its process wrote.", |service| {
        service.check.heartbeat.as_ref()?.sequence.map(float)
    });
    page.each(services, "restarts_total", "counter", "Restarts by `backstay run`.", |service| {
        service.count("restarts").map(float)
    });
    page.each(services, "freezes_total", "counter", "Freezes that `backstay run` saw.", |service| {
        service.count("freezes").map(float)
    });
    let left_out = snapshot.map_or(0, |snapshot| snapshot.left_out);
    for (name, kind, help, value) in [
        ("ready", "gauge", "Whether the folder can be read.", flag(own.is_ready).unwrap_or_default()),
        ("looks_total", "counter", "Looks at the folder.", float(snapshot.map_or(0, |snapshot| snapshot.number))),
        ("look_age_seconds", "gauge", "Time since the last look.", own.read_age),
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
        services: &[ServiceSnapshot],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&ServiceSnapshot) -> Option<f64>,
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

/// Escapes characters that would end the label or the line.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Prometheus uses floating point too, with the same inexact values beyond 2^53.
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
