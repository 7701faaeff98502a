//! Configuration: sources, values, errors and warnings.
#![cfg(all(feature = "circuit-breaker", feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(feature = "config")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod broken;
mod builders;
mod hostile;
mod process;
mod reading;

use std::fs;
use std::path::PathBuf;

use backstay::config::{Config, ConfigError, Origin, Setting, Sources};
use tempfile::TempDir;

/// A folder with files in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Returns `text` without the folder's own name.
    fn relative(&self, text: impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Reads a file with this text.
fn load(yaml: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
    let folder = Folder::new().with("conf.yml", yaml);
    Config::from_sources(&Sources::none().file(folder.path("conf.yml")))
}

/// Returns the error of a file `conf.yml` with this text.
fn error(yaml: impl AsRef<[u8]>) -> String {
    let folder = Folder::new().with("conf.yml", yaml);
    folder.relative(Config::from_sources(&Sources::none().file(folder.path("conf.yml"))).unwrap_err())
}

/// Returns the warnings of a file `conf.yml` with this text.
fn warnings(yaml: impl AsRef<[u8]>) -> Vec<String> {
    let folder = Folder::new().with("conf.yml", yaml);
    let config = Config::from_sources(&Sources::none().file(folder.path("conf.yml"))).unwrap();
    config.warnings().iter().map(|warning| folder.relative(warning)).collect()
}

fn setting(config: &Config, key: &str) -> Setting {
    config.settings().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no {key}"))
}

/// Returns the value of `key` as text, with its origin.
fn value(config: &Config, key: &str) -> String {
    setting(config, key).value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// Returns keys and values, without defaults.
fn given(config: &Config) -> Vec<(String, String)> {
    let given = config.settings().filter(|setting| setting.origin != Origin::Default);
    given.map(|setting| (setting.key, setting.value.unwrap().to_string())).collect()
}
