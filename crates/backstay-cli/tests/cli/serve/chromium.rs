//! A headless Chromium, driven over a pipe by its DevTools protocol: JSON, each message ended by a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::TIMEOUT;

pub(super) struct Page {
    browser: Child,
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// What the web page logged, and what was blocked in it.
    pub(super) complaints: Vec<String>,
    _profile: TempDir,
}

impl Page {
    /// Returns `None`, with a message, without a browser. A browser named by `BACKSTAY_TEST_BROWSER` must exist.
    pub(super) fn open(url: &str) -> Option<Self> {
        let wanted = std::env::var("BACKSTAY_TEST_BROWSER").ok();
        let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        let name = match wanted.as_deref() {
            Some(name) => name,
            None => match ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there) {
                Some(name) => name,
                None => {
                    eprintln!("no chromium: passed over");
                    return None;
                }
            },
        };
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Command::new("sh")
            // It reads from descriptor 3 and writes to 4.
            .args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "sh", name])
            // In a container the user is root, and /dev/shm is small.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-extensions", "--disable-background-networking", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = browser.stdin.take().unwrap();
        let messages = BufReader::new(browser.stdout.take().unwrap());
        let (session, complaints) = (None, Vec::new());
        let mut page = Self { browser, commands, messages, session, last: 0, complaints, _profile: profile };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = page.call("Target.attachToTarget", &json!({"targetId": target["targetId"], "flatten": true}));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, &json!({}));
        }
        page.call("Page.navigate", &json!({"url": url}));
        page.until("document.readyState === 'complete'");
        Some(page)
    }

    /// Sends one command; returns its result.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.commands, "{message}\0").unwrap();
        loop {
            let mut bytes = Vec::new();
            self.messages.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser ended");
            let mut message: Value = serde_json::from_slice(&bytes).unwrap();
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            let method = message["method"].as_str().unwrap_or_default();
            if matches!(method, "Log.entryAdded" | "Runtime.exceptionThrown" | "Page.javascriptDialogOpening") {
                self.complaints.push(message["params"].to_string());
            }
        }
    }

    /// Returns the value of an expression in the web page.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    pub(super) fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub(super) fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(expression) != true {
            let page = if began.elapsed() < TIMEOUT { String::new() } else { self.text("document.body.innerText") };
            assert!(page.is_empty(), "not within {TIMEOUT:?}: {expression}\n{page}\n{:?}", self.complaints);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn key(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let params = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", &params);
        }
    }

    pub(super) fn size(&mut self, width: u32) {
        let params = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &params);
    }

    pub(super) fn scheme(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = write!(self.commands, "{}\0", json!({"id": 0, "method": "Browser.close"}));
        let began = Instant::now();
        while self.browser.try_wait().is_ok_and(|status| status.is_none()) {
            if began.elapsed() > Duration::from_secs(5) {
                let _ = self.browser.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
