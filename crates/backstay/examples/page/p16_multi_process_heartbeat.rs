//! Multi-process heartbeat monitoring. The example `monitor` does this for one file, for as long as you like.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use backstay::Heartbeat;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?; // yours may be /run/services
    let beating = Heartbeat::builder().state_file(folder.path().join("api-server.heartbeat")).build()?;
    beating.start()?;
    let ended = Heartbeat::builder().state_file(folder.path().join("worker-1.heartbeat")).build()?;
    ended.start()?;
    ended.stop();

    check_services(folder.path());
    Ok(())
}

fn check_services(folder: &Path) {
    for service in ["api-server", "worker-1", "worker-2"] {
        let path = folder.join(format!("{service}.heartbeat"));
        match Heartbeat::liveness(path, Duration::from_secs(30)) {
            Ok(liveness) if liveness.is_alive() => println!("{service}: ALIVE"),
            Ok(liveness) => println!("{service}: DEAD ({liveness})"),
            Err(_) => println!("{service}: UNKNOWN"),
        }
    }
}
