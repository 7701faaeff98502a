//! Writing and reading the state file.
//!
//! Each beat replaces the file by a rename, so a reader never sees a partial file. Readers validate everything.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::heartbeat::{Host, MAX_FILE_SIZE, ProcessStatus};
use tempfile::NamedTempFile;

use super::host;
use super::{HeartbeatError, HeartbeatState};
use crate::clock;

/// Default permissions. A monitor may run as another user.
#[cfg(unix)]
pub(super) const DEFAULT_FILE_MODE: u32 = 0o644;

const SUFFIX: &str = ".tmp";
/// Number of random characters in a temporary file's name.
const RANDOM_CHARS: usize = 6;
/// Longest file name that is repeated in the temporary name. File systems commonly allow 255 bytes.
const MAX_REPEATED_NAME: usize = 160;
/// Age after which a temporary file is litter even if its process cannot be looked up. A write takes milliseconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Reads the state file. Never blocks, whatever kind of file is at `path`.
pub(super) fn read(path: &Path) -> Result<HeartbeatState, HeartbeatError> {
    read_with_digest(path).map(|(_, state)| state)
}

/// Like [`read`], and also returns the digest that [`StateFile::write`] returns for the same bytes.
pub(super) fn read_with_digest(path: &Path) -> Result<(u64, HeartbeatState), HeartbeatError> {
    let failed = |error| HeartbeatError::read(path, error);
    // Checked before and after opening: opening a device can have effects, and the file can be replaced in between.
    check_regular(path, &fs::metadata(path).map_err(failed)?)?;
    read_opened(path, open_without_waiting(path).map_err(failed)?)
}

fn read_opened(path: &Path, file: File) -> Result<(u64, HeartbeatState), HeartbeatError> {
    let failed = |error| HeartbeatError::read(path, error);
    check_regular(path, &file.metadata().map_err(failed)?)?;

    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_SIZE {
        return Err(HeartbeatError::TooLarge { path: path.to_owned() });
    }
    let state = HeartbeatState::from_json(&bytes);
    let state = state.map_err(|reason| HeartbeatError::Damaged { path: path.to_owned(), reason })?;
    Ok((digest(&bytes), state))
}

fn check_regular(path: &Path, metadata: &fs::Metadata) -> Result<(), HeartbeatError> {
    if metadata.is_file() { Ok(()) } else { Err(HeartbeatError::NotAFile { path: path.to_owned() }) }
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    // A plain `open` of a pipe without a writer would block.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// The state file of one process, and the names of its temporary files.
#[derive(Debug, PartialEq)]
pub(super) struct StateFile {
    path: PathBuf,
    folder: PathBuf,
    /// Prefix of all temporary files for this path.
    temp_prefix: OsString,
    owner: TempOwner,
    #[cfg(unix)]
    mode: u32,
}

/// The process that owns a temporary file, as part of the file's name. It shows whether the file is litter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TempOwner {
    pid: u32,
    start_ticks: u64,
    /// Hash of the host on which `pid` and `start_ticks` are valid.
    host: String,
}

impl StateFile {
    /// Creates it for `path`, which must be absolute and end in a file name.
    pub(super) fn new(path: PathBuf, here: &Host) -> Self {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = path.file_name().unwrap_or_default();
        let mut temp_prefix = OsString::from(".");
        if name.len() <= MAX_REPEATED_NAME {
            temp_prefix.push(name);
        } else {
            temp_prefix.push(hash(name));
        }
        temp_prefix.push(".");
        let pid = std::process::id();
        let host = hash((&here.boot_id, &here.pid_namespace, &here.hostname));
        let owner = TempOwner { pid, start_ticks: host::start_ticks(pid).unwrap_or(0), host };
        Self {
            path,
            folder,
            temp_prefix,
            owner,
            #[cfg(unix)]
            mode: DEFAULT_FILE_MODE,
        }
    }

