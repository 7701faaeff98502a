//! The report of a run, as text, Markdown and JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use crate::harness::{Sample, Side};
use crate::scenes::growth::Growth;
use crate::scenes::waiting::{IDEAL, WaitResult};

/// The results of one operation.
pub(crate) struct OperationResults {
    pub(crate) title: &'static str,
    pub(crate) note: &'static str,
    pub(crate) names: Vec<(&'static str, Side)>,
    /// For each number of threads, the samples in the order of `names`.
    pub(crate) samples: Vec<(usize, Vec<Sample>)>,
}

impl OperationResults {
    /// Returns the cost of the named peer, or of the cheapest one.
    pub(crate) fn peer(&self, threads: usize, name: Option<&str>) -> Option<(&'static str, f64)> {
        let (_, samples) = self.samples.iter().find(|(count, _)| *count == threads)?;
        let peers = self.names.iter().zip(samples).filter(|((other, side), _)| match name {
            Some(name) => *other == name,
            None => *side == Side::Peer,
        });
        peers.map(|((name, _), sample)| (*name, sample.median)).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns the cost of our contestant.
    pub(crate) fn ours(&self, threads: usize) -> Option<f64> {
        let (_, samples) = self.samples.iter().find(|(count, _)| *count == threads)?;
        self.names.iter().zip(samples).find(|((_, side), _)| *side == Side::Ours).map(|(_, sample)| sample.median)
    }
}

/// One row of the budgets.
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) limit: f64,
    pub(crate) unit: Unit,
    /// How many measurements it took.
    pub(crate) tries: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A multiple of a peer's cost.
    Times,
    /// A share, which must be at least the limit.
    AtLeastPercent,
    Percent,
    Milliseconds,
    Microseconds,
    /// A number of things, at most the limit.
    Count,
    Bytes,
    Allocations,
}

impl Budget {
    pub(crate) fn holds(&self) -> bool {
        match self.unit {
            Unit::AtLeastPercent => self.measured >= self.limit,
            _ => self.measured <= self.limit,
        }
    }

    fn figures(&self) -> (String, String) {
        let figure = |number: f64| match self.unit {
            Unit::Times => format!("{number:.2} x"),
            Unit::AtLeastPercent | Unit::Percent => format!("{number:.2} %"),
            Unit::Milliseconds => format!("{number:.1} ms"),
            Unit::Microseconds => format!("{number:.1} µs"),
            Unit::Bytes => format!("{number:.1} B"),
            Unit::Allocations | Unit::Count => format!("{number:.0}"),
        };
        let sign = if self.unit == Unit::AtLeastPercent { ">=" } else { "<=" };
        (figure(self.measured), format!("{sign} {}", figure(self.limit)))
    }
}

/// All results of a run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) method: String,
    pub(crate) operations: Vec<OperationResults>,
    pub(crate) waited: Vec<WaitResult>,
    pub(crate) growths: Vec<Growth>,
    /// Sizes and shares, as pairs of name and value.
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) budgets: Vec<Budget>,
}

