//! Troubleshooting: watchdog callback not called. A watchdog that was not started watches nothing.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use backstay::Watchdog;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Wrong: built, but not started. It never fires.
    let forgotten = build("forgotten")?;

    // Right: for the length of a block, or of a guard's life
    let watched = build("watched")?;
    watched.watch(|_| sleep(Duration::from_secs(2)))?;

    // Or start it explicitly; the last handle that is dropped stops it.
    let started = build("started")?;
    started.start()?;
    started.ping();
    started.stop();

    for watchdog in [forgotten, watched, started] {
        println!("{} fired {} times", watchdog.name().unwrap_or_default(), watchdog.stats().timeouts_triggered);
    }
    Ok(())
}

fn build(name: &'static str) -> Result<Watchdog, backstay::BuildError> {
    let called = move |_: &_| println!("the callback of {name:?} was called");
    Watchdog::builder().timeout(Duration::from_secs(1)).name(name).on_timeout(called).build()
}
