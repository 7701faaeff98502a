//! Troubleshooting: async context issues. One handle serves both; in a task, take the form that is awaited.

use std::error::Error;

use backstay::{CircuitBreaker, GracefulShutdown};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreaker::builder().build()?;

    // Sync context
    println!("{}", breaker.call(|| sync_function(1))?);
    println!("{} callbacks", GracefulShutdown::new().trigger().steps.len());

    // Async context
    in_a_runtime(&breaker)?;
    println!("{} calls", breaker.stats().successful);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn in_a_runtime(breaker: &CircuitBreaker) -> Result<(), Box<dyn Error>> {
    println!("{}", breaker.call_async(|| async_function(2)).await?);
    println!("{} callbacks", GracefulShutdown::new().trigger_async().await.steps.len());
    Ok(())
}

fn sync_function(argument: u32) -> std::io::Result<u32> {
    Ok(argument)
}

async fn async_function(argument: u32) -> std::io::Result<u32> {
    Ok(argument)
}
