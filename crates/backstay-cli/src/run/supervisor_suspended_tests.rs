//! A program that is stopped, that has the terminal, or of which nothing is known.

use super::*;

const SIGTTIN: i32 = 21;

fn news(actions: &[Action]) -> Vec<&News> {
    let mut all = Vec::new();
    for action in actions {
        if let Action::Tell(news) = action {
            all.push(news);
        }
    }
    all
}

fn unwatched(restart: Restart) -> Policy {
    let watch = Watch { timeout: 30 * SECOND, start_timeout: 30 * SECOND, required: Vec::new() };
    Policy { watch, ..policy(restart) }
}

#[test]
fn a_stopped_program_is_told_and_shown() {
    let mut world = World::new(policy(Restart::Never), pace());
    world.start();
    assert_eq!(world.supervisor.standing(), Standing::Running);
    let actions = world.on(Event::Suspended(SIGTTIN));
    assert_eq!(news(&actions), [&News::Suspended { signal: SIGTTIN }]);
    assert!(news(&actions)[0].is_bad() && news(&actions)[0].text().contains("--foreground"));
    assert_eq!(world.supervisor.standing(), Standing::Suspended);
    assert_eq!(world.on(Event::Suspended(SIGTTIN)), [], "once");
    assert_eq!(news(&world.on(Event::Continued)), [&News::Continued]);
    assert_eq!(world.supervisor.standing(), Standing::Running);
    // One that we continue ourselves is no news.
    assert_eq!(world.on(Event::Continued), []);
}

// CL-5: a stopped program hears nothing until it goes on.
#[test]
fn a_hangup_is_followed_by_cont() {
    let mut world = World::new(policy(Restart::Always), pace());
    world.start();
    let _ = world.on(Event::Suspended(SIGTTIN));
    assert_eq!(world.on(Event::PassOn(SIGHUP)), [Action::SignalProgram(SIGHUP), Action::SignalProgram(SIGCONT)]);
    assert_eq!(world.on(Event::PassOn(10)), [Action::SignalProgram(10)]);
    assert_eq!(without_news(&world.exit(Exit::Signal(SIGHUP))), [&Action::Exit(129)]);
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
        let mut world = World::new(Policy { foreground, ..policy(Restart::Always) }, pace());
        world.start();
        let actions = world.exit(Exit::Signal(signal));
        let ended = without_news(&actions) == [&Action::Exit(Exit::Signal(signal).code())];
        assert_eq!(ended, !again, "{foreground} {signal}: {actions:?}");
        assert!(again || !world.supervisor.has_failed(), "an orderly end");
    }
}

#[test]
fn that_nothing_is_watched_is_told_once() {
    let mut world = World::new(unwatched(Restart::Always), Pace { min_uptime: 1000 * SECOND, ..pace() });
    world.start();
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert_eq!(news(&actions), [&News::NotWatched { time }]);
    assert_eq!(world.tick().1, []);
    world.exit(Exit::Code(1));
    world.start();
    assert_eq!(world.tick().1, []);

    let mut world = World::new(unwatched(Restart::Never), Pace { min_uptime: 1000 * SECOND, ..pace() });
    world.start();
    world.supervisor.sign(Source::Heartbeat, world.clock.now());
    let (_, actions) = world.tick();
    assert!(matches!(news(&actions)[0], News::Froze { .. }), "{actions:?}");
}

// CL-3: a watchdog that fired before we looked for the first time has been silent from the start.
#[test]
fn a_program_that_says_it_is_frozen_is_frozen_from_the_first_look_on() {
    let mut world = World::new(unwatched(Restart::Never), Pace { min_uptime: 1000 * SECOND, ..pace() });
    world.start();
    world.clock.advance(30 * SECOND);
    world.supervisor.is_frozen(Source::Heartbeat, world.clock.now());
    let actions = world.on(Event::Tick);
    assert_eq!(news(&actions), [&News::Froze { source: Source::Heartbeat, inactive: 30 * SECOND }]);
}

// CL-3: the heartbeat file of the previous start stands until the program writes another.
#[test]
fn a_report_of_the_previous_start_is_no_freeze_of_this_one() {
    let mut world = World::new(unwatched(Restart::Always), Pace { min_uptime: 1000 * SECOND, ..pace() });
    world.start();
    let at = world.clock.now();
    world.exit(Exit::Code(1));
    world.start();
    world.clock.advance(30 * SECOND);
    world.supervisor.is_frozen(Source::Heartbeat, at);
    assert!(!news(&world.on(Event::Tick)).iter().any(|news| matches!(news, News::Froze { .. })));
}
