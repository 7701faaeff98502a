//! Who takes which signal, and the dispatcher's thread.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Listener, Signal, TakeError, handler};
use crate::log::log_in_background;
use crate::process::{PerProcess, this_process};

static REGISTRY: PerProcess<Mutex<Registry>> = PerProcess::new();

#[derive(Default)]
struct Registry {
    dispatched: bool,
    listeners: BTreeMap<Signal, Vec<Listener>>,
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signals that are taken for a listener; dropping it releases them.
pub(crate) struct Taken {
    owner: u32,
    signals: Vec<Signal>,
    listener: Listener,
}

/// Lets `listener` hear of each of `signals`: all of them or, where one cannot be caught, none.
pub(crate) fn take(signals: &[Signal], listener: &Listener) -> Result<Taken, TakeError> {
    let mut registry = registry();
    let mut taken = Taken { owner: this_process(), signals: Vec::new(), listener: Arc::clone(listener) };
    for &signal in signals {
        if taken.signals.contains(&signal) {
            continue;
        }
        if let Err(error) = registry.add(signal, listener) {
            drop(registry);
            drop(taken);
            return Err(error);
        }
        taken.signals.push(signal);
    }
    Ok(taken)
}

impl Registry {
    fn add(&mut self, signal: Signal, listener: &Listener) -> Result<(), TakeError> {
        let number = signal.as_raw();
        if UNCATCHABLE.contains(&number) {
            return Err(TakeError::Uncatchable(signal));
        }
        let refused = |error: io::Error| match error.raw_os_error() {
            Some(libc::EINVAL) => TakeError::Uncatchable(signal),
            _ => TakeError::System(signal, error),
        };
        // Asked first, so that a number that is no signal starts no thread.
        handler::is_catchable(number).map_err(refused)?;
        self.start().map_err(refused)?;
        let listeners = self.listeners.entry(signal).or_default();
        // While somebody listens, a foreign handler over ours is the user's wish: it came later, and calls us on.
        if listeners.is_empty() {
            handler::take(number).map_err(refused)?;
        }
        listeners.push(Arc::clone(listener));
        Ok(())
    }

    /// Starts the dispatcher, where this process has none.
    fn start(&mut self) -> io::Result<()> {
        if self.dispatched {
            return Ok(());
        }
        let (reader, writer) = pipe()?;
        thread::Builder::new().name("backstay-signal".to_owned()).spawn(move || dispatch(reader))?;
        handler::own(writer.into_raw_fd());
        self.dispatched = true;
        Ok(())
    }

    /// Takes `taken` out. What has arrived before is still told to those who listened then: see [`tell`].
    fn release(&mut self, taken: &Taken) -> Vec<(Signal, Vec<Listener>)> {
        let mut told = Vec::new();
        for signal in &taken.signals {
            let Some(listeners) = self.listeners.get_mut(signal) else { continue };
            let heard = listeners.clone();
            listeners.retain(|other| !Arc::ptr_eq(other, &taken.listener));
            let times = if listeners.is_empty() {
                self.listeners.remove(signal);
                handler::give_back(signal.as_raw())
            } else {
                handler::arrived(signal.as_raw())
            };
            told.extend((0..times).map(|_| (*signal, heard.clone())));
        }
        told
    }

    /// What has arrived since the last look, and whom to tell.
    fn arrived(&mut self) -> Vec<(Signal, Vec<Listener>)> {
        let mut told = Vec::new();
        for (signal, listeners) in &self.listeners {
            let times = handler::arrived(signal.as_raw());
            told.extend((0..times).map(|_| (*signal, listeners.clone())));
        }
        told
    }
}

/// Tells listeners what has arrived, when the registry is unlocked.
fn tell(told: Vec<(Signal, Vec<Listener>)>) {
    for (signal, listeners) in told {
        for listener in listeners {
            listener(signal);
        }
    }
}

impl Taken {
    /// Whether it was taken in this process, not in one that this was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner == this_process()
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Taken").field(&self.signals).finish()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.is_ours() {
            let told = registry().release(self);
            tell(told);
        }
    }
}

/// Signals that the system lets nobody catch, and those that say that the thread itself is broken: returning from
/// their handler would break it again, for ever.
const UNCATCHABLE: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// What wakes the dispatcher. A handler must not block where it is full.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok((reader, writer))
}

/// Tells the listeners, one signal after the other, until the process ends.
fn dispatch(mut wake: PipeReader) {
    let mut bytes = [0; 64];
    loop {
        match wake.read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The program has closed descriptors that are not its own, as daemons do at their start.
            Ok(0) | Err(_) => match pipe() {
                Ok((reader, writer)) => {
                    handler::wake_through(writer.into_raw_fd());
                    // Its number may be another file's by now, which must not be closed.
                    let _ = std::mem::replace(&mut wake, reader).into_raw_fd();
                }
                Err(error) => {
                    handler::wake_through(-1);
                    log_in_background(
                        move || tracing::error!(target: "backstay", %error, "signals are no longer handled: their pipe was closed, and there is no new one"),
                    );
                    return;
                }
            },
        }
        // Also what arrived while there was no pipe.
        let told = registry().arrived();
        tell(told);
    }
}
