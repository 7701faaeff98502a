//! The table of keys in the section `resilience`: spellings, kinds, bounds, defaults.

mod run;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use backstay_core::{circuit_breaker, heartbeat, rate_limiter, shutdown, watchdog};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) component: &'static str,
    /// The spellings in the component's section. The first is the key's name, and that of the kstlib.resilience
    /// documentation. Empty if only instances have the key.
    pub(super) section: &'static [&'static str],
    /// The spelling in a named instance, if instances have the key.
    pub(super) instance: Option<&'static str>,
    pub(super) kind: Kind,
    /// The default; `None` if it depends on other values.
    pub(super) default: Option<Value>,
}

impl Key {
    pub(super) fn name(&self) -> &'static str {
        self.section.first().copied().or(self.instance).unwrap_or_default()
    }
}

/// The kind of value that a key holds.
#[derive(Debug)]
pub(super) enum Kind {
    Count(RangeInclusive<u32>),
    Seconds(RangeInclusive<Duration>),
    /// Seconds above zero. There is no lower bound to clamp to: an invalid value is not close to a very small one.
    SecondsUpTo(Duration),
    /// A number that is not below this one.
    AtLeast(f64),
    /// A number above this one.
    Above(f64),
    /// A number above 0 and up to 1.
    Share,
    Flag,
    Word(&'static [&'static str]),
}

/// A configured value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A whole number.
    Count(u32),
    /// A duration, shown in seconds.
    Seconds(Duration),
    /// A number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// One of a few words.
    Word(&'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Seconds(duration) => write!(f, "{}", duration.as_secs_f64()),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

/// A value as it is written, before its key is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    Nothing,
    Flag(bool),
    Number(f64),
    Text(String),
    List,
    Mapping,
}

impl Written {
    /// Parses the value of an environment variable.
    pub(super) fn in_environment(text: &str) -> Self {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "" => Self::Nothing,
            "true" | "yes" | "on" => Self::Flag(true),
            "false" | "no" | "off" => Self::Flag(false),
            _ => text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Number),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("empty"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "the text {:?}", shortened(text)),
            Self::List => f.write_str("a list"),
            Self::Mapping => f.write_str("a mapping"),
        }
    }
}

/// Shortens a text of any length to at most 60 characters.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().nth(60).is_none() { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// The result of converting a written value.
pub(super) enum Conversion {
    Valid(Value),
    /// The value was out of range, and is clamped.
    Clamped(Value),
    Invalid,
}

impl Kind {
    /// Converts a written value. A text means the same in a file and in a variable: `timeout: "7"` is 7 seconds.
    pub(super) fn convert(&self, written: &Written) -> Conversion {
        match (self, written) {
            (Self::Word(_), _) => self.convert_plain(written),
            (_, Written::Text(text)) => self.convert_plain(&Written::in_environment(text)),
            _ => self.convert_plain(written),
        }
    }

    fn convert_plain(&self, written: &Written) -> Conversion {
        use Conversion::{Invalid, Valid};
        match (self, written) {
            (Self::Flag, Written::Flag(flag)) => Valid(Value::Flag(*flag)),
            (Self::Flag, Written::Number(number)) if *number == 0.0 || *number == 1.0 => {
                Valid(Value::Flag(*number == 1.0))
            }
            (Self::Count(bounds), Written::Number(number)) if *number >= 0.0 && number.fract() == 0.0 => {
                clamped(whole(*number), bounds, Value::Count)
            }
            (Self::Seconds(bounds), written) => match duration(written) {
                Some(duration) => clamped(duration, bounds, Value::Seconds),
                None => Invalid,
            },
            (Self::SecondsUpTo(longest), written) => match duration(written) {
                Some(duration) if !duration.is_zero() => {
                    clamped(duration, &(Duration::ZERO..=*longest), Value::Seconds)
                }
                _ => Invalid,
            },
            (Self::AtLeast(least), Written::Number(number)) if number >= least && number.is_finite() => {
                Valid(Value::Number(*number))
            }
            (Self::Above(bound), Written::Number(number)) if number > bound && number.is_finite() => {
                Valid(Value::Number(*number))
            }
            (Self::Share, Written::Number(share)) if *share > 0.0 => clamped_share(*share),
            (Self::Word(words), Written::Text(text)) => {
                words.iter().find(|word| *word == text).map_or(Invalid, |word| Valid(Value::Word(word)))
            }
            _ => Invalid,
        }
    }

