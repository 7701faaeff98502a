//! Snapshots of the folder. A thread of its own takes them; every request is answered from the last one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use backstay::clock::Moment;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::history::{CELL, History};
use crate::heartbeats::files;
use crate::heartbeats::{CheckOptions, HeartbeatCheck, Severity};
use crate::output;

/// Maximum number of services that are shown, the first by name.
pub(super) const MAX_SERVICES: usize = 1000;
/// Maximum size of a heartbeat's metadata, in bytes; a file may have a thousand times as much.
const MAX_METADATA: usize = 8 << 10;
/// Maximum length of every other text from a heartbeat file, in characters.
const MAX_TEXT: usize = 1000;

/// Reads a folder, and keeps the history of each service.
pub(super) struct FolderWatcher {
    folder: PathBuf,
    check_options: CheckOptions,
    every: Duration,
    /// Identifies this process, so that a browser does not mix up snapshots of two processes at the same address.
    run: String,
    number: u64,
    known: BTreeMap<PathBuf, History>,
}

/// The state of all services at one moment.
pub(super) struct Snapshot {
    pub(super) at: Moment,
    pub(super) number: u64,
    pub(super) tag: String,
    time: String,
    folder: String,
    every: Duration,
    /// Why the folder cannot be read.
    pub(super) trouble: Option<String>,
    /// All services, the worst first.
    pub(super) services: Vec<ServiceSnapshot>,
    /// Number of services that are not shown.
    pub(super) left_out: usize,
    status: OnceLock<Bytes>,
    page: OnceLock<Bytes>,
}

pub(super) struct ServiceSnapshot {
    pub(super) name: String,
    pub(super) check: HeartbeatCheck,
    strip: String,
    marks: String,
}

impl FolderWatcher {
    pub(super) fn new(folder: &Path, check_options: CheckOptions, every: Duration) -> Self {
        let run = format!("{:x}-{}", std::process::id(), output::now());
        Self { folder: folder.to_owned(), check_options, every, run, number: 0, known: BTreeMap::new() }
    }

    /// Reads the folder. `since` is the time since the first snapshot.
    pub(super) fn read(&mut self, at: Moment, since: Duration) -> Snapshot {
        self.number += 1;
        let (found, left_out, trouble) = match files::first_heartbeats(&self.folder, MAX_SERVICES) {
            Ok((found, left_out)) => (found, left_out, None),
            Err(error) => (Default::default(), 0, Some(error.to_string())),
        };
        // A service without a file is shown until its history is over, if there is room.
        let mut room = MAX_SERVICES - found.len();
        self.known.retain(|path, history| {
            let stays = found.contains(path) || (room > 0 && !history.is_over(since));
            room -= usize::from(stays && !found.contains(path));
            stays
        });
        for path in found {
            self.known.entry(path).or_default();
        }
        let mut services: Vec<ServiceSnapshot> = Vec::with_capacity(self.known.len());
        for (path, history) in &mut self.known {
            let check = HeartbeatCheck::of(path, self.check_options);
            history.note(since, &check);
            services.push(ServiceSnapshot {
                name: files::name(path),
                check: bounded(check),
                strip: history.strip(),
                marks: history.marks(),
            });
        }
        // The sort is stable: services of equal severity stay sorted by name.
        services.sort_by_key(|service| std::cmp::Reverse(service.check.rank()));
        Snapshot {
            at,
            number: self.number,
            tag: format!("\"{}-{}\"", self.run, self.number),
            time: output::now(),
            folder: self.folder.display().to_string(),
            every: self.every,
            trouble,
            services,
            left_out,
            status: OnceLock::new(),
            page: OnceLock::new(),
        }
    }
}

impl ServiceSnapshot {
    pub(super) fn severity(&self) -> Severity {
        self.check.severity()
    }

    /// The object of `status --json`, with more keys for the web page.
    fn to_json(&self) -> Value {
        let mut json = self.check.to_json();
        json["name"] = json!(self.name);
        json["look"] = json!(self.severity().as_str());
        json["summary"] = json!(self.check.summary());
        json["strip"] = json!(self.strip);
        json["marks"] = json!(self.marks);
        json
    }

    /// Returns a number from the metadata of `backstay run`.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.check.heartbeat.as_ref()?.metadata.get(key)?.as_u64()
    }
}

