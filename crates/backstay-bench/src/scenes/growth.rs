//! Measures how the cost of an operation grows with the number of waiters, keys, breakers or watchdogs. It may grow as
//! caches get slower, and no faster.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use backstay::{CircuitBreaker, GracefulShutdown, KeyedRateLimiter, RateLimiter, Watchdog};

const HOUR: Duration = Duration::from_secs(3600);

/// How the cost of an operation grows.
pub(crate) struct Growth {
    pub(crate) title: &'static str,
    pub(crate) note: &'static str,
    /// The numbers of objects, each with the nanoseconds of one operation.
    pub(crate) points: Vec<(usize, f64)>,
    /// The maximum of [`factor`](Self::factor).
    pub(crate) limit: f64,
}

impl Growth {
    /// Returns the cost with the largest number divided by the cost with the smallest.
    pub(crate) fn factor(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some((_, few)), Some((_, many))) => many / few,
            _ => f64::NAN,
        }
    }
}

/// A measurement: title, note, limit of the growth, numbers of objects, and the function that measures the cost.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    note: &'static str,
    limit: f64,
    sizes: &'static [usize],
    cost: fn(usize) -> f64,
}

const TO_100_000: &[usize] = &[10, 100, 1_000, 10_000, 100_000];
const TO_10_M: &[usize] = &[1, 1_000, 1_000_000, 10_000_000];

pub(crate) const SCENES: &[Scene] = &[
    Scene {
        title: "scaling: a waiter leaves, one joins",
        note: "at a random position among the tasks that wait for one limiter",
        limit: 30.0,
        sizes: TO_100_000,
        cost: waiters,
    },
    Scene {
        title: "scaling: set_rate",
        note: "while tasks wait for the limiter",
        limit: 10.0,
        sizes: TO_100_000,
        cost: rate_changes,
    },
    Scene {
        title: "scaling: a key",
        note: "a random key of one limiter, with ahash",
        limit: 40.0,
        sizes: TO_10_M,
        cost: keys,
    },
    Scene {
        title: "scaling: a breaker",
        note: "a call through a random breaker",
        limit: 40.0,
        sizes: TO_100_000,
        cost: breakers,
    },
    Scene {
        title: "scaling: a watchdog",
        note: "starting and stopping one next to those that run",
        limit: 30.0,
        sizes: TO_100_000,
        cost: watchdogs,
    },
    Scene {
        title: "scaling: begun()",
        note: "the first poll of each task that waits for one shutdown to begin",
        limit: 10.0,
        sizes: TO_100_000,
        cost: shutdown_waits,
    },
];

impl Scene {
    /// Measures with each number; a short run leaves out the largest.
    pub(crate) fn play(&self, short: bool) -> Growth {
        let sizes = self.sizes.iter().filter(|size| !short || **size <= 1_000_000);
        let points = sizes.map(|size| (*size, (self.cost)(*size))).collect();
        Growth { title: self.title, note: self.note, points, limit: self.limit }
    }
}

/// Returns the median of some windows of `operations` each, in nanoseconds per operation.
fn median(operations: usize, mut window: impl FnMut(usize)) -> f64 {
    let mut costs: Vec<_> = (0..21)
        .map(|_| {
            let begin = Instant::now();
            window(operations);
            begin.elapsed().as_secs_f64() * 1e9 / operations as f64
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

/// Returns numbers below `bound` in an order that the processor can't predict.
pub(crate) fn random(bound: usize) -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from((u128::from(state) * bound as u128) >> 64).unwrap_or(0)
    }
}

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Creates a limiter without tokens, and `size` tasks that wait for it.
pub(crate) fn crowd(size: usize) -> (RateLimiter, Vec<Option<Task>>) {
    let limiter = RateLimiter::builder(1).per(HOUR).build().expect("the arguments are valid");
    assert!(limiter.try_acquire());
    let tasks = (0..size).map(|_| Some(waiting(&limiter))).collect();
    (limiter, tasks)
}

fn waiting(limiter: &RateLimiter) -> Task {
    let limiter = limiter.clone();
    let mut task: Task = Box::pin(async move { limiter.acquire_async().await });
    poll(&mut task);
    task
}

fn poll(task: &mut Task) {
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

fn waiters(size: usize) -> f64 {
    let (limiter, mut tasks) = crowd(size);
    let mut random = random(size);
    median(1000, |operations| {
        for _ in 0..operations {
            let place = &mut tasks[random()];
            drop(place.take());
            *place = Some(waiting(&limiter));
        }
    })
}

fn rate_changes(size: usize) -> f64 {
    let (limiter, _tasks) = crowd(size);
    median(100, |operations| {
        for number in 0..operations {
            limiter.set_rate(1 + u32::from(number % 2 == 0), HOUR).expect("the arguments are valid");
        }
    })
}

fn keys(size: usize) -> f64 {
    let builder = KeyedRateLimiter::<u64>::builder(1).per(HOUR).burst(1_000_000).max_keys(size);
    let limiter = builder.hasher(ahash::RandomState::new()).build().expect("the arguments are valid");
    (0..size as u64).for_each(|key| assert!(limiter.try_acquire(&key)));
    let mut random = random(size);
    median(10_000, |operations| {
        for _ in 0..operations {
            assert!(limiter.try_acquire(&(random() as u64)));
        }
    })
}

fn breakers(size: usize) -> f64 {
    let breakers: Vec<_> = (0..size).map(|_| breaker()).collect();
    let mut random = random(size);
    median(10_000, |operations| {
        for _ in 0..operations {
            assert!(breakers[random()].call(|| Ok::<_, ()>(black_box(1))).is_ok());
        }
    })
}

pub(crate) fn breaker() -> CircuitBreaker {
    let builder = CircuitBreaker::builder().max_failures(5).reset_timeout(HOUR).half_open_max_calls(1);
    builder.build().expect("the arguments are valid")
}

fn watchdogs(size: usize) -> f64 {
    let watchdog = || Watchdog::builder().timeout(HOUR).build().expect("an hour is valid");
    let running: Vec<_> = (0..size).map(|_| watchdog()).collect();
    running.iter().for_each(|watchdog| watchdog.start().expect("the monitor thread starts"));
    let one = watchdog();
    let cost = median(1000, |operations| {
        for _ in 0..operations {
            one.start().expect("the watchdog is stopped");
            one.stop();
        }
    });
    running.iter().for_each(Watchdog::stop);
    cost
}

fn shutdown_waits(size: usize) -> f64 {
    let shutdown = GracefulShutdown::new();
    let task = || -> Task {
        let shutdown = shutdown.clone();
        Box::pin(async move { shutdown.begun().await })
    };
    let mut tasks: Vec<_> = (0..size).map(|_| task()).collect();
    let begin = Instant::now();
    tasks.iter_mut().for_each(poll);
    begin.elapsed().as_secs_f64() * 1e9 / size as f64
}
