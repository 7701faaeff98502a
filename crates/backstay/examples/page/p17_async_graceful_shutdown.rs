//! Async graceful shutdown: callbacks that are async functions, and a trigger that is awaited.

use std::error::Error;
use std::time::Duration;

use backstay::GracefulShutdown;
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let shutdown = GracefulShutdown::new();
    shutdown.callback("cleanup").priority(10).register_async(async_cleanup)?;

    let worker = tokio::spawn({
        let token = shutdown.token(); // tokio_util's own
        async move {
            token.cancelled().await;
            println!("the worker stops");
        }
    });

    let report = shutdown.trigger_async().await;
    worker.await?;
    println!("{report}");
    Ok(())
}

async fn async_cleanup() {
    sleep(Duration::from_millis(20)).await; // db.close()
    sleep(Duration::from_millis(20)).await; // cache.flush()
    println!("database closed, cache flushed");
}
