//! Draws the chart of the README: a panel per operation, a pair of bars per contestant.

pub(crate) mod growth;

use std::fmt::Write as _;

use crate::harness::{Sample, Side};
use crate::report::{OperationResults, nanos};

/// The operations in the chart, in reading order.
const PANELS: [&str; 16] = [
    "limiter, granted",
    "limiter, granted when full",
    "limiter, rejected",
    "limiter, rejected, retry after",
    "limiter, saturated at 1,000/s",
    "limiter, saturated at 100,000/s",
    "limiter, acquire in a task",
    "limiter, full, calls 1 ms apart",
    "breaker, closed",
    "breaker, open",
    "breaker, closed, in a task",
    "breaker, permit",
    "breaker, failing and succeeding",
    "keyed limiter, 1,000 idle keys",
    "keyed limiter, 1 M keys",
    "watchdog ping",
];

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
const GUTTER: f64 = 40.0;
const HEAD: f64 = 78.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GUTTER) / 2.0;
const NAMES: f64 = 118.0;
/// Space for the figure after the longest bar.
const FIGURES: f64 = 34.0;
const BAR: f64 = 9.0;
const ROW: f64 = 2.0 * BAR + 11.0;
const TITLE: f64 = 30.0;
const AXIS: f64 = 34.0;
/// The range of the axis in nanoseconds, the same in all panels.
const SCALE: (f64, f64) = (0.5, 5000.0);
const LINES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// Readable on light and dark backgrounds.
const STYLE: &str = "\
  text { font-family: system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif; fill: #24292f }
  .head { font-size: 17px; font-weight: 600 }
  .title { font-size: 14px; font-weight: 600 }
  .name { font-size: 12px; text-anchor: end }
  .figure { font-size: 10px }
  .soft { font-size: 11px; fill: #656d76 }
  .ours { fill: #0b7285 }
  .peer { fill: #98a1ab }
  .floor { fill: none; stroke: #98a1ab; stroke-dasharray: 3 2 }
  .two { opacity: 0.6 }
  .line { stroke: #98a1ab; stroke-opacity: 0.35 }
  text.strong { font-weight: 600; fill: #0b7285 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .soft { fill: #9aa4ae }
    .ours { fill: #3bc9db }
    .peer { fill: #6e7781 }
    text.strong { fill: #3bc9db }
  }";

/// Draws the operations that were measured.
pub(crate) fn svg(operations: &[OperationResults]) -> String {
    let panels: Vec<_> =
        PANELS.iter().filter_map(|title| operations.iter().find(|results| results.title == *title)).collect();
    let mut body = String::new();
    let mut top = HEAD;
    for pair in panels.chunks(2) {
        let rows = pair.iter().map(|results| rows(results).len()).max().unwrap_or(0);
        for (column, results) in pair.iter().enumerate() {
            panel(&mut body, results, MARGIN + column as f64 * (PANEL + GUTTER), top);
        }
        top += TITLE + rows as f64 * ROW + AXIS;
    }
    let legend = legend();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         role=\"img\" aria-label=\"Nanoseconds for one operation, Backstay and other crates\">\n\
         <style>\n{STYLE}\n</style>\n{legend}{body}</svg>\n"
    )
}

fn legend() -> String {
    format!(
        "<text class=\"head\" x=\"{MARGIN}\" y=\"26\">Nanoseconds for one operation</text>\n\
         <text class=\"soft\" x=\"{MARGIN}\" y=\"45\">Logarithmic, shorter is better; medians of alternating short windows, \
         in one run of scripts/bench.</text>\n\
         <rect class=\"ours\" x=\"{MARGIN}\" y=\"55\" width=\"22\" height=\"{BAR}\" rx=\"2\"/>\n\
         <text class=\"soft\" x=\"{}\" y=\"63\">one thread</text>\n\
         <rect class=\"ours two\" x=\"{}\" y=\"55\" width=\"22\" height=\"{BAR}\" rx=\"2\"/>\n\
         <text class=\"soft\" x=\"{}\" y=\"63\">two threads on one object</text>\n\
         <rect class=\"floor\" x=\"{}\" y=\"55.5\" width=\"22\" height=\"{}\" rx=\"2\"/>\n\
         <text class=\"soft\" x=\"{}\" y=\"63\">lower bound</text>\n",
        MARGIN + 28.0,
        MARGIN + 104.0,
        MARGIN + 132.0,
        MARGIN + 296.0,
        BAR - 1.0,
        MARGIN + 324.0,
    )
}

/// A row of a panel: the name, its side, and the samples by number of threads.
type Row = (&'static str, Side, Vec<(usize, Sample)>);

fn rows(results: &OperationResults) -> Vec<Row> {
    let samples = |index: usize| results.samples.iter().map(|(threads, samples)| (*threads, samples[index])).collect();
    let rows = results.names.iter().enumerate().map(|(index, &(name, side))| (name, side, samples(index)));
    rows.filter(|(_, side, _)| *side != Side::OursToo).collect()
}

fn panel(body: &mut String, results: &OperationResults, left: f64, top: f64) {
    let rows = rows(results);
    let begin = left + NAMES;
    let length = PANEL - NAMES - FIGURES;
    let at = |cost: f64| {
        let share = (cost / SCALE.0).ln() / (SCALE.1 / SCALE.0).ln();
        begin + length * share.clamp(0.005, 1.0)
    };
    let bottom = top + TITLE + rows.len() as f64 * ROW - 4.0;

    let _ = writeln!(body, "<text class=\"title\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>", top + 14.0, results.title);
    for cost in LINES {
        let x = at(cost);
        let _ = writeln!(
            body,
            "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"soft\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{cost}{}</text>",
            top + TITLE - 4.0,
            bottom + 13.0,
            if cost == 1.0 { " ns" } else { "" },
        );
    }
    for (number, (name, side, samples)) in rows.iter().enumerate() {
        let y = top + TITLE + number as f64 * ROW;
        let (class, strong) = match side {
            Side::Ours | Side::OursToo => ("ours", " strong"),
            Side::Peer => ("peer", ""),
            Side::Floor => ("floor", ""),
        };
        let x = begin - 8.0;
        let _ = writeln!(body, "<text class=\"name{strong}\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>", y + BAR + 4.5);
        for (index, (threads, sample)) in samples.iter().enumerate() {
            let y = y + index as f64 * (BAR + 1.5);
            let end = at(sample.median);
            let two = if *threads > 1 { " two" } else { "" };
            let _ = writeln!(
                body,
                "<rect class=\"{class}{two}\" x=\"{begin:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>\
                 <text class=\"figure{strong}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                end - begin,
                end + 5.0,
                y + BAR - 0.8,
                nanos(sample.median),
            );
        }
    }
}
