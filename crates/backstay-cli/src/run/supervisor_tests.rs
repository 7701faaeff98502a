//! The supervisor's rules, with the clock in the hand.

use backstay::clock::{Clock, ManualClock};

use super::super::event::{Restart, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, Standing};
use super::super::gate::{Pace, Reason};
use super::super::life::Watch;
use super::super::news::{Ask, Exit};
use super::*;

#[path = "supervisor_notifying_tests.rs"]
mod notifying;
#[path = "supervisor_suspended_tests.rs"]
mod suspended;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: ManualClock,
    supervisor: Supervisor,
    pid: u32,
}

fn pace() -> Pace {
    Pace {
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
    fn new(policy: Policy, pace: Pace) -> Self {
        let clock = ManualClock::new();
        let gate = Gate::new(pace, &Clock::from(&clock), 7).unwrap();
        Self { supervisor: Supervisor::new(policy, gate), clock, pid: 100 }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.on(event, self.clock.now())
    }

    /// To the next deadline, and what is done there.
    fn tick(&mut self) -> (Duration, Vec<Action>) {
        let time = self.supervisor.deadline().since(self.clock.now());
        self.clock.advance(time);
        (time, self.on(Event::Tick))
    }

    fn start(&mut self) {
        let (_, actions) = self.tick();
        assert_eq!(without_news(&actions), [&Action::Spawn]);
        self.pid += 1;
        let pid = self.pid;
        let _ = self.on(Event::Started { pid });
    }

    fn exit(&mut self, exit: Exit) -> Vec<Action> {
        self.on(Event::Exited { exit, family_left: false })
    }
}

fn without_news(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| !matches!(action, Action::Tell(_))).collect()
}

fn wait(actions: &[Action]) -> Wait {
    let wait = actions.iter().find_map(|action| match action {
        Action::Tell(News::Waiting(wait)) => Some(*wait),
        _ => None,
    });
    wait.unwrap_or_else(|| panic!("it does not wait: {actions:?}"))
}

const POLITE: [Action; 2] = [Action::Signal(SIGTERM), Action::Signal(SIGCONT)];

fn is_polite(actions: &[Action]) -> bool {
    without_news(actions) == POLITE.iter().collect::<Vec<_>>()
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
        let mut world = World::new(policy(restart), pace());
        world.start();
        let actions = world.exit(exit);
        match again {
            true => assert_eq!(wait(&actions).reason, Reason::Pause, "{restart:?} {exit}"),
            false => assert_eq!(without_news(&actions), [&Action::Exit(exit.code())], "{restart:?} {exit}"),
        }
    }
    assert_eq!(Exit::Signal(9).code(), 137);
}

#[test]
fn waits_grow_and_begin_anew_for_one_that_lasts() {
    let mut world = World::new(policy(Restart::OnFailure), Pace { crashes: 100, ..pace() });
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

// CB: five crashes in a row open the circuit; then one try, and another pause if that crashes as well.
#[test]
fn a_crash_loop_opens_the_circuit() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
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
    // The try lasts: the circuit is closed, and a crash after that is the first of its kind.
    world.start();
    world.tick();
    assert_eq!(wait(&world.exit(Exit::Signal(6))).reason, Reason::Pause);
    assert_eq!(crash(&mut world).reason, Reason::Pause);
}

// RL: no more restarts in a while than allowed, however long each lasted.
#[test]
fn restarts_are_limited() {
    let mut world = World::new(policy(Restart::Always), Pace { restarts: 3, min_uptime: SECOND / 2, ..pace() });
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

// WD-1, WD-3: silence for the whole timeout is a freeze; a sign in between is none.
#[test]
fn a_freeze_ends_in_a_restart() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
    world.start();
    world.tick();
    world.clock.advance(15 * SECOND);
    world.supervisor.sign(Source::Heartbeat, world.clock.now());
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert_eq!(actions[0], Action::Tell(News::Froze { source: Source::Heartbeat, inactive: 30 * SECOND }));
    assert!(is_polite(&actions));
    // It does not listen.
    let (time, actions) = world.tick();
    assert_eq!(time, 10 * SECOND);
    assert_eq!(without_news(&actions), [&Action::Signal(SIGKILL)]);
    let actions = world.exit(Exit::Signal(SIGKILL));
    assert_eq!(wait(&actions).reason, Reason::Pause);
    assert_eq!(world.supervisor.freezes(), 1);
}

#[test]
fn one_that_froze_and_ends_well_is_restarted_all_the_same() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
    world.start();
    world.tick();
    assert!(is_polite(&world.tick().1));
    wait(&world.exit(Exit::Code(0)));
}

// WD-7: time in which nobody was awake is nobody's freeze, once.
#[test]
fn a_pause_of_the_machine_is_no_freeze() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
    world.start();
    world.clock.advance(3600 * SECOND);
    assert_eq!(without_news(&world.on(Event::Tick)).len(), 0);
    assert!(is_polite(&world.tick().1), "but then it is");
}

#[test]
fn time_in_which_all_stood_still_does_not_count() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
    world.start();
    world.tick();
    let stand = |world: &mut World| {
        world.clock.advance(3 * SECOND);
        world.clock.advance(100 * SECOND);
        let _ = world.on(Event::Stood(100 * SECOND));
    };
    stand(&mut world);
    let (time, actions) = world.tick();
    assert_eq!(time, 17 * SECOND);
    assert!(is_polite(&actions));
    stand(&mut world);
    assert_eq!(world.tick().0, 7 * SECOND);
}

