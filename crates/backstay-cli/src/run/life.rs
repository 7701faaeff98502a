//! When the next sign of life is due, for each way in which a program gives one.

use std::fmt;
use std::time::Duration;

use backstay::clock::Moment;

/// A way to give signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The heartbeat file.
    Heartbeat,
    /// Anything written to standard output or standard error.
    Output,
    /// `WATCHDOG=1` on the notification socket.
    Notify,
    /// A good answer of the health URL.
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
            Self::Http => "no good answer of the health URL",
        })
    }
}

/// What is watched, and how long it may stay silent.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) timeout: Duration,
    /// Until the first sign of those that are required.
    pub(crate) start_timeout: Duration,
    /// Those that must come. None: a heartbeat file and `WATCHDOG=1` count from when the program first gives them.
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

    /// Whether it counts at all.
    pub(crate) fn looks_at(&self, source: Source) -> bool {
        self.is_required(source) || self.required.is_empty() && matches!(source, Source::Heartbeat | Source::Notify)
    }
}

/// The signs of life of one start of the program.
#[derive(Debug)]
pub(crate) struct Life {
    started: Moment,
    dues: Vec<Due>,
    /// The program has announced its stop: no sign of life extends its time.
    stops: bool,
}

#[derive(Debug)]
struct Due {
    source: Source,
    last: Moment,
    allowed: Duration,
    timeout: Duration,
    /// The program asked for time until then.
    extended: Moment,
    /// Last look for a first sign, which is looked for as often as for later ones.
    looked: Moment,
    begun: bool,
    /// Its silence means something: it was required, or has begun.
    counts: bool,
    /// One late look is forgiven, because the supervisor itself may not have run; a second in a row is not.
    forgiven: bool,
}

impl Due {
    fn at(&self) -> Moment {
        (self.last + self.allowed).max(self.extended)
    }

    fn next_look(&self) -> Moment {
        if self.begun { self.at() } else { self.at().min(self.looked + self.timeout) }
    }
}

impl Life {
    pub(crate) fn new(watch: Watch, started: Moment) -> Self {
        let due = |source| {
            let counts = watch.is_required(source);
            let allowed = if counts { watch.start_timeout } else { watch.timeout };
            Due {
                source,
                last: started,
                allowed,
                timeout: watch.timeout,
                extended: started,
                looked: started,
                begun: false,
                counts,
                forgiven: false,
            }
        };
        let dues = Source::ALL.into_iter().filter(|source| watch.looks_at(*source)).map(due).collect();
        Self { started, dues, stops: false }
    }

    /// When the next look is due.
    pub(crate) fn deadline(&self) -> Moment {
        self.dues.iter().map(Due::next_look).min().unwrap_or(Moment::NEVER)
    }

    pub(crate) fn sign(&mut self, source: Source, at: Moment) {
        if self.stops {
            return;
        }
        for due in self.dues.iter_mut().filter(|due| due.source == source && at >= due.last) {
            (due.last, due.allowed) = (at, due.timeout);
            due.counts = true;
            due.begun = true;
            due.forgiven = false;
        }
    }

    /// The program reported at `at` that it is frozen: silence counts from its last sign of life. A report from before this
    /// start is about the previous one.
    pub(crate) fn is_frozen(&mut self, source: Source, at: Moment) {
        let counts = !self.stops && at >= self.started;
        for due in self.dues.iter_mut().filter(|due| counts && due.source == source) {
            due.counts = true;
            due.begun = true;
        }
    }

    /// Whether any silence counts.
    pub(crate) fn is_watched(&self) -> bool {
        self.dues.iter().any(|due| due.counts)
    }

    /// The program serves: from here on the usual time holds for it.
    pub(crate) fn ready(&mut self, now: Moment) {
        if self.stops {
            return;
        }
        for due in self.dues.iter_mut().filter(|due| due.source == Source::Notify) {
            (due.last, due.allowed) = (due.last.max(now), due.timeout);
            due.begun = true;
        }
    }

    /// How long it may be silent, once it has begun.
    pub(crate) fn set_timeout(&mut self, source: Source, timeout: Duration) {
        if self.stops {
            return;
        }
        for due in self.dues.iter_mut().filter(|due| due.source == source) {
            due.timeout = timeout;
            if due.begun || !due.counts {
                due.allowed = timeout;
            }
        }
    }

    pub(crate) fn extend(&mut self, now: Moment, time: Duration) {
        for due in &mut self.dues {
            due.extended = due.extended.max(now + time);
        }
    }

    /// So much time does not count.
    pub(crate) fn skip(&mut self, time: Duration) {
        for due in &mut self.dues {
            for moment in [&mut due.last, &mut due.extended, &mut due.looked] {
                *moment = *moment + time;
            }
        }
    }

    /// It said that it stops: it has this long, whatever signs it gives or not.
    pub(crate) fn last_chance(&mut self, now: Moment, time: Duration) {
        let due = Due {
            source: Source::Notify,
            last: now,
            allowed: time,
            timeout: time,
            extended: now,
            looked: now,
            begun: true,
            counts: true,
            forgiven: true,
        };
        (self.dues, self.stops) = (vec![due], true);
    }

    /// The health check that has been silent for too long, and for how long.
    ///
    /// Time in which the supervisor itself did not run is no freeze: a look that is late by a quarter of the timeout
    /// restarts the timeout, once.
    pub(crate) fn overdue(&mut self, now: Moment) -> Option<(Source, Duration)> {
        for due in &mut self.dues {
            let at = due.at();
            due.looked = now;
            if now < at {
                continue;
            }
            if due.counts && (due.forgiven || now.since(at) < due.timeout / 4) {
                return Some((due.source, now.since(due.last)));
            }
            due.forgiven = due.counts;
            (due.last, due.allowed) = (now, due.timeout);
        }
        None
    }
}
