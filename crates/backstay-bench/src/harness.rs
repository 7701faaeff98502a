//! Measures contestants in turns (A B C A B C) and many short windows, so that a disturbance affects all alike.
//!
//! A window is `Plan::window` long on each thread. It is discarded if a thread was preempted, or if the threads did
//! not start together. The cost of a contestant is the median of its windows; the quartiles show the noise.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::os;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// The number of windows of each contestant.
    pub(crate) windows: usize,
    /// The length of a window.
    pub(crate) window: Duration,
    /// The length of a scene (waiting tasks, idle watchdogs).
    pub(crate) scene: Duration,
}

/// What a contestant is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// Ours in another form or regime: shown, but without a budget.
    OursToo,
    Peer,
    /// A lower bound, not a competitor.
    Floor,
}

/// An implementation of the operation.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    /// Repeats the operation on the given thread, and returns how often it had the expected result.
    run: Box<dyn Fn(usize, u64) -> u64 + Send + Sync>,
}

impl Contestant {
    /// `operation` returns whether it had the expected result, for example a granted token.
    pub(crate) fn new(side: Side, name: &'static str, operation: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self::with(side, name, |_| (), move |()| operation())
    }

    /// An operation with a state per thread, created anew every few microseconds.
    pub(crate) fn with<S>(
        side: Side,
        name: &'static str,
        state: impl Fn(usize) -> S + Send + Sync + 'static,
        operation: impl Fn(&mut S) -> bool + Send + Sync + 'static,
    ) -> Self {
        let run = move |thread, times| {
            let mut state = state(thread);
            let mut as_expected = 0;
            for _ in 0..times {
                as_expected += u64::from(black_box(operation(&mut state)));
            }
            as_expected
        };
        Self { name, side, run: Box::new(run) }
    }

    /// Runs the operation once, and returns how long it took; `None` if the thread was preempted.
    pub(crate) fn once(&self) -> Option<f64> {
        let preemptions = os::preemptions();
        let begin = Instant::now();
        (self.run)(0, 1);
        let took = begin.elapsed();
        (os::preemptions() == preemptions).then_some(took.as_secs_f64() * 1e9)
    }

    /// Returns how many operations take about 20 µs: reading the clock once per chunk costs 0.1 % of that.
    fn chunk(&self) -> u64 {
        let mut times = 16;
        loop {
            let begin = Instant::now();
            (self.run)(0, times);
            if begin.elapsed() > Duration::from_micros(20) || times > 1 << 24 {
                return times;
            }
            times *= 2;
        }
    }
}

/// The cost of a contestant in nanoseconds per operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) quartiles: (f64, f64),
    /// The number of windows in the sample.
    pub(crate) windows: usize,
    /// The number of discarded windows.
    pub(crate) discarded: usize,
    /// Whether almost every window was disturbed, so that the sample consists of disturbed ones.
    pub(crate) disturbed: bool,
}

impl Sample {
    /// On a busy machine, locks that yield while they wait appear preempted: a doubtful figure is better than none.
    pub(crate) fn of(clean: Vec<f64>, disturbed: Vec<f64>, plan: Plan) -> Self {
        let doubtful = clean.len() < plan.windows / 4;
        let (mut costs, discarded) = if doubtful { (disturbed, clean.len()) } else { (clean, disturbed.len()) };
        costs.sort_by(f64::total_cmp);
        let at = |quarter| costs.get(costs.len().saturating_sub(1) * quarter / 4).copied().unwrap_or(f64::NAN);
        Self { median: at(2), quartiles: (at(1), at(3)), windows: costs.len(), discarded, disturbed: doubtful }
    }
}

/// Ends the race when it is dropped, so that no thread waits for one that has panicked.
struct EndRace<'a>(&'a AtomicUsize);

/// The turn after the last one.
const OVER: usize = usize::MAX;

impl Drop for EndRace<'_> {
    fn drop(&mut self) {
        self.0.store(OVER, SeqCst);
    }
}

struct Window {
    begin: Instant,
    end: Instant,
    operations: u64,
    as_expected: u64,
    preempted: bool,
}

/// Measures one thread's part of a window.
fn window(contestant: &Contestant, thread: usize, chunk: u64, length: Duration) -> Window {
    let preemptions = os::preemptions();
    let (mut operations, mut as_expected) = (0, 0);
    let begin = Instant::now();
    let end = loop {
        as_expected += (contestant.run)(thread, chunk);
        operations += chunk;
        let now = Instant::now();
        if now - begin >= length {
            break now;
        }
    };
    Window { begin, end, operations, as_expected, preempted: os::preemptions() != preemptions }
}

