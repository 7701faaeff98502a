//! Tests of the supervisor's rules on a manual clock.

use backstay::clock::{Clock, ManualClock};

use super::super::event::{Restart, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SupervisorState};
use super::super::freeze_detector::Watch;
use super::super::log_event::{Exit, StopRequest};
use super::super::restart_limiter::{Reason, RestartLimits};
use super::*;

#[path = "supervisor_notification_tests.rs"]
mod notifying;
#[path = "supervisor_suspended_tests.rs"]
mod suspended;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: ManualClock,
    supervisor: Supervisor,
    pid: u32,
}

fn restart_limits() -> RestartLimits {
    RestartLimits {
        backoff: SECOND,
        max_backoff: 60 * SECOND,
        min_uptime: 10 * SECOND,
        restarts: 100,
        per: 600 * SECOND,
        crashes: 5,
        cooldown: 60 * SECOND,
    }
}

fn policy(restart: Restart) -> Policy {
    let watch = Watch { timeout: 30 * SECOND, start_timeout: 30 * SECOND, required: vec![Source::Heartbeat] };
    Policy { restart, watch, grace: 10 * SECOND, hook: None, foreground: false }
}

impl World {
    fn new(policy: Policy, limits: RestartLimits) -> Self {
        let clock = ManualClock::new();
        let restart_limiter = RestartLimiter::new(limits, &Clock::from(&clock), 7).unwrap();
        Self { supervisor: Supervisor::new(policy, restart_limiter), clock, pid: 100 }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.on(event, self.clock.now())
    }

    /// Advances the clock to the next deadline; returns the time until then and the actions.
    fn tick(&mut self) -> (Duration, Vec<Action>) {
        let time = self.supervisor.deadline().since(self.clock.now());
        self.clock.advance(time);
        (time, self.on(Event::Tick))
    }

    fn start(&mut self) {
        let (_, actions) = self.tick();
        assert_eq!(without_log(&actions), [&Action::Spawn]);
        self.pid += 1;
        let pid = self.pid;
        let _ = self.on(Event::Started { pid });
    }

    fn exit(&mut self, exit: Exit) -> Vec<Action> {
        self.on(Event::Exited { exit, tree_left: false })
    }
}

fn without_log(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| !matches!(action, Action::Log(_))).collect()
}

fn wait(actions: &[Action]) -> Wait {
    let wait = actions.iter().find_map(|action| match action {
        Action::Log(LogEvent::Waiting(wait)) => Some(*wait),
        _ => None,
    });
    wait.unwrap_or_else(|| panic!("no wait: {actions:?}"))
}

const STOP: [Action; 2] = [Action::Signal(SIGTERM), Action::Signal(SIGCONT)];

fn is_stop(actions: &[Action]) -> bool {
    without_log(actions) == STOP.iter().collect::<Vec<_>>()
}

#[test]
fn restarts_follow_the_policy() {
    for (restart, exit, again) in [
        (Restart::OnFailure, Exit::Code(0), false),
        (Restart::OnFailure, Exit::Code(3), true),
        (Restart::OnFailure, Exit::Signal(11), true),
        (Restart::Always, Exit::Code(0), true),
        (Restart::Never, Exit::Code(3), false),
    ] {
        let mut world = World::new(policy(restart), restart_limits());
        world.start();
        let actions = world.exit(exit);
        match again {
            true => assert_eq!(wait(&actions).reason, Reason::Pause, "{restart:?} {exit}"),
            false => assert_eq!(without_log(&actions), [&Action::Exit(exit.code())], "{restart:?} {exit}"),
        }
    }
    assert_eq!(Exit::Signal(9).code(), 137);
}

#[test]
fn the_backoff_doubles_and_is_reset_by_the_minimum_uptime() {
    let mut world = World::new(policy(Restart::OnFailure), RestartLimits { crashes: 100, ..restart_limits() });
    for full in [1, 2, 4, 8, 16, 32, 60, 60] {
        world.start();
        let wait = wait(&world.exit(Exit::Code(1))).time;
        let full = full * SECOND;
        assert!((full / 2..=full).contains(&wait), "{wait:?} of {full:?}");
    }
    world.start();
    let (lasted, _) = world.tick();
    assert_eq!(lasted, 10 * SECOND);
    assert!(wait(&world.exit(Exit::Code(1))).time <= SECOND);
}

// CB: five crashes in a row open the circuit. After the cooldown there is one attempt; if it crashes, the circuit opens again.
#[test]
fn a_crash_loop_opens_the_circuit() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    let crash = |world: &mut World| {
        world.start();
        wait(&world.exit(Exit::Signal(6)))
    };
    for _ in 0..4 {
        assert_eq!(crash(&mut world).reason, Reason::Pause);
    }
    for _ in 0..3 {
        let open = crash(&mut world);
        assert_eq!((open.reason, open.time), (Reason::CircuitOpen, 60 * SECOND));
    }
    // The attempt reaches the minimum uptime: the circuit closes, and the next crash counts as the first.
    world.start();
    world.tick();
    assert_eq!(wait(&world.exit(Exit::Signal(6))).reason, Reason::Pause);
    assert_eq!(crash(&mut world).reason, Reason::Pause);
}

