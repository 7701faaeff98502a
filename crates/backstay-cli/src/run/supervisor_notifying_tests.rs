//! A program that speaks the protocol of sd_notify(3).

use super::*;

// The protocol of sd_notify(3).
#[test]
fn notify_is_waited_for_where_it_is_required() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    assert_eq!(world.supervisor.standing(), Standing::Starting);
    let _ = world.on(Event::Extend(100 * SECOND));
    world.clock.advance(90 * SECOND);
    assert!(world.on(Event::Tick).is_empty());
    assert_eq!(world.on(Event::Ready), [Action::Tell(News::Ready)]);
    assert_eq!(world.supervisor.standing(), Standing::Running);
    let (time, actions) = world.tick();
    assert_eq!(time, 30 * SECOND);
    assert!(is_polite(&actions));
    // More time for the end, too.
    let _ = world.on(Event::Extend(40 * SECOND));
    assert_eq!(world.supervisor.deadline().since(world.clock.now()), 40 * SECOND);
}

// A long time to start must not make the first freeze late.
#[test]
fn a_first_sign_is_looked_for_as_often_as_the_others() {
    let mut world = notified(vec![Source::Heartbeat]);
    world.start();
    world.clock.advance(SECOND);
    let beat = world.clock.now();
    assert_eq!(world.supervisor.deadline().since(beat), 29 * SECOND);
    world.clock.advance(29 * SECOND);
    world.supervisor.sign(Source::Heartbeat, beat);
    assert!(world.on(Event::Tick).is_empty());
    assert!(is_polite(&world.tick().1));
    assert_eq!(world.clock.now().since(beat), 30 * SECOND);
}

#[test]
fn without_a_requirement_silence_counts_only_after_a_first_sign() {
    let mut world = notified(vec![]);
    world.start();
    let _ = world.on(Event::Ready);
    for _ in 0..10 {
        assert!(without_news(&world.tick().1).is_empty());
    }
    world.supervisor.sign(Source::Notify, world.clock.now());
    world.clock.advance(30 * SECOND);
    assert!(is_polite(&world.on(Event::Tick)));
}

#[test]
fn a_program_can_say_that_it_froze_or_stops() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    assert!(is_polite(&world.on(Event::Trigger)));

    let mut world = notified(vec![Source::Notify]);
    world.start();
    let _ = world.on(Event::Ready);
    assert_eq!(world.on(Event::Stopping), [Action::Tell(News::Stopping)]);
    world.clock.advance(SECOND);
    assert!(world.on(Event::Stopping).is_empty(), "said again, it is no news and gives no more time");
    world.supervisor.sign(Source::Notify, world.clock.now());
    let _ = (world.on(Event::Ready), world.on(Event::WatchdogTime(3600 * SECOND)));
    let (time, actions) = world.tick();
    assert_eq!(time + SECOND, 30 * SECOND, "the timeout, which is longer than the grace");
    assert!(is_polite(&actions));
}

#[test]
fn the_program_may_choose_its_own_watchdog_time() {
    let mut world = notified(vec![Source::Notify]);
    world.start();
    let _ = world.on(Event::Ready);
    let _ = world.on(Event::WatchdogTime(3 * SECOND));
    assert_eq!(world.tick().0, 3 * SECOND);

    // Before it is ready it has its time to start all the same.
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
    assert!(is_polite(&actions));
}
