//! Measures 20 tasks that wait for one limiter of 1000 tokens per second. Each should get one every 20 ms.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay::RateLimiter;
use governor::{DefaultDirectRateLimiter, Quota};

/// The number of waiting tasks.
pub(crate) const TASKS: usize = 20;
const RATE: u32 = 1000;
/// The wait of each task if all are served in order.
pub(crate) const IDEAL: Duration = Duration::from_millis(1000 * TASKS as u64 / RATE as u64);

/// The result of one limiter.
#[derive(Clone, Copy)]
pub(crate) struct WaitResult {
    pub(crate) name: &'static str,
    /// The share of the rate that was granted.
    pub(crate) reached: f64,
    pub(crate) worst: Duration,
    /// The lowest and the highest number of tokens of a task.
    pub(crate) spread: (usize, usize),
}

pub(crate) fn ours(scene: Duration) -> WaitResult {
    let limiter = RateLimiter::builder(RATE).burst(1).build().expect("the arguments are valid");
    play("backstay", scene, move || {
        let limiter = limiter.clone();
        async move { limiter.acquire_async().await }
    })
}

pub(crate) fn governor(scene: Duration) -> WaitResult {
    let count = |number| NonZeroU32::new(number).expect("neither is zero");
    let quota = Quota::per_second(count(RATE)).allow_burst(count(1));
    let limiter = Arc::new(DefaultDirectRateLimiter::direct(quota));
    play("governor", scene, move || {
        let limiter = Arc::clone(&limiter);
        async move { limiter.until_ready().await }
    })
}

pub(crate) fn leaky_bucket(scene: Duration) -> WaitResult {
    let limiter = leaky_bucket::RateLimiter::builder()
        .refill(1)
        .interval(Duration::from_secs(1) / RATE)
        .max(1)
        .initial(1)
        .build();
    let limiter = Arc::new(limiter);
    play("leaky-bucket", scene, move || {
        let limiter = Arc::clone(&limiter);
        async move { limiter.acquire_one().await }
    })
}

/// Lets the tasks wait repeatedly, on a runtime with two threads. Tokens count during `scene`, from when all tasks
/// have begun to wait; waits count from the first.
fn play<F>(name: &'static str, scene: Duration, acquire: impl Fn() -> F + Clone + Send + 'static) -> WaitResult
where
    F: Future<Output = ()> + Send,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    let begin = Instant::now() + 5 * IDEAL;
    let end = begin + scene;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let acquire = acquire.clone();
            runtime.spawn(async move {
                let (mut granted, mut worst) = (0, Duration::ZERO);
                loop {
                    let asked = Instant::now();
                    let answered = tokio::time::timeout_at(end.into(), acquire()).await;
                    worst = worst.max(asked.elapsed());
                    if answered.is_err() || Instant::now() >= end {
                        return (granted, worst);
                    }
                    granted += usize::from(Instant::now() >= begin);
                }
            })
        })
        .collect();
    let results = runtime.block_on(async move {
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("no task panics"));
        }
        results
    });
    let granted: usize = results.iter().map(|&(granted, _)| granted).sum();
    let counts = || results.iter().map(|&(granted, _)| granted);
    WaitResult {
        name,
        reached: granted as f64 / (scene.as_secs_f64() * f64::from(RATE)),
        worst: results.iter().map(|&(_, worst)| worst).max().unwrap_or_default(),
        spread: (counts().min().unwrap_or(0), counts().max().unwrap_or(0)),
    }
}
