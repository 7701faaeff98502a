//! `backstay probe`: one file, one line, one exit code.

use std::process::ExitCode;

use crate::arguments::Probe;
use crate::output::{self, printable};
use crate::verdict::Sighting;

pub(crate) fn probe(arguments: &Probe) -> ExitCode {
    let sighting = Sighting::of(&arguments.file, arguments.judging);
    let verdict = sighting.verdict;
    if arguments.json {
        output::line(&output::json(&sighting.to_json()));
    } else {
        output::line(&format!("{} {}", verdict.state().as_str(), printable(&sighting.message)));
    }
    ExitCode::from(verdict.code())
}
