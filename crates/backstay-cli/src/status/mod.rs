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

use crate::output::{self, Paint};
use crate::places;
use crate::verdict::{Sighting, Verdict};
use arguments::Sort;
pub(crate) use arguments::Status;

pub(crate) fn status(arguments: &Status) -> ExitCode {
    let worst = if arguments.watch { watch::watch(arguments) } else { once(arguments) };
    // An orderly end is no failure.
    ExitCode::from(if worst == Verdict::Stopped { 0 } else { worst.code() })
}

fn once(arguments: &Status) -> Verdict {
    let mut services = look(arguments);
    sort(&mut services, arguments.sort, arguments.reverse);
    if arguments.json {
        let all: Vec<Value> = services.iter().map(|service| service.sighting.to_json()).collect();
        output::line(&output::json(&Value::from(all)));
    } else if services.is_empty() {
        output::error(&nothing(arguments));
    } else {
        output::text(&table::draw(&services, Paint::for_stream(&io::stdout())));
    }
    worst(&services)
}

/// One service as a line of the table.
pub(crate) struct Service {
    /// What to call it: the file's name in a folder, the path where it was given.
    name: String,
    sighting: Sighting,
}

/// Looks at everything that was asked for. A file that is found twice is shown once.
fn look(arguments: &Status) -> Vec<Service> {
    let folder = [places::folder()];
    let (paths, asked) = match arguments.paths.as_slice() {
        [] => (folder.as_slice(), false),
        paths => (paths, true),
    };
    let mut services = Vec::new();
    let mut seen = HashSet::new();
    let mut show = |name: String, file: &Path, sighting: Option<Sighting>| {
        if seen.insert(file.to_owned()) {
            let sighting = sighting.unwrap_or_else(|| Sighting::of(file, arguments.judging));
            services.push(Service { name, sighting });
        }
    };
    for path in paths {
        let name = path.display().to_string();
        match places::heartbeats(path) {
            Ok(found) => found.iter().for_each(|file| show(places::name(file), file, None)),
            Err(error) if path.is_dir() || error.kind() == io::ErrorKind::PermissionDenied => {
                show(name, path, Some(Sighting::unreadable(path, &error)));
            }
            // `run` has not made the folder yet.
            Err(error) if !asked && error.kind() == io::ErrorKind::NotFound => {}
            // Not a folder: the file's own verdict says what is wrong.
            Err(_) => show(name, path, None),
        }
    }
    services
}

fn nothing(arguments: &Status) -> String {
    let folder = [places::folder()];
    let paths = if arguments.paths.is_empty() { &folder[..] } else { &arguments.paths };
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("no *.{} in {}", places::EXTENSION, paths.join(", "))
}

/// No service at all is as bad as a missing file.
fn worst(services: &[Service]) -> Verdict {
    services.iter().map(|service| service.sighting.verdict).max().unwrap_or(Verdict::Missing)
}

fn sort(services: &mut [Service], by: Sort, reverse: bool) {
    let pid = |service: &Service| service.sighting.heartbeat.as_ref().map(|state| state.pid);
    let host = |service: &Service| service.sighting.heartbeat.as_ref().map(|state| state.hostname.clone());
    services.sort_by(|one, other| {
        let order = match by {
            Sort::State => other.sighting.rank().cmp(&one.sighting.rank()),
            Sort::Name => Ordering::Equal,
            Sort::Age => other.sighting.age.cmp(&one.sighting.age),
            Sort::Pid => pid(one).cmp(&pid(other)),
            Sort::Host => host(one).cmp(&host(other)),
        };
        let order =
            order.then_with(|| one.name.cmp(&other.name)).then_with(|| one.sighting.path.cmp(&other.sighting.path));
        if reverse { order.reverse() } else { order }
    });
}