    /// Sets the permissions of the file.
    #[cfg(unix)]
    pub(super) fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Returns whether the start time of this process could be looked up.
    pub(super) fn knows_its_owner(&self) -> bool {
        self.owner.start_ticks != 0
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file atomically by one with `state`. Returns the digest of what was written.
    ///
    /// There is no `fsync` before the rename. Readers do not need it, the last beat before a power failure is useless,
    /// and a slow disk must not delay beats.
    pub(super) fn write(&self, state: &HeartbeatState) -> Result<u64, HeartbeatError> {
        let path = || self.path.clone();
        let json = state.to_json().map_err(|reason| HeartbeatError::Damaged { path: path(), reason })?;
        if json.len() > MAX_FILE_SIZE {
            return Err(HeartbeatError::TooLarge { path: path() });
        }
        self.replace(&json).map_err(|error| HeartbeatError::Write { path: path(), error: Arc::new(error) })?;
        Ok(digest(&json))
    }

    fn replace(&self, json: &[u8]) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|existing| is_device_or_socket(existing.file_type())) {
            const WHY: &str = "a device or socket is not replaced";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, WHY));
        }
        let mut file = match self.create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)?;
                self.create()?
            }
            created => created?,
        };
        // The temporary file is removed if one of these fails.
        file.write_all(json)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Creates a temporary file with a new name. It follows no link and reuses no file.
    fn create(&self) -> io::Result<NamedTempFile> {
        let mut prefix = self.temp_prefix.clone();
        prefix.push(self.owner.to_name());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM_CHARS);
        #[cfg(unix)]
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(self.mode);
        #[cfg(unix)]
        builder.permissions(permissions);
        builder.tempfile_in(&self.folder)
    }

    /// Removes temporary files of this path that killed processes have left behind. Ignores errors.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if self.is_litter(&entry) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn is_litter(&self, entry: &fs::DirEntry) -> bool {
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(self.temp_prefix.as_encoded_bytes());
        let Some(owner) = rest.and_then(|rest| str::from_utf8(rest).ok()).and_then(TempOwner::from_rest_of_name) else {
            return false;
        };
        let Ok(metadata) = entry.metadata() else { return false };
        if !metadata.is_file() {
            return false;
        }
        if owner.host == self.owner.host {
            let reused = host::start_ticks(owner.pid).is_some_and(|ticks| ticks != owner.start_ticks);
            return reused || host::process(owner.pid) == ProcessStatus::Gone;
        }
        let age = metadata.modified().ok().and_then(|modified| clock::wall().duration_since(modified).ok());
        age.is_some_and(|age| age > ABANDONED_AFTER)
    }
}

impl TempOwner {
    fn to_name(&self) -> String {
        format!("{}-{}-{}.", self.pid, self.start_ticks, self.host)
    }

    fn from_rest_of_name(rest: &str) -> Option<Self> {
        let (owner, random) = rest.strip_suffix(SUFFIX)?.split_once('.')?;
        let mut parts = owner.split('-');
        let (pid, start_ticks, host) = (parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()?, host: host.to_owned() };
        let is_valid = random.len() == RANDOM_CHARS
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && rest.strip_prefix(&parsed.to_name())?.strip_suffix(SUFFIX)? == random;
        is_valid.then_some(parsed)
    }
}

