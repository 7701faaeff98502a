//! What is to be seen in the folder: looked at on a thread of its own, whoever asks gets the last look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use backstay::clock::Moment;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::history::{CELL, History};
use crate::output;
use crate::places;
use crate::verdict::{Judging, Look, Sighting};

/// So many services are shown, the first by name.
pub(super) const MOST: usize = 1000;
/// So many bytes of a heartbeat's metadata; a file may have a thousand times as many.
const METADATA: usize = 8 << 10;
/// So many characters of what else others wrote.
const TEXT: usize = 1000;

/// Looks at a folder, and remembers.
pub(super) struct Lookout {
    folder: PathBuf,
    judging: Judging,
    every: Duration,
    /// No two that run at the same address are taken for one.
    run: String,
    number: u64,
    known: BTreeMap<PathBuf, History>,
}

/// One look.
pub(super) struct Board {
    pub(super) at: Moment,
    pub(super) number: u64,
    pub(super) tag: String,
    time: String,
    folder: String,
    every: Duration,
    /// Why the folder cannot be read.
    pub(super) trouble: Option<String>,
    /// The worst first.
    pub(super) services: Vec<Service>,
    /// How many there were beyond what is shown.
    pub(super) left_out: usize,
    status: OnceLock<Bytes>,
    page: OnceLock<Bytes>,
}

pub(super) struct Service {
    pub(super) name: String,
    pub(super) sighting: Sighting,
    strip: String,
    marks: String,
}

impl Lookout {
    pub(super) fn new(folder: &Path, judging: Judging, every: Duration) -> Self {
        let run = format!("{:x}-{}", std::process::id(), output::now());
        Self { folder: folder.to_owned(), judging, every, run, number: 0, known: BTreeMap::new() }
    }

    /// `since` is the time since the first look.
    pub(super) fn look(&mut self, at: Moment, since: Duration) -> Board {
        self.number += 1;
        let (found, left_out, trouble) = match places::first_heartbeats(&self.folder, MOST) {
            Ok((found, left_out)) => (found, left_out, None),
            Err(error) => (Default::default(), 0, Some(error.to_string())),
        };
        // What went is shown for as long as its strip shows something, where there is room.
        let mut room = MOST - found.len();
        self.known.retain(|path, history| {
            let stays = found.contains(path) || (room > 0 && !history.is_over(since));
            room -= usize::from(stays && !found.contains(path));
            stays
        });
        for path in found {
            self.known.entry(path).or_default();
        }
        let mut services: Vec<Service> = Vec::with_capacity(self.known.len());
        for (path, history) in &mut self.known {
            let sighting = Sighting::of(path, self.judging);
            history.note(since, &sighting);
            services.push(Service {
                name: places::name(path),
                sighting: bounded(sighting),
                strip: history.strip(),
                marks: history.marks(),
            });
        }
        // They stand by name already, and stay so among the equally bad.
        services.sort_by_key(|service| std::cmp::Reverse(service.sighting.rank()));
        Board {
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

impl Service {
    pub(super) fn look(&self) -> Look {
        self.sighting.look()
    }

    /// What `status` says of it, and what the page needs beyond.
    fn to_json(&self) -> Value {
        let mut json = self.sighting.to_json();
        json["name"] = json!(self.name);
        json["look"] = json!(self.look().as_str());
        json["summary"] = json!(self.sighting.summary());
        json["strip"] = json!(self.strip);
        json["marks"] = json!(self.marks);
        json
    }

    /// A number that `backstay run` keeps in its heartbeat.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.sighting.heartbeat.as_ref()?.metadata.get(key)?.as_u64()
    }
}

impl Board {
    /// As `status --json` prints it. Made when somebody asks first.
    pub(super) fn status(&self) -> Bytes {
        let make = || self.services.iter().map(|service| service.sighting.to_json()).collect::<Value>();
        self.status.get_or_init(|| output::json(&make()).into()).clone()
    }

    /// What the page shows.
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
                "services": self.services.iter().map(Service::to_json).collect::<Vec<_>>(),
            })
        };
        self.page.get_or_init(|| output::json(&make()).into()).clone()
    }
}

/// The last look, for whoever asks.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Arc<Board>>>>);

impl Latest {
    pub(super) fn set(&self, board: Board) {
        let old = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(board));
        drop(old);
    }

    pub(super) fn board(&self) -> Option<Arc<Board>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// No file takes more room than others leave it.
fn bounded(mut sighting: Sighting) -> Sighting {
    cut(&mut sighting.message);
    if let Some(heartbeat) = &mut sighting.heartbeat {
        cut(&mut heartbeat.hostname);
        let kernels_own = [&mut heartbeat.boot_id, &mut heartbeat.pid_namespace, &mut heartbeat.time_namespace];
        kernels_own.into_iter().flatten().for_each(cut);
        let mut left = METADATA;
        heartbeat.metadata.retain(|key, value| {
            let size = key.len() + value.to_string().len();
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        });
    }
    sighting
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(TEXT) {
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

    fn names(board: &Board) -> Vec<&str> {
        board.services.iter().map(|service| service.name.as_str()).collect()
    }

    #[test]
    fn what_went_is_shown_until_its_strip_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let (now, at) = (ManualClock::new().now(), Duration::from_secs);
        let mut lookout = Lookout::new(folder.path(), Judging::default(), at(1));
        beat(folder.path(), "a", "{}");
        beat(folder.path(), "b", "{}");
        assert_eq!(names(&lookout.look(now, at(0))), ["a", "b"]);
        fs::remove_file(folder.path().join("a.heartbeat")).unwrap();
        let board = lookout.look(now, at(1));
        assert_eq!(names(&board), ["b", "a"], "dead is worse than unknown");
        assert_eq!(board.services[1].look(), Look::Unknown);
        assert_eq!(names(&lookout.look(now, at(601))), ["b"]);
    }

    #[test]
    fn neither_many_files_nor_large_ones_fill_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..MOST + 7 {
            beat(folder.path(), &format!("{index:05}"), &format!(r#"{{"a": 1, "large": "{}"}}"#, "x".repeat(9000)));
        }
        let now = ManualClock::new().now();
        let mut lookout = Lookout::new(folder.path(), Judging::default(), Duration::from_secs(1));
        let board = lookout.look(now, Duration::ZERO);
        assert_eq!((board.services.len(), board.left_out), (MOST, 7));
        assert_eq!(board.services[0].count("a"), Some(1));
        assert!(board.status().len() < MOST * 1000);
        // Others in their place: what went leaves no room for itself.
        for index in 0..MOST + 7 {
            fs::remove_file(folder.path().join(format!("{index:05}.heartbeat"))).unwrap();
            beat(folder.path(), &format!("x{index:05}"), "{}");
        }
        assert_eq!(lookout.look(now, Duration::from_secs(1)).services.len(), MOST);
        assert_eq!(lookout.known.len(), MOST);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut lookout = Lookout::new(&folder.path().join("none"), Judging::default(), Duration::from_secs(1));
        let board = lookout.look(ManualClock::new().now(), Duration::ZERO);
        assert!(board.trouble.is_some_and(|trouble| trouble.contains("No such file")));
    }
}
