//! Logging through `tracing`. A subscriber is foreign code: it may panic, and it may block for any length of time, for
//! example on a pipe that is not read.
//!
//! # Memory ordering
//! The counters are relaxed: they publish no other memory. Log lines travel through a channel.

use crate::callback::caught;

/// Runs `log` on the calling thread, and catches its panic: in a destructor, a panic of a subscriber would end the
/// process.
pub(crate) fn log_now(log: impl FnOnce()) {
    let _ = caught(log);
}

#[cfg(backstay_loom)]
pub(crate) fn log_in_background(log: impl FnOnce() + Send + 'static) {
    log_now(log);
}

#[cfg(backstay_loom)]
pub(crate) fn flush(_timeout: std::time::Duration) {}

#[cfg(not(backstay_loom))]
pub(crate) use worker::{flush, log_in_background};

#[cfg(not(backstay_loom))]
mod worker {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use once_cell::race::OnceBox;

    use super::log_now;
    use crate::process::PerProcess;
    use crate::threads;

    type LogLine = Box<dyn FnOnce() + Send>;

    /// Number of lines that wait while the subscriber blocks. Further lines are dropped and counted. A flush is queued
    /// even if the queue is full.
    const QUEUE_CAPACITY: usize = 1024;

    /// Runs `log` soon, on the log worker, the one thread that logs for all threads of this library. The caller does
    /// not wait: a subscriber that blocks delays no heartbeat and no shutdown callback.
    pub(crate) fn log_in_background(log: impl FnOnce() + Send + 'static) {
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        LOG_WORKER.get().log(Box::new(move || tracing::dispatcher::with_default(&subscriber, log)));
    }

    /// Waits until all lines so far are logged, for at most `timeout`.
    pub(crate) fn flush(timeout: Duration) {
        LOG_WORKER.get().flush(timeout);
    }

    static LOG_WORKER: PerProcess<LogWorker> = PerProcess::new();

    #[derive(Default)]
    struct LogWorker {
        /// Set once the thread is started.
        thread: OnceBox<Sender<LogLine>>,
        counts: Arc<LineCounts>,
    }

    #[derive(Default)]
    struct LineCounts {
        waiting: AtomicUsize,
        lost: AtomicU64,
    }

    impl LogWorker {
        /// Returns the thread, and starts it if there is none. If the system has no thread, the next line tries again.
        fn thread(&self) -> Option<&Sender<LogLine>> {
            if self.thread.get().is_none() {
                let (sender, lines) = channel();
                let counts = Arc::clone(&self.counts);
                threads::named("backstay-log").spawn(move || log_lines(&lines, &counts)).ok()?;
                // Of several threads started at the same time one is kept; the others end with their senders.
                let _ = self.thread.set(Box::new(sender));
            }
            self.thread.get()
        }

        /// Returns whether all lines so far were logged in time.
        fn flush(&self, timeout: Duration) -> bool {
            let (sender, flushed) = channel();
            self.send(Box::new(move || {
                let _ = sender.send(());
            }));
            flushed.recv_timeout(timeout).is_ok()
        }

        fn log(&self, line: LogLine) {
            if self.counts.waiting.load(Ordering::Relaxed) < QUEUE_CAPACITY {
                self.send(line);
            } else {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn send(&self, line: LogLine) {
            let Some(thread) = self.thread() else { return log_now(line) };
            self.counts.waiting.fetch_add(1, Ordering::Relaxed);
            // Fails only at the end of the process, when the thread is gone.
            let _ = thread.send(line);
        }
    }

    fn log_lines(lines: &Receiver<LogLine>, counts: &LineCounts) {
        for line in lines {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            log_now(line);
            let lost = counts.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                log_now(|| tracing::warn!(target: "backstay", lost, "log lines were lost: the log subscriber blocked"));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;
        use std::thread;

        use super::*;

        // ALL-3: lines beyond the capacity are dropped; the caller does not wait.
        #[test]
        fn a_subscriber_that_blocks_delays_no_caller() {
            // A worker of its own: other tests log through that of the process.
            let worker = LogWorker::default();
            let (entered, blocks) = channel();
            let (block, blocked) = channel::<()>();
            let logged = Arc::new(Mutex::new(Vec::new()));
            worker.log(Box::new(move || {
                let _ = entered.send(());
                let _ = blocked.recv();
            }));
            // From here on the queue is empty, and no line is taken out of it.
            blocks.recv().unwrap();
            for number in 0..2 * QUEUE_CAPACITY {
                let logged = Arc::clone(&logged);
                worker.log(Box::new(move || logged.lock().unwrap().push(number)));
            }
            assert!(logged.lock().unwrap().is_empty());
            assert_eq!(worker.counts.lost.load(Ordering::Relaxed), QUEUE_CAPACITY as u64);
            thread::scope(|scope| {
                // A flush also waits for a full queue.
                let flushed = scope.spawn(|| worker.flush(Duration::from_secs(60)));
                while worker.counts.waiting.load(Ordering::Relaxed) <= QUEUE_CAPACITY && !flushed.is_finished() {
                    thread::yield_now();
                }
                drop(block);
                assert!(flushed.join().unwrap());
            });
            assert!(
                logged.lock().unwrap().iter().copied().eq(0..QUEUE_CAPACITY),
                "the lines that fit into the queue, in order"
            );
        }
    }
}
