//! The registry of signal subscriptions, and the dispatcher thread.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Signal, SignalListener, SubscribeError, handler};
use crate::log::log_in_background;
use crate::process::{PerProcess, this_process};

static REGISTRY: PerProcess<Mutex<SignalRegistry>> = PerProcess::new();

#[derive(Default)]
struct SignalRegistry {
    has_dispatcher: bool,
    listeners: BTreeMap<Signal, Vec<SignalListener>>,
}

fn registry() -> MutexGuard<'static, SignalRegistry> {
    REGISTRY.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals for which a listener is called, until this is dropped.
pub(crate) struct SignalSubscription {
    process: u32,
    signals: Vec<Signal>,
    listener: SignalListener,
}

/// Calls `listener` for each of `signals`. If one of them cannot be caught, subscribes to none.
pub(crate) fn subscribe(signals: &[Signal], listener: &SignalListener) -> Result<SignalSubscription, SubscribeError> {
    let mut registry = registry();
    let mut subscription =
        SignalSubscription { process: this_process(), signals: Vec::new(), listener: Arc::clone(listener) };
    for &signal in signals {
        if subscription.signals.contains(&signal) {
            continue;
        }
        if let Err(error) = registry.add(signal, listener) {
            drop(registry);
            drop(subscription);
            return Err(error);
        }
        subscription.signals.push(signal);
    }
    Ok(subscription)
}

impl SignalRegistry {
    fn add(&mut self, signal: Signal, listener: &SignalListener) -> Result<(), SubscribeError> {
        let number = signal.as_raw();
        if UNCATCHABLE.contains(&number) {
            return Err(SubscribeError::Uncatchable(signal));
        }
        let rejected = |error: io::Error| match error.raw_os_error() {
            Some(libc::EINVAL) => SubscribeError::Uncatchable(signal),
            _ => SubscribeError::System(signal, error),
        };
        // First of all, so that an invalid number starts no thread.
        handler::is_catchable(number).map_err(rejected)?;
        self.start().map_err(rejected)?;
        let listeners = self.listeners.entry(signal).or_default();
        // If there are listeners, our handler is installed. A foreign handler over it is intended: it was installed
        // later, and calls ours.
        if listeners.is_empty() {
            handler::install(number).map_err(rejected)?;
        }
        listeners.push(Arc::clone(listener));
        Ok(())
    }

    /// Starts the dispatcher, unless this process has one.
    fn start(&mut self) -> io::Result<()> {
        if self.has_dispatcher {
            return Ok(());
        }
        let (reader, writer) = pipe()?;
        thread::Builder::new().name("backstay-signal".to_owned()).spawn(move || dispatch(reader))?;
        handler::set_owner(writer.into_raw_fd());
        self.has_dispatcher = true;
        Ok(())
    }

    /// Ends a subscription. Returns the signals that arrived before, with the listeners of that time, for [`notify`].
    fn remove(&mut self, subscription: &SignalSubscription) -> Vec<(Signal, Vec<SignalListener>)> {
        let mut arrived = Vec::new();
        for signal in &subscription.signals {
            let Some(listeners) = self.listeners.get_mut(signal) else { continue };
            let listeners_before = listeners.clone();
            listeners.retain(|other| !Arc::ptr_eq(other, &subscription.listener));
            let times = if listeners.is_empty() {
                self.listeners.remove(signal);
                handler::uninstall(signal.as_raw())
            } else {
                handler::take_count(signal.as_raw())
            };
            arrived.extend((0..times).map(|_| (*signal, listeners_before.clone())));
        }
        arrived
    }

    /// Returns the signals that have arrived since the last call, each with its listeners, for [`notify`].
    fn take_arrived(&mut self) -> Vec<(Signal, Vec<SignalListener>)> {
        let mut arrived = Vec::new();
        for (signal, listeners) in &self.listeners {
            let times = handler::take_count(signal.as_raw());
            arrived.extend((0..times).map(|_| (*signal, listeners.clone())));
        }
        arrived
    }
}

/// Calls the listeners of signals that have arrived. The registry must not be locked: a listener may lock it.
fn notify(arrived: Vec<(Signal, Vec<SignalListener>)>) {
    for (signal, listeners) in arrived {
        for listener in listeners {
            listener(signal);
        }
    }
}

impl SignalSubscription {
    /// Returns whether the subscription was made in this process, not in a parent that forked it.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == this_process()
    }
}

impl std::fmt::Debug for SignalSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SignalSubscription").field(&self.signals).finish()
    }
}

impl Drop for SignalSubscription {
    fn drop(&mut self) {
        if self.is_ours() {
            let arrived = registry().remove(self);
            notify(arrived);
        }
    }
}

/// Signals that the system does not let a process catch, and those that report an error of the thread itself: after its
/// handler returns, the thread would repeat the error, forever.
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

/// Creates the pipe that wakes the dispatcher. It does not block a handler when it is full.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok((reader, writer))
}

/// Calls the listeners, one signal after the other, until the process ends.
fn dispatch(mut wake: PipeReader) {
    let mut bytes = [0; 64];
    loop {
        match wake.read(&mut bytes) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The program has closed descriptors that it did not open, as daemons do at their start.
            Ok(0) | Err(_) => match pipe() {
                Ok((reader, writer)) => {
                    handler::set_wake_fd(writer.into_raw_fd());
                    // Not closed: its number may be that of another file by now.
                    let _ = std::mem::replace(&mut wake, reader).into_raw_fd();
                }
                Err(error) => {
                    handler::set_wake_fd(-1);
                    log_in_background(
                        move || tracing::error!(target: "backstay", %error, "signals are no longer handled: their pipe was closed, and a new one cannot be created"),
                    );
                    return;
                }
            },
        }
        // Includes what arrived while there was no pipe.
        let arrived = registry().take_arrived();
        notify(arrived);
    }
}