#[test]
fn the_hook_has_its_time_and_then_the_program_ends() {
    let mut with_hook = policy(Restart::OnFailure);
    with_hook.hook = Some(5 * SECOND);
    for slow in [false, true] {
        let mut world = World::new(with_hook.clone(), pace());
        world.start();
        world.tick();
        let (_, actions) = world.tick();
        assert!(matches!(without_news(&actions)[..], [Action::RunHook { pid: 101, .. }]), "{actions:?}");
        if slow {
            let (time, actions) = world.tick();
            assert_eq!(time, 5 * SECOND);
            assert_eq!(without_news(&actions)[0], &Action::KillHook);
            assert_eq!(without_news(&actions)[1..], POLITE.iter().collect::<Vec<_>>());
            assert!(world.on(Event::HookEnded).is_empty());
        } else {
            assert!(is_polite(&world.on(Event::HookEnded)));
        }
    }
}

#[test]
fn an_orderly_stop_ends_with_the_programs_code() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let actions = world.on(Event::Asked(Ask(SIGINT)));
    assert_eq!(without_news(&actions), [&Action::Signal(SIGINT), &Action::Signal(SIGCONT)]);
    assert_eq!(without_news(&world.exit(Exit::Code(7))), [&Action::Exit(7)]);
    assert_eq!(world.supervisor.deadline(), Moment::NEVER);
}

#[test]
fn the_second_signal_kills() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.on(Event::Asked(Ask(SIGTERM)));
    // `timeout` signals its child, and then its group.
    world.clock.advance(Duration::from_millis(1));
    assert!(world.on(Event::Asked(Ask(SIGTERM))).is_empty(), "an echo is nobody's impatience");
    world.clock.advance(Duration::from_millis(249));
    let actions = world.on(Event::Asked(Ask(SIGTERM)));
    assert_eq!(without_news(&actions), [&Action::Signal(SIGKILL)]);
    assert_eq!(without_news(&world.exit(Exit::Signal(SIGKILL))), [&Action::Exit(137)]);
}

#[test]
fn asked_while_it_waits_it_ends_with_the_last_code() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.exit(Exit::Code(3));
    assert_eq!(without_news(&world.on(Event::Asked(Ask(SIGTERM)))), [&Action::Exit(3)]);
}

#[test]
fn a_terminal_that_goes_while_it_waits_ends_it() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.exit(Exit::Code(3));
    assert!(world.on(Event::PassOn(10)).is_empty());
    assert_eq!(without_news(&world.on(Event::PassOn(SIGHUP))), [&Action::Exit(3)]);
}

#[test]
fn other_signals_are_passed_on() {
    let mut world = World::new(policy(Restart::OnFailure), pace());
    world.start();
    assert_eq!(world.on(Event::PassOn(10)), [Action::SignalProgram(10)]);
    assert_eq!(world.on(Event::PassOn(SIGHUP))[0], Action::SignalProgram(SIGHUP));
    // Its terminal is gone and it went too: that is no crash.
    assert_eq!(without_news(&world.exit(Exit::Signal(SIGHUP))), [&Action::Exit(129)]);
}

#[test]
fn what_is_left_of_the_family_ends_before_a_restart() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let actions = world.on(Event::Exited { exit: Exit::Code(1), family_left: true });
    assert!(is_polite(&actions));
    assert!(world.supervisor.waits_for_family());
    let (time, actions) = world.tick();
    assert_eq!(time, 10 * SECOND);
    assert_eq!(without_news(&actions), [&Action::Signal(SIGKILL)]);
    wait(&world.on(Event::FamilyGone));
}

#[test]
fn what_cannot_be_killed_holds_up_nobody_for_ever() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.on(Event::Asked(Ask(SIGTERM)));
    world.tick();
    let (_, actions) = world.tick();
    assert_eq!(actions, [Action::Tell(News::GaveUp), Action::Exit(137)]);
}

#[test]
fn a_program_that_does_not_exist_is_tried_once() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.tick();
    let missing = || Event::NotStarted { error: "no such file".to_owned(), code: 127 };
    assert_eq!(without_news(&world.on(missing())), [&Action::Exit(127)]);

    // While it is being replaced, on the other hand, one waits for it.
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.exit(Exit::Code(1));
    world.tick();
    wait(&world.on(missing()));
}

fn notified(required: Vec<Source>) -> World {
    let mut policy = policy(Restart::OnFailure);
    policy.watch.required = required;
    policy.watch.start_timeout = 60 * SECOND;
    World::new(policy, Pace { min_uptime: 1000 * SECOND, ..pace() })
}

// ALL-1: nothing that can happen, in any order, makes it panic, busy or deaf.
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
                2 => Event::Exited { exit: Exit::Code(1), family_left: true },
                3 => Event::Exited { exit: Exit::Signal(9), family_left: false },
                4 => Event::FamilyGone,
                5 => Event::Asked(Ask(SIGTERM)),
                6 => Event::PassOn(1),
                7 => Event::HookEnded,
                8 => Event::Ready,
                9 => Event::Stopping,
                10 => Event::Extend(Duration::MAX),
                11 => Event::Trigger,
                12 => Event::WatchdogTime(Duration::ZERO),
                13 => Event::Stood(Duration::MAX),
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
        if world.supervisor.standing() != Standing::Done {
            let mut actions = world.on(Event::Asked(Ask(SIGTERM)));
            actions.extend(world.on(Event::Started { pid: 7 }));
            for _ in 0..3 {
                actions.extend(world.on(Event::Exited { exit: Exit::Code(0), family_left: false }));
            }
            assert!(actions.iter().any(|action| matches!(action, Action::Exit(_))), "{actions:?}");
        }
    }
}