    /// Returns the allowed values, as text after "must be".
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Count(_) => format!("a whole number from {}", self.bounds()),
            Self::Seconds(_) => format!("seconds from {}, or a text such as \"1m 30s\"", self.bounds()),
            Self::SecondsUpTo(longest) => {
                format!("seconds above 0 and up to {}, or a text such as \"1m 30s\"", longest.as_secs_f64())
            }
            Self::AtLeast(least) => format!("a number, at least {least}"),
            Self::Above(bound) => format!("a number above {bound}"),
            Self::Share => "a number above 0 and up to 1".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// Returns the bounds to which values are clamped, such as "1 to 100".
    pub(super) fn bounds(&self) -> String {
        match self {
            Self::Count(bounds) => format!("{} to {}", bounds.start(), bounds.end()),
            Self::Seconds(bounds) => format!("{} to {}", bounds.start().as_secs_f64(), bounds.end().as_secs_f64()),
            Self::SecondsUpTo(longest) => format!("0 to {}", longest.as_secs_f64()),
            Self::Share => "0 to 1".to_owned(),
            _ => String::new(),
        }
    }
}

fn duration(written: &Written) -> Option<Duration> {
    match written {
        Written::Number(number) if *number >= 0.0 && number.is_finite() => {
            Some(Duration::try_from_secs_f64(*number).unwrap_or(Duration::MAX))
        }
        Written::Text(text) => friendly(text),
        _ => None,
    }
}

fn clamped<T: Ord + Copy>(given: T, bounds: &RangeInclusive<T>, value: fn(T) -> Value) -> Conversion {
    let clamped = given.clamp(*bounds.start(), *bounds.end());
    if clamped == given { Conversion::Valid(value(given)) } else { Conversion::Clamped(value(clamped)) }
}

fn clamped_share(share: f64) -> Conversion {
    if share <= 1.0 { Conversion::Valid(Value::Number(share)) } else { Conversion::Clamped(Value::Number(1.0)) }
}

/// Converts a whole number that is not negative; one above `u32::MAX` becomes `u32::MAX`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// Parses a duration such as "30s", "1h 30m", "500ms" or "PT1M".
fn friendly(text: &str) -> Option<Duration> {
    Duration::try_from(text.trim().parse::<jiff::SignedDuration>().ok()?).ok()
}

/// Returns the word in `known` that is nearest to `word`, if few characters differ.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = beginning(word);
    let slips = |known: &str| slips(&word, &known.to_lowercase());
    known.filter_map(|known| Some((slips(known)?, known))).min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// Returns the distance of two words, or of the two parts of a variable's name (`SECTION__KEY`). `None` if more than a
/// third of the characters differ: that is another word.
fn slips(word: &str, known: &str) -> Option<usize> {
    if let (Some((section, key)), Some((known_section, known_key))) = (word.split_once("__"), known.split_once("__")) {
        return Some(slips(section, known_section)? + slips(key, known_key)?);
    }
    let slips = distance(word, known);
    (3 * slips <= word.len().max(known.len())).then_some(slips)
}

/// Returns whether `word` is probably a misspelt `known`.
pub(super) fn is_near(word: &str, known: &str) -> bool {
    let word = beginning(word);
    2 * word.len() >= known.len() && distance(&word, known) <= known.len() / 4
}

/// Returns the part of a word that is compared, in lower case: at most 64 characters.
fn beginning(word: &str) -> String {
    word.chars().take(64).flat_map(char::to_lowercase).collect()
}

