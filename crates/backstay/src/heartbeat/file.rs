//! The state file: replaced as a whole, read without trust.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::heartbeat::{Host, MAX_FILE_SIZE, Process};
use tempfile::NamedTempFile;

use super::host;
use super::{HeartbeatError, HeartbeatState};
use crate::clock;

/// A monitor may run as another user.
#[cfg(unix)]
pub(super) const DEFAULT_FILE_MODE: u32 = 0o644;

const SUFFIX: &str = ".tmp";
/// As many as `tempfile` makes.
const RANDOM_CHARS: usize = 6;
/// The longest file name that leaves room for the rest of the temporary one; common file systems end at 255.
const LONG_NAME: usize = 160;
/// A temporary file lives for milliseconds. One this old is nobody's, also where its process cannot be looked up.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Reads the state file without waiting, whatever stands in its place, and without trusting what is in it.
pub(super) fn read(path: &Path) -> Result<HeartbeatState, HeartbeatError> {
    read_with_digest(path).map(|(_, state)| state)
}

/// [`read`], and the digest that [`StateFile::write`] gave for the same bytes.
pub(super) fn read_with_digest(path: &Path) -> Result<(u64, HeartbeatState), HeartbeatError> {
    let refused = |error| HeartbeatError::io(path, error);
    // Looked at twice: to open a device may do something, and what is opened may not be what was looked at.
    regular(path, &fs::metadata(path).map_err(refused)?)?;
    read_opened(path, open_without_waiting(path).map_err(refused)?)
}

fn read_opened(path: &Path, file: File) -> Result<(u64, HeartbeatState), HeartbeatError> {
    let refused = |error| HeartbeatError::io(path, error);
    regular(path, &file.metadata().map_err(refused)?)?;

    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() > MAX_FILE_SIZE {
        return Err(HeartbeatError::TooLarge { path: path.to_owned() });
    }
    let state = HeartbeatState::from_json(&bytes);
    let state = state.map_err(|reason| HeartbeatError::Damaged { path: path.to_owned(), reason })?;
    Ok((digest(&bytes), state))
}

fn regular(path: &Path, metadata: &fs::Metadata) -> Result<(), HeartbeatError> {
    if metadata.is_file() { Ok(()) } else { Err(HeartbeatError::NotAFile { path: path.to_owned() }) }
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    // A pipe without a writer would keep a plain `open` waiting.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// Where one process writes a heartbeat.
#[derive(Debug, PartialEq)]
pub(super) struct StateFile {
    path: PathBuf,
    folder: PathBuf,
    /// How the names of all temporary files for this path begin.
    family: OsString,
    writer: Writer,
    #[cfg(unix)]
    mode: u32,
}

/// Who writes temporary files: the part of their names that tells whether they still have an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    pid: u32,
    start_ticks: u64,
    /// Where the other two mean something.
    place: String,
}

impl StateFile {
    /// `path` is absolute and ends in a name.
    pub(super) fn new(path: PathBuf, here: &Host) -> Self {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = path.file_name().unwrap_or_default();
        let mut family = OsString::from(".");
        if name.len() <= LONG_NAME {
            family.push(name);
        } else {
            family.push(hash(name));
        }
        family.push(".");
        let pid = std::process::id();
        let place = hash((&here.boot_id, &here.pid_namespace, &here.hostname));
        let writer = Writer { pid, start_ticks: host::start_ticks(pid).unwrap_or(0), place };
        Self {
            path,
            folder,
            family,
            writer,
            #[cfg(unix)]
            mode: DEFAULT_FILE_MODE,
        }
    }

    /// Sets the permissions of the file.
    #[cfg(unix)]
    pub(super) fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Whether the names of its temporary files tell which process they belong to.
    pub(super) fn knows_its_writer(&self) -> bool {
        self.writer.start_ticks != 0
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by one that holds `state`: readers see the old one or the new one, whole. Returns the digest of
    /// what was written.
    ///
    /// The rename is not preceded by an `fsync`: readers are safe without it, and what it would protect, the last beat
    /// after a power failure, is of no use to anyone. A disk that is slow must not slow the beat.
    pub(super) fn write(&self, state: &HeartbeatState) -> Result<u64, HeartbeatError> {
        let path = || self.path.clone();
        let json = state.to_json().map_err(|reason| HeartbeatError::Damaged { path: path(), reason })?;
        if json.len() > MAX_FILE_SIZE {
            return Err(HeartbeatError::TooLarge { path: path() });
        }
        self.replace(&json).map_err(|error| HeartbeatError::Io { path: path(), error: Arc::new(error) })?;
        Ok(digest(&json))
    }

    fn replace(&self, json: &[u8]) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| is_of_the_system(there.file_type())) {
            const WHY: &str = "a device or a socket, which is not to be replaced";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, WHY));
        }
        let mut file = match self.create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)?;
                self.create()?
            }
            created => created?,
        };
        // The temporary file is removed wherever this ends early.
        file.write_all(json)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// A file of our own: its name was free, and nothing that others put there is followed or reused.
    fn create(&self) -> io::Result<NamedTempFile> {
        let mut prefix = self.family.clone();
        prefix.push(self.writer.to_name());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM_CHARS);
        #[cfg(unix)]
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(self.mode);
        #[cfg(unix)]
        builder.permissions(permissions);
        builder.tempfile_in(&self.folder)
    }

    /// Removes what processes that were killed between creating and renaming have left: files named as ours for this
    /// very path, whose owner is gone. Best effort.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if self.is_litter(&entry) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn is_litter(&self, entry: &fs::DirEntry) -> bool {
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(self.family.as_encoded_bytes());
        let Some(owner) = rest.and_then(|rest| str::from_utf8(rest).ok()).and_then(Writer::from_rest_of_name) else {
            return false;
        };
        let Ok(metadata) = entry.metadata() else { return false };
        if !metadata.is_file() {
            return false;
        }
        if owner.place == self.writer.place {
            let reused = host::start_ticks(owner.pid).is_some_and(|ticks| ticks != owner.start_ticks);
            return reused || host::process(owner.pid) == Process::Gone;
        }
        let age = metadata.modified().ok().and_then(|modified| clock::wall().duration_since(modified).ok());
        age.is_some_and(|age| age > ABANDONED)
    }
}

