//! The runtime for async callbacks that find no other, kept ready since the first of them was registered.

use std::io;
use std::sync::Arc;

use crate::callback::OwnRuntime;
use crate::sync::Mutex;

/// A runtime needs descriptors, and a service that shuts down because it has none left must still clean up.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserve(Arc<Mutex<Option<OwnRuntime>>>);

impl Reserve {
    /// Makes the runtime, where this process has none.
    pub(super) fn fill(&self) -> io::Result<()> {
        let known = self.take();
        let runtime = match known {
            Some(runtime) => runtime,
            None => OwnRuntime::new()?,
        };
        self.put_back(runtime);
        Ok(())
    }

    /// Runs `future` to its end on this thread: on the reserved runtime or, where a callback before still has that one,
    /// on one that is made now.
    pub(super) fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let runtime = self.take().unwrap_or_else(OwnRuntime::new_or_without_io);
        let output = runtime.block_on(future);
        self.put_back(runtime);
        output
    }

    /// Lets go of the runtime, and of what callbacks have left running on it.
    pub(super) fn empty(&self) {
        drop(self.take());
    }

    /// The runtime, if it is there and not a parent process's.
    fn take(&self) -> Option<OwnRuntime> {
        let runtime = self.0.lock().take();
        runtime.filter(OwnRuntime::is_ours)
    }

    fn put_back(&self, runtime: OwnRuntime) {
        let other = self.0.lock().replace(runtime);
        drop(other);
    }
}
