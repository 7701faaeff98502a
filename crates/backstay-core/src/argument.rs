//! The one error for an argument that cannot be meant.

use alloc::string::{String, ToString};
use core::fmt;

/// An argument outside what is allowed: which one, what was given, what would have been right.
///
/// ```
/// use backstay_core::InvalidArgument;
///
/// let error = InvalidArgument::new("rate", f64::NAN, "a number above 0");
/// assert_eq!(error.to_string(), "`rate` is NaN, but must be a number above 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidArgument {
    /// The argument's name, as the caller writes it.
    pub argument: &'static str,
    /// What was given, as text.
    pub given: String,
    /// What is allowed, to follow "must be".
    pub allowed: String,
}

impl InvalidArgument {
    /// Says that `argument` was `given` and must be `allowed`.
    pub fn new(argument: &'static str, given: impl ToString, allowed: impl Into<String>) -> Self {
        Self { argument, given: given.to_string(), allowed: allowed.into() }
    }
}

impl fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, but must be {}", self.argument, self.given, self.allowed)
    }
}

impl core::error::Error for InvalidArgument {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::InvalidArgument;

    // RL-12: the argument's name, what was given, and what is allowed.
    #[test]
    fn an_invalid_argument_says_what_is_allowed() {
        let error = InvalidArgument::new("burst", -1, "a number from 0 up");
        assert_eq!(error.to_string(), "`burst` is -1, but must be a number from 0 up");
    }
}