// RL: the number of restarts in a period is limited, however long each start lasted.
#[test]
fn restarts_are_limited() {
    let mut world =
        World::new(policy(Restart::Always), RestartLimits { restarts: 3, min_uptime: SECOND / 2, ..restart_limits() });
    for _ in 0..4 {
        world.start();
        world.tick();
        let _ = world.exit(Exit::Code(0));
    }
    let (_, actions) = world.tick();
    let limited = wait(&actions);
    assert_eq!(limited.reason, Reason::RateLimit);
    assert!(limited.time > 190 * SECOND && limited.time <= 200 * SECOND, "{limited:?}");
    world.start();
}

// WD-1, WD-3: a whole timeout without a passed check is a freeze; a passed check in between prevents it.
#[test]
fn a_freeze_ends_in_a_restart() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    world.start();
    world.tick();
    world.clock.advance(15 * SECOND);
    world.supervisor.check_passed(Source::Heartbeat, world.clock.now());
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert_eq!(actions[0], Action::Log(LogEvent::Froze { source: Source::Heartbeat, inactive: 30 * SECOND }));
    assert!(is_stop(&actions));
    // It ignores SIGTERM.
    let (time, actions) = world.tick();
    assert_eq!(time, 10 * SECOND);
    assert_eq!(without_log(&actions), [&Action::Signal(SIGKILL)]);
    let actions = world.exit(Exit::Signal(SIGKILL));
    assert_eq!(wait(&actions).reason, Reason::Pause);
    assert_eq!(world.supervisor.freezes(), 1);
}

#[test]
fn a_frozen_program_that_exits_with_0_is_restarted() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    world.start();
    world.tick();
    assert!(is_stop(&world.tick().1));
    wait(&world.exit(Exit::Code(0)));
}

// WD-7: time in which the whole machine was suspended is not a freeze, once.
#[test]
fn a_pause_of_the_machine_is_no_freeze() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    world.start();
    world.clock.advance(3600 * SECOND);
    assert_eq!(without_log(&world.on(Event::Tick)).len(), 0);
    assert!(is_stop(&world.tick().1), "but then it is");
}

#[test]
fn a_pause_of_supervisor_and_program_does_not_count() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    world.start();
    world.tick();
    let pause = |world: &mut World| {
        world.clock.advance(3 * SECOND);
        world.clock.advance(100 * SECOND);
        let _ = world.on(Event::Paused(100 * SECOND));
    };
    pause(&mut world);
    let (time, actions) = world.tick();
    assert_eq!(time, 17 * SECOND);
    assert!(is_stop(&actions));
    pause(&mut world);
    assert_eq!(world.tick().0, 7 * SECOND);
}

#[test]
fn the_program_is_stopped_when_the_hook_ends_or_times_out() {
    let mut with_hook = policy(Restart::OnFailure);
    with_hook.hook = Some(5 * SECOND);
    for slow in [false, true] {
        let mut world = World::new(with_hook.clone(), restart_limits());
        world.start();
        world.tick();
        let (_, actions) = world.tick();
        assert!(matches!(without_log(&actions)[..], [Action::RunHook { pid: 101, .. }]), "{actions:?}");
        if slow {
            let (time, actions) = world.tick();
            assert_eq!(time, 5 * SECOND);
            assert_eq!(without_log(&actions)[0], &Action::KillHook);
            assert_eq!(without_log(&actions)[1..], STOP.iter().collect::<Vec<_>>());
            assert!(world.on(Event::HookEnded).is_empty());
        } else {
            assert!(is_stop(&world.on(Event::HookEnded)));
        }
    }
}

#[test]
fn an_orderly_stop_ends_with_the_programs_code() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let actions = world.on(Event::StopRequested(StopRequest(SIGINT)));
    assert_eq!(without_log(&actions), [&Action::Signal(SIGINT), &Action::Signal(SIGCONT)]);
    assert_eq!(without_log(&world.exit(Exit::Code(7))), [&Action::Exit(7)]);
    assert_eq!(world.supervisor.deadline(), Moment::NEVER);
}

