//! Measures calls one millisecond apart, as in a service: the caches are cold, and the processor has slept.

use std::time::Duration;

use crate::harness::{Contestant, Plan, Sample, Side};
use crate::os;
use crate::races::limiter;
use crate::report::OperationResults;

pub(crate) const TITLE: &str = "limiter, full, calls 1 ms apart";

/// Measures each contestant once per millisecond, and subtracts the cost of reading the clock.
pub(crate) fn limiters(plan: Plan) -> OperationResults {
    let looking = Contestant::new(Side::Floor, "reading the clock", || true);
    let contestants: Vec<_> =
        limiter::granted_when_full().into_iter().filter(|one| ["backstay", "governor"].contains(&one.name)).collect();
    os::pin(&os::processors()[..1]);
    let mut costs = vec![Vec::new(); contestants.len()];
    let mut look = Vec::new();
    // A few calls of one contestant, then of the next: each call comes a millisecond after the same contestant's last
    // one.
    for _ in 0..plan.windows / 4 {
        for (contestant, costs) in contestants.iter().zip(&mut costs).chain([(&looking, &mut look)]) {
            for call in 0..12 {
                std::thread::sleep(Duration::from_millis(1));
                let cost = contestant.once();
                costs.extend(cost.filter(|_| call > 1));
            }
        }
    }
    os::pin(&os::processors());
    let look = Sample::of(look, Vec::new(), plan).median;
    let less =
        |costs: Vec<f64>| Sample::of(costs.iter().map(|cost| (cost - look).max(0.0)).collect(), Vec::new(), plan);
    OperationResults {
        title: TITLE,
        note: "single calls with cold caches, minus the cost of reading the clock",
        names: contestants.iter().map(|contestant| (contestant.name, contestant.side)).collect(),
        samples: vec![(1, costs.into_iter().map(less).collect())],
    }
}
