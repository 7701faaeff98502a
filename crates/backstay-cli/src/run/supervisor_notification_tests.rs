//! Tests with a program that uses the protocol of sd_notify(3).

use super::*;

#[test]
fn a_required_notify_check_must_pass() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    assert_eq!(world.supervisor.state(), SupervisorState::Starting);
    let _ = world.on(Event::Extend(100 * SECOND));
    world.clock.advance(90 * SECOND);
    assert!(world.on(Event::Tick).is_empty());
    assert_eq!(world.on(Event::Ready), [Action::Log(LogEvent::Ready)]);
    assert_eq!(world.supervisor.state(), SupervisorState::Running);
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert!(is_stop(&actions));
    // More time for the stop, too.
    let _ = world.on(Event::Extend(40 * SECOND));
    assert_eq!(world.supervisor.deadline().since(world.clock.now()), 40 * SECOND);
}

// A long start timeout must not delay the detection of the first freeze.
#[test]
fn the_first_heartbeat_is_polled_as_often_as_later_ones() {
    let mut world = notified(vec![Source::Heartbeat]);
    world.start();
    world.clock.advance(SECOND);
    let beat = world.clock.now();
    assert_eq!(world.supervisor.deadline().since(beat), 29 * SECOND);
    world.clock.advance(29 * SECOND);
    world.supervisor.check_passed(Source::Heartbeat, beat);
    assert!(world.on(Event::Tick).is_empty());
    assert!(is_stop(&world.tick().1));
    assert_eq!(world.clock.now().since(beat), 30 * SECOND);
}

#[test]
fn an_optional_check_counts_only_after_it_has_passed_once() {
    let mut world = notified(vec![]);
    world.start();
    let _ = world.on(Event::Ready);
    for _ in 0..10 {
        assert!(without_log(&world.tick().1).is_empty());
    }
    world.supervisor.check_passed(Source::Notify, world.clock.now());
    world.clock.advance(30 * SECOND);
    assert!(is_stop(&world.on(Event::Tick)));
}

#[test]
fn a_program_can_report_a_freeze_or_a_stop() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    assert!(is_stop(&world.on(Event::Trigger)));

    let mut world = notified(vec![Source::Notify]);
    world.start();
    let _ = world.on(Event::Ready);
    assert_eq!(world.on(Event::Stopping), [Action::Log(LogEvent::Stopping)]);
    world.clock.advance(SECOND);
    assert!(world.on(Event::Stopping).is_empty(), "a second STOPPING=1 is not logged and grants no more time");
    world.supervisor.check_passed(Source::Notify, world.clock.now());
    let _ = (world.on(Event::Ready), world.on(Event::WatchdogTime(3600 * SECOND)));
    let (time, actions) = world.tick();
    assert_eq!(time + SECOND, 30 * SECOND, "the timeout, which is longer than the grace");
    assert!(is_stop(&actions));
}

#[test]
fn the_program_can_set_its_own_watchdog_timeout() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    let _ = world.on(Event::Ready);
    let _ = world.on(Event::WatchdogTime(3 * SECOND));
    assert_eq!(world.tick().0, 3 * SECOND);

    // Before it is ready, the start timeout still applies.
    let mut world = notified(vec![Source::Notify]);
    world.start();
    let _ = world.on(Event::WatchdogTime(3 * SECOND));
    for _ in 0..19 {
        let (time, actions) = world.tick();
        assert_eq!((time, actions), (3 * SECOND, vec![]));
    }
    let _ = world.on(Event::Ready);
    let (time, actions) = world.tick();
    assert_eq!(time, 3 * SECOND);
    assert!(is_stop(&actions));
}
