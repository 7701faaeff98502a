//! Quick Start: Watchdog. Detect thread and process freezes.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use backstay::Watchdog;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let watchdog = Watchdog::builder()
        .timeout(Duration::from_secs(1)) // 30 s, in a service
        .on_timeout(|report| {
            let thread = report.thread_name.as_deref().unwrap_or("a worker");
            println!("Thread {thread} appears frozen: no ping for {:.1} s", report.inactive.as_secs_f64());
        })
        .build()?;

    let work_queue = [Duration::from_millis(10), Duration::from_millis(2000), Duration::from_millis(10)];
    watchdog.watch(|watchdog| {
        for item in work_queue {
            watchdog.ping(); // resets the timer before each unit of work
            sleep(item);
        }
    })?;
    println!("{} freeze", watchdog.stats().timeouts_triggered);
    Ok(())
}
