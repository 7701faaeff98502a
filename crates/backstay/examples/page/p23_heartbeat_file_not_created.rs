//! Troubleshooting: heartbeat file not created. Folders are made where they are missing; for what is left (a folder
//! that may not be written) `on_missed_beat` says why, and beating goes on.

use std::error::Error;

use backstay::Heartbeat;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let state_file = folder.path().join("not/there/yet/myapp.heartbeat");
    let heartbeat = Heartbeat::builder().state_file(&state_file).build()?;
    heartbeat.start()?;
    println!("created: {}", state_file.exists());
    heartbeat.stop();

    // A folder stands where the file should be.
    let hopeless =
        Heartbeat::builder().state_file(folder.path()).on_missed_beat(|error| println!("missed: {error}")).build()?;
    if let Err(error) = hopeless.beat() {
        println!("{error}");
    }
    Ok(())
}
