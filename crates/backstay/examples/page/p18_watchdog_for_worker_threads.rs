//! Watchdog for worker threads: one monitor thread serves them all.

use std::error::Error;
use std::thread::{self, sleep};
use std::time::Duration;

use backstay::{Watchdog, WatchdogError};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let workers = [("worker-1", 10), ("worker-2", 2000)].map(|(name, millis)| {
        thread::Builder::new().name(name.to_owned()).spawn(move || worker(name, Duration::from_millis(millis)))
    });
    for worker in workers {
        worker?.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}

fn worker(name: &'static str, item: Duration) -> Result<(), WatchdogError> {
    let watchdog = Watchdog::builder()
        .timeout(Duration::from_secs(1)) // 60 s, in a service
        .name(name)
        .on_timeout(|report| {
            let thread = report.thread_name.as_deref().unwrap_or("?");
            println!("Worker thread {thread} appears frozen - consider restart");
        })
        .build()
        .expect("a timeout of a second, and nothing left to the configuration");
    watchdog.watch(|watchdog| {
        watchdog.ping(); // before each long operation
        sleep(item);
        watchdog.ping();
    })
}
