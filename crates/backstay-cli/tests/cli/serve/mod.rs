//! `backstay serve` over real connections.

mod answers;
mod browser;
mod chromium;
mod limits;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{TIMEOUT, backstay, until};

/// A running server.
struct Served {
    home: TempDir,
    child: Child,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    /// Serves the folder `beats`, which exists.
    fn start(options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("beats")).unwrap();
        Self::of(home, options)
    }

    fn of(home: TempDir, options: &[&str]) -> Self {
        let mut command = backstay(home.path());
        command.args(["serve", "beats", "--listen", "127.0.0.1:0"]);
        command.args(if options.contains(&"--every") { &[][..] } else { &["--every", "20ms"] });
        command.args(options);
        Self::run(home, command)
    }

    fn run(home: TempDir, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_suffix('/').and_then(|line| line.rsplit_once("http://")).unwrap();
        Self { home, child, address: address.1.parse().unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("beats")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends one request, with extra header lines.
    fn ask(&self, first: &str, lines: &str) -> Answer {
        let mut stream = self.connect();
        write!(stream, "{first} HTTP/1.1\r\n{lines}\r\n").unwrap();
        answer(stream)
    }

    fn read(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "Host: localhost\r\n")
    }

    fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(path).body).unwrap()
    }

    /// Repeats a request until the answer fits.
    fn read_until(&self, path: &str, fits: impl Fn(&Answer) -> bool) {
        until(path, || fits(&self.read(path)));
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the answer to the end; a connection carries one answer.
fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Writes an old heartbeat of another machine.
fn stale(folder: &Path, name: &str, metadata: &serde_json::Value) {
    let json =
        serde_json::json!({"timestamp": "2001-01-01T00:00:00Z", "pid": 7, "hostname": "far", "metadata": metadata});
    std::fs::write(folder.join(format!("{name}.heartbeat")), json.to_string()).unwrap();
}
