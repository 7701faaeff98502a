//! The answers to requests.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::{Served, stale};
use crate::{backstay, stdout, until};

#[test]
fn the_web_page_loads_nothing_from_other_sites() {
    let served = Served::start(&[]);
    for (path, kind) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")]
    {
        let answer = served.read(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{}", answer.head);
        assert!(answer.head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
        assert!(answer.head.contains("x-content-type-options: nosniff"));
        let elsewhere = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("//") || path == "/page.js" && !elsewhere.contains("://"), "{path}");
        for markup in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", "onclick"] {
            assert!(!answer.body.contains(markup), "{path}: {markup}");
        }
    }
    assert_eq!(served.read("/elsewhere").status, 404);
    assert_eq!(served.read("/../../etc/passwd").status, 404);
}

#[test]
fn only_reading_is_allowed() {
    let served = Served::start(&[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"] {
        let target = if method == "CONNECT" { "localhost:80" } else { "/api/status" };
        let answer = served.ask(&format!("{method} {target}"), "Host: localhost\r\n");
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: GET, HEAD"), "{method}");
    }
    let answer = served.ask("HEAD /", "Host: localhost\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.head.contains("content-length: "), "{}", answer.head);
}

// DNS rebinding: a site that lets its own name point to this machine is rejected.
#[test]
fn other_host_names_are_rejected() {
    let served = Served::start(&["--allow-host", "status.example"]);
    let status = |lines: &str| served.ask("GET /api/status", lines).status;
    served.read_until("/readyz", |answer| answer.status == 200);
    for fine in ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]", "status.example"] {
        assert_eq!(status(&format!("Host: {fine}\r\n")), 200, "{fine}");
    }
    for wrong in ["Host: evil.example\r\n", "", "Host: localhost\r\nHost: evil.example\r\n"] {
        assert!(matches!(status(wrong), 400 | 421), "{wrong}");
    }
    assert_eq!(served.ask("GET /", "Host: evil.example\r\n").status, 421);
}

#[test]
fn the_api_returns_what_status_prints() {
    let served = Served::start(&[]);
    stale(&served.folder(), "b", &json!({"version": "1.0.0"}));
    std::fs::write(served.folder().join("a.heartbeat"), "{").unwrap();
    served.read_until("/api/status", |answer| answer.body.contains("DEAD") && answer.body.contains("UNKNOWN"));

    let mut ours = served.json("/api/status");
    let folder = served.folder();
    let output = backstay(served.home.path()).args(["status", "--json"]).arg(&folder).output().unwrap();
    let mut theirs: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    for all in [&mut ours, &mut theirs] {
        for service in all.as_array_mut().unwrap() {
            service["file"] = service["file"].as_str().unwrap().rsplit('/').next().unwrap().into();
            // The age differs.
            service["age"] = serde_json::Value::Null;
            service["message"] = serde_json::Value::Null;
        }
    }
    assert_eq!(ours, theirs);
}

#[test]
fn an_unchanged_snapshot_is_not_sent_again() {
    let served = Served::start(&["--every", "1h"]);
    served.read_until("/readyz", |answer| answer.status == 200);
    let answer = served.read("/api/page");
    let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = |tags: &str| served.ask("GET /api/page", &format!("Host: localhost\r\nIf-None-Match: {tags}\r\n"));
    for known in [tag.to_owned(), format!("\"x\", W/{tag}")] {
        let answer = again(&known);
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
    }
    assert_eq!(again("\"x\"").status, 200);

    // The same number from another process is another snapshot.
    let other = Served::start(&["--every", "1h"]);
    other.read_until("/readyz", |answer| answer.status == 200);
    assert_eq!(other.ask("GET /api/page", &format!("Host: localhost\r\nIf-None-Match: {tag}\r\n")).status, 200);
}

#[test]
fn readiness_follows_the_folder() {
    let served = Served::of(tempfile::tempdir().unwrap(), &[]);
    served.read_until("/readyz", |answer| answer.status == 503 && answer.body.contains("No such file"));
    assert_eq!(served.read("/healthz").status, 200);
    assert!(served.read("/metrics").body.contains("\nbackstay_serve_ready 0\n"));
    std::fs::create_dir(served.folder()).unwrap();
    served.read_until("/readyz", |answer| answer.status == 200);
    stale(&served.folder(), "a", &json!({}));
    served.read_until("/api/status", |answer| answer.body.contains("a.heartbeat"));
    std::fs::remove_dir_all(served.folder()).unwrap();
    served.read_until("/readyz", |answer| answer.status == 503);
    // The last services are still shown.
    assert!(served.read("/api/status").body.contains("\"missing\""));
}