impl Snapshot {
    /// The JSON that `status --json` prints. It is made at the first request.
    pub(super) fn status(&self) -> Bytes {
        let make = || self.services.iter().map(|service| service.check.to_json()).collect::<Value>();
        self.status.get_or_init(|| output::json(&make()).into()).clone()
    }

    /// The JSON for the web page. It is made at the first request.
    pub(super) fn page(&self) -> Bytes {
        let make = || {
            json!({
                "number": self.number,
                "time": self.time,
                "folder": self.folder,
                "every": self.every.as_secs_f64(),
                "cell": CELL.as_secs(),
                "trouble": self.trouble,
                "left_out": self.left_out,
                "services": self.services.iter().map(ServiceSnapshot::to_json).collect::<Vec<_>>(),
            })
        };
        self.page.get_or_init(|| output::json(&make()).into()).clone()
    }
}

/// The last snapshot.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Arc<Snapshot>>>>);

impl Latest {
    pub(super) fn set(&self, snapshot: Snapshot) {
        let old = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(snapshot));
        drop(old);
    }

    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Cuts what a heartbeat file contains to the maximum sizes.
fn bounded(mut check: HeartbeatCheck) -> HeartbeatCheck {
    cut(&mut check.message);
    if let Some(heartbeat) = &mut check.heartbeat {
        cut(&mut heartbeat.hostname);
        let kernels_own = [&mut heartbeat.boot_id, &mut heartbeat.pid_namespace, &mut heartbeat.time_namespace];
        kernels_own.into_iter().flatten().for_each(cut);
        let mut left = MAX_METADATA;
        heartbeat.metadata.retain(|key, value| {
            let size = key.len() + value.to_string().len();
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        });
    }
    check
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use backstay::clock::ManualClock;

    use super::*;

    fn beat(folder: &Path, name: &str, metadata: &str) {
        let json = format!(
            r#"{{"timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": "elsewhere", "metadata": {metadata}}}"#
        );
        fs::write(folder.join(format!("{name}.heartbeat")), json).unwrap();
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.services.iter().map(|service| service.name.as_str()).collect()
    }

    #[test]
    fn a_removed_service_is_shown_until_its_history_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (now, at) = (ManualClock::new().now(), Duration::from_secs);
        let mut watcher = FolderWatcher::new(folder.path(), CheckOptions::default(), at(1));
        beat(folder.path(), "a", "{}");
        beat(folder.path(), "b", "{}");
        assert_eq!(names(&watcher.read(now, at(0))), ["a", "b"]);
        fs::remove_file(folder.path().join("a.heartbeat")).unwrap();
        let snapshot = watcher.read(now, at(1));
        assert_eq!(names(&snapshot), ["b", "a"], "dead is worse than unknown");
        assert_eq!(snapshot.services[1].severity(), Severity::Unknown);
        assert_eq!(names(&watcher.read(now, at(601))), ["b"]);
    }

    #[test]
    fn many_and_large_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..MAX_SERVICES + 7 {
            beat(folder.path(), &format!("{index:05}"), &format!(r#"{{"a": 1, "large": "{}"}}"#, "x".repeat(9000)));
        }
        let now = ManualClock::new().now();
        let mut watcher = FolderWatcher::new(folder.path(), CheckOptions::default(), Duration::from_secs(1));
        let snapshot = watcher.read(now, Duration::ZERO);
        assert_eq!((snapshot.services.len(), snapshot.left_out), (MAX_SERVICES, 7));
        assert_eq!(snapshot.services[0].count("a"), Some(1));
        assert!(snapshot.status().len() < MAX_SERVICES * 1000);
        // New files replace all: there is no room for the removed services.
        for index in 0..MAX_SERVICES + 7 {
            fs::remove_file(folder.path().join(format!("{index:05}.heartbeat"))).unwrap();
            beat(folder.path(), &format!("x{index:05}"), "{}");
        }
        assert_eq!(watcher.read(now, Duration::from_secs(1)).services.len(), MAX_SERVICES);
        assert_eq!(watcher.known.len(), MAX_SERVICES);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher =
            FolderWatcher::new(&folder.path().join("none"), CheckOptions::default(), Duration::from_secs(1));
        let snapshot = watcher.read(ManualClock::new().now(), Duration::ZERO);
        assert!(snapshot.trouble.is_some_and(|trouble| trouble.contains("No such file")));
    }
}
