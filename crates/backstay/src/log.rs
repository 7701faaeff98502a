//! Telling `tracing` what happens. A subscriber is somebody else's code: it may panic, and it may block for as long as
//! nobody reads what it writes.

use crate::callback::caught;

/// Runs `log`, which tells `tracing` something, here and now: from a call of the user's, or inside a destructor. A
/// subscriber that panics there would end the process.
pub(crate) fn say(log: impl FnOnce()) {
    let _ = caught(log);
}

#[cfg(backstay_loom)]
pub(crate) fn say_aside(log: impl FnOnce() + Send + 'static) {
    say(log);
}

#[cfg(backstay_loom)]
pub(crate) fn flush(_patience: std::time::Duration) {}

#[cfg(not(backstay_loom))]
pub(crate) use aside::{flush, say_aside};

#[cfg(not(backstay_loom))]
mod aside {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
    use std::time::Duration;

    use super::say;
    use crate::per_process::PerProcess;
    use crate::threads;

    type Line = Box<dyn FnOnce() + Send>;

    /// So many lines wait while the log blocks; what comes then is lost, and counted.
    const MOST: usize = 1024;

    /// Has `log` run soon, on the one thread that logs for all threads of the library: who logs so, waits for no log.
    /// No beat is late and no callback loses its turn because nobody reads what a subscriber writes.
    pub(crate) fn say_aside(log: impl FnOnce() + Send + 'static) {
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        TELLER.get().tell(Box::new(move || tracing::dispatcher::with_default(&subscriber, log)));
    }

    /// Waits until all that was said so far is told, no longer than `patience`.
    pub(crate) fn flush(patience: Duration) {
        let (done, wait) = channel();
        TELLER.get().tell(Box::new(move || {
            let _ = done.send(());
        }));
        let _ = wait.recv_timeout(patience);
    }

    static TELLER: PerProcess<Teller> = PerProcess::new();

    struct Teller {
        /// Nobody, where there is no thread to be had.
        thread: Option<SyncSender<Line>>,
        lost: Arc<AtomicU64>,
    }

    impl Default for Teller {
        fn default() -> Self {
            let (lines, to_tell) = sync_channel(MOST);
            let lost = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&lost);
            let started = threads::named("backstay-log").spawn(move || tell(&to_tell, &counted));
            Self { thread: started.is_ok().then_some(lines), lost }
        }
    }

    impl Teller {
        fn tell(&self, line: Line) {
            let Some(thread) = &self.thread else { return say(line) };
            if let Err(TrySendError::Full(_)) = thread.try_send(line) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tell(lines: &Receiver<Line>, lost: &AtomicU64) {
        for line in lines {
            say(line);
            let lost = lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                say(|| tracing::warn!(target: "backstay", lost, "the log blocked, and lines were lost"));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;

        use super::*;

        #[test]
        fn a_log_that_blocks_holds_up_nobody() {
            let (block, blocked) = channel::<()>();
            let told = Arc::new(Mutex::new(Vec::new()));
            say_aside(move || {
                let _ = blocked.recv();
            });
            for number in 0..2 * MOST {
                let told = Arc::clone(&told);
                say_aside(move || told.lock().unwrap().push(number));
            }
            assert!(told.lock().unwrap().is_empty());
            drop(block);
            // The queue was full: there may be no room for a flush yet.
            while told.lock().unwrap().len() < MOST - 1 {
                flush(Duration::from_secs(1));
            }
            let told = told.lock().unwrap();
            assert!(told.iter().copied().eq(0..told.len()), "in order");
        }
    }
}
