//! The page's trading bot: breaker and limiter before every request, a heartbeat for the monitor outside, a watchdog
//! over its loop, and a shutdown that closes positions first.

use std::collections::BTreeSet;
use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay::heartbeat::Status;
use backstay::shutdown::ShutdownReport;
use backstay::{CallError, CircuitBreaker, CircuitState, GracefulShutdown, Heartbeat, RateLimiter, Watchdog};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, ExchangeError};
use crate::screen::{Screen, Tone};

/// How long an answer may take. A request that takes longer is dropped, which the breaker counts as a failure.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an order may wait for the limiter.
const HURRY: Duration = Duration::from_millis(50);
/// Between two looks at the price.
const RHYTHM: Duration = Duration::from_millis(90);
/// How long the loop may stand still before the watchdog reports it.
const FREEZE: Duration = Duration::from_secs(1);

/// A fall of the price by which it is worth buying, and how many orders at once.
const DIP: f64 = 1.0 - 0.002;
const LADDER: u32 = 5;

/// What the bot is to do with its day.
pub(crate) struct Plan {
    /// How long the circuit stays open.
    pub(crate) reset_timeout: Duration,
    /// When to freeze.
    pub(crate) freeze_at: Duration,
}

pub(crate) struct TradingBot {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) watchdog: Watchdog,
    pub(crate) shutdown: GracefulShutdown,
    pub(crate) desk: Arc<Desk>,
    /// What the last beat said, as a monitor sees it.
    pub(crate) last_beat: Arc<Mutex<String>>,
    plan: Plan,
}

/// What the trading loop shares with the callbacks of the shutdown.
pub(crate) struct Desk {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) limiter: RateLimiter,
    /// Gone, once the connections are closed.
    client: Mutex<Option<Client>>,
    /// `None` once they are being closed. The lock is held while an order is under way, so that closing waits for it.
    positions: AsyncMutex<Option<BTreeSet<u64>>>,
    /// No requests before this: the exchange said so.
    quiet_until: Mutex<Option<Instant>>,
    last_price: Mutex<Option<f64>>,
    pub(crate) orders: AtomicU64,
    pub(crate) missed: AtomicU64,
    screen: Arc<Screen>,
}

impl TradingBot {
    pub(crate) fn new(
        client: Client,
        state_file: &Path,
        plan: Plan,
        screen: Arc<Screen>,
    ) -> Result<Self, Box<dyn Error>> {
        let breaker = CircuitBreaker::builder()
            .name("exchange-api")
            .max_failures(3)
            .reset_timeout(plan.reset_timeout)
            .cancellation_is_failure(true)
            .on_state_change({
                let screen = Arc::clone(&screen);
                move |change| screen.event(tone(change.to), "breaker", format_args!("{} -> {}", change.from, change.to))
            })
            .build()?;
        let limiter = RateLimiter::builder(10).burst(5).name("exchange-api").build()?;
        let watchdog = Watchdog::builder()
            .name("trading-loop")
            .timeout(FREEZE)
            .on_timeout({
                let screen = Arc::clone(&screen);
                move |frozen| {
                    let (name, thread) = (frozen.name.as_deref(), frozen.thread_name.as_deref());
                    let seconds = frozen.inactive.as_secs_f64();
                    let (name, thread) = (name.unwrap_or_default(), thread.unwrap_or("?"));
                    screen.event(
                        Tone::Bad,
                        "watchdog",
                        format_args!("{name} froze on thread {thread}: no ping for {seconds:.2} s"),
                    );
                }
            })
            .build()?;
        let last_beat = Arc::new(Mutex::new(String::new()));
        let heartbeat = Heartbeat::builder()
            .state_file(state_file)
            .interval(Duration::from_millis(500))
            .metadata([("version", "1.0.0")])
            .target(watchdog.clone()) // while the loop is frozen it says `degraded`
            .on_beat({
                let last_beat = Arc::clone(&last_beat);
                move |beat| {
                    let status = beat.status.map_or("?", Status::as_str);
                    *lock(&last_beat) = format!("{status} #{}", beat.sequence.unwrap_or_default());
                }
            })
            .on_target_dead({
                let screen = Arc::clone(&screen);
                move |_| screen.event(Tone::Warning, "heartbeat", "says degraded")
            })
            .build()?;

        let desk = Arc::new(Desk {
            breaker,
            limiter,
            client: Mutex::new(Some(client)),
            positions: AsyncMutex::new(Some(BTreeSet::new())),
            quiet_until: Mutex::new(None),
            last_price: Mutex::new(None),
            orders: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            screen,
        });
        let shutdown = GracefulShutdown::builder().timeout(Duration::from_secs(10)).build()?;
        shutdown.callback("positions").priority(10).timeout(Duration::from_secs(6)).register_async({
            let desk = Arc::clone(&desk);
            move || async move { desk.close_positions().await }
        })?;
        shutdown.callback("connections").priority(50).register({
            let desk = Arc::clone(&desk);
            move || desk.close_connections()
        })?;
        shutdown.callback("heartbeat").priority(100).register({
            let (heartbeat, desk) = (heartbeat.clone(), Arc::clone(&desk));
            move || {
                heartbeat.stop();
                desk.screen.event(Tone::Plain, "shutdown", "heartbeat stopped");
            }
        })?;
        Ok(Self { heartbeat, watchdog, shutdown, desk, last_beat, plan })
    }