// CL-10: the default folder in a folder that all users can write to, made by another user before this one came.
#[test]
fn a_folder_of_another_user_is_not_served() {
    let as_user = ["--reuid", "65533", "--clear-groups"];
    if !Command::new("setpriv").args(as_user).arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("passed over: not root, or no setpriv");
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let squatted = home.path().join("backstay-65533");
    std::fs::create_dir(&squatted).unwrap();
    stale(&squatted, "bank", &json!({"says": "forged"}));
    let mut command = Command::new("setpriv");
    command.args(as_user).args([env!("CARGO_BIN_EXE_backstay"), "serve", "--listen", "127.0.0.1:0", "--every", "20ms"]);
    command.env("TMPDIR", home.path()).env_remove("BACKSTAY_DIR").env_remove("XDG_RUNTIME_DIR").current_dir("/");
    let served = Served::run(home, command);
    served.read_until("/readyz", |answer| answer.body.contains("another user owns it"));
    assert_eq!(served.read("/readyz").status, 503);
    for path in ["/api/status", "/metrics", "/"] {
        let body = served.read(path).body;
        assert!(!body.contains("bank") && !body.contains("forged"), "{path}: {body}");
    }
    // The same folder, once it belongs to this user alone.
    std::os::unix::fs::chown(&squatted, Some(65533), None).unwrap();
    served.read_until("/readyz", |answer| answer.status == 200);
    assert!(served.read("/api/status").body.contains("forged"));
}

// CL-11
#[test]
fn metrics_cannot_control_a_terminal() {
    let served = Served::start(&[]);
    stale(&served.folder(), "a\u{1b}[2J\u{202e}", &json!({}));
    served.read_until("/metrics", |answer| answer.body.contains(r#"{name="a\\x1b[2J\\xe2\\x80\\xae"}"#));
}

#[test]
fn the_metrics_are_valid() {
    let served = Served::start(&[]);
    stale(&served.folder(), "bot", &json!({"restarts": 3, "freezes": 1}));
    stale(&served.folder(), "a\"} 1\nup{x=\"\\", &json!({"restarts": "many", "freezes": -1}));
    // A snapshot may be taken between the two files.
    let has_both = |body: &str| body.contains("{name=\"bot\"}") && body.contains("up{x=");
    served.read_until("/metrics", |answer| has_both(&answer.body));
    let answer = served.read("/metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.ends_with('\n'));

    let (mut types, mut series) = (HashSet::new(), HashSet::new());
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name.to_owned()), "duplicate: {line}");
        } else if !line.starts_with("# HELP ") {
            let (key, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(series.insert(key.to_owned()), "duplicate: {line}");
            let name = key.split('{').next().unwrap();
            assert!(types.contains(name), "no type: {line}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            if let Some(labels) = key.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let value = labels.strip_prefix("{name=\"").and_then(|rest| rest.strip_suffix("\"}")).unwrap();
                // Quotes within the label are escaped.
                let rest = value.replace("\\\\", "").replace("\\\"", "");
                assert!(!rest.contains('"'), "{line}");
            }
        }
    }
    let has = |line: &str| assert!(answer.body.contains(&format!("\n{line}\n")), "{line}: {}", answer.body);
    has("backstay_heartbeat_up{name=\"bot\"} 0");
    has("backstay_heartbeat_code{name=\"bot\"} 3");
    has("backstay_heartbeat_restarts_total{name=\"bot\"} 3");
    has("backstay_heartbeat_freezes_total{name=\"bot\"} 1");
    has(r#"backstay_heartbeat_up{name="a\"} 1\\x0aup{x=\"\\\\"} 0"#);
    has("backstay_serve_ready 1");
    assert_eq!(series.iter().filter(|key| key.starts_with("backstay_heartbeat_restarts")).count(), 1);
}

#[test]
fn it_writes_a_heartbeat_if_a_file_is_configured() {
    let mut served = Served::start(&["--heartbeat", "serve.heartbeat"]);
    let probe = || backstay(served.home.path()).args(["probe", "--json", "serve.heartbeat"]).output().unwrap();
    until("it beats", || probe().status.success());
    assert!(stdout(&probe()).contains(&served.address.to_string()));
    served.terminate();
    assert!(served.wait().success());
    let probe = backstay(served.home.path()).args(["probe", "serve.heartbeat"]).output().unwrap();
    assert_eq!(probe.status.code(), Some(6), "stopped in order");
}

#[test]
fn an_address_in_use_is_an_error() {
    let served = Served::start(&[]);
    let output = backstay(served.home.path())
        .args(["serve", "beats", "--listen", &served.address.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen at 127.0.0.1:"), "{output:?}");
}

#[test]
fn a_health_check_needs_no_host_header() {
    let it = Served::start(&[]);
    it.read_until("/readyz", |answer| answer.status == 200);
    let ask = |path: &str, version: &str| {
        let mut stream = it.connect();
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/{version}\r\n\r\n").as_bytes()).unwrap();
        super::answer(stream).status
    };
    assert_eq!(ask("/healthz", "1.0"), 200);
    assert_eq!(ask("/readyz", "1.0"), 200);
    assert_eq!(ask("/api/status", "1.0"), 421);
    assert_eq!(ask("/healthz", "1.1"), 421);
}