/// Returns whether the file must not be replaced. `/dev/null`, for example, is a usual path for "no file".
#[cfg(unix)]
fn is_device_or_socket(kind: fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;

    kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_device_or_socket(_: fs::FileType) -> bool {
    false
}

fn hash(value: impl Hash) -> String {
    format!("{:016x}", digest(value))
}

fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(all(test, target_os = "linux", not(backstay_loom)))]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        file: StateFile,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let file = StateFile::new(folder.path().join("bot.heartbeat"), &host::here());
            Self { folder, file }
        }

        /// Creates a file as `owner` would leave it if killed during a beat.
        fn leave(&self, owner: &TempOwner) -> PathBuf {
            self.put(&format!(".bot.heartbeat.{}aB3dE6.tmp", owner.to_name()))
        }

        fn put(&self, name: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, "").expect("a file");
            path
        }
    }

    // HB-3: temporary files of killed processes are removed, and nothing else.
    #[test]
    fn only_litter_is_swept() {
        let fixture = Fixture::new();
        let own = &fixture.file.owner;
        let elsewhere = "0123456789abcdef".to_owned();
        let litter = [
            fixture.leave(&TempOwner { pid: u32::MAX, ..own.clone() }),
            fixture.leave(&TempOwner { start_ticks: own.start_ticks + 1, ..own.clone() }),
            fixture.leave(&TempOwner { pid: 4711, host: elsewhere.clone(), ..own.clone() }),
        ];
        let long_ago = clock::wall() - ABANDONED_AFTER - Duration::from_secs(60);
        File::options().write(true).open(&litter[2]).unwrap().set_modified(long_ago).unwrap();

        let dead = TempOwner { pid: u32::MAX, ..own.clone() }.to_name();
        let kept = [
            fixture.leave(own),
            fixture.leave(&TempOwner { host: elsewhere, ..own.clone() }),
            fixture.put(&format!(".other.heartbeat.{dead}aB3dE6.tmp")),
            fixture.put(&format!("bot.heartbeat.{dead}aB3dE6.tmp")),
            fixture.put(&format!(".bot.heartbeat.{dead}aB3dE6")),
            fixture.put(&format!(".bot.heartbeat.{dead}aB3dE67.tmp")),
            fixture.put(&format!(".bot.heartbeat.{dead}aB3-E6.tmp")),
            fixture.put(&format!(".bot.heartbeat.0{dead}aB3dE6.tmp")),
            fixture.put(".bot.heartbeat.tmp"),
            fixture.put(".bot.heartbeat.aB3dE6.tmp"),
            fixture.put("bot.heartbeat"),
        ];
        let link = fixture.folder.path().join(format!(".bot.heartbeat.{dead}aB3dE7.tmp"));
        std::os::unix::fs::symlink(&kept[0], &link).unwrap();

        fixture.file.sweep();
        for path in &litter {
            assert!(!path.exists(), "{}", path.display());
        }
        for path in kept.iter().chain([&link]) {
            assert!(path.exists(), "{}", path.display());
        }
    }

    // HB-3: `sweep` recognises the names that `create` makes.
    #[test]
    fn a_temporary_file_is_recognised() {
        let fixture = Fixture::new();
        let temporary = fixture.file.create().unwrap();
        let name = temporary.path().file_name().unwrap().to_str().unwrap();
        let rest = name.strip_prefix(".bot.heartbeat.").unwrap();
        assert_eq!(TempOwner::from_rest_of_name(rest), Some(fixture.file.owner.clone()));
        fixture.file.sweep();
        assert!(temporary.path().exists(), "its owner is running");
    }

    // HB-3: the file's permissions are configurable.
    #[cfg(unix)]
    #[test]
    fn the_file_has_the_given_permissions() {
        use std::os::unix::fs::PermissionsExt;

        let Fixture { folder, file } = Fixture::new();
        let text = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1"}"#;
        let state = HeartbeatState::from_json(text.as_bytes()).unwrap();
        file.with_mode(0o600).write(&state).unwrap();
        let mode = fs::metadata(folder.path().join("bot.heartbeat")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // HB-6: the opened file decides, also if the path was replaced after its check.
    #[test]
    fn the_opened_file_is_checked_again() {
        let fixture = Fixture::new();
        let path = fixture.put("bot.heartbeat");
        let folder = File::open(fixture.folder.path()).unwrap();
        assert!(matches!(read_opened(&path, folder), Err(HeartbeatError::NotAFile { .. })));
        let device = File::open("/dev/null").unwrap();
        assert!(matches!(read_opened(&path, device), Err(HeartbeatError::NotAFile { .. })));
    }

    // HB-3: a state that is too large for readers is not written.
    #[test]
    fn a_state_that_is_too_large_is_not_written() {
        let fixture = Fixture::new();
        let text = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1"}"#;
        let mut state = HeartbeatState::from_json(text.as_bytes()).unwrap();
        state.hostname = "x".repeat(MAX_FILE_SIZE);
        assert!(matches!(fixture.file.write(&state), Err(HeartbeatError::TooLarge { .. })));
        assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
    }
}
