//! Tests with a program that is stopped, that has the terminal, or that no health check watches.

use super::*;

const SIGTTIN: i32 = 21;

fn log_events(actions: &[Action]) -> Vec<&LogEvent> {
    let mut all = Vec::new();
    for action in actions {
        if let Action::Log(event) = action {
            all.push(event);
        }
    }
    all
}

fn unwatched(restart: Restart) -> Policy {
    let watch = Watch { timeout: 30 * SECOND, start_timeout: 30 * SECOND, required: Vec::new() };
    Policy { watch, ..policy(restart) }
}

#[test]
fn a_stopped_program_is_logged_and_shown() {
    let mut world = World::new(policy(Restart::Never), restart_limits());
    world.start();
    assert_eq!(world.supervisor.state(), SupervisorState::Running);
    let actions = world.on(Event::Suspended(SIGTTIN));
    assert_eq!(log_events(&actions), [&LogEvent::Suspended { signal: SIGTTIN }]);
    assert!(log_events(&actions)[0].is_warning() && log_events(&actions)[0].text().contains("--foreground"));
    assert_eq!(world.supervisor.state(), SupervisorState::Suspended);
    assert_eq!(world.on(Event::Suspended(SIGTTIN)), [], "once");
    assert_eq!(log_events(&world.on(Event::Continued)), [&LogEvent::Continued]);
    assert_eq!(world.supervisor.state(), SupervisorState::Running);
    // A program that the supervisor itself continues is not logged.
    assert_eq!(world.on(Event::Continued), []);
}

// CL-5: a stopped program receives no signal until it is continued.
#[test]
fn a_hangup_is_followed_by_cont() {
    let mut world = World::new(policy(Restart::Always), restart_limits());
    world.start();
    let _ = world.on(Event::Suspended(SIGTTIN));
    assert_eq!(world.on(Event::Forward(SIGHUP)), [Action::SignalProgram(SIGHUP), Action::SignalProgram(SIGCONT)]);
    assert_eq!(world.on(Event::Forward(10)), [Action::SignalProgram(10)]);
    assert_eq!(without_log(&world.exit(Exit::Signal(SIGHUP))), [&Action::Exit(129)]);
}

#[test]
fn a_key_of_the_terminal_ends_a_program_in_the_foreground() {
    for (foreground, signal, again) in [
        (true, SIGINT, false),
        (true, SIGQUIT, false),
        (true, SIGHUP, false),
        (true, SIGTERM, true),
        (false, SIGINT, true),
    ] {
        let mut world = World::new(Policy { foreground, ..policy(Restart::Always) }, restart_limits());
        world.start();
        let actions = world.exit(Exit::Signal(signal));
        let ended = without_log(&actions) == [&Action::Exit(Exit::Signal(signal).code())];
        assert_eq!(ended, !again, "{foreground} {signal}: {actions:?}");
        assert!(again || !world.supervisor.has_failed(), "an orderly end");
    }
}

#[test]
fn missing_health_checks_are_logged_once() {
    let mut world =
        World::new(unwatched(Restart::Always), RestartLimits { min_uptime: 1000 * SECOND, ..restart_limits() });
    world.start();
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert_eq!(log_events(&actions), [&LogEvent::NotWatched { time }]);
    assert_eq!(world.tick().1, []);
    world.exit(Exit::Code(1));
    world.start();
    assert_eq!(world.tick().1, []);

    let mut world =
        World::new(unwatched(Restart::Never), RestartLimits { min_uptime: 1000 * SECOND, ..restart_limits() });
    world.start();
    world.supervisor.check_passed(Source::Heartbeat, world.clock.now());
    let (_, actions) = world.tick();
    assert!(matches!(log_events(&actions)[0], LogEvent::Froze { .. }), "{actions:?}");
}

// CL-3: if a watchdog fired before the first poll, the timeout runs from the start.
#[test]
fn a_reported_freeze_counts_from_the_first_poll() {
    let mut world =
        World::new(unwatched(Restart::Never), RestartLimits { min_uptime: 1000 * SECOND, ..restart_limits() });
    world.start();
    world.clock.advance(30 * SECOND);
    world.supervisor.freeze_reported(Source::Heartbeat, world.clock.now());
    let actions = world.on(Event::Tick);
    assert_eq!(log_events(&actions), [&LogEvent::Froze { source: Source::Heartbeat, inactive: 30 * SECOND }]);
}

// CL-3: the heartbeat file of the previous start exists until the program writes its own.
#[test]
fn a_freeze_report_from_the_previous_start_is_ignored() {
    let mut world =
        World::new(unwatched(Restart::Always), RestartLimits { min_uptime: 1000 * SECOND, ..restart_limits() });
    world.start();
    let at = world.clock.now();
    world.exit(Exit::Code(1));
    world.start();
    world.clock.advance(30 * SECOND);
    world.supervisor.freeze_reported(Source::Heartbeat, at);
    assert!(!log_events(&world.on(Event::Tick)).iter().any(|event| matches!(event, LogEvent::Froze { .. })));
}
