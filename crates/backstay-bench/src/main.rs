//! Measures Backstay's hot paths next to other crates in one run, and fails if a budget is exceeded: `scripts/bench`.
#![allow(clippy::disallowed_methods)] // a benchmark is about the real time

mod drawing;
mod harness;
mod memory;
mod os;
mod races;
mod report;
mod scaling;
mod scenes;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use harness::{Contestant, Plan};
use races::{breaker, clock, keyed, limiter, tasks, watchdog, windows};
use report::{Budget, OperationResults, Report, Unit};
use scenes::{allocations, apart, herd, waiting};

/// How often a budget is measured before it counts as failed: CI machines are noisy.
const TRIES: usize = 3;

const USAGE: &str = "\
scripts/bench [--short] [--draw] [--json] [--only WORD]
  --short      fewer windows, for CI: under a minute
  --json       prints JSON instead of the table
  --only WORD  only the operations and scenes with WORD in their title
  --draw       also writes docs/benchmarks.svg, docs/scaling.svg and docs/benchmarks.md with these options";

#[derive(Default)]
struct Options {
    short: bool,
    draw: bool,
    json: bool,
    only: Option<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--short" => options.short = true,
                "--draw" => options.draw = true,
                "--json" => options.json = true,
                "--only" => options.only = Some(words.next()?),
                _ => return None,
            }
        }
        Some(options)
    }

    fn wants(&self, title: &str) -> bool {
        self.only.as_deref().is_none_or(|word| title.contains(word))
    }

    /// A complete run is drawn; a partial or short one only with `--draw`.
    fn draws(&self) -> bool {
        self.draw || !(self.short || self.json || self.only.is_some())
    }

    fn plan(&self) -> Plan {
        let window = Duration::from_millis(2);
        match self.short {
            true => Plan { windows: 31, window, scene: Duration::from_secs(2) },
            false => Plan { windows: 151, window, scene: Duration::from_secs(3) },
        }
    }
}

/// An operation, and the limits of its cost.
struct Operation {
    title: &'static str,
    note: &'static str,
    limits: &'static [Limit],
}

/// The maximum cost with `threads` threads, as a multiple of the cost of `peer` or of the fastest peer.
struct Limit {
    threads: usize,
    times: f64,
    peer: Option<&'static str>,
}

const fn limit(threads: usize, times: f64, peer: Option<&'static str>) -> Limit {
    Limit { threads, times, peer }
}

const GOVERNOR: Option<&str> = Some("governor");

type Enter = fn() -> Vec<Contestant>;

