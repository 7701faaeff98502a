//! Threads of the library's own.
#![doc(hidden)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

static STACK: AtomicUsize = AtomicUsize::new(0);

/// How many bytes of stack the threads get that run callbacks, for languages that need more than Rust's 2 MiB.
pub fn set_stack_size(bytes: usize) {
    STACK.store(bytes, Ordering::Relaxed);
}

/// A thread of this name. A zero byte in it would be a panic.
pub(crate) fn named(name: &str) -> Builder {
    let builder = Builder::new().name(name.replace('\0', " "));
    match STACK.load(Ordering::Relaxed) {
        0 => builder,
        bytes => builder.stack_size(bytes),
    }
}
