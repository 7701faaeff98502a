//! The messages of sd_notify(3), apart from how they come. Needs nothing of the rest: the fuzzer reads it alone.

use std::mem::discriminant;
use std::time::Duration;

/// What a program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
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

/// Everything that a message says and that is understood, each kind once.
pub(crate) fn parse(message: &[u8]) -> Vec<Said> {
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let lines = message.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let say = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("WATCHDOG", "1") => Some(Said::Alive),
        ("WATCHDOG", "trigger") => Some(Said::Trigger),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("STATUS", text) => Some(Said::Status(text.chars().take(STATUS_LENGTH).collect())),
        ("EXTEND_TIMEOUT_USEC", time) => micros(time).map(Said::Extend),
        // Zero would fire at once.
        ("WATCHDOG_USEC", time) => micros(time).filter(|time| !time.is_zero()).map(Said::WatchdogTime),
        _ => None,
    };
    // The last of each kind: a message full of them makes no more work than any other.
    let mut heard: Vec<Said> = Vec::new();
    for said in lines.filter_map(|line| say(&line)) {
        heard.retain(|earlier| discriminant(earlier) != discriminant(&said));
        heard.push(said);
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nonsense_is_not() {
        let said =
            parse(b"READY=1\nSTATUS=all is well\nWATCHDOG=1\nMAINPID=7\nEXTEND_TIMEOUT_USEC=1500000\nX\n\xff=\n=1\n");
        let time = Duration::from_millis(1500);
        assert_eq!(said, [Said::Ready, Said::Status("all is well".to_owned()), Said::Alive, Said::Extend(time)]);
        assert_eq!(parse(b"WATCHDOG=trigger\nSTOPPING=1\nWATCHDOG_USEC=0"), [Said::Trigger, Said::Stopping]);
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=99999999999999999999\nREADY=0"), []);
    }

    #[test]
    fn a_message_says_each_thing_once() {
        let flood = [&b"WATCHDOG_USEC=1\nSTATUS=old\nREADY=1\n".repeat(200)[..], b"STATUS=new\n"].concat();
        let times = Said::WatchdogTime(Duration::from_micros(1));
        assert_eq!(parse(&flood), [times, Said::Ready, Said::Status("new".to_owned())]);
    }
}