/// Returns the number of characters to insert, remove, replace or swap. If one word is part of the other, at most 2, so
/// that `rate` is near to `default_rate`, but a word with one typing error is nearer.
fn distance(word: &str, known: &str) -> usize {
    let slips = strsim::osa_distance(word, known);
    let is_part = !word.is_empty() && (known.contains(word) || word.contains(known));
    if is_part { slips.min(2) } else { slips }
}

pub(super) const CIRCUIT_BREAKER: &str = "circuit_breaker";
pub(super) const RATE_LIMITER: &str = "rate_limiter";
pub(super) const SHUTDOWN: &str = "shutdown";
pub(super) const HEARTBEAT: &str = "heartbeat";
pub(super) const WATCHDOG: &str = "watchdog";
pub(super) const RUN: &str = "run";

pub(super) static MAX_FAILURES: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["max_failures"],
    instance: Some("max_failures"),
    kind: Kind::Count(circuit_breaker::MAX_FAILURES_BOUNDS),
    default: Some(Value::Count(circuit_breaker::DEFAULT_MAX_FAILURES)),
};
pub(super) static RESET_TIMEOUT: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["reset_timeout"],
    instance: Some("reset_timeout"),
    kind: Kind::Seconds(circuit_breaker::RESET_TIMEOUT_BOUNDS),
    default: Some(Value::Seconds(circuit_breaker::DEFAULT_RESET_TIMEOUT)),
};
pub(super) static HALF_OPEN_MAX_CALLS: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["half_open_max_calls"],
    instance: Some("half_open_max_calls"),
    kind: Kind::Count(circuit_breaker::HALF_OPEN_MAX_CALLS_BOUNDS),
    default: Some(Value::Count(circuit_breaker::DEFAULT_HALF_OPEN_MAX_CALLS)),
};
pub(super) static HALF_OPEN_TIMEOUT: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["half_open_timeout"],
    instance: Some("half_open_timeout"),
    kind: Kind::Seconds(circuit_breaker::RESET_TIMEOUT_BOUNDS),
    default: None,
};
pub(super) static CANCELLATION_IS_FAILURE: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["cancellation_is_failure"],
    instance: Some("cancellation_is_failure"),
    kind: Kind::Flag,
    default: Some(Value::Flag(false)),
};
pub(super) static FAILURE_RATE: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["failure_rate"],
    instance: Some("failure_rate"),
    kind: Kind::Share,
    default: None,
};
pub(super) static WINDOW: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["window"],
    instance: Some("window"),
    kind: Kind::Seconds(circuit_breaker::WINDOW_BOUNDS),
    default: Some(Value::Seconds(circuit_breaker::DEFAULT_WINDOW)),
};
pub(super) static WINDOW_CALLS: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["window_calls"],
    instance: Some("window_calls"),
    kind: Kind::Count(circuit_breaker::WINDOW_CALLS_BOUNDS),
    default: None,
};
pub(super) static MINIMUM_CALLS: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["minimum_calls"],
    instance: Some("minimum_calls"),
    kind: Kind::Count(circuit_breaker::MINIMUM_CALLS_BOUNDS),
    default: Some(Value::Count(circuit_breaker::DEFAULT_MINIMUM_CALLS)),
};
pub(super) static SLOW_CALL: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["slow_call"],
    instance: Some("slow_call"),
    kind: Kind::Seconds(circuit_breaker::SLOW_CALL_BOUNDS),
    default: None,
};
pub(super) static SLOW_CALL_RATE: Key = Key {
    component: CIRCUIT_BREAKER,
    section: &["slow_call_rate"],
    instance: Some("slow_call_rate"),
    kind: Kind::Share,
    default: Some(Value::Number(circuit_breaker::DEFAULT_SLOW_CALL_RATE)),
};
pub(super) static RATE: Key = Key {
    component: RATE_LIMITER,
    section: &["default_rate"],
    instance: Some("rate"),
    kind: Kind::Above(0.0),
    default: Some(Value::Number(rate_limiter::DEFAULT_RATE)),
};
pub(super) static PER: Key = Key {
    component: RATE_LIMITER,
    section: &["default_per"],
    instance: Some("per"),
    kind: Kind::SecondsUpTo(rate_limiter::PER_MAX),
    default: Some(Value::Seconds(rate_limiter::DEFAULT_PER)),
};
pub(super) static BURST: Key =
    Key { component: RATE_LIMITER, section: &[], instance: Some("burst"), kind: Kind::AtLeast(0.0), default: None };
