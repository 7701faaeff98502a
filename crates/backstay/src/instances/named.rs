//! Named instances of the components.

use super::registry::InstanceRegistry;
use crate::error::BuildError;
use crate::settings::Fallback;

macro_rules! named {
    ($component:ident, $builder:ty, $label:literal, $section:literal, $named:literal, $named_with:literal) => {
        impl crate::$component {
            #[doc = concat!("Returns the process's ", $label, " of this name, built at the first call.")]
            ///
            /// Its settings are those of the [installed configuration](crate::config::Config::install) under
            #[doc = concat!("`resilience.", $section, ".instances`, then those of `resilience.", $section, "`, then the defaults.")]
            /// It lives as long as the process, so do not make names from requests.
            ///
            /// ```
            #[doc = $named]
            /// # Ok::<_, backstay::BuildError>(())
            /// ```
            ///
            /// # Errors
            /// [`BuildError`] for configured values that are invalid together; the next call tries again.
            #[cfg_attr(not(feature = "config"), doc = "\n[installed configuration]: crate#features")]
            pub fn named(name: &str) -> Result<Self, BuildError> {
                Self::named_with(name, <$builder>::build)
            }

            #[doc = concat!("Returns the process's ", $label, " of this name, or the one that `build` makes now.")]
            ///
            /// `build` gets the builder of [`named`](Self::named), to set what a configuration does not hold. It is not
            /// called if the name exists.
            ///
            /// ```
            #[doc = $named_with]
            /// # Ok::<_, backstay::BuildError>(())
            /// ```
            ///
            /// # Errors
            /// Those of `build`; the next call tries again.
            pub fn named_with<E>(name: &str, build: impl FnOnce($builder) -> Result<Self, E>) -> Result<Self, E> {
                Self::registry().named(name, || {
                    let mut builder = <$builder>::default().name(name);
                    builder.fallback = Fallback::to_installed($label, name);
                    build(builder)
                })
            }

            #[doc = concat!("Returns every named ", $label, " of the process, in the order of names.")]
            ///
            /// For exporters and dashboards. Those that a builder built are not among them.
            ///
            /// ```
            #[doc = concat!("use backstay::", stringify!($component), ";")]
            ///
            #[doc = concat!(stringify!($component), "::named(\"listed\")?;")]
            #[doc = concat!("assert_eq!(", stringify!($component), "::instances()[0].name(), Some(\"listed\"));")]
            /// # Ok::<_, backstay::BuildError>(())
            /// ```
            #[must_use]
            pub fn instances() -> Vec<Self> {
                Self::registry().all()
            }

            fn registry() -> &'static InstanceRegistry<Self> {
                static NAMED: InstanceRegistry<crate::$component> = InstanceRegistry::new();
                &NAMED
            }
        }
    };
}

#[cfg(feature = "circuit-breaker")]
named!(
    CircuitBreaker,
    crate::circuit_breaker::CircuitBreakerBuilder,
    "circuit breaker",
    "circuit_breaker",
    r#"
use backstay::CircuitBreaker;

let here = CircuitBreaker::named("payment-api")?;
let there = CircuitBreaker::named("payment-api")?;
here.isolate();
assert_eq!(there.state(), here.state());
"#,
    r#"
use backstay::CircuitBreaker;

let breaker = CircuitBreaker::named_with("quotes-api", |builder| {
    builder.on_state_change(|change| eprintln!("quotes-api is {}", change.to)).build()
})?;
assert_eq!(breaker.name(), Some("quotes-api"));
"#
);

#[cfg(feature = "rate-limiter")]
named!(
    RateLimiter,
    crate::rate_limiter::RateLimiterBuilder,
    "rate limiter",
    "rate_limiter",
    r#"
use backstay::RateLimiter;

let here = RateLimiter::named("search")?;
assert!(here.try_acquire());
assert!(RateLimiter::named("search")?.tokens() < here.burst());
"#,
    r#"
use backstay::RateLimiter;

let limiter = RateLimiter::named_with("mail", |builder| builder.rate(5).build())?;
assert_eq!(limiter.rate(), 5.0);
"#
);

#[cfg(feature = "watchdog")]
named!(
    Watchdog,
    crate::watchdog::WatchdogBuilder,
    "watchdog",
    "watchdog",
    r#"
use backstay::Watchdog;

Watchdog::named("worker")?.ping();
"#,
    r#"
use backstay::Watchdog;

let watchdog = Watchdog::named_with("loop", |builder| builder.on_timeout(|report| eprintln!("{report}")).build())?;
assert_eq!(watchdog.name(), Some("loop"));
"#
);
