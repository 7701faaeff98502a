//! Quick Start: Graceful Shutdown. Register cleanup callbacks with priorities.

use std::error::Error;

use backstay::GracefulShutdown;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let shutdown = GracefulShutdown::new();

    // The lowest priority runs first
    shutdown.callback("flush_logs").priority(30).register(|| println!("logs flushed"))?;
    shutdown.callback("save_state").priority(10).register(save_state)?;
    shutdown.callback("close_connections").priority(20).register(|| println!("connections closed"))?;

    // Take the signals (SIGTERM, SIGINT)
    shutdown.install()?;

    // What an operator would do from outside: kill -TERM
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;

    let report = shutdown.wait();
    assert!(report.is_clean());
    println!("{report}");
    Ok(())
}

/// A callback may fail: that goes into the report, and the others have their turns all the same.
fn save_state() -> std::io::Result<()> {
    println!("state saved");
    Ok(())
}
