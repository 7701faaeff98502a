//! Quick Start: Heartbeat. Signal liveness to external monitors.

use std::error::Error;
use std::time::Duration;

use backstay::Heartbeat;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("tradingbot-{}.heartbeat", std::process::id()));
    let heartbeat = Heartbeat::builder()
        .state_file(&path)
        .interval(Duration::from_secs(10))
        .metadata([("version", "1.0.0")])
        .build()?;
    heartbeat.start()?;

    // An external monitor can check:
    let state = Heartbeat::read_state(&path)?;
    println!("process {} of version {} has beaten", state.pid, state.metadata["version"]);
    if !Heartbeat::is_alive(&path, Duration::from_secs(30)) {
        println!("Process appears dead!");
    }

    // Or ask for more than yes or no:
    println!("{}", Heartbeat::liveness(&path, Duration::from_secs(30))?);
    heartbeat.stop();
    println!("{}", Heartbeat::liveness(&path, Duration::from_secs(30))?);
    std::fs::remove_file(path)?;
    Ok(())
}