#[test]
fn the_second_signal_kills() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.on(Event::StopRequested(StopRequest(SIGTERM)));
    // `timeout` signals its child and then its process group.
    world.clock.advance(Duration::from_millis(1));
    assert!(world.on(Event::StopRequested(StopRequest(SIGTERM))).is_empty(), "a duplicate signal is ignored");
    world.clock.advance(Duration::from_millis(249));
    let actions = world.on(Event::StopRequested(StopRequest(SIGTERM)));
    assert_eq!(without_log(&actions), [&Action::Signal(SIGKILL)]);
    assert_eq!(without_log(&world.exit(Exit::Signal(SIGKILL))), [&Action::Exit(137)]);
}

#[test]
fn a_stop_request_during_the_backoff_ends_with_the_last_exit_code() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.exit(Exit::Code(3));
    assert_eq!(without_log(&world.on(Event::StopRequested(StopRequest(SIGTERM)))), [&Action::Exit(3)]);
}

#[test]
fn a_hangup_during_the_backoff_ends_it() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.exit(Exit::Code(3));
    assert!(world.on(Event::Forward(10)).is_empty());
    assert_eq!(without_log(&world.on(Event::Forward(SIGHUP))), [&Action::Exit(3)]);
}

#[test]
fn other_signals_are_forwarded() {
    let mut world = World::new(policy(Restart::OnFailure), restart_limits());
    world.start();
    assert_eq!(world.on(Event::Forward(10)), [Action::SignalProgram(10)]);
    assert_eq!(world.on(Event::Forward(SIGHUP))[0], Action::SignalProgram(SIGHUP));
    // A program that ends by a forwarded SIGHUP has not crashed.
    assert_eq!(without_log(&world.exit(Exit::Signal(SIGHUP))), [&Action::Exit(129)]);
}

#[test]
fn the_rest_of_the_process_tree_ends_before_a_restart() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let actions = world.on(Event::Exited { exit: Exit::Code(1), tree_left: true });
    assert!(is_stop(&actions));
    assert!(world.supervisor.waits_for_tree());
    let (time, actions) = world.tick();
    assert_eq!(time, 10 * SECOND);
    assert_eq!(without_log(&actions), [&Action::Signal(SIGKILL)]);
    wait(&world.on(Event::TreeGone));
}

#[test]
fn a_process_that_survives_sigkill_is_given_up() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.on(Event::StopRequested(StopRequest(SIGTERM)));
    world.tick();
    let (_, actions) = world.tick();
    assert_eq!(actions, [Action::Log(LogEvent::GaveUp), Action::Exit(137)]);
}

#[test]
fn a_first_start_that_fails_is_not_retried() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.tick();
    let missing = || Event::NotStarted { error: "no such file".to_owned(), code: 127 };
    assert_eq!(without_log(&world.on(missing())), [&Action::Exit(127)]);

    // A later start that fails is retried: the program may be being replaced.
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.exit(Exit::Code(1));
    world.tick();
    wait(&world.on(missing()));
}

fn notified(required: Vec<Source>) -> World {
    let mut policy = policy(Restart::OnFailure);
    policy.watch.required = required;
    policy.watch.start_timeout = 60 * SECOND;
    World::new(policy, RestartLimits { min_uptime: 1000 * SECOND, ..restart_limits() })
}

// ALL-1: events in any order cause no panic and no busy loop, and a stop request always works.
#[test]
fn no_order_of_events_breaks_it() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2000 {
        let mut world = notified(vec![Source::Heartbeat]);
        for _ in 0..60 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let event = match random % 18 {
                0 => Event::Started { pid: 5 },
                1 => Event::NotStarted { error: String::new(), code: 126 },
                2 => Event::Exited { exit: Exit::Code(1), tree_left: true },
                3 => Event::Exited { exit: Exit::Signal(9), tree_left: false },
                4 => Event::TreeGone,
                5 => Event::StopRequested(StopRequest(SIGTERM)),
                6 => Event::Forward(1),
                7 => Event::HookEnded,
                8 => Event::Ready,
                9 => Event::Stopping,
                10 => Event::Extend(Duration::MAX),
                11 => Event::Trigger,
                12 => Event::WatchdogTime(Duration::ZERO),
                13 => Event::Paused(Duration::MAX),
                _ => {
                    world.clock.advance(world.supervisor.deadline().since(world.clock.now()).min(3600 * SECOND));
                    Event::Tick
                }
            };
            let spawns = world.on(event).contains(&Action::Spawn);
            if spawns && random & 64 == 0 {
                let _ = world.on(Event::Started { pid: 7 });
            }
        }
        if world.supervisor.state() != SupervisorState::Done {
            let mut actions = world.on(Event::StopRequested(StopRequest(SIGTERM)));
            actions.extend(world.on(Event::Started { pid: 7 }));
            for _ in 0..3 {
                actions.extend(world.on(Event::Exited { exit: Exit::Code(0), tree_left: false }));
            }
            assert!(actions.iter().any(|action| matches!(action, Action::Exit(_))), "{actions:?}");
        }
    }
}
