//! The page's blocks: each runs to its end and says what the page promises.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::{Child, example};

/// What each block says, in its order.
const PROMISES: [&[&str]; 28] = [
    &["fetch_data failed", "is open", "price: 42000", "API called", "alive: true", "database closed"],
    &["the API failed", "cached: 42000"],
    &["calls, then no token for"],
    &["state saved", "connections closed", "logs flushed", "3 completed"],
    &["version \"1.0.0\"", "alive", "stopped"],
    &["appears frozen", "1 freeze"],
    &["closed after 4 failures of 5", "10 per 1s", "shutdown: 30s, heartbeat: 10s", "max_failures"],
    &["payment failed", "\"payment-api\" is open"],
    &["positions closed", "connections closed", "3 completed", "trades"],
    &["price: 42000", "called: Err", "not called"],
    &["GET /ticker", "POST", "Rate limited, retry after 0."],
    &["API called", "Timeout! Retry after 0."],
    &["data 0", "data", "waited 0."],
    &["called: Err", "called: Err", "called: Err", "not called"],
    &["closed after 10 excluded errors"],
    &["api-server: ALIVE", "worker-1: DEAD", "worker-2: UNKNOWN"],
    &["database closed, cache flushed", "1 completed"],
    &["worker-2 appears frozen"],
    &["the loop froze", "the loop is back"],
    &["Timeout after "],
    &["open", "half-open", "closed"],
    &["cleaned up"],
    &["created: true", "missed:"],
    &["1", "0 callbacks", "2", "0 callbacks", "2 calls"],
    &["0 timeouts"],
    &["\"watched\" was called", "forgotten fired 0", "watched fired 1", "started fired 0"],
    &["100 per 1s", "at once"],
    &["alone 20, shared 10"],
];

#[test]
fn every_block_keeps_its_promise() {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(promises) = PROMISES.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let number = PROMISES.iter().position(|other| std::ptr::eq(other, promises)).unwrap() + 1;
                    keeps(number, promises);
                }
            });
        }
    });
}

/// Some blocks freeze for a moment, or take tokens at once: on a machine that stalls they are given another try.
fn keeps(number: usize, promises: &[&str]) {
    for last in [false, false, true] {
        let mut block = Child::start(example("page").arg(number.to_string()));
        let status = block.end();
        assert!(status.success(), "block {number}: {status}\n{}", block.said.join("\n"));
        let mut lines = block.said.iter();
        if promises.iter().all(|promise| lines.any(|line| line.contains(promise))) {
            return;
        }
        assert!(!last, "block {number} should say {promises:?}, but said:\n{}", block.said.join("\n"));
    }
}

#[test]
fn the_map_of_the_page_names_every_block() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = std::fs::read_to_string(root.join("../../docs/page.md")).unwrap();
    let mut blocks = 0;
    for file in root.join("examples/page").read_dir().unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.starts_with('p') {
            assert!(map.contains(&format!("examples/page/{name}")), "docs/page.md does not name {name}");
            blocks += 1;
        }
    }
    assert_eq!(blocks, PROMISES.len());
}
