//! Watching where nothing can be redrawn: a line now for each service, and one for each change.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::Service;
use crate::output::{self, printable};
use crate::verdict::Verdict;

/// What was said last of each file.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<PathBuf, Verdict>);

impl Lines {
    pub(super) fn show(&mut self, services: &[Service], json: bool) {
        for service in services {
            let sighting = &service.sighting;
            if self.0.insert(sighting.path.clone(), sighting.verdict) == Some(sighting.verdict) {
                continue;
            }
            if json {
                output::line(&output::json(&sighting.to_json()));
            } else {
                let word = sighting.verdict.state().as_str();
                output::line(&format!("{}  {word:<7}  {}", output::now(), printable(&sighting.message)));
            }
        }
        // One whose file went is said again when it comes back; that it went is said here.
        let there: HashSet<&PathBuf> = services.iter().map(|service| &service.sighting.path).collect();
        let gone: Vec<PathBuf> = self.0.keys().filter(|path| !there.contains(*path)).cloned().collect();
        for path in gone {
            self.0.remove(&path);
            if !json {
                let path = printable(&path.display().to_string());
                output::line(&format!("{}  UNKNOWN  {path}: removed", output::now()));
            }
        }
    }
}
