//! Troubleshooting: watchdog triggers unexpectedly. Ping before each operation that may be slow.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use backstay::Watchdog;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(1)).build()?; // 30 s, in a service
    watchdog.watch(|watchdog| {
        for _item in 0..6 {
            watchdog.ping(); // resets the timer before processing
            slow_process(); // all together take longer than the timeout
        }
    })?;
    println!("{} timeouts", watchdog.stats().timeouts_triggered);
    Ok(())
}

fn slow_process() {
    sleep(Duration::from_millis(200));
}
