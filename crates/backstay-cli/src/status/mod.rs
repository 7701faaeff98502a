//! `backstay status`: a table of services, printed once or redrawn.

mod arguments;
mod lines;
mod table;
mod terminal;
mod watch;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::heartbeats::files;
use crate::heartbeats::{CheckResult, HeartbeatCheck};
use crate::output::{self, Paint};
use arguments::Sort;
pub(crate) use arguments::StatusArguments;

pub(crate) fn status(arguments: &StatusArguments) -> ExitCode {
    let worst = if arguments.watch { watch::watch(arguments) } else { once(arguments) };
    // An orderly end is not a failure.
    ExitCode::from(if worst == CheckResult::Stopped { 0 } else { worst.code() })
}

fn once(arguments: &StatusArguments) -> CheckResult {
    let mut services = check_all(arguments);
    sort(&mut services, arguments.sort, arguments.reverse);
    if arguments.json {
        let all: Vec<Value> = services.iter().map(|service| service.check.to_json()).collect();
        output::line(&output::json(&Value::from(all)));
    } else if services.is_empty() {
        output::error(&nothing(arguments));
    } else {
        output::text(&table::draw(&services, Paint::for_stream(&io::stdout())));
    }
    worst(&services)
}

/// One service: a line of the table.
pub(crate) struct Service {
    /// The name of a file found in a folder, or the path that was given.
    name: String,
    check: HeartbeatCheck,
}

/// Checks all files and folders of the command line. A file that is found twice is shown once.
fn check_all(arguments: &StatusArguments) -> Vec<Service> {
    let folder = [files::folder()];
    let (paths, asked) = match arguments.paths.as_slice() {
        [] => (folder.as_slice(), false),
        paths => (paths, true),
    };
    let mut services = Vec::new();
    let mut seen = HashSet::new();
    let mut show = |name: String, file: &Path, check: Option<HeartbeatCheck>| {
        if seen.insert(file.to_owned()) {
            let check = check.unwrap_or_else(|| HeartbeatCheck::of(file, arguments.check_options));
            services.push(Service { name, check });
        }
    };
    for path in paths {
        let name = path.display().to_string();
        match files::heartbeats(path) {
            Ok(found) => found.iter().for_each(|file| show(files::name(file), file, None)),
            Err(error) if path.is_dir() || error.kind() == io::ErrorKind::PermissionDenied => {
                show(name, path, Some(HeartbeatCheck::unreadable(path, &error)));
            }
            // `run` has not made the folder yet.
            Err(error) if !asked && error.kind() == io::ErrorKind::NotFound => {}
            // Not a folder: the check of the file reports the problem.
            Err(_) => show(name, path, None),
        }
    }
    services
}

fn nothing(arguments: &StatusArguments) -> String {
    let folder = [files::folder()];
    let paths = if arguments.paths.is_empty() { &folder[..] } else { &arguments.paths };
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("no *.{} in {}", files::EXTENSION, paths.join(", "))
}

/// Returns the worst result; without services, that of a missing file.
fn worst(services: &[Service]) -> CheckResult {
    services.iter().map(|service| service.check.result).max().unwrap_or(CheckResult::Missing)
}

fn sort(services: &mut [Service], by: Sort, reverse: bool) {
    let pid = |service: &Service| service.check.heartbeat.as_ref().map(|state| state.pid);
    let host = |service: &Service| service.check.heartbeat.as_ref().map(|state| state.hostname.clone());
    services.sort_by(|one, other| {
        let order = match by {
            Sort::State => other.check.rank().cmp(&one.check.rank()),
            Sort::Name => Ordering::Equal,
            Sort::Age => other.check.age.cmp(&one.check.age),
            Sort::Pid => pid(one).cmp(&pid(other)),
            Sort::Host => host(one).cmp(&host(other)),
        };
        let order = order.then_with(|| one.name.cmp(&other.name)).then_with(|| one.check.path.cmp(&other.check.path));
        if reverse { order.reverse() } else { order }
    });
}
