//! What is wrong with a configuration, and where: reads like a compiler's message.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::Config;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The environment variable of this name.
    Environment(Arc<str>),
    /// A file, and the place in it.
    File {
        /// The file, as it was looked for.
        path: Arc<Path>,
        /// Where in the file; `None` where the file as a whole is meant.
        place: Option<Place>,
    },
}

/// A place in a file; lines and columns (of characters) count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::File { path, place: None } => write!(f, "{}", path.display()),
            Self::File { path, place: Some(Place { line, column }) } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
        }
    }
}

/// An invalid configuration: where, what is wrong there, and what is allowed.
///
/// The text may have several lines: the first is complete, the others show the place in the file.
///
/// ```
/// use backstay::config::{Config, Sources};
///
/// let sources = Sources::none().variable("BACKSTAY_WATCHDOG__TIMEOUT", "soon");
/// let error = Config::from_sources(&sources).unwrap_err();
/// assert_eq!(error.key(), Some("resilience.watchdog.timeout"));
/// assert_eq!(error.allowed(), Some("seconds from 1 to 3600, or a text such as \"1m 30s\""));
/// ```
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{}: {}{}", .0.origin, .0.problem(), .0.snippet)]
pub struct ConfigError(Box<Report>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    origin: Origin,
    component: Option<&'static str>,
    key: Option<String>,
    wrong: String,
    allowed: Option<String>,
    /// How many characters are wrong, from the place on.
    length: u64,
    snippet: String,
}

impl Report {
    fn problem(&self) -> String {
        let key = self.key.as_ref().map(|key| format!("`{key}` ")).unwrap_or_default();
        let allowed = self.allowed.as_ref().map(|allowed| format!(", but must be {allowed}")).unwrap_or_default();
        format!("{key}{}{allowed}", self.wrong)
    }
}

impl ConfigError {
    /// `origin` is `wrong`: "is ..." where a key is named.
    pub(super) fn new(origin: Origin, wrong: impl Into<String>) -> Self {
        Self(Box::new(Report {
            origin,
            component: None,
            key: None,
            wrong: wrong.into(),
            allowed: None,
            length: 1,
            snippet: String::new(),
        }))
    }

    pub(super) fn in_component(mut self, component: &'static str) -> Self {
        self.0.component = Some(component);
        self
    }

    pub(super) fn with_key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// Says what would have been right, to follow "must be".
    pub(super) fn with_allowed(mut self, allowed: impl Into<String>) -> Self {
        self.0.allowed = Some(allowed.into());
        self
    }

    pub(super) fn with_length(mut self, length: u64) -> Self {
        self.0.length = length;
        self
    }

    /// Shows the place in the file's `text`. It is looked for from the top: only for an error that is kept.
    pub(super) fn shown_in(mut self, text: &str) -> Self {
        if let Origin::File { place: Some(place), .. } = self.0.origin {
            self.0.snippet = snippet(text, place, self.0.length);
        }
        self
    }

    /// Where it is wrong: a file or an environment variable.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The file, where it is wrong in one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0.origin {
            Origin::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Line and column, where it is wrong at one place of a file.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match self.0.origin {
            Origin::File { place, .. } => place,
            _ => None,
        }
    }

    /// The only section of `resilience` that is affected; `None` if the whole file is.
    #[must_use]
    pub fn component(&self) -> Option<&str> {
        self.0.component
    }

    /// The key's path from the top of the file, if known.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What is allowed there, where something else was given; it can follow "must be".
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        self.0.allowed.as_deref()
    }
}

/// The same text, so that `unwrap` and `main` show it as it is meant to be read.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something in a configuration that is probably not intended; it was ignored or clamped.
///
/// [`Config::load`](super::Config::load) and [`Config::from_path`](super::Config::from_path) log each;
/// [`Config::warnings`](super::Config::warnings) returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// Where.
    pub origin: Origin,
    /// What, in one line, and what to do or what was done about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// Every error of a configuration, as [`Config::check`](super::Config::check) finds them.
///
/// The text is that of the errors, one below the other.
#[derive(Clone, Debug, Error)]
#[error("{}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
#[non_exhaustive]
pub struct ConfigErrors {
    /// The errors in the order in which they were found; at least one.
    pub errors: Vec<ConfigError>,
    /// The settings and warnings that are valid all the same.
    pub valid: Config,
}

/// Why a configuration was not installed for the process.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A configuration is already installed.
    #[error("a configuration is already installed")]
    AlreadyInstalled,
    /// Something already uses the built-in defaults: install the configuration before it is first used.
    #[error("cannot install a configuration: {by} is already in use with the defaults")]
    AlreadyInUse {
        /// The first that used them: `circuit breaker "payment-api"`.
        by: String,
    },
}

/// Columns shown around the place in a line that is longer.
const WINDOW: usize = 100;

/// The line of `text` at `place` with a caret under each of `length` characters.
fn snippet(text: &str, place: Place, length: u64) -> String {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let Some(line) = text.lines().nth(number(place.line.saturating_sub(1))) else { return String::new() };
    let column = number(place.column.saturating_sub(1));
    let start = if column < WINDOW { 0 } else { column - WINDOW / 2 };
    // One character stays one column; nothing in a file steers the terminal it is shown on.
    let shown: String = line.chars().skip(start).take(WINDOW).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = shown.trim_end();
    let indent = column - start;
    let carets = number(length).min(shown.chars().count().saturating_sub(indent)).max(1);
    let margin = " ".repeat(place.line.to_string().len());
    format!("\n {margin} |\n {} | {shown}\n {margin} | {}{}", place.line, " ".repeat(indent), "^".repeat(carets))
}
