//! Draws the table of services.

use std::time::Duration;

use backstay::heartbeat::HeartbeatState;

use super::Service;
use crate::heartbeats::Severity;
use crate::output::{Paint, Tone, pad, printable, width};

const HEAD: [&str; COLUMNS] = ["STATE", "NAME", "AGE", "PID", "HOST", "SEQ", "STATUS"];
const COLUMNS: usize = 7;
/// Columns of numbers, which are aligned to the right.
const RIGHT: [usize; 3] = [2, 3, 5];
/// Maximum width of a name or host, in terminal cells, so that one long name does not move all columns off the screen.
const MAX_WIDTH: usize = 40;
/// Maximum width of a status text, in terminal cells.
const MAX_STATUS_WIDTH: usize = 120;

/// Returns the header, and a line for each service.
pub(super) fn draw(services: &[Service], paint: Paint) -> String {
    let rows: Vec<[String; COLUMNS]> = services.iter().map(row).collect();
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| width(&row[column]));
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(widest);
    let mut text = paint.apply(Tone::Faint, &line(&HEAD.map(str::to_owned), &widths, |_, cell| cell));
    text.push('\n');
    for (row, service) in rows.iter().zip(services) {
        text += &line(row, &widths, |column, cell| match column {
            0 => paint.apply(tone(service.check.severity()), &cell),
            1 => paint.apply(Tone::Strong, &cell),
            _ => cell,
        });
        text.push('\n');
    }
    text
}

fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Healthy => Tone::Good,
        Severity::Unready | Severity::Unknown => Tone::Warning,
        Severity::Stopped => Tone::Faint,
        Severity::Dead => Tone::Bad,
    }
}

fn line(row: &[String; COLUMNS], widths: &[usize; COLUMNS], style: impl Fn(usize, String) -> String) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, wide))| {
        let cell = match column {
            column if column == COLUMNS - 1 => cell.clone(),
            // Numbers are ASCII: characters are cells.
            column if RIGHT.contains(&column) => format!("{cell:>wide$}"),
            _ => pad(cell, *wide),
        };
        style(column, cell)
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn row(service: &Service) -> [String; COLUMNS] {
    let check = &service.check;
    let heartbeat = check.heartbeat.as_ref();
    let of = |what: fn(&HeartbeatState) -> Option<String>| heartbeat.and_then(what).unwrap_or_else(|| "-".to_owned());
    [
        check.result.state().as_str().to_owned(),
        cut(&service.name, MAX_WIDTH),
        check.age.map_or_else(|| "-".to_owned(), short_duration),
        of(|state| Some(state.pid.to_string())),
        of(|state| Some(cut(&state.hostname, MAX_WIDTH))),
        of(|state| state.sequence.map(|sequence| sequence.to_string())),
        cut(&check.summary(), MAX_STATUS_WIDTH),
    ]
}

/// Cuts a text to a width in terminal cells.
fn cut(text: &str, longest: usize) -> String {
    // Bounds characters without a width, of which any number would fit.
    let text = printable(&text.chars().take(4 * longest).collect::<String>());
    if width(&text) <= longest {
        return text;
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if width(&short) >= longest {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// Formats a duration in its two largest units.
pub(super) fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_their_width_in_cells() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("日本語日本語", 12), "日本語日本語");
        assert_eq!(cut("日本語日本語", 7), "日本語…");
        assert_eq!(width(&cut("👩‍🚀👩‍🚀👩‍🚀👩‍🚀", 5)), 5);
        assert!(cut(&"a\u{301}".repeat(100_000), 40).chars().count() <= 160);
    }

    #[test]
    fn durations_are_shown_in_their_largest_units() {
        let shown = |seconds: f64| short_duration(Duration::from_secs_f64(seconds));
        assert_eq!(shown(0.34), "0.3 s");
        assert_eq!(shown(59.9), "59 s");
        assert_eq!(shown(61.0), "1 m 01 s");
        assert_eq!(shown(7300.0), "2 h 01 m");
        assert_eq!(shown(90_000.0), "1 d 01 h");
        assert!(!short_duration(Duration::MAX).is_empty());
    }
}