const OPERATIONS: &[(Operation, Enter)] = &[
    (
        Operation { title: "clocks", note: "the cost of reading the time, and of changing a shared word", limits: &[] },
        clock::clocks,
    ),
    (
        Operation {
            title: "limiter, granted",
            note: "the bucket is partly full, and every call gets a token",
            limits: &[limit(1, 0.7, GOVERNOR), limit(2, 0.7, GOVERNOR)],
        },
        limiter::granted,
    ),
    (
        Operation {
            title: "limiter, granted when full",
            note: "every call finds the bucket full, as in a limiter that is hardly used; the goal is 1.05",
            limits: &[limit(1, 1.15, GOVERNOR), limit(2, 1.15, GOVERNOR)],
        },
        limiter::granted_when_full,
    ),
    (
        Operation {
            title: "limiter, saturated at 1,000/s",
            note: "calls back to back, nearly all of which are rejected; the goal is 1.05",
            limits: &[limit(1, 1.4, GOVERNOR), limit(2, 1.4, GOVERNOR)],
        },
        limiter::saturated::<1_000>,
    ),
    (
        Operation {
            title: "limiter, saturated at 100,000/s",
            note: "calls back to back, nearly all of which are rejected; the goal is 1.05",
            limits: &[limit(1, 1.4, GOVERNOR), limit(2, 1.4, GOVERNOR)],
        },
        limiter::saturated::<100_000>,
    ),
    (
        Operation {
            title: "limiter, rejected, retry after",
            note: "every call is rejected and computes `retry_after`; the goal is 1.0",
            limits: &[limit(1, 1.7, GOVERNOR), limit(2, 1.7, GOVERNOR)],
        },
        limiter::refused_until,
    ),
    (
        Operation {
            title: "limiter, acquire in a task",
            note: "the bucket is full, and the future is ready at once; the goal is 1.0",
            limits: &[limit(1, 1.15, None), limit(2, 1.15, None)],
        },
        tasks::acquire,
    ),
    (
        Operation {
            title: "limiter, rejected",
            note: "the bucket is empty, and every call is rejected",
            limits: &[limit(1, 0.7, GOVERNOR), limit(2, 0.7, GOVERNOR)],
        },
        limiter::refused,
    ),
    (
        Operation {
            title: "breaker, closed",
            note: "calls that succeed; tower-resilience is polled until it is ready, without a runtime",
            limits: &[limit(1, 0.4, None), limit(2, 0.15, None)],
        },
        breaker::closed,
    ),
    (
        Operation {
            title: "breaker, closed, in a task",
            note: "futures that are ready at once and succeed",
            limits: &[limit(1, 0.8, Some("recloser")), limit(2, 0.8, Some("recloser"))],
        },
        tasks::call,
    ),
    (
        Operation {
            title: "breaker, permit",
            note: "`try_acquire` and `success`, next to a call of peers without such a form; the goal is 0.6",
            limits: &[limit(1, 0.8, None), limit(2, 0.8, None)],
        },
        breaker::permit,
    ),
    (
        Operation {
            title: "breaker, failing and succeeding",
            note: "a call that fails and one that succeeds, together",
            limits: &[limit(1, 0.7, None), limit(2, 0.7, None)],
        },
        breaker::failing,
    ),
    (
        Operation {
            title: "breaker, window of time",
            note: "calls that succeed, with a failure rate over ten seconds; the goal is a count, a coarse clock and 2 ns",
            limits: &[limit(1, 1.3, Some(windows::COUNT_AND_CLOCK)), limit(2, 1.3, Some(windows::COUNT_AND_CLOCK))],
        },
        windows::time,
    ),
    (
        Operation {
            title: "breaker, window of calls",
            note: "calls that succeed, with a failure rate over a hundred calls, which share one counter; the goal is 0.5",
            limits: &[limit(1, 0.9, None)],
        },
        windows::calls,
    ),
    (
        Operation {
            title: "breaker, failing in a window",
            note: "a call that fails and one that succeeds, together; next to reading the time once",
            limits: &[limit(1, 2.5, Some("Instant::now"))],
        },
        windows::failures,
    ),
    (
        Operation {
            title: "breaker, half-open",
            note: "a failure that opens the circuit for 1 µs, rejections, and the half-open call that closes it",
            limits: &[],
        },
        windows::half_open,
    ),
    (
        Operation {
            title: "breaker, open",
            note: "calls that are rejected; the error of a named breaker holds a counted reference to the name",
            limits: &[limit(1, 0.4, None), limit(2, 0.4, None)],
        },
        breaker::open,
    ),
    (
        Operation {
            title: "keyed limiter, 1,000 idle keys",
            note: "every call finds the bucket of its key full",
            limits: &[limit(1, 1.0, None), limit(2, 1.0, None)],
        },
        keyed::idle,
    ),
    (
        Operation {
            title: "watchdog ping",
            note: "next to reading the time, and next to reading and storing it",
            limits: &[limit(1, 0.5, Some("Instant::now"))],
        },
        watchdog::ping,
    ),
];

