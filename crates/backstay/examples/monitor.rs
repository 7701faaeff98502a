//! The other process: says whether a service lives, by its heartbeat file.
//!
//! `cargo run --release --example monitor -- FILE [--max-age SECONDS] [--once]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backstay::heartbeat::{HeartbeatError, Liveness, Status};
use backstay::{GracefulShutdown, Heartbeat};

const HELP: &str = "\
Says whether a service lives, by its heartbeat file: a line now, and one for each change.

Usage: cargo run --release --example monitor -- FILE [OPTIONS]

Options:
      --max-age SECONDS  how old the last beat may be [default: 5]
      --once             look once; the exit code is 0 if it lives and 1 if not
  -h, --help             this text";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (file, max_age, once) = match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            eprintln!("error: {error}\n\nTry --help.");
            return Ok(ExitCode::from(2));
        }
    };
    if once {
        let (verdict, age) = look(&file, max_age);
        println!("{verdict}{age}");
        return Ok(if verdict.starts_with("ALIVE") { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // For Ctrl-C, and for a sleep that it ends.
    let shutdown = GracefulShutdown::new();
    shutdown.install()?;
    let mut last = String::new();
    let mut hinted = false;
    loop {
        let (verdict, age) = look(&file, max_age);
        if verdict != last {
            println!("{verdict}{age}");
            if let (false, Ok(Some(pid))) = (hinted, alive(&file, max_age)) {
                println!("         To see it freeze and come back: kill -STOP {pid}, then kill -CONT {pid}.");
                hinted = true;
            }
            last = verdict;
        }
        if shutdown.begun_within(LOOK) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The verdict; and the age of the last beat, which changes with every look.
fn look(file: &Path, max_age: Duration) -> (String, String) {
    let state = match Heartbeat::read_state(file) {
        Ok(state) => state,
        Err(error) => return (format!("UNKNOWN  {error}"), String::new()),
    };
    let pid = state.pid;
    let (verdict, age) = match state.liveness(max_age) {
        Liveness::Alive { age } => {
            (format!("ALIVE    process {pid}, {}", state.status.map_or("which does not say how", Status::as_str)), age)
        }
        Liveness::Stale { age } => (format!("DEAD     process {pid}: no beat for more than {max_age:?}"), age),
        Liveness::FromFuture { ahead } => {
            return (
                format!("UNKNOWN  process {pid}: beat in the future"),
                format!(", by {:.1} s", ahead.as_secs_f64()),
            );
        }
        dead => (format!("DEAD     process {pid}: {dead}"), state.timestamp.elapsed().unwrap_or_default()),
    };
    (verdict, format!(", last beat {:.1} s ago", age.as_secs_f64()))
}

/// The process, if it lives.
fn alive(file: &Path, max_age: Duration) -> Result<Option<u32>, HeartbeatError> {
    let state = Heartbeat::read_state(file)?;
    Ok(state.liveness(max_age).is_alive().then_some(state.pid))
}

type Options = (PathBuf, Duration, bool);

/// `None`: help was asked for.
fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Options>, String> {
    let (mut file, mut max_age, mut once) = (None, Duration::from_secs(5), false);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-h" | "--help") => return Ok(None),
            Some("--once") => once = true,
            Some("--max-age") => {
                let value = arguments.next().ok_or("--max-age needs a number of seconds")?;
                let seconds = value.to_str().and_then(|value| value.parse().ok());
                let given = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                max_age = given.ok_or(format!("--max-age {value:?} is not a number of seconds"))?;
            }
            Some(option) if option.starts_with('-') => return Err(format!("{option:?} is not an option")),
            _ if file.is_some() => return Err(format!("one file at a time, not {argument:?} too")),
            _ => file = Some(PathBuf::from(argument)),
        }
    }
    Ok(Some((file.ok_or("which file?")?, max_age, once)))
}
