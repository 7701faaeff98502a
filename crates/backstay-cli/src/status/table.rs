//! The table.

use std::time::Duration;

use backstay::heartbeat::HeartbeatState;
use serde_json::Value;

use super::Service;
use crate::output::{Paint, Tone, printable};
use crate::verdict::{Look, Sighting, State};

const HEAD: [&str; COLUMNS] = ["STATE", "NAME", "STATUS", "AGE", "PID", "HOST", "SEQ", "METADATA"];
const COLUMNS: usize = 8;
/// Numbers, which are easier to compare with their ends below each other.
const RIGHT: [usize; 3] = [3, 4, 6];
/// What is longer is cut: one service must not push the others' columns out of sight.
const LONGEST: usize = 40;

/// The head and a line for each service.
pub(super) fn draw(services: &[Service], paint: Paint) -> String {
    let rows: Vec<[String; COLUMNS]> = services.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = paint.apply(Tone::Faint, &line(&HEAD.map(str::to_owned), &widths, |_, cell| cell));
    text.push('\n');
    for (row, service) in rows.iter().zip(services) {
        text += &line(row, &widths, |column, cell| match column {
            0 => paint.apply(tone(service.sighting.look()), &cell),
            1 => paint.apply(Tone::Strong, &cell),
            _ => cell,
        });
        text.push('\n');
    }
    text
}

fn tone(look: Look) -> Tone {
    match look {
        Look::Well => Tone::Good,
        Look::Unready | Look::Unknown => Tone::Warning,
        Look::Stopped => Tone::Faint,
        Look::Dead => Tone::Bad,
    }
}

fn line(row: &[String; COLUMNS], widths: &[usize; COLUMNS], dress: impl Fn(usize, String) -> String) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let cell = match column {
            column if column == COLUMNS - 1 => cell.clone(),
            column if RIGHT.contains(&column) => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        };
        dress(column, cell)
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn row(service: &Service) -> [String; COLUMNS] {
    let sighting = &service.sighting;
    let heartbeat = sighting.heartbeat.as_ref();
    let of = |what: fn(&HeartbeatState) -> Option<String>| heartbeat.and_then(what).unwrap_or_else(|| "-".to_owned());
    [
        sighting.verdict.state().as_str().to_owned(),
        cut(&service.name),
        status(sighting),
        sighting.age.map_or_else(|| "-".to_owned(), rough),
        of(|state| Some(state.pid.to_string())),
        of(|state| Some(cut(&state.hostname))),
        of(|state| state.sequence.map(|sequence| sequence.to_string())),
        heartbeat.map(metadata).unwrap_or_default(),
    ]
}

/// What an alive one says of itself; why the others are not.
fn status(sighting: &Sighting) -> String {
    let said = sighting.heartbeat.as_ref().and_then(|heartbeat| heartbeat.status);
    match (sighting.verdict.state(), said) {
        (State::Alive, Some(status)) => status.as_str().to_owned(),
        (State::Alive, None) => "-".to_owned(),
        _ => sighting.verdict.as_str().to_owned(),
    }
}

/// The short ones first, so that a long one pushes none out of the window.
fn metadata(heartbeat: &HeartbeatState) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{}={}", cut(key), cut(text)),
        other => format!("{}={}", cut(key), cut(&other.to_string())),
    };
    let mut pairs: Vec<String> = heartbeat.metadata.iter().map(pair).collect();
    pairs.sort_by_key(|pair| pair.chars().count());
    pairs.join(" ")
}

fn cut(text: &str) -> String {
    let short = match text.chars().nth(LONGEST) {
        Some(_) => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        None => text.to_owned(),
    };
    printable(&short)
}

/// A length of time in the two units that matter.
pub(super) fn rough(time: Duration) -> String {
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
    fn a_long_fact_hides_no_short_one() {
        let json = serde_json::json!({
            "timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": "far",
            "metadata": {"command": "x".repeat(1000), "restarts": 3, "says": "well"},
        });
        let heartbeat = serde_json::from_value(json).unwrap();
        assert!(metadata(&heartbeat).starts_with("says=well restarts=3 command=xxx"));
    }

    #[test]
    fn times_are_shown_in_the_units_that_matter() {
        let shown = |seconds: f64| rough(Duration::from_secs_f64(seconds));
        assert_eq!(shown(0.34), "0.3 s");
        assert_eq!(shown(59.9), "59 s");
        assert_eq!(shown(61.0), "1 m 01 s");
        assert_eq!(shown(7300.0), "2 h 01 m");
        assert_eq!(shown(90_000.0), "1 d 01 h");
        assert!(!rough(Duration::MAX).is_empty());
    }
}
