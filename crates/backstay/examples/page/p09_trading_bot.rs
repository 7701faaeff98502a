//! Trading bot with full resilience: the page's class, line by line. The example `trading_bot` is the same bot on an
//! exchange that has a bad day.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay::{CircuitBreaker, GracefulShutdown, Heartbeat};
use tokio::time::sleep;

struct TradingBot {
    heartbeat: Heartbeat,
    exchange: CircuitBreaker,
    shutdown: GracefulShutdown,
    trades: AtomicU32,
}

impl TradingBot {
    fn new() -> Result<Arc<Self>, Box<dyn Error>> {
        // Heartbeat for liveness monitoring
        let state_file = std::env::temp_dir().join(format!("tradingbot-{}.heartbeat", std::process::id()));
        let heartbeat = Heartbeat::builder()
            .state_file(state_file)
            .interval(Duration::from_secs(10))
            .metadata([("version", "1.0.0")])
            .build()?;

        // Circuit breaker for the exchange's API
        let exchange = CircuitBreaker::builder()
            .max_failures(3)
            .reset_timeout(Duration::from_secs(30))
            .name("exchange-api")
            .build()?;

        // Graceful shutdown with callbacks in order of priority
        let shutdown = GracefulShutdown::new();
        shutdown.callback("positions").priority(10).register(close_positions)?; // first: close positions
        shutdown.callback("connections").priority(50).register_async(cleanup)?; // then: connections
        let last = heartbeat.clone();
        shutdown.callback("heartbeat").priority(100).register(move || last.stop())?; // last: stop the heartbeat

        Ok(Arc::new(Self { heartbeat, exchange, shutdown, trades: AtomicU32::new(0) }))
    }

    /// One turn of the main loop.
    async fn process_trades(&self) {
        if self.exchange.call_async(price).await.is_ok() {
            self.trades.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(20)).await;
    }

    async fn run(&self) -> Result<(), Box<dyn Error>> {
        self.heartbeat.start()?;
        self.shutdown.install()?;
        while !self.shutdown.is_shutting_down() {
            self.process_trades().await;
        }
        println!("{}", self.shutdown.trigger_async().await);
        Ok(())
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let bot = TradingBot::new()?;
    tokio::spawn(async {
        sleep(Duration::from_millis(300)).await;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
    });
    bot.run().await?;
    println!("{} trades", bot.trades.load(Ordering::Relaxed));
    bot.heartbeat.state_file().map_or(Ok(()), std::fs::remove_file)?; // so that the example leaves nothing behind
    Ok(())
}

async fn price() -> std::io::Result<f64> {
    Ok(42_000.0)
}

fn close_positions() {
    println!("positions closed");
}

async fn cleanup() {
    println!("connections closed");
}
