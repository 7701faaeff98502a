//! Draws the chart of growing costs: a line per operation, both axes logarithmic.

use std::fmt::Write as _;

use super::STYLE;
use crate::report::nanos;
use crate::scenes::growth::Growth;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 420.0;
/// The margins of the plot: left, top, right (for names), bottom.
const FREE: (f64, f64, f64, f64) = (60.0, 64.0, 250.0, 40.0);
const NUMBERS: (f64, f64) = (1.0, 10_000_000.0);
const COSTS: (f64, f64) = (1.0, 10_000.0);

/// Draws the lines; their names are in the order of the cost, and do not overlap.
pub(crate) fn svg(growths: &[Growth]) -> String {
    let x = |number: f64| FREE.0 + (WIDTH - FREE.0 - FREE.2) * share(number, NUMBERS);
    let y = |cost: f64| HEIGHT - FREE.3 - (HEIGHT - FREE.1 - FREE.3) * share(cost, COSTS);
    let mut body = String::new();
    for power in 0..=4 {
        let cost = 10_f64.powi(power);
        let (left, right, y) = (FREE.0, WIDTH - FREE.2, y(cost));
        let _ = writeln!(
            body,
            "<line class=\"line\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"name soft\" x=\"{:.1}\" y=\"{:.1}\">{cost} ns</text>",
            left - 8.0,
            y + 4.0,
        );
    }
    for power in 0..=7 {
        let number = 10_f64.powi(power);
        let _ = writeln!(
            body,
            "<text class=\"soft\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x(number),
            HEIGHT - FREE.3 + 18.0,
            count(number),
        );
    }
    // Names are at the ends of their lines.
    let mut ends: Vec<_> =
        growths.iter().filter_map(|growth| growth.points.last().map(|(_, cost)| (y(*cost), *cost, growth))).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = FREE.1 - 16.0;
    for (end, cost, growth) in ends {
        let points: Vec<_> =
            growth.points.iter().map(|(number, cost)| format!("{:.1},{:.1}", x(*number as f64), y(*cost))).collect();
        above = end.max(above + 16.0);
        let name = growth.title.trim_start_matches("scaling: ");
        let _ = writeln!(
            body,
            "<polyline fill=\"none\" stroke=\"#0b7285\" stroke-width=\"2\" points=\"{}\"/>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{name}: {} ns</text>",
            points.join(" "),
            WIDTH - FREE.2 + 12.0,
            above + 4.0,
            nanos(cost),
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"Nanoseconds for one operation, by the number of objects\">\n\
         <style>\n{STYLE}\n</style>\n<text class=\"head\" x=\"16\" y=\"26\">Nanoseconds for one operation, by the \
         number of waiters, keys, breakers or watchdogs</text>\n<text class=\"soft\" x=\"16\" y=\"45\">Both axes \
         logarithmic; medians of one run of scripts/bench.</text>\n{body}</svg>\n"
    )
}

/// Returns the position of `value` on a logarithmic axis, from 0 to 1.
fn share(value: f64, (least, most): (f64, f64)) -> f64 {
    ((value / least).ln() / (most / least).ln()).clamp(0.0, 1.0)
}

fn count(number: f64) -> String {
    match number {
        1e6.. => format!("{} M", number / 1e6),
        1e3.. => format!("{} k", number / 1e3),
        _ => format!("{number}"),
    }
}
