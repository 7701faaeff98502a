//! `--watch` without a terminal: prints a line for each service, and another for each change.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::Service;
use crate::heartbeats::CheckResult;
use crate::output::{self, printable};

/// The last printed result of each file.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<PathBuf, CheckResult>);

impl Lines {
    pub(super) fn show(&mut self, services: &[Service], json: bool) {
        for service in services {
            let check = &service.check;
            if self.0.insert(check.path.clone(), check.result) == Some(check.result) {
                continue;
            }
            if json {
                output::line(&output::json(&check.to_json()));
            } else {
                let word = check.result.state().as_str();
                output::line(&format!("{}  {word:<7}  {}", output::now(), printable(&check.message)));
            }
        }
        // A removed file is reported here, and printed again if it comes back.
        let there: HashSet<&PathBuf> = services.iter().map(|service| &service.check.path).collect();
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
