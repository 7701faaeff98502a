//! Contestants in turn: A B C A B C, in many short windows, so that whatever disturbs the machine disturbs all alike.
//!
//! A window is `Plan::window` long on each thread. It is thrown out if a thread was preempted in it, or if the threads
//! did not start together. What a contestant costs is the median of its windows; the quartiles show the noise.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::os;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Windows that each contestant should have.
    pub(crate) windows: usize,
    /// How long one is.
    pub(crate) window: Duration,
    /// How long a scene (waiting tasks, idle watchdogs) plays.
    pub(crate) scene: Duration,
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// Ours in another form or regime: shown, but not what a budget is about.
    OursToo,
    Peer,
    /// What nobody can beat; no contestant.
    Floor,
}

/// One who does the operation.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    /// Does it so many times on the thread with this number, and says how often it went as the race demands.
    run: Box<dyn Fn(usize, u64) -> u64 + Send + Sync>,
}

impl Contestant {
    /// `operation` says whether it went as it should: granted where the race is about grants, and so on.
    pub(crate) fn new(side: Side, name: &'static str, operation: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self::with(side, name, |_| (), move |()| operation())
    }

    /// An operation with a state of its own on each thread, made anew every few microseconds.
    pub(crate) fn with<S>(
        side: Side,
        name: &'static str,
        state: impl Fn(usize) -> S + Send + Sync + 'static,
        operation: impl Fn(&mut S) -> bool + Send + Sync + 'static,
    ) -> Self {
        let run = move |thread, times| {
            let mut state = state(thread);
            let mut as_it_should = 0;
            for _ in 0..times {
                as_it_should += u64::from(black_box(operation(&mut state)));
            }
            as_it_should
        };
        Self { name, side, run: Box::new(run) }
    }

    /// Does it once, and says how long that took; `None` where the thread was preempted.
    pub(crate) fn once(&self) -> Option<f64> {
        let preemptions = os::preemptions();
        let begin = Instant::now();
        (self.run)(0, 1);
        let took = begin.elapsed();
        (os::preemptions() == preemptions).then_some(took.as_secs_f64() * 1e9)
    }

    /// A number of operations that takes some 20 µs: between two looks at the clock, which cost 0.1 % of that.
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

/// What a contestant cost, in nanoseconds for one operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) quartiles: (f64, f64),
    /// How many windows that is from, ...
    pub(crate) windows: usize,
    /// ... and how many were not used.
    pub(crate) thrown_out: usize,
    /// Hardly a window was undisturbed, and the figure is that of the disturbed ones.
    pub(crate) disturbed: bool,
}

impl Sample {
    /// Locks that yield while they wait look preempted on a machine that is busy: better a doubtful figure than none.
    pub(crate) fn of(clean: Vec<f64>, disturbed: Vec<f64>, plan: Plan) -> Self {
        let doubtful = clean.len() < plan.windows / 4;
        let (mut costs, thrown_out) = if doubtful { (disturbed, clean.len()) } else { (clean, disturbed.len()) };
        costs.sort_by(f64::total_cmp);
        let at = |quarter| costs.get(costs.len().saturating_sub(1) * quarter / 4).copied().unwrap_or(f64::NAN);
        Self { median: at(2), quartiles: (at(1), at(3)), windows: costs.len(), thrown_out, disturbed: doubtful }
    }
}

/// Ends the race when it goes, however that comes about: nobody must wait for a turn of one who has panicked.
struct Finish<'a>(&'a AtomicUsize);

/// The turn after the last.
const OVER: usize = usize::MAX;

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(OVER, SeqCst);
    }
}

struct Window {
    begin: Instant,
    end: Instant,
    operations: u64,
    as_it_should: u64,
    preempted: bool,
}

/// One thread's part of a window.
fn window(contestant: &Contestant, thread: usize, chunk: u64, length: Duration) -> Window {
    let preemptions = os::preemptions();
    let (mut operations, mut as_it_should) = (0, 0);
    let begin = Instant::now();
    let end = loop {
        as_it_should += (contestant.run)(thread, chunk);
        operations += chunk;
        let now = Instant::now();
        if now - begin >= length {
            break now;
        }
    };
    Window { begin, end, operations, as_it_should, preempted: os::preemptions() != preemptions }
}

/// The second thread, which lives as long as the program: in a service too it is not always new threads that meet.
fn second_thread() -> &'static Sender<Box<dyn FnOnce() + Send>> {
    static SECOND: OnceLock<Sender<Box<dyn FnOnce() + Send>>> = OnceLock::new();
    SECOND.get_or_init(|| {
        let (sender, jobs) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    })
}

/// What the threads of one race share.
struct Race {
    contestants: Arc<[Contestant]>,
    chunks: Vec<u64>,
    length: Duration,
    /// Counted up, so that no two turns are the same; whose it is follows from it.
    turn: AtomicUsize,
    windows: Mutex<Vec<Window>>,
}

impl Race {
    fn whose(&self, turn: usize) -> usize {
        (turn - 1) % self.contestants.len()
    }

    fn play(&self, thread: usize, turn: usize) {
        let index = self.whose(turn);
        let window = window(&self.contestants[index], thread, self.chunks[index], self.length);
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).push(window);
    }

    /// Plays along until the race is over.
    fn follow(&self, thread: usize) {
        let _finish = Finish(&self.turn);
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

    /// Plays a turn, and waits for the others; none if one of them has panicked.
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

/// Lets the contestants take turns on one thread or two, and says what each cost, in their order.
///
/// # Errors
/// The name of one who did something else than what the race measures: refused where it is about grants, and so on.
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
    let _finish = Finish(&race.turn);
    if threads > 1 {
        let (race, cpu) = (Arc::clone(&race), cpus[1]);
        let _ = second_thread().send(Box::new(move || {
            os::pin(&[cpu]);
            race.follow(1);
        }));
    }
    let mut costs = vec![Vec::<f64>::new(); contestants.len()];
    let mut disturbed = costs.clone();
    // Two windows each warm up. Where windows are thrown out there are more, for four times the time that it takes on a
    // quiet machine.
    let turns = contestants.len() * (plan.windows + 2);
    let patience = Instant::now() + plan.window * 4 * u32::try_from(turns).unwrap_or(u32::MAX);
    for turn in 1.. {
        let index = race.whose(turn);
        let enough = costs.iter().all(|costs| costs.len() >= plan.windows);
        if index == 0 && (enough || (turn > turns / 4 && Instant::now() > patience)) {
            break;
        }
        let name = contestants[index].name;
        let together = race.lead(turn, threads).ok_or(name)?;
        if together.iter().any(|window| window.as_it_should != window.operations) {
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

/// Whether all threads began together, and none was preempted.
fn is_clean(windows: &[Window], length: Duration) -> bool {
    let first = windows.iter().map(|window| window.begin).min();
    windows.iter().all(|window| !window.preempted && first.is_some_and(|first| window.begin - first < length / 20))
}

/// Nanoseconds for one operation as its caller sees it.
fn cost(windows: &[Window]) -> f64 {
    let time: Duration = windows.iter().map(|window| window.end - window.begin).sum();
    let operations: u64 = windows.iter().map(|window| window.operations).sum();
    time.as_secs_f64() * 1e9 / operations as f64
}
