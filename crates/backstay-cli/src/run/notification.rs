//! Parses the messages of sd_notify(3). This file uses no other module, because the fuzzer includes it alone.

use std::mem::discriminant;
use std::time::Duration;

/// One assignment of a message that Backstay understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    Ready,
    Alive,
    Trigger,
    Stopping,
    Status(String),
    Extend(Duration),
    WatchdogTime(Duration),
}

/// Maximum length of a status text, in characters.
const STATUS_LENGTH: usize = 200;

/// Returns the notifications in a message: of each kind, the last one.
pub(crate) fn parse(message: &[u8]) -> Vec<Notification> {
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let lines = message.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let parse = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Notification::Ready),
        ("WATCHDOG", "1") => Some(Notification::Alive),
        ("WATCHDOG", "trigger") => Some(Notification::Trigger),
        ("STOPPING", "1") => Some(Notification::Stopping),
        ("STATUS", text) => Some(Notification::Status(text.chars().take(STATUS_LENGTH).collect())),
        ("EXTEND_TIMEOUT_USEC", time) => micros(time).map(Notification::Extend),
        // A timeout of zero would expire at once.
        ("WATCHDOG_USEC", time) => micros(time).filter(|time| !time.is_zero()).map(Notification::WatchdogTime),
        _ => None,
    };
    // Only the last of each kind, so that a message full of notifications causes no extra work.
    let mut notifications: Vec<Notification> = Vec::new();
    for notification in lines.filter_map(|line| parse(&line)) {
        notifications.retain(|earlier| discriminant(earlier) != discriminant(&notification));
        notifications.push(notification);
    }
    notifications
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_invalid_lines_are_ignored() {
        let notification =
            parse(b"READY=1\nSTATUS=40 orders\nWATCHDOG=1\nMAINPID=7\nEXTEND_TIMEOUT_USEC=1500000\nX\n\xff=\n=1\n");
        let time = Duration::from_millis(1500);
        assert_eq!(
            notification,
            [
                Notification::Ready,
                Notification::Status("40 orders".to_owned()),
                Notification::Alive,
                Notification::Extend(time)
            ]
        );
        assert_eq!(
            parse(b"WATCHDOG=trigger\nSTOPPING=1\nWATCHDOG_USEC=0"),
            [Notification::Trigger, Notification::Stopping]
        );
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=99999999999999999999\nREADY=0"), []);
    }

    #[test]
    fn the_last_notification_of_each_kind_counts() {
        let flood = [&b"WATCHDOG_USEC=1\nSTATUS=old\nREADY=1\n".repeat(200)[..], b"STATUS=new\n"].concat();
        let times = Notification::WatchdogTime(Duration::from_micros(1));
        assert_eq!(parse(&flood), [times, Notification::Ready, Notification::Status("new".to_owned())]);
    }
}
