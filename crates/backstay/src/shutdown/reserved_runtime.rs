//! The reserved runtime: for async callbacks that have no other, built when the first of them is registered.

use std::io;
use std::sync::Arc;

use crate::callback::OwnRuntime;
use crate::sync::Mutex;

/// Holds the runtime. It needs file descriptors, and a service that shuts down because none is free must still clean
/// up.
#[derive(Clone, Debug, Default)]
pub(super) struct ReservedRuntime(Arc<Mutex<Option<OwnRuntime>>>);

impl ReservedRuntime {
    /// Builds the runtime, unless this process has one. Does not take it out to check: a callback may need it at this
    /// moment.
    pub(super) fn ensure(&self) -> io::Result<()> {
        let has_runtime = self.0.lock().as_ref().is_some_and(OwnRuntime::is_ours);
        if !has_runtime {
            self.put_back(OwnRuntime::new()?);
        }
        Ok(())
    }

    /// Runs `future` to its end on this thread, on the reserved runtime or, while an earlier callback uses that, on a
    /// new one.
    pub(super) fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let runtime = self.take().unwrap_or_else(OwnRuntime::new_or_without_io);
        let output = runtime.block_on(future);
        self.put_back(runtime);
        output
    }

    /// Drops the runtime, and the tasks that callbacks have spawned on it.
    pub(super) fn clear(&self) {
        drop(self.take());
    }

    /// Takes the runtime out; `None` if it is in use, or belongs to a parent process.
    fn take(&self) -> Option<OwnRuntime> {
        let runtime = self.0.lock().take();
        runtime.filter(OwnRuntime::is_ours)
    }

    fn put_back(&self, runtime: OwnRuntime) {
        let other = self.0.lock().replace(runtime);
        drop(other);
    }
}
