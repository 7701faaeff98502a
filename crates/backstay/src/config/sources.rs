//! The sources of a configuration: environment variables and files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::error::{ConfigError, Origin, Place};
use super::trust;

/// Names of the files in each searched folder; the first takes precedence, key by key.
pub const FILE_NAMES: [&str; 2] = [OWN_FILE_NAME, "kstlib.conf.yml"];

/// The name of a file that belongs to this library alone.
const OWN_FILE_NAME: &str = "backstay.yml";

/// Largest size of a configuration file, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// The prefix of the environment variables.
pub(super) const PREFIX: &str = "BACKSTAY_";

/// The variable that names one file, which is read in place of the search.
pub(super) const CONFIG: &str = "BACKSTAY_CONFIG";

/// Sources of a configuration: environment variables, and files in order of precedence.
///
/// [`Config::load`](super::Config::load) reads [`Sources::of_process`]; the others are for tests and tools.
///
/// ```
/// use backstay::config::{Config, Sources, Value};
/// use std::time::Duration;
///
/// let sources = Sources::none().variable("BACKSTAY_HEARTBEAT__INTERVAL", "1m 30s");
/// let config = Config::from_sources(&sources)?;
/// let interval = config.settings().find(|setting| setting.key == "heartbeat.interval").unwrap();
/// assert_eq!(interval.value, Some(Value::Seconds(Duration::from_secs(90))));
/// assert_eq!(interval.origin.to_string(), "environment variable BACKSTAY_HEARTBEAT__INTERVAL");
/// # Ok::<_, backstay::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub(super) variables: BTreeMap<OsString, OsString>,
    search: Vec<PathBuf>,
    /// The file that is read in place of the search.
    only: Option<PathBuf>,
}

impl Sources {
    /// Creates an empty set of sources: the built-in defaults apply.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the sources of this process.
    ///
    /// These are its `BACKSTAY_*` variables, and the [files](FILE_NAMES) in `.`, `~` and `~/.config`. `~` is the
    /// variable `HOME`; if it is not set, only `.` is searched.
    #[must_use]
    pub fn of_process() -> Self {
        let mut sources = Self::none();
        for (name, value) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
                sources = sources.variable(name, value);
            }
        }
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let folders = home.into_iter().flat_map(|home| [home.clone(), home.join(".config")]);
        for folder in std::iter::once(PathBuf::from(".")).chain(folders) {
            sources.search.extend(FILE_NAMES.map(|name| folder.join(name)));
        }
        sources
    }

    /// Adds an environment variable.
    ///
    /// `BACKSTAY_CONFIG` names one file that is read in place of all others.
    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Adds a file that is read if it exists; those added before it take precedence.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.search.push(path.into());
        self
    }

    /// Reads this file in place of all others, including the one that `BACKSTAY_CONFIG` names; it must exist.
    #[must_use]
    pub fn only_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.only = Some(path.into());
        self
    }

    /// Reads the files that exist, in order of precedence.
    pub(super) fn documents(&self) -> Result<Vec<Document>, ConfigError> {
        let variable = self.variables.get(OsStr::new(CONFIG)).filter(|path| !path.is_empty());
        if let Some(path) = self.only.as_deref().or(variable.map(Path::new)) {
            let by = if self.only.is_none() { format!(", but {CONFIG} names it") } else { String::new() };
            let missing = || ConfigError::new(whole(path), format!("no such file{by}"));
            return Ok(vec![read(path, true)?.ok_or_else(missing)?]);
        }
        let mut seen = Vec::new();
        let mut documents = Vec::new();
        for path in &self.search {
            // A program started in the home folder finds the same file twice.
            let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if !seen.contains(&real) {
                seen.push(real);
                documents.extend(read(path, false)?);
            }
        }
        Ok(documents)
    }
}

fn whole(path: &Path) -> Origin {
    Origin::File { path: Arc::from(path), place: None }
}

/// Reads a file; `None` if there is no such file. `is_named`: it was named explicitly, not found by the search.
fn read(path: &Path, is_named: bool) -> Result<Option<Document>, ConfigError> {
    let error = |wrong: String| ConfigError::new(whole(path), wrong);
    let file = match open(path) {
        Ok(file) => file,
        Err(missing) if matches!(missing.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        // A service without permission to read its home folder has no configuration there.
        Err(denied) if denied.kind() == ErrorKind::PermissionDenied && path.symlink_metadata().is_err() => {
            return Ok(None);
        }
        Err(other) => return Err(error(format!("cannot be opened: {other}"))),
    };
    let metadata = file.metadata().map_err(|failed| error(format!("cannot be read: {failed}")))?;
    if !metadata.is_file() {
        return Err(error(format!("is {}, but must be a file", what(metadata.file_type()))));
    }
    let distrusted = trust::distrust(path, &file).map_err(|failed| error(format!("cannot be read: {failed}")))?;
    if let (Some(why), false, true) = (&distrusted, is_named, trust::is_root()) {
        const REMEDY: &str = "root does not use it: correct its owner and mode, or name it in";
        return Err(error(format!("{why}; {REMEDY} {CONFIG}")));
    }
    let too_large = || error(format!("is larger than {} KiB", MAX_FILE_SIZE / 1024));
    if metadata.len() > MAX_FILE_SIZE {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|failed| error(format!("cannot be read: {failed}")))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|broken| {
        let before = String::from_utf8_lossy(&broken.as_bytes()[..broken.utf8_error().valid_up_to()]).into_owned();
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() as u64 + 1;
        let origin = Origin::File { path: Arc::from(path), place: Some(Place { line, column }) };
        ConfigError::new(origin, "is not UTF-8 from here on")
    })?;
    // A byte order mark is not part of the first line.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let is_ours = is_named || path.file_name() == Some(OsStr::new(OWN_FILE_NAME));
    Ok(Some(Document { path: Arc::from(path), text, is_ours, distrusted }))
}

/// Opens without blocking: a FIFO without a writer must not block the program.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path)
}

#[cfg(unix)]
fn what(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    }
}

#[cfg(not(unix))]
fn what(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "something else" }
}