/// Returns the second thread, which lives as long as the program: services reuse their threads, too.
fn second_thread() -> &'static Sender<Box<dyn FnOnce() + Send>> {
    static SECOND: OnceLock<Sender<Box<dyn FnOnce() + Send>>> = OnceLock::new();
    SECOND.get_or_init(|| {
        let (sender, jobs) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    })
}

/// The state that the threads of a race share.
struct Race {
    contestants: Arc<[Contestant]>,
    chunks: Vec<u64>,
    length: Duration,
    /// Counts up; the contestant follows from it.
    turn: AtomicUsize,
    windows: Mutex<Vec<Window>>,
}

impl Race {
    fn contestant_of(&self, turn: usize) -> usize {
        (turn - 1) % self.contestants.len()
    }

    fn play(&self, thread: usize, turn: usize) {
        let index = self.contestant_of(turn);
        let window = window(&self.contestants[index], thread, self.chunks[index], self.length);
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).push(window);
    }

    /// Takes part until the race is over.
    fn follow(&self, thread: usize) {
        let _end_race = EndRace(&self.turn);
        let mut last = 0;
        loop {
            match self.turn.load(SeqCst) {
                OVER => return,
                now if now == last => spin_loop(),
                now => {
                    last = now;
                    self.play(thread, now);
                }
            }
        }
    }

    /// Runs a turn, and waits for the other threads; `None` if one of them has panicked.
    fn lead(&self, turn: usize, threads: usize) -> Option<Vec<Window>> {
        self.turn.store(turn, SeqCst);
        self.play(0, turn);
        loop {
            let mut done = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            if done.len() == threads {
                return Some(std::mem::take(&mut *done));
            }
            if self.turn.load(SeqCst) == OVER {
                return None;
            }
            drop(done);
            spin_loop();
        }
    }
}

/// Measures the contestants in turns on one thread or two. Returns their samples in order.
///
/// # Errors
/// The name of a contestant with an unexpected result, for example a rejection where tokens must be granted.
pub(crate) fn race(contestants: &Arc<[Contestant]>, threads: usize, plan: Plan) -> Result<Vec<Sample>, &'static str> {
    let cpus = os::processors();
    os::pin(&cpus[..1]);
    let race = Arc::new(Race {
        contestants: Arc::clone(contestants),
        chunks: contestants.iter().map(Contestant::chunk).collect(),
        length: plan.window,
        turn: AtomicUsize::new(0),
        windows: Mutex::default(),
    });
    let _end_race = EndRace(&race.turn);
    if threads > 1 {
        let (race, cpu) = (Arc::clone(&race), cpus[1]);
        let _ = second_thread().send(Box::new(move || {
            os::pin(&[cpu]);
            race.follow(1);
        }));
    }
    let mut costs = vec![Vec::<f64>::new(); contestants.len()];
    let mut disturbed = costs.clone();
    // Two windows each warm up. If windows are discarded more are measured, for up to four times the undisturbed time.
    let turns = contestants.len() * (plan.windows + 2);
    let deadline = Instant::now() + plan.window * 4 * u32::try_from(turns).unwrap_or(u32::MAX);
    for turn in 1.. {
        let index = race.contestant_of(turn);
        let enough = costs.iter().all(|costs| costs.len() >= plan.windows);
        if index == 0 && (enough || (turn > turns / 4 && Instant::now() > deadline)) {
            break;
        }
        let name = contestants[index].name;
        let together = race.lead(turn, threads).ok_or(name)?;
        if together.iter().any(|window| window.as_expected != window.operations) {
            return Err(name);
        }
        if turn > contestants.len() * 2 {
            let kept = if is_clean(&together, plan.window) { &mut costs } else { &mut disturbed };
            kept[index].push(cost(&together));
        }
    }
    os::pin(&cpus);
    Ok(costs.into_iter().zip(disturbed).map(|(clean, rest)| Sample::of(clean, rest, plan)).collect())
}

/// Whether all threads began together and none was preempted.
fn is_clean(windows: &[Window], length: Duration) -> bool {
    let first = windows.iter().map(|window| window.begin).min();
    windows.iter().all(|window| !window.preempted && first.is_some_and(|first| window.begin - first < length / 20))
}

/// Returns the nanoseconds of one operation, as seen by its caller.
fn cost(windows: &[Window]) -> f64 {
    let time: Duration = windows.iter().map(|window| window.end - window.begin).sum();
    let operations: u64 = windows.iter().map(|window| window.operations).sum();
    time.as_secs_f64() * 1e9 / operations as f64
}
