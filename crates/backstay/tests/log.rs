//! The events that the library logs, and the files with unsafe code.
#![cfg(all(feature = "circuit-breaker", feature = "rate-limiter", feature = "shutdown", feature = "watchdog"))]
#![cfg(not(backstay_loom))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use backstay::clock::ManualClock;
use backstay::{CircuitBreaker, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Sends each event of the library as a line: level, message, fields.
struct Log(Sender<String>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "backstay"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, " {}={value:?}", field.name()).unwrap();
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        // Fails if the test no longer receives.
        let _ = self.0.send(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Waits for an event that contains all of `parts`.
fn expect_event(lines: &Receiver<String>, parts: &[&str]) {
    let mut others = Vec::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
        if parts.iter().all(|part| line.contains(part)) {
            return;
        }
        others.push(line);
    }
    panic!("no event with {parts:?} among {others:#?}");
}

// ALL-3: an event for every transition, rejection, missed beat, freeze and shutdown step. WD-6: the name, the thread
// and the duration of a freeze.
#[test]
fn important_events_are_logged() {
    let (sender, lines) = channel();
    tracing::subscriber::set_global_default(Log(sender)).unwrap();
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(100));

    let breaker = CircuitBreaker::builder().max_failures(1).name("payments").clock(&clock).build().unwrap();
    let _ = breaker.call(|| Err::<(), _>("down"));
    let cause = "cause=1 consecutive failures";
    expect_event(&lines, &["WARN", "circuit breaker opened", "breaker=\"payments\"", "from=closed", "to=open", cause]);
    let _ = breaker.call(|| Ok::<_, ()>(()));
    expect_event(&lines, &["DEBUG", "circuit breaker rejected a call", "breaker=\"payments\"", "remaining="]);
    clock.advance(Duration::from_secs(60));
    // CB-19: ten ignored half-open calls in a row are a warning, once.
    let ignored = |calls: usize| (0..calls).for_each(|_| breaker.try_acquire().unwrap().ignore());
    ignored(1);
    expect_event(&lines, &["INFO", "changed state", "from=open", "to=half-open"]);
    ignored(8);
    assert!(lines.try_iter().all(|line| !line.contains("ignored")));
    ignored(1);
    expect_event(&lines, &["WARN", "stays half-open", "breaker=\"payments\""]);
    ignored(30);
    assert!(lines.try_iter().all(|line| !line.contains("stays half-open")));
    breaker.call(|| Ok::<_, ()>(())).unwrap();
    expect_event(&lines, &["INFO", "changed state", "from=half-open", "to=closed"]);

    let limiter = RateLimiter::builder(1).name("quotes").clock(&clock).build().unwrap();
    assert!(limiter.try_acquire() && !limiter.try_acquire());
    expect_event(&lines, &["DEBUG", "rate limit exceeded", "limiter=\"quotes\""]);

    drop(Watchdog::builder().timeout(Duration::from_millis(200)).build());
    expect_event(&lines, &["WARN", "`timeout` 200ms is out of range", "clamped to 1s", "`timeout_unclamped`"]);
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(5)).clock(&clock).name("orders").build().unwrap();
    watchdog.start().unwrap();
    clock.advance(Duration::from_secs(6));
    // The thread is named after this test; the kernel keeps 15 bytes of the name.
    let thread = if cfg!(target_os = "linux") { "thread=\"important_event\"" } else { "" };
    expect_event(&lines, &["ERROR", "watchdog=\"orders\"", "seconds=6.0", thread]);
    watchdog.stop();

    let file = tempfile::NamedTempFile::new().unwrap();
    let heartbeat = Heartbeat::builder().state_file(file.path().join("below a file")).build().unwrap();
    heartbeat.beat().unwrap_err();
    expect_event(&lines, &["WARN", "missed a beat"]);

    let shutdown = GracefulShutdown::builder().build().unwrap();
    shutdown.register("positions", || ()).unwrap();
    shutdown.register("connections", || Err::<(), _>("dead peer")).unwrap();
    shutdown.trigger();
    expect_event(&lines, &["INFO", "shutdown begins"]);
    expect_event(&lines, &["INFO", "completed", "callback=positions"]);
    expect_event(&lines, &["WARN", "dead peer", "callback=connections"]);
}

// ALL-4: only these files contain unsafe code, none of them is in the core, and each use has its reason.
#[test]
fn unsafe_code_is_in_listed_files_with_reasons() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let core = std::fs::read_to_string(crates.join("backstay-core/src/lib.rs")).unwrap();
    assert!(core.contains("#![forbid(unsafe_code)]"));
    let mut found = BTreeSet::new();
    let mut folders = vec![crates.join("backstay/src"), crates.join("backstay-macros/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
            if code()
                .any(|line| line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn"))
            {
                assert!(text.contains("SAFETY:"), "{} does not say why", path.display());
                found.insert(path.strip_prefix(crates).unwrap().display().to_string());
            }
        }
    }
    let allowed = [
        "backstay/src/clock/counter.rs",
        "backstay/src/process/gate.rs", // its loom model only
        "backstay/src/process/per_process.rs",
        "backstay/src/signals/chain.rs",
        "backstay/src/signals/handler.rs",
        "backstay/src/striped/counting.rs",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), allowed);
}