    /// From here on others see it live, and a signal ends it in order.
    pub(crate) fn start(&self) -> Result<(), Box<dyn Error>> {
        self.heartbeat.start()?;
        self.shutdown.install()?;
        Ok(())
    }

    /// Trades until the shutdown begins, then waits for its end.
    pub(crate) async fn run(&self) -> Result<Arc<ShutdownReport>, Box<dyn Error>> {
        let watching = self.watchdog.guard()?;
        let began = Instant::now();
        let mut frozen = false;
        while !self.shutdown.is_shutting_down() {
            watching.ping();
            self.desk.process_trades().await;
            if !frozen && began.elapsed() >= self.plan.freeze_at {
                frozen = true;
                self.freeze();
            }
        }
        drop(watching);
        Ok(self.shutdown.trigger_async().await)
    }

    /// In the moment in which the shutdown begins, says so; in the heartbeat as well, for those who watch from outside.
    pub(crate) async fn announce_end(self: Arc<Self>) {
        self.shutdown.begun().await;
        self.heartbeat.set_status(Status::Stopping);
        self.desk.screen.event(Tone::Strong, "shutdown", "shutdown began; Ctrl-C again ends at once");
    }

    /// What must not happen in a task, and does: something blocks.
    #[allow(clippy::disallowed_methods)]
    fn freeze(&self) {
        self.desk.screen.event(Tone::Faint, "bot", "blocks its own loop, on purpose");
        std::thread::sleep(FREEZE + FREEZE / 2);
        self.desk.screen.event(Tone::Good, "bot", "goes on");
    }
}

impl Desk {
    /// One turn of the loop: looks at the price, and buys when it has dropped far enough.
    async fn process_trades(&self) {
        if let Some(price) = self.price().await {
            let before = lock(&self.last_price).replace(price);
            if before.is_some_and(|before| price < before * DIP) {
                for _ in 0..LADDER {
                    self.buy().await;
                }
            }
        }
        sleep(RHYTHM).await;
    }

    /// Worth waiting for: a price, with some patience for the limiter.
    async fn price(&self) -> Option<f64> {
        self.limiter.acquire_timeout_async(PATIENCE).await.ok()?;
        self.ask(|client| async move { client.price().await }).await
    }

    /// Hardly worth waiting for: soon the chance is gone.
    async fn buy(&self) {
        if self.limiter.acquire_timeout_async(HURRY).await.is_err() {
            self.missed.fetch_add(1, Relaxed);
            return;
        }
        let mut positions = self.positions.lock().await;
        let Some(positions) = positions.as_mut() else { return };
        if let Some(position) = self.ask(|client| async move { client.order().await }).await {
            positions.insert(position);
            self.orders.fetch_add(1, Relaxed);
        }
    }

    /// A request through the breaker. What goes wrong is said here, and is `None`.
    async fn ask<T, F>(&self, request: impl FnOnce(Client) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, ExchangeError>>,
    {
        if lock(&self.quiet_until).is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let client = lock(&self.client).clone()?;
        let breaker = self.breaker.excluding(ExchangeError::is_ours);
        match timeout(PATIENCE, breaker.call_async(|| request(client))).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(CallError::Rejected(_))) => {} // open: the breaker has said so
            Ok(Err(CallError::Inner(error))) => {
                if let ExchangeError::Throttled(pause) = error {
                    *lock(&self.quiet_until) = Some(Instant::now() + pause);
                }
                self.screen.event(Tone::Warning, "request", format_args!("failed: {error}"));
            }
            Err(_) => self.screen.event(Tone::Warning, "request", format_args!("no answer within {PATIENCE:?}")),
        }
        None
    }

    /// First: closes every position. The exchange may be having its bad moments, so each is tried until the callback's
    /// time is over; not through the breaker, because here trying matters more than sparing the exchange.
    async fn close_positions(&self) -> Result<(), String> {
        let mut open = self.positions.lock().await.take().unwrap_or_default();
        let total = open.len();
        let client = lock(&self.client).clone().ok_or("no connection to the exchange")?;
        while let Some(&position) = open.first() {
            match timeout(PATIENCE, client.close(position)).await {
                Ok(Ok(())) => drop(open.remove(&position)),
                Ok(Err(ExchangeError::Throttled(pause))) => sleep(pause).await,
                Ok(Err(_)) | Err(_) => sleep(RHYTHM).await,
            }
        }
        self.screen.event(Tone::Plain, "shutdown", format_args!("positions closed: {total}"));
        Ok(())
    }

    /// Then: the connections, which live as long as a client does.
    fn close_connections(&self) {
        lock(&self.client).take();
        self.screen.event(Tone::Plain, "shutdown", "connections closed");
    }
}

/// No callback of ours panics under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The colour of a state.
pub(crate) fn tone(state: CircuitState) -> Tone {
    match state {
        CircuitState::Closed => Tone::Good,
        CircuitState::Open => Tone::Bad,
        CircuitState::HalfOpen => Tone::Warning,
    }
}
