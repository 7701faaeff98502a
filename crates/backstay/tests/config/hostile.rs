//! ALL-1: no file causes a hang, a panic or excessive memory use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use backstay::clock::Clock;
use backstay::config::{Config, Sources};
use proptest::prelude::*;

use crate::{Folder, error, load};

/// Returns the error of the file at `path`.
fn of_file(path: impl AsRef<Path>) -> String {
    Config::from_sources(&Sources::none().file(path.as_ref())).unwrap_err().to_string()
}

/// Runs `what` and checks that it does not hang, with a limit for a busy machine.
fn without_hanging<T>(what: impl FnOnce() -> T) -> T {
    let clock = Clock::system();
    let start = clock.now();
    let done = what();
    let took = clock.now().since(start);
    assert!(took < Duration::from_secs(60), "{took:?}");
    done
}

#[test]
fn a_folder_is_not_a_file() {
    let folder = Folder::new();
    assert_eq!(of_file(folder.0.path()), format!("{}: is a folder, but must be a file", folder.0.path().display()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_fifo_and_devices_do_not_block() {
    let folder = Folder::new();
    let fifo = folder.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(folder.relative(without_hanging(|| of_file(&fifo))), "fifo: is a FIFO, but must be a file");
    assert_eq!(without_hanging(|| of_file("/dev/zero")), "/dev/zero: is a device, but must be a file");
    assert!(without_hanging(|| of_file("/proc/self/mem")).contains("cannot be read"));
    assert!(without_hanging(|| of_file("/proc/kallsyms")).contains("is larger than 1024 KiB"));
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_are_an_error() {
    let folder = Folder::new();
    std::os::unix::fs::symlink(folder.path("a"), folder.path("a")).unwrap();
    assert!(of_file(folder.path("a")).contains("cannot be opened"));
}

#[cfg(unix)]
#[test]
fn a_path_below_a_file_is_missing() {
    let folder = Folder::new().with(".config", "");
    assert!(Config::from_sources(&Sources::none().file(folder.path(".config/kstlib.conf.yml"))).is_ok());
}

#[test]
fn a_huge_file_is_rejected_unread() {
    let folder = Folder::new();
    fs::File::create(folder.path("huge")).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(folder.relative(without_hanging(|| of_file(folder.path("huge")))), "huge: is larger than 1024 KiB");
    // A file of the maximum size is read.
    assert!(load("#".repeat(1 << 20)).is_ok());
    assert!(error("#".repeat((1 << 20) + 1)).contains("is larger than 1024 KiB"));
}

#[test]
fn deep_nesting_is_rejected() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        for depth in [100, 10_000, 100_000] {
            for key in ["resilience", "other"] {
                let text = format!("{key}: {}{}", open.repeat(depth), close.repeat(depth));
                let shown = without_hanging(|| error(text));
                assert!(shown.contains("too large or too deep"), "{shown}");
            }
        }
    }
    let block: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(without_hanging(|| error(block)).contains("too large or too deep"));
}

#[test]
fn an_alias_bomb_is_rejected() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (previous, next) in ('a'..'j').zip('b'..='j') {
        let items = vec![format!("*{previous}"); 9].join(", ");
        bomb.push_str(&format!("{next}: &{next} [{items}]\n"));
    }
    for yaml in [bomb.clone(), format!("{bomb}resilience: *j\n")] {
        let shown = without_hanging(|| error(yaml));
        assert!(shown.contains("too large or too deep for a configuration"), "{shown}");
    }
    assert!(without_hanging(|| error("a: &x [*x]\n")).contains("conf.yml:1:8: "));
}

#[test]
fn many_and_long_unknown_keys_are_fast() {
    let many: String = (0..20_000).map(|i| format!("  key{i}:\n")).collect();
    let config = without_hanging(|| load(format!("resilience:\n{many}"))).unwrap();
    assert_eq!(config.warnings().len(), 51);
    assert!(config.warnings()[50].text.starts_with("more keys are not known"));
    let long = without_hanging(|| load(format!("resilience:\n  ? {}\n  : 1\n", "x".repeat(1_000_000)))).unwrap();
    assert!(long.warnings()[0].text.len() < 300);
}

// Errors that are not kept get no snippet: each snippet searches the file from the top.
#[test]
fn many_errors_are_fast() {
    let many = |item: fn(usize) -> String| (0..20_000).map(item).collect::<String>();
    for instances in [
        many(|i| format!("\n      i{i}: {{grace: -1}}")),
        many(|i| format!("\n      i{i}: 7")),
        format!("{{{}}}", many(|i| format!("i{i}: 7, "))),
    ] {
        let folder = Folder::new().with("conf.yml", format!("resilience:\n  run:\n    instances: {instances}\n"));
        let broken = without_hanging(|| Config::check(&Sources::none().file(folder.path("conf.yml")))).unwrap_err();
        assert_eq!(broken.errors.len(), 50);
        assert!(broken.errors.iter().all(|error| error.to_string().contains('^')));
    }
}

/// Pieces of files that resemble a configuration.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("resilience".to_owned()),
        Just("circuit_breaker".to_owned()),
        Just("max_failures".to_owned()),
        Just("instances".to_owned()),
        Just("shutdown:\n  timeout".to_owned()),
        Just("\n".to_owned()),
        Just("\n  ".to_owned()),
        Just("\n    ".to_owned()),
        Just(": ".to_owned()),
        "[-:{}\\[\\]&*!|>'\"%@`#?,~<. \t0-9a-z]{0,4}",
        "\\PC{0,3}",
        Just("-1e400".to_owned()),
        Just(".nan".to_owned()),
        Just("<<: *a".to_owned()),
        Just("&a ".to_owned()),
        Just("!!binary ".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // ALL-1
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(bytes).map_err(|error| error.to_string());
    }

    // ALL-1
    #[test]
    fn text_like_ours_never_panics(pieces in proptest::collection::vec(piece(), 0..24)) {
        let _ = load(pieces.concat()).map_err(|error| error.to_string());
    }

    // ALL-1
    #[test]
    fn values_never_panic(key in "(reset_timeout|max_failures|half_open_timeout)", value in "\\PC{0,12}") {
        let _ = load(format!("resilience:\n  circuit_breaker:\n    {key}: {value}\n")).map_err(|error| error.to_string());
        let name = format!("BACKSTAY_CIRCUIT_BREAKER__{}", key.to_uppercase());
        let _ = Config::from_sources(&Sources::none().variable(name, value)).map_err(|error| error.to_string());
    }

    // CF-5: any number is an error, or its setting is within the bounds.
    #[test]
    fn numbers_are_errors_or_within_bounds(number in any::<f64>()) {
        let name = "BACKSTAY_CIRCUIT_BREAKER__RESET_TIMEOUT";
        match Config::from_sources(&Sources::none().variable(name, number.to_string())) {
            Ok(config) => {
                let value = crate::setting(&config, "circuit_breaker.reset_timeout").value;
                let Some(backstay::config::Value::Seconds(seconds)) = value else { panic!("{value:?}") };
                prop_assert!(seconds >= Duration::from_secs(1) && seconds <= Duration::from_secs(3600));
                prop_assert!(number >= 0.0);
            }
            Err(_) => prop_assert!(number.is_nan() || number.is_infinite() || number.is_sign_negative()),
        }
    }
}
