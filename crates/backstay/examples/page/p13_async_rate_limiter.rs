//! Async rate limiter: the same limiter, awaited; threads and tasks wait in one queue.

use std::error::Error;
use std::io;

use backstay::RateLimiter;
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = RateLimiter::builder(10).burst(2).build()?;

    limiter.acquire_async().await; // waits in the task, not on the thread
    println!("{}", get_data(0).await?);

    // A clone is the same limiter.
    let mut tasks = JoinSet::new();
    for number in 1..=4 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            limiter.acquire_async().await;
            get_data(number).await
        });
    }
    while let Some(data) = tasks.join_next().await {
        println!("{}", data??);
    }

    // Or around the call: refused instead of waiting
    if let Err(refused) = limiter.call_async(|| get_data(5)).await {
        println!("{refused}");
    }
    println!("waited {:.1} s in all", limiter.stats().waited.as_secs_f64());
    Ok(())
}

async fn get_data(number: u32) -> io::Result<String> {
    Ok(format!("data {number}"))
}
