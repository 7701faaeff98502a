//! `backstay config`: checks the configuration, and shows every setting with its origin.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backstay::config::{self, ConfigErrors, Origin, Setting, Sources, Value, Warning};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::output::{self, Paint, Tone, pad, printable, printable_lines, width};

const BROKEN: u8 = 1;

/// Check or show the configuration: backstay.yml, kstlib.conf.yml and BACKSTAY_* variables
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Files:
  ./backstay.yml, ./kstlib.conf.yml, then the same two in ~ and in ~/.config;
  the first file that sets a key determines it, unless a variable does.
  BACKSTAY_CONFIG names one file that is read in place of these.")]
pub(crate) enum ConfigCommand {
    Check(CheckArguments),
    Show(ShowArguments),
}

/// Check the configuration; errors name the file, line, column, key and allowed values
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  valid, perhaps with warnings
  1  invalid; with --strict, also after a warning
  2  invalid command line")]
pub(crate) struct CheckArguments {
    /// File to check [default: every file and variable that a program started here would read]
    file: Option<PathBuf>,
    /// Treat warnings (unknown keys, out-of-range numbers) as errors
    #[arg(long)]
    strict: bool,
}

/// Show every setting: its value, and where it comes from
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// File to show [default: every file and variable that a program started here would read]
    file: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn config(arguments: &ConfigCommand) -> ExitCode {
    match arguments {
        ConfigCommand::Check(arguments) => check(arguments),
        ConfigCommand::Show(arguments) => show(arguments),
    }
}

fn check(arguments: &CheckArguments) -> ExitCode {
    let Some(config) = load(arguments.file.as_deref()) else { return ExitCode::from(BROKEN) };
    let warnings = config.warnings();
    warn(warnings);
    if arguments.strict && !warnings.is_empty() {
        return ExitCode::from(BROKEN);
    }
    let given = config.settings().filter(|setting| setting.origin != Origin::Default).count();
    output::line(&match given {
        0 => "Config OK: no settings, only defaults".to_owned(),
        1 => "Config OK: 1 setting".to_owned(),
        _ => format!("Config OK: {given} settings"),
    });
    ExitCode::SUCCESS
}

fn show(arguments: &ShowArguments) -> ExitCode {
    let Some(config) = load(arguments.file.as_deref()) else { return ExitCode::from(BROKEN) };
    let settings: Vec<Setting> = config.settings().collect();
    if arguments.json {
        let settings: Vec<_> = settings.iter().map(to_json).collect();
        output::line(&output::json(&serde_json::Value::from(settings)));
        return ExitCode::SUCCESS;
    }
    warn(config.warnings());
    let paint = Paint::for_stream(&io::stdout());
    let rows: Vec<(String, String, &Origin)> =
        settings.iter().map(|setting| (printable(&setting.key), value(setting), &setting.origin)).collect();
    let keys = rows.iter().map(|(key, ..)| width(key)).max().unwrap_or_default();
    let values = rows.iter().map(|(_, value, _)| width(value)).max().unwrap_or_default();
    for (key, value, origin) in &rows {
        let tone = if **origin == Origin::Default { Tone::Faint } else { Tone::Strong };
        let value = paint.apply(tone, &pad(value, values));
        output::line(&format!(
            "{}  {value}  {}",
            pad(key, keys),
            paint.apply(Tone::Faint, &printable(&origin.to_string()))
        ));
    }
    ExitCode::SUCCESS
}

/// Loads the configuration; prints the errors if it is invalid.
fn load(file: Option<&Path>) -> Option<config::Config> {
    let sources = file.map_or_else(Sources::of_process, |file| Sources::none().only_file(file));
    let report = |invalid: ConfigErrors| {
        warn(invalid.valid.warnings());
        for error in &invalid.errors {
            output::error(&format!("error: {}", printable_lines(&error.to_string())));
        }
    };
    config::Config::check(&sources).map_err(report).ok()
}

fn warn(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| output::error(&format!("warning: {warning}")));
}

fn value(setting: &Setting) -> String {
    match setting.value {
        Some(Value::Seconds(time)) => format!("{} s", time.as_secs_f64()),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    }
}

fn to_json(setting: &Setting) -> serde_json::Value {
    let value = match setting.value {
        Some(Value::Count(count)) => json!(count),
        Some(Value::Seconds(time)) => json!(time.as_secs_f64()),
        Some(Value::Number(number)) => json!(number),
        Some(Value::Flag(flag)) => json!(flag),
        Some(Value::Word(word)) => json!(word),
        _ => json!(null),
    };
    let from = match &setting.origin {
        Origin::Environment(variable) => json!({"variable": &**variable}),
        Origin::File { path, place } => {
            let place = place.as_ref();
            let (line, column) = (place.map(|place| place.line), place.map(|place| place.column));
            json!({"file": path.to_string_lossy(), "line": line, "column": column})
        }
        _ => json!("default"),
    };
    json!({"key": setting.key, "value": value, "from": from})
}