pub(super) static SHUTDOWN_TIMEOUT: Key = Key {
    component: SHUTDOWN,
    section: &["default_timeout", "timeout"],
    instance: None,
    kind: Kind::Seconds(shutdown::TIMEOUT_BOUNDS),
    default: Some(Value::Seconds(shutdown::DEFAULT_TIMEOUT)),
};
pub(super) static DRAIN_DELAY: Key = Key {
    component: SHUTDOWN,
    section: &["drain_delay"],
    instance: None,
    kind: Kind::Seconds(Duration::ZERO..=shutdown::DRAIN_DELAY_MAX),
    default: Some(Value::Seconds(shutdown::DEFAULT_DRAIN_DELAY)),
};
pub(super) static FORCE_EXIT_CODE: Key = Key {
    component: SHUTDOWN,
    section: &["force_exit_code"],
    instance: None,
    kind: Kind::Count(
        shutdown::FORCE_EXIT_CODE_BOUNDS.start().unsigned_abs()..=shutdown::FORCE_EXIT_CODE_BOUNDS.end().unsigned_abs(),
    ),
    default: Some(Value::Count(shutdown::DEFAULT_FORCE_EXIT_CODE.unsigned_abs())),
};
pub(super) static INTERVAL: Key = Key {
    component: HEARTBEAT,
    section: &["interval"],
    instance: None,
    kind: Kind::Seconds(heartbeat::INTERVAL_BOUNDS),
    default: Some(Value::Seconds(heartbeat::DEFAULT_INTERVAL)),
};
pub(super) static WATCHDOG_TIMEOUT: Key = Key {
    component: WATCHDOG,
    section: &["timeout"],
    instance: Some("timeout"),
    kind: Kind::Seconds(watchdog::TIMEOUT_BOUNDS),
    default: Some(Value::Seconds(watchdog::DEFAULT_TIMEOUT)),
};

/// The keys of the five components, in display order.
static OF_COMPONENTS: &[&Key] = &[
    &MAX_FAILURES,
    &RESET_TIMEOUT,
    &HALF_OPEN_MAX_CALLS,
    &HALF_OPEN_TIMEOUT,
    &CANCELLATION_IS_FAILURE,
    &FAILURE_RATE,
    &WINDOW,
    &WINDOW_CALLS,
    &MINIMUM_CALLS,
    &SLOW_CALL,
    &SLOW_CALL_RATE,
    &RATE,
    &PER,
    &BURST,
    &SHUTDOWN_TIMEOUT,
    &DRAIN_DELAY,
    &FORCE_EXIT_CODE,
    &INTERVAL,
    &WATCHDOG_TIMEOUT,
];

/// Returns whether two keys of one component set the same value: one key, or the two keys of the window.
pub(super) fn are_one_setting(one: &'static Key, other: &'static Key) -> bool {
    let is_window = |key: &'static Key| std::ptr::eq(key, &WINDOW) || std::ptr::eq(key, &WINDOW_CALLS);
    std::ptr::eq(one, other) || (is_window(one) && is_window(other))
}

pub(super) static COMPONENTS: [&str; 6] = [CIRCUIT_BREAKER, RATE_LIMITER, SHUTDOWN, HEARTBEAT, WATCHDOG, RUN];

/// Returns all keys in display order.
pub(super) fn all() -> impl Iterator<Item = &'static Key> + Clone {
    OF_COMPONENTS.iter().copied().chain(&run::KEYS)
}

/// Returns the keys of one component.
pub(super) fn of(component: &str) -> impl Iterator<Item = &'static Key> + Clone + use<'_> {
    all().filter(move |key| key.component == component)
}
