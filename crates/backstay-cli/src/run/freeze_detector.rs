//! Decides when the program counts as frozen: the deadline of each health check. Pure, with time as an argument.

use std::fmt;
use std::time::Duration;

use backstay::clock::Moment;

/// A kind of health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The heartbeat file.
    Heartbeat,
    /// Anything written to standard output or standard error.
    Output,
    /// `WATCHDOG=1` on the notification socket.
    Notify,
    /// An answer of the health URL with status 2xx or 3xx.
    Http,
}

impl Source {
    pub(crate) const ALL: [Self; 4] = [Self::Heartbeat, Self::Output, Self::Notify, Self::Http];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Output => "output",
            Self::Notify => "notify",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Heartbeat => "no heartbeat",
            Self::Output => "no output",
            Self::Notify => "no WATCHDOG=1",
            Self::Http => "no successful answer of the health URL",
        })
    }
}

/// The health checks, and their timeouts.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) timeout: Duration,
    /// The timeout until a required check passes for the first time.
    pub(crate) start_timeout: Duration,
    /// The checks that must pass. If there are none, the heartbeat file and `WATCHDOG=1` count from their first use.
    pub(crate) required: Vec<Source>,
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.required.is_empty() {
            return f.write_str("heartbeat or sd_notify, none seen yet");
        }
        let checks: Vec<&str> =
            Source::ALL.into_iter().filter(|source| self.is_required(*source)).map(Source::as_str).collect();
        write!(f, "{}, timeout {} s", checks.join(" and "), self.timeout.as_secs_f64())?;
        if self.start_timeout != self.timeout {
            write!(f, ", start timeout {} s", self.start_timeout.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Watch {
    pub(crate) fn is_required(&self, source: Source) -> bool {
        self.required.contains(&source)
    }

    /// Whether a check is used at all.
    pub(crate) fn uses(&self, source: Source) -> bool {
        self.is_required(source) || self.required.is_empty() && matches!(source, Source::Heartbeat | Source::Notify)
    }
}

/// The health checks of one start of the program.
#[derive(Debug)]
pub(crate) struct FreezeDetector {
    started: Moment,
    checks: Vec<Check>,
    /// The program has announced its stop: a passed check does not extend its time.
    stops: bool,
}

#[derive(Debug)]
struct Check {
    source: Source,
    /// When the check last passed, or the start.
    last: Moment,
    /// The timeout from `last` on: the start timeout, or `timeout`.
    allowed: Duration,
    timeout: Duration,
    /// The program requested time until then (`EXTEND_TIMEOUT_USEC`).
    extended: Moment,
    /// The last poll. A check that has not passed yet is polled once in each `timeout`, also if `allowed` is longer.
    polled: Moment,
    /// The check has passed once, or the program is ready.
    begun: bool,
    /// A missed deadline is a freeze: the check is required, or has passed once.
    counts: bool,
    /// One late poll was ignored, because the supervisor itself may not have run. A second in a row is not ignored.
    late_ignored: bool,
}

impl Check {
    fn deadline(&self) -> Moment {
        (self.last + self.allowed).max(self.extended)
    }

    fn next_poll(&self) -> Moment {
        if self.begun { self.deadline() } else { self.deadline().min(self.polled + self.timeout) }
    }
}

impl FreezeDetector {
    pub(crate) fn new(watch: Watch, started: Moment) -> Self {
        let check = |source| {
            let counts = watch.is_required(source);
            let allowed = if counts { watch.start_timeout } else { watch.timeout };
            Check {
                source,
                last: started,
                allowed,
                timeout: watch.timeout,
                extended: started,
                polled: started,
                begun: false,
                counts,
                late_ignored: false,
            }
        };
        let checks = Source::ALL.into_iter().filter(|source| watch.uses(*source)).map(check).collect();
        Self { started, checks, stops: false }
    }

    /// When the next poll is due.
    pub(crate) fn deadline(&self) -> Moment {
        self.checks.iter().map(Check::next_poll).min().unwrap_or(Moment::NEVER)
    }

    /// Notes that a check passed at `at`.
    pub(crate) fn check_passed(&mut self, source: Source, at: Moment) {
        if self.stops {
            return;
        }
        for check in self.checks.iter_mut().filter(|check| check.source == source && at >= check.last) {
            (check.last, check.allowed) = (at, check.timeout);
            check.counts = true;
            check.begun = true;
            check.late_ignored = false;
        }
    }

    /// Notes that the program reported a freeze at `at`: the timeout then runs from the last passed check. A report from
    /// before this start is about the previous start, and is ignored.
    pub(crate) fn freeze_reported(&mut self, source: Source, at: Moment) {
        let counts = !self.stops && at >= self.started;
        for check in self.checks.iter_mut().filter(|check| counts && check.source == source) {
            check.counts = true;
            check.begun = true;
        }
    }

    /// Whether any check counts.
    pub(crate) fn is_watched(&self) -> bool {
        self.checks.iter().any(|check| check.counts)
    }

    /// Notes that the program is ready: from now on `timeout` applies instead of the start timeout.
    pub(crate) fn ready(&mut self, now: Moment) {
        if self.stops {
            return;
        }
        for check in self.checks.iter_mut().filter(|check| check.source == Source::Notify) {
            (check.last, check.allowed) = (check.last.max(now), check.timeout);
            check.begun = true;
        }
    }

    /// Sets the timeout of a check. Before the check has passed once, the start timeout still applies.
    pub(crate) fn set_timeout(&mut self, source: Source, timeout: Duration) {
        if self.stops {
            return;
        }
        for check in self.checks.iter_mut().filter(|check| check.source == source) {
            check.timeout = timeout;
            if check.begun || !check.counts {
                check.allowed = timeout;
            }
        }
    }

    /// Grants more time from now on to all checks.
    pub(crate) fn extend(&mut self, now: Moment, time: Duration) {
        for check in &mut self.checks {
            check.extended = check.extended.max(now + time);
        }
    }

    /// Adds a pause to all deadlines.
    pub(crate) fn skip(&mut self, time: Duration) {
        for check in &mut self.checks {
            for moment in [&mut check.last, &mut check.extended, &mut check.polled] {
                *moment = *moment + time;
            }
        }
    }

    /// Replaces all checks by a deadline for the stop that the program has announced.
    pub(crate) fn begin_stop(&mut self, now: Moment, time: Duration) {
        let check = Check {
            source: Source::Notify,
            last: now,
            allowed: time,
            timeout: time,
            extended: now,
            polled: now,
            begun: true,
            counts: true,
            late_ignored: true,
        };
        (self.checks, self.stops) = (vec![check], true);
    }

    /// Returns the check that missed its deadline, and the time since it last passed.
    ///
    /// Time in which the supervisor itself did not run is no freeze: a poll that is late by a quarter of the timeout
    /// restarts the timeout, once.
    pub(crate) fn overdue(&mut self, now: Moment) -> Option<(Source, Duration)> {
        for check in &mut self.checks {
            let at = check.deadline();
            check.polled = now;
            if now < at {
                continue;
            }
            if check.counts && (check.late_ignored || now.since(at) < check.timeout / 4) {
                return Some((check.source, now.since(check.last)));
            }
            check.late_ignored = check.counts;
            (check.last, check.allowed) = (now, check.timeout);
        }
        None
    }
}
