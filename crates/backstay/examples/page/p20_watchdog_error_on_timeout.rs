//! Watchdog with raise on timeout: an error for the one who froze, instead of a callback.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use backstay::{Watchdog, WatchdogTimeoutError};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // 10 s, in a service
    let watchdog = Watchdog::builder().timeout(Duration::from_secs(1)).raise_on_timeout(true).build()?;
    watchdog.start()?;
    if let Err(error) = work(&watchdog) {
        println!("Timeout after {:.1}s of inactivity", error.inactive.as_secs_f64());
    }
    watchdog.stop();
    Ok(())
}

fn work(watchdog: &Watchdog) -> Result<(), WatchdogTimeoutError> {
    for millis in [10, 10, 2000] {
        watchdog.try_ping()?;
        slow_operation(Duration::from_millis(millis));
    }
    watchdog.check() // the end of the work counts too
}

fn slow_operation(time: Duration) {
    sleep(time);
}