impl Writer {
    fn to_name(&self) -> String {
        format!("{}-{}-{}.", self.pid, self.start_ticks, self.place)
    }

    fn from_rest_of_name(rest: &str) -> Option<Self> {
        let (owner, random) = rest.strip_suffix(SUFFIX)?.split_once('.')?;
        let mut parts = owner.split('-');
        let (pid, start_ticks, place) = (parts.next()?, parts.next()?, parts.next()?);
        let writer = Self { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()?, place: place.to_owned() };
        let ours = random.len() == RANDOM_CHARS
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && rest.strip_prefix(&writer.to_name())?.strip_suffix(SUFFIX)? == random;
        ours.then_some(writer)
    }
}

/// A device or a socket: `/dev/null` is given by whoever wants no file.
#[cfg(unix)]
fn is_of_the_system(kind: fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;

    kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_of_the_system(_: fs::FileType) -> bool {
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

        /// A file as `writer` would have left it in the middle of a beat.
        fn leave(&self, writer: &Writer) -> PathBuf {
            self.put(&format!(".bot.heartbeat.{}aB3dE6.tmp", writer.to_name()))
        }

        fn put(&self, name: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, "").expect("a file");
            path
        }
    }

    // HB-3: what the killed have left is swept up, and nothing else.
    #[test]
    fn only_litter_is_swept() {
        let fixture = Fixture::new();
        let me = &fixture.file.writer;
        let elsewhere = "0123456789abcdef".to_owned();
        let litter = [
            fixture.leave(&Writer { pid: u32::MAX, ..me.clone() }),
            fixture.leave(&Writer { start_ticks: me.start_ticks + 1, ..me.clone() }),
            fixture.leave(&Writer { pid: 4711, place: elsewhere.clone(), ..me.clone() }),
        ];
        let long_ago = clock::wall() - ABANDONED - Duration::from_secs(60);
        File::options().write(true).open(&litter[2]).unwrap().set_modified(long_ago).unwrap();

        let dead = Writer { pid: u32::MAX, ..me.clone() }.to_name();
        let kept = [
            fixture.leave(me),
            fixture.leave(&Writer { place: elsewhere, ..me.clone() }),
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

    // HB-3: what `create` names is what the sweep knows.
    #[test]
    fn a_temporary_file_is_known_as_ours() {
        let fixture = Fixture::new();
        let temporary = fixture.file.create().unwrap();
        let name = temporary.path().file_name().unwrap().to_str().unwrap();
        let rest = name.strip_prefix(".bot.heartbeat.").unwrap();
        assert_eq!(Writer::from_rest_of_name(rest), Some(fixture.file.writer.clone()));
        fixture.file.sweep();
        assert!(temporary.path().exists(), "its owner lives");
    }

    // HB-3: readers of other users see it or not, as was asked.
    #[cfg(unix)]
    #[test]
    fn the_file_has_the_permissions_that_were_asked_for() {
        use std::os::unix::fs::PermissionsExt;

        let Fixture { folder, file } = Fixture::new();
        let text = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1"}"#;
        let state = HeartbeatState::from_json(text.as_bytes()).unwrap();
        file.with_mode(0o600).write(&state).unwrap();
        let mode = fs::metadata(folder.path().join("bot.heartbeat")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // HB-6: what was opened decides, also where something else stood there when the path was looked at.
    #[test]
    fn what_was_opened_is_looked_at_again() {
        let fixture = Fixture::new();
        let path = fixture.put("bot.heartbeat");
        let folder = File::open(fixture.folder.path()).unwrap();
        assert!(matches!(read_opened(&path, folder), Err(HeartbeatError::NotAFile { .. })));
        let device = File::open("/dev/null").unwrap();
        assert!(matches!(read_opened(&path, device), Err(HeartbeatError::NotAFile { .. })));
    }

    // HB-3: a metadata that outgrows the file is not written.
    #[test]
    fn what_no_reader_would_read_is_not_written() {
        let fixture = Fixture::new();
        let text = r#"{"timestamp": "2026-11-23T12:00:00Z", "pid": 7, "hostname": "web-1"}"#;
        let mut state = HeartbeatState::from_json(text.as_bytes()).unwrap();
        state.hostname = "x".repeat(MAX_FILE_SIZE);
        assert!(matches!(fixture.file.write(&state), Err(HeartbeatError::TooLarge { .. })));
        assert_eq!(fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
    }
}
