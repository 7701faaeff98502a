//! Errors and warnings of a configuration, in the form of a compiler's messages.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::Config;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The environment variable of this name.
    Environment(Arc<str>),
    /// A file.
    File {
        /// The path of the file, as it was searched for.
        path: Arc<Path>,
        /// The position in the file; `None`: the file as a whole.
        place: Option<Place>,
    },
}

/// A position in a file; lines and columns (in characters) count from 1.
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

/// An invalid configuration: the origin, the problem, and the allowed values.
///
/// The text may have several lines: the first is complete, the others show the position in the file.
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
pub struct ConfigError(Box<ErrorDetails>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct ErrorDetails {
    origin: Origin,
    component: Option<&'static str>,
    key: Option<String>,
    wrong: String,
    allowed: Option<String>,
    /// The number of characters to underline.
    length: u64,
    snippet: String,
}

impl ErrorDetails {
    fn problem(&self) -> String {
        let key = self.key.as_ref().map(|key| format!("`{key}` ")).unwrap_or_default();
        let allowed = self.allowed.as_ref().map(|allowed| format!(", but must be {allowed}")).unwrap_or_default();
        format!("{key}{}{allowed}", self.wrong)
    }
}

impl ConfigError {
    /// Creates an error; `wrong` follows the name of the key, if one is set: "is ...".
    pub(super) fn new(origin: Origin, wrong: impl Into<String>) -> Self {
        Self(Box::new(ErrorDetails {
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

    /// Sets the allowed values, as text after "must be".
    pub(super) fn with_allowed(mut self, allowed: impl Into<String>) -> Self {
        self.0.allowed = Some(allowed.into());
        self
    }

    pub(super) fn with_length(mut self, length: u64) -> Self {
        self.0.length = length;
        self
    }

    /// Adds a snippet of the file's `text`. Searches the text from the top, so call it only for an error that is kept.
    pub(super) fn shown_in(mut self, text: &str) -> Self {
        if let Origin::File { place: Some(place), .. } = self.0.origin {
            self.0.snippet = snippet(text, place, self.0.length);
        }
        self
    }

    /// Returns the origin of the error: a file or an environment variable.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Returns the path of the file, if the error is in a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0.origin {
            Origin::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns line and column, if the error is at one position in a file.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match self.0.origin {
            Origin::File { place, .. } => place,
            _ => None,
        }
    }

    /// Returns the section of `resilience` that is affected; `None` if the whole file is.
    #[must_use]
    pub fn component(&self) -> Option<&str> {
        self.0.component
    }

    /// Returns the key's path from the top of the file, if known.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Returns the allowed values, as text after "must be", if the error is an invalid value.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        self.0.allowed.as_deref()
    }
}

/// Shows the text of `Display`, so that `unwrap` and `main` print it.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value or key that is probably not intended, and that was ignored or clamped.
///
/// [`Config::load`](super::Config::load) and [`Config::from_path`](super::Config::from_path) log each;
/// [`Config::warnings`](super::Config::warnings) returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The origin.
    pub origin: Origin,
    /// The problem in one line, and what to do or what was done about it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// All errors of a configuration: [`Config::check`](super::Config::check).
///
/// The text is that of the errors, one below the other.
#[derive(Clone, Debug, Error)]
#[error("{}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
#[non_exhaustive]
pub struct ConfigErrors {
    /// The errors in the order in which they were found; at least one.
    pub errors: Vec<ConfigError>,
    /// The settings that are valid, and the warnings.
    pub valid: Config,
}

/// A configuration was not installed for the process.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A configuration is already installed.
    #[error("a configuration is already installed")]
    AlreadyInstalled,
    /// An instance already uses the built-in defaults: install the configuration before the first use.
    #[error("cannot install a configuration: {by} is already in use with the defaults")]
    AlreadyInUse {
        /// The first instance that used them, such as `circuit breaker "payment-api"`.
        by: String,
    },
}

/// The most columns of a line that a snippet shows.
const WINDOW: usize = 100;

/// Returns the line of `text` at `place`, with a caret under each of `length` characters.
fn snippet(text: &str, place: Place, length: u64) -> String {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let Some(line) = text.lines().nth(number(place.line.saturating_sub(1))) else { return String::new() };
    let column = number(place.column.saturating_sub(1));
    let start = if column < WINDOW { 0 } else { column - WINDOW / 2 };
    // Control characters are replaced: each character must be one column, and must not control the terminal.
    let shown: String = line.chars().skip(start).take(WINDOW).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = shown.trim_end();
    let indent = column - start;
    let carets = number(length).min(shown.chars().count().saturating_sub(indent)).max(1);
    let margin = " ".repeat(place.line.to_string().len());
    format!("\n {margin} |\n {} | {shown}\n {margin} | {}{}", place.line, " ".repeat(indent), "^".repeat(carets))
}
