//! Threads of this library.
#![doc(hidden)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

/// Relaxed: it publishes nothing else. 0 means the default.
static STACK_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Sets the stack size of threads that run callbacks, in bytes. Default: 2 MiB.
///
/// Use it for languages that need more.
pub fn set_stack_size(bytes: usize) {
    STACK_SIZE.store(bytes, Ordering::Relaxed);
}

/// Returns a builder for a thread of this name. Zero bytes in it, which would panic, become spaces.
pub(crate) fn named(name: &str) -> Builder {
    let builder = Builder::new().name(name.replace('\0', " "));
    match STACK_SIZE.load(Ordering::Relaxed) {
        0 => builder,
        bytes => builder.stack_size(bytes),
    }
}
