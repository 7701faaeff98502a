//! Async watchdog: it never runs on the loop that it watches, so a frozen loop is reported while it is frozen.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use backstay::Watchdog;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let watchdog = Watchdog::builder()
        .timeout(Duration::from_secs(1)) // 30 s, in a service
        .on_timeout(|report| println!("the loop froze {:.1} s ago", report.inactive.as_secs_f64()))
        .build()?;

    let watching = watchdog.guard()?; // until it is dropped; `ping` needs no await
    for _ in 0..3 {
        watching.ping();
        do_async_work().await;
    }
    watching.ping();
    sleep(Duration::from_millis(2000)); // what must not happen in a task
    watching.finish()?;
    println!("the loop is back");
    Ok(())
}

async fn do_async_work() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