const KEYED: Operation = Operation {
    title: "keyed limiter, 1 M keys",
    note: "the keys are 64 random bits, in random order; every call gets a token",
    limits: &[limit(1, 0.8, None), limit(2, 0.8, None)],
};

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match measure(&options) {
        Ok(report) => finish(&options, &report),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn finish(options: &Options, report: &Report) -> ExitCode {
    if options.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    if options.draws() {
        let written = std::fs::create_dir_all("docs")
            .and_then(|()| std::fs::write("docs/benchmarks.svg", drawing::svg(&report.operations)))
            .and_then(|()| std::fs::write("docs/scaling.svg", drawing::growth::svg(&report.growths)))
            .and_then(|()| std::fs::write("docs/benchmarks.md", report.markdown()));
        if let Err(error) = written {
            eprintln!("bench: docs/: {error}");
            return ExitCode::from(2);
        }
    }
    let broken = report.budgets.iter().filter(|budget| !budget.holds()).count();
    if broken > 0 {
        eprintln!("bench: {} broken", report::plural(broken, "budget"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> Result<Report, String> {
    let plan = options.plan();
    let mut report = Report { machine: machine(), method: method(plan), ..Report::default() };
    for (operation, enter) in OPERATIONS.iter().filter(|(operation, _)| options.wants(operation.title)) {
        run(operation, enter(), plan, &mut report)?;
    }
    if options.wants(KEYED.title) {
        keyed_limiters(plan, &mut report)?;
    }
    if options.wants(apart::TITLE) {
        progress(apart::TITLE);
        report.operations.push(apart::limiters(plan));
    }
    if options.wants("waiting tasks") {
        waiting_tasks(plan, &mut report);
    }
    if options.wants("watchdogs") {
        idle_watchdogs(plan, &mut report);
    }
    scaling::measure(options, &mut report);
    if options.wants("allocations") {
        progress("allocations");
        for (what, allocations) in allocations::count() {
            let what = format!("allocations of 1000 calls: {what}");
            report.budgets.push(Budget {
                what,
                measured: allocations as f64,
                limit: 0.0,
                unit: Unit::Allocations,
                tries: 1,
            });
        }
    }
    Ok(report)
}

/// Measures an operation and checks its limits; if one fails, it measures again.
fn run(operation: &Operation, contestants: Vec<Contestant>, plan: Plan, report: &mut Report) -> Result<(), String> {
    let Operation { title, note, limits } = *operation;
    let contestants = Arc::<[Contestant]>::from(contestants);
    let names = contestants.iter().map(|contestant| (contestant.name, contestant.side)).collect();
    let mut results = OperationResults { title, note, names, samples: Vec::new() };
    for threads in 1..=os::processors().len().min(2) {
        progress(&format!("{title}, {}", report::plural(threads, "thread")));
        let mut tries = 0;
        let budget = loop {
            tries += 1;
            let samples = harness::race(&contestants, threads, plan)
                .map_err(|name| format!("{title}: {name} had an unexpected result"))?;
            results.samples.retain(|(count, _)| *count != threads);
            results.samples.push((threads, samples));
            let budget = limits.iter().find(|limit| limit.threads == threads).and_then(|limit| {
                let (peer, cost) = results.peer(threads, limit.peer)?;
                let what = format!("{title}, {}, versus {peer}", report::plural(threads, "thread"));
                let measured = results.ours(threads)? / cost;
                Some(Budget { what, measured, limit: limit.times, unit: Unit::Times, tries })
            });
            match budget {
                Some(budget) if !budget.holds() && tries < TRIES => progress("over budget, measuring again"),
                budget => break budget,
            }
        };
        report.budgets.extend(budget);
    }
    report.operations.push(results);
    Ok(())
}

fn keyed_limiters(plan: Plan, report: &mut Report) -> Result<(), String> {
    progress("filling keyed limiters");
    let keyed::Filled { contestants, bytes: [ours, governor] } = keyed::filled();
    run(&KEYED, contestants, plan, report)?;
    report.facts.push(("bytes for a key, of 1 M".into(), format!("{ours:.1}, governor {governor:.1}")));
    let what = String::from("keyed limiter, bytes for a key");
    report.budgets.push(Budget { what, measured: ours, limit: 40.0, unit: Unit::Bytes, tries: 1 });
    Ok(())
}

fn waiting_tasks(plan: Plan, report: &mut Report) {
    let (rate, worst) = report::waiting_limits();
    let budgets = |waited: &waiting::WaitResult, tries| {
        let budget = |what: &str, measured, limit, unit| Budget { what: what.into(), measured, limit, unit, tries };
        [
            budget("20 waiting tasks, rate", waited.reached * 100.0, rate, Unit::AtLeastPercent),
            budget("20 waiting tasks, worst wait", waited.worst.as_secs_f64() * 1e3, worst, Unit::Milliseconds),
        ]
    };
    let mut tries = 0;
    loop {
        tries += 1;
        progress("20 waiting tasks: backstay");
        let waited = waiting::ours(plan.scene);
        let budgets = budgets(&waited, tries);
        if tries == TRIES || budgets.iter().all(Budget::holds) {
            report.waited.push(waited);
            report.budgets.extend(budgets);
            break;
        }
    }
    progress("20 waiting tasks: governor");
    report.waited.push(waiting::governor(plan.scene));
    progress("20 waiting tasks: leaky-bucket");
    report.waited.push(waiting::leaky_bucket(plan.scene));
}

fn idle_watchdogs(plan: Plan, report: &mut Report) {
    let mut tries = 0;
    loop {
        tries += 1;
        progress("100,000 watchdogs, idle");
        let herd = herd::idle(plan.scene);
        let what = format!("{} running watchdogs, idle: of a processor", herd::WATCHDOGS);
        let budget = Budget { what, measured: herd.idle * 100.0, limit: 1.0, unit: Unit::Percent, tries };
        if tries == TRIES || budget.holds() {
            report.facts.push(("bytes for a watchdog".into(), format!("{:.0}", herd.bytes)));
            report.budgets.push(budget);
            return;
        }
    }
}

fn progress(what: &str) {
    eprintln!("bench: {what}");
}

fn machine() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let processors = report::plural(os::processors().len(), "processor");
    format!("{}, {processors}, {}.", model.unwrap_or("unknown processor").trim(), std::env::consts::OS)
}

fn method(plan: Plan) -> String {
    format!(
        "All contestants are in one program, built with thin LTO and one codegen unit, and take turns (A B C A B C) in\n\
         windows of {} ms: {} windows each, after two for warm-up. Threads are pinned, start each window\n\
         together and work on one object. A window in which a thread was preempted (`getrusage`), or in which the threads\n\
         did not start together, is discarded; ~ marks the median of such windows, because almost none was\n\
         undisturbed. The figure is the median, the quartiles show the noise; results pass through\n\
         `black_box`, and the result of every call is checked. A budget that fails is measured up to three times. Peers\n\
         run with default features.",
        plan.window.as_millis(),
        plan.windows,
    )
}
