//! What the library says, in Python's `logging` under `backstay`.

use std::cell::Cell;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::interpreter;

/// Whether somebody listens to `DEBUG`. Asked when an object is made and at one of 512 refusals: asking Python costs
/// more than refusing.
static DEBUG: AtomicBool = AtomicBool::new(false);

/// `logging.DEBUG`.
const DEBUG_LEVEL: u8 = 10;

/// From now on the library's words go to `logging`.
pub(crate) fn install() {
    // Another one can only be there when this module is loaded twice, and then it is the same.
    let _ = tracing::subscriber::set_global_default(ToLogging);
}

/// Looks whether somebody listens to `DEBUG`.
pub(crate) fn look(py: Python<'_>) {
    let listens = listens_to_debug(py).unwrap_or(false);
    if DEBUG.swap(listens, Ordering::Relaxed) != listens {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Asks the logger. The question is kept, because making it costs ten times as much as asking it.
fn listens_to_debug(py: Python<'_>) -> PyResult<bool> {
    static QUESTION: PyOnceLock<(Py<PyAny>, Py<PyTuple>)> = PyOnceLock::new();
    let (is_enabled_for, level) = QUESTION.get_or_try_init(py, || -> PyResult<_> {
        let is_enabled_for = py.import("backstay._logging")?.call_method0("is_enabled_for")?;
        Ok((is_enabled_for.unbind(), PyTuple::new(py, [DEBUG_LEVEL])?.unbind()))
    })?;
    is_enabled_for.bind(py).call1(level.bind(py))?.is_truthy()
}

/// [`look`], at some of the refusals.
pub(crate) fn glance(py: Python<'_>) {
    const EVERY: u32 = 512;
    static REFUSALS: AtomicU32 = AtomicU32::new(0);
    // Not a locked addition: a count that is lost does no harm.
    let count = REFUSALS.load(Ordering::Relaxed);
    REFUSALS.store(count.wrapping_add(1), Ordering::Relaxed);
    if count.is_multiple_of(EVERY) {
        look(py);
    }
}

thread_local! {
    /// Whether this thread is in a handler of the log.
    static SPEAKS: Cell<bool> = const { Cell::new(false) };
}

struct ToLogging;

impl Subscriber for ToLogging {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (*metadata.level() <= Level::INFO || DEBUG.load(Ordering::Relaxed))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if DEBUG.load(Ordering::Relaxed) { LevelFilter::DEBUG } else { LevelFilter::INFO })
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            _ => DEBUG_LEVEL,
        };
        // A handler that is refused something says so, and what is said of that is not for it.
        let is_inside = SPEAKS.replace(true);
        // Nobody hears what is said while the interpreter ends.
        if !is_inside || level > DEBUG_LEVEL {
            interpreter::enter(|py| match words.say(py, level) {
                Err(error) if error.is_instance_of::<PyException>(py) => error.write_unraisable(py, None),
                Err(error) => interpreter::raise_later(py, error),
                Ok(()) => {}
            });
        }
        SPEAKS.set(is_inside);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's message, and what it says beside it.
#[derive(Default)]
struct Words {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Words {
    fn say(mut self, py: Python<'_>, level: u8) -> PyResult<()> {
        static SAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let fields = PyDict::new(py);
        let sentence = self.message.clone();
        for (name, value) in &self.fields {
            fields.set_item(name, value)?;
            // What the sentence says already is not said again.
            if *name != "stack" && !says(&sentence, value) {
                let _ = write!(self.message, " {name}={value}");
            }
        }
        let say = SAY.import(py, "backstay._logging", "say")?;
        say.call1((level, self.message, fields)).map(drop)
    }
}

/// Whether `message` has `value` as a word of its own.
fn says(message: &str, value: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric();
    message
        .match_indices(value)
        .any(|(at, _)| !message[..at].ends_with(is_word) && !message[at + value.len()..].starts_with(is_word))
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
