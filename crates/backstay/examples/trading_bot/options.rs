//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Client;

pub(crate) const HELP: &str = "\
A trading bot with full resilience, on an exchange that has a bad day.

Usage: cargo run --release --example trading_bot -- [OPTIONS]

Options:
      --seconds N       how long the day is, 8 to 3600 [default: 20]
      --seed N          which day it is [default: 7]
      --exchange URL    trade at http://HOST:PORT instead of an exchange of one's own
      --heartbeat FILE  where the heartbeat goes [default: tradingbot.heartbeat in the folder for temporary files]
      --exchange-only   no bot: opens the exchange, and says where it is and how it does, until it is told to end
  -h, --help            this text

Ctrl-C ends it in order at any moment; a second Ctrl-C at once. NO_COLOR is respected.";

pub(crate) struct Options {
    pub(crate) day: Duration,
    pub(crate) seed: u64,
    pub(crate) exchange: Option<Client>,
    pub(crate) exchange_only: bool,
    pub(crate) heartbeat: PathBuf,
}

impl Options {
    /// `None`: help was asked for.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            day: Duration::from_secs(20),
            seed: 7,
            exchange: None,
            exchange_only: false,
            heartbeat: std::env::temp_dir().join("tradingbot.heartbeat"),
        };
        while let Some(argument) = arguments.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || inline.clone().or_else(|| arguments.next()).ok_or(format!("{name} needs a value"));
            match name {
                "-h" | "--help" => return Ok(None),
                "--seconds" => {
                    let value = value()?;
                    let seconds = value.parse().ok().filter(|seconds| (8..=3600).contains(seconds));
                    let seconds = seconds.ok_or(format!("--seconds {value:?} is not a number from 8 to 3600"))?;
                    options.day = Duration::from_secs(seconds);
                }
                "--seed" => {
                    let value = value()?;
                    let seed =
                        value.parse().map_err(|_| format!("--seed {value:?} is not a whole number from 0 up"))?;
                    options.seed = seed;
                }
                "--exchange" => {
                    options.exchange = Some(Client::new(&value()?).map_err(|error| format!("--exchange {error}"))?);
                }
                "--exchange-only" => options.exchange_only = true,
                "--heartbeat" => options.heartbeat = value()?.into(),
                _ => return Err(format!("{argument:?} is not an option")),
            }
        }
        Ok(Some(options))
    }
}