impl Report {
    /// Formats the report for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.machine, self.method);
        for results in &self.operations {
            let _ = write!(text, "\n{:<26}", results.title);
            for (threads, _) in &results.samples {
                let _ = write!(text, "{:>11}   quartiles  x best peer", plural(*threads, "thread"));
            }
            let _ = writeln!(text, "\n  ({})", results.note);
            for (index, (name, _)) in results.names.iter().enumerate() {
                let _ = write!(text, "  {name:<24}");
                for (threads, samples) in &results.samples {
                    let sample = samples[index];
                    let quartiles = format!("{} - {}", nanos(sample.quartiles.0), nanos(sample.quartiles.1));
                    let ratio = ratio(results, *threads, sample);
                    let median = format!("{}{}", if sample.disturbed { "~" } else { "" }, nanos(sample.median));
                    let _ = write!(text, "{median:>11}{quartiles:>12}{ratio:>13}");
                }
                text.push('\n');
            }
        }
        if !self.waited.is_empty() {
            let _ = writeln!(text, "\n{:<26}{:>11}{:>14}{:>26}", WAITING, "rate", "worst wait", "tokens of a task");
            for waited in &self.waited {
                let [name, rate, worst, spread] = cells(waited);
                let _ = writeln!(text, "  {name:<24}{rate:>11}{worst:>14}{spread:>26}");
            }
        }
        for growth in &self.growths {
            let points = growth.points.iter().map(|(size, cost)| format!("{size}: {}", nanos(*cost)));
            let _ =
                writeln!(text, "\n{} (ns; {})\n  {}", growth.title, growth.note, points.collect::<Vec<_>>().join("  "));
        }
        text.push('\n');
        for (what, figure) in &self.facts {
            let _ = writeln!(text, "{what}: {figure}");
        }
        text.push_str("\nBudgets (one that fails is measured up to three times)\n");
        for budget in &self.budgets {
            let (measured, limit) = budget.figures();
            let status = if budget.holds() { "PASS" } else { "FAIL" };
            let tries = if budget.tries > 1 { format!("  (measured {} times)", budget.tries) } else { String::new() };
            let _ = writeln!(text, "  {status}  {:<58}{measured:>10}  {limit}{tries}", budget.what);
        }
        text
    }

    /// Formats the report for `docs/benchmarks.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("# The cost of Backstay, compared with other crates\n\nWritten by `scripts/bench`.\n\n");
        let _ = write!(text, "![Nanoseconds for one operation](benchmarks.svg)\n\n{}\n\n", self.machine);
        let _ = write!(text, "## Method\n\n{}\n\n## Operations\n\n", self.method);
        text.push_str("Nanoseconds for one operation as its caller sees it: median (quartiles), and as a\n");
        text.push_str("multiple of the fastest peer's cost.\n");
        for results in &self.operations {
            let _ = write!(text, "\n### {}\n\n{}.\n\n| |", capital(results.title), capital(results.note));
            for (threads, _) in &results.samples {
                let _ = write!(text, " {} | |", plural(*threads, "thread"));
            }
            let _ = write!(text, "\n|---|{}\n", "--:|--:|".repeat(results.samples.len()));
            for (index, (name, side)) in results.names.iter().enumerate() {
                let mark = if *side == Side::Ours { "**" } else { "" };
                let _ = write!(text, "| {mark}{name}{mark} |");
                for (threads, samples) in &results.samples {
                    let sample = samples[index];
                    let (low, high) = sample.quartiles;
                    let ratio = ratio(results, *threads, sample);
                    let median = format!("{}{}", if sample.disturbed { "~" } else { "" }, nanos(sample.median));
                    let _ = write!(text, " {mark}{median}{mark} ({}–{}) |", nanos(low), nanos(high));
                    let _ = write!(text, " {ratio} |");
                }
                text.push('\n');
            }
        }
        let _ = write!(
            text,
            "\n### {}\n\n| | rate | worst wait | tokens of a task |\n|---|--:|--:|--:|\n",
            capital(WAITING)
        );
        for waited in &self.waited {
            let _ = writeln!(text, "| {} |", cells(waited).join(" | "));
        }
        self.growth_table(&mut text);
        text.push_str("\n## Sizes and shares\n\n| | |\n|---|--:|\n");
        for (what, figure) in &self.facts {
            let _ = writeln!(text, "| {what} | {figure} |");
        }
        text.push_str("\n## Budgets\n\n`scripts/bench` fails if a budget is exceeded.\n\n| | measured | budget | |\n|---|--:|--:|---|\n");
        for budget in &self.budgets {
            let (measured, limit) = budget.figures();
            let limit = limit.replace("<=", "≤").replace(">=", "≥");
            let status = if budget.holds() { "holds" } else { "**fails**" };
            let _ = writeln!(text, "| {} | {measured} | {limit} | {status} |", budget.what);
        }
        text
    }

    fn growth_table(&self, text: &mut String) {
        if self.growths.is_empty() {
            return;
        }
        text.push_str("\n## Scaling\n\n![Nanoseconds for one operation, by the number of objects](scaling.svg)\n\n");
        text.push_str("Nanoseconds for one operation, by the number of objects.\n\n| |");
        let sizes: BTreeSet<_> = self.growths.iter().flat_map(|growth| &growth.points).map(|(size, _)| *size).collect();
        sizes.iter().for_each(|size| text.push_str(&format!(" {size} |")));
        let _ = writeln!(text, "\n|---|{}", "--:|".repeat(sizes.len()));
        for growth in &self.growths {
            let _ = write!(text, "| {}: {} |", growth.title.trim_start_matches("scaling: "), growth.note);
            for size in &sizes {
                let cost = growth.points.iter().find(|(known, _)| known == size);
                let _ = write!(text, " {} |", cost.map_or_else(String::new, |(_, cost)| nanos(*cost)));
            }
            text.push('\n');
        }
    }

    /// Formats the report for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let operations = self.operations.iter().flat_map(|results| {
            results.samples.iter().flat_map(move |(threads, samples)| {
                results.names.iter().zip(samples).map(move |((name, side), sample)| {
                    json!({
                        "operation": results.title, "threads": threads, "name": name, "side": format!("{side:?}"),
                        "ns": sample.median, "quartiles": [sample.quartiles.0, sample.quartiles.1],
                        "windows": sample.windows, "discarded": sample.discarded, "disturbed": sample.disturbed,
                    })
                })
            })
        });
        let waiting = self.waited.iter().map(|waited| {
            json!({
                "name": waited.name, "rate_reached": waited.reached, "worst_wait_ms": waited.worst.as_secs_f64() * 1e3,
                "tokens_of_a_task": [waited.spread.0, waited.spread.1],
            })
        });
        let growths = self.growths.iter().map(|growth| json!({ "operation": growth.title, "ns": growth.points }));
        let budgets = self.budgets.iter().map(|budget| {
            json!({ "what": budget.what, "measured": budget.measured, "limit": budget.limit, "holds": budget.holds() })
        });
        json!({
            "machine": self.machine,
            "operations": operations.collect::<Vec<_>>(),
            "waiting": waiting.collect::<Vec<_>>(),
            "scaling": growths.collect::<Vec<_>>(),
            "facts": self.facts,
            "budgets": budgets.collect::<Vec<_>>(),
        })
    }
}

const WAITING: &str = "20 waiting tasks";

fn cells(waited: &WaitResult) -> [String; 4] {
    let worst = format!("{:.1} ms", waited.worst.as_secs_f64() * 1e3);
    let (least, most) = waited.spread;
    [waited.name.into(), format!("{:.2} %", waited.reached * 100.0), worst, format!("{least} to {most}")]
}

fn ratio(results: &OperationResults, threads: usize, sample: Sample) -> String {
    results.peer(threads, None).map_or_else(String::new, |(_, best)| format!("{:.2}", sample.median / best))
}

/// Formats a cost with at most three digits, which is what a measurement is worth.
pub(crate) fn nanos(cost: f64) -> String {
    if cost < 10.0 { format!("{cost:.1}") } else { format!("{cost:.0}") }
}

pub(crate) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the limits of the waiting tasks: the rate in percent, the longest wait in milliseconds.
pub(crate) fn waiting_limits() -> (f64, f64) {
    (99.9, IDEAL.as_secs_f64() * 1e3 * 2.0)
}
