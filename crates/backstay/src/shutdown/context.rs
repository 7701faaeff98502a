//! The runtime of the caller, and how to block on it.

use super::callback_run::Runtimes;

#[cfg(feature = "tokio")]
pub(super) use with_tokio::{blocking, of_blocking_caller, of_task};
#[cfg(not(feature = "tokio"))]
pub(super) use without::{blocking, of_blocking_caller, of_task};

#[cfg(feature = "tokio")]
mod with_tokio {
    use super::Runtimes;
    use crate::callback::caught;
    use tokio::runtime::{Handle, RuntimeFlavor};
    use tokio::task::block_in_place;

    pub(in crate::shutdown) fn of_task() -> Runtimes {
        Runtimes { found: Handle::try_current().ok(), blocked: None }
    }

    pub(in crate::shutdown) fn of_blocking_caller() -> Runtimes {
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread => {
                Runtimes { blocked: Some(runtime.id()), found: None }
            }
            found => Runtimes { found: found.ok(), blocked: None },
        }
    }

    /// Runs `f`, which blocks. On a multi-threaded runtime the other tasks go on.
    pub(in crate::shutdown) fn blocking<T>(f: impl FnOnce() -> T) -> T {
        let multi = Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        // Inside a `LocalSet`, `block_in_place` panics; there is no other way to find out.
        if multi && caught(|| block_in_place(|| ())).is_ok() { block_in_place(f) } else { f() }
    }
}

#[cfg(not(feature = "tokio"))]
mod without {
    use super::Runtimes;

    pub(in crate::shutdown) fn of_task() -> Runtimes {
        Runtimes {}
    }

    pub(in crate::shutdown) fn of_blocking_caller() -> Runtimes {
        Runtimes {}
    }

    pub(in crate::shutdown) fn blocking<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
}
