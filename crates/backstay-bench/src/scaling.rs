//! Budgets of operations among many waiters, keys, breakers and watchdogs.

use std::time::Duration;

use crate::report::{self, Budget, Report, Unit};
use crate::scenes::{crowds, growth};
use crate::{Options, TRIES, progress};

pub(crate) fn measure(options: &Options, report: &mut Report) {
    for scene in growth::SCENES.iter().filter(|scene| options.wants(scene.title)) {
        let mut growth = None;
        let budgets = tried(scene.title, |tries| {
            let played = growth.insert(scene.play(options.short));
            let (few, many) = (played.points.first(), played.points.last());
            let size = |point: Option<&(usize, f64)>| point.map_or(0, |(size, _)| *size);
            let what = format!("{}, {} versus {}", scene.title, size(many), size(few));
            vec![Budget { what, measured: played.factor(), limit: played.limit, unit: Unit::Times, tries }]
        });
        report.growths.extend(growth);
        report.budgets.extend(budgets);
    }
    let crowds: [(&str, Measure); 4] =
        [("waiters leave", leaving), ("sizes", sizes), ("a flood of new keys", flood), ("watchdogs fire", firing)];
    for (title, budgets) in crowds {
        if options.wants(title) {
            report.budgets.extend(tried(title, budgets));
        }
    }
}

type Measure = fn(usize) -> Vec<Budget>;

/// Measures again if a budget fails.
fn tried(title: &str, mut measure: impl FnMut(usize) -> Vec<Budget>) -> Vec<Budget> {
    let mut tries = 0;
    loop {
        tries += 1;
        progress(title);
        let budgets = measure(tries);
        if tries == TRIES || budgets.iter().all(Budget::holds) {
            return budgets;
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn leaving(tries: usize) -> Vec<Budget> {
    let (took, look) = crowds::leave();
    let crowd = report::plural(crowds::WAITERS, "waiter");
    let all = Budget {
        what: format!("waiters leave: {crowd}, worst order, processor time"),
        measured: micros(took) / 1e3,
        limit: 200.0,
        unit: Unit::Milliseconds,
        tries,
    };
    let what = String::from("waiters leave: 99.99 % of stats() meanwhile");
    vec![all, Budget { what, measured: micros(look), limit: 50.0, unit: Unit::Microseconds, tries }]
}

fn sizes(tries: usize) -> Vec<Budget> {
    let limits = [("a limiter", 192.0), ("a breaker", 176.0), ("a waiting task, its future included", 200.0)];
    let budgets = limits.into_iter().zip(crowds::bytes());
    budgets
        .map(|((what, limit), measured)| Budget {
            what: format!("sizes: {what}"),
            measured,
            limit,
            unit: Unit::Bytes,
            tries,
        })
        .collect()
}

fn flood(tries: usize) -> Vec<Budget> {
    let (median, worst) = crowds::flood();
    let budget = |what: &str, measured, limit| Budget {
        what: format!("a flood of new keys for a full limiter: {what}"),
        measured,
        limit,
        unit: Unit::Microseconds,
        tries,
    };
    vec![budget("a call", micros(median), 0.5), budget("99.99 % of the calls", micros(worst), 50.0)]
}

fn firing(tries: usize) -> Vec<Budget> {
    let what = format!("{} watchdogs fire together, callbacks block: threads", crowds::WATCHDOGS);
    vec![Budget { what, measured: crowds::fire() as f64, limit: 256.0, unit: Unit::Count, tries }]
}
