//! A trading bot with full resilience, and an exchange that has a bad day.
//!
//! `cargo run --release --example trading_bot`, and in another terminal the `monitor` that it names.

mod bot;
mod client;
mod exchange;
mod options;
mod screen;

use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep};

use bot::{Plan, TradingBot, tone};
use client::Client;
use exchange::{Exchange, Mood};
use options::{HELP, Options};
use screen::{Live, Screen, Tone};

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    let done = if options.exchange_only { keep_open(&options) } else { trade(options) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An exchange for bots in other languages: a line with its address, then one for each of its moods. It closes when the
/// bot closes its standard input.
#[tokio::main]
async fn keep_open(options: &Options) -> Result<bool, Box<dyn Error>> {
    let exchange = Exchange::open(options.seed, options.day, tell).await?;
    tell(exchange.url());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    let seen = exchange.tally();
    tell(format_args!("{} requests, {} impatient, {} left open", seen.requests, seen.impatient, seen.open_positions));
    Ok(true)
}

/// Whoever listened may have gone.
fn tell(what: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// Whether the day ended as it should.
#[tokio::main]
async fn trade(options: Options) -> Result<bool, Box<dyn Error>> {
    let Options { day, seed, exchange: elsewhere, heartbeat, .. } = options;
    let screen = Arc::new(Screen::new());

    let mut exchange = None;
    let client = match elsewhere {
        Some(client) => client,
        None => {
            let screen = Arc::clone(&screen);
            let opened = Exchange::open(seed, day, move |mood| {
                let tone = if mood == Mood::Well { Tone::Good } else { Tone::Warning };
                screen.event(tone, "exchange", mood);
            });
            Client::new(&exchange.insert(opened.await?).url())?
        }
    };

    let plan = Plan { reset_timeout: day / 20, freeze_at: day * 73 / 100 };
    let bot = Arc::new(TradingBot::new(client, &heartbeat, plan, Arc::clone(&screen))?);
    bot.start()?;
    let place = exchange.as_ref().map_or("elsewhere".to_owned(), |exchange| format!("at {}", exchange.url()));
    screen.line(&format!("Trading {place}, day {seed}, {} s. Ctrl-C ends it in order.", day.as_secs()));
    screen.line("Watch it from another terminal, and try kill -9, kill -STOP, kill -CONT on it:");
    screen.line(&format!("  cargo run --release --example monitor -- {}", quoted(&heartbeat.to_string_lossy())));
    screen.line(&format!("  kill -9 {}\n", std::process::id()));

    let began = Instant::now();
    let live = tokio::spawn(show(Arc::clone(&bot), Arc::clone(&screen)));
    let end = tokio::spawn(terminate_after(day, Arc::clone(&screen)));
    // A task of its own: the loop may be in the middle of something, or frozen.
    let announced = tokio::spawn(Arc::clone(&bot).announce_end());
    let outcome = bot.run().await;
    end.abort();
    live.abort();
    let report = outcome?;
    announced.await?;
    screen.still();

    screen.line("\nSummary");
    screen.table(&summary(&bot, exchange.as_deref(), began.elapsed()));
    screen.line(&format!("\n{report}"));
    Ok(report.is_clean())
}

/// Sends this process what an operator or an orchestrator would send.
async fn terminate_after(day: Duration, screen: Arc<Screen>) {
    sleep(day).await;
    screen.event(Tone::Strong, "operator", "sends SIGTERM");
    let sent = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    if let Err(error) = sent {
        screen.event(Tone::Bad, "operator", error);
    }
}

/// Keeps the live line alive. It runs on another thread than the loop it shows: a frozen loop is shown as well.
async fn show(bot: Arc<TradingBot>, screen: Arc<Screen>) {
    let mut ticks = interval(Duration::from_millis(100));
    let mut past = VecDeque::new();
    loop {
        ticks.tick().await;
        let successful = bot.desk.breaker.stats().successful;
        past.push_back(successful);
        if past.len() > 11 {
            past.pop_front();
        }
        screen.live(status(&bot, successful - past[0]));
    }
}

fn status(bot: &TradingBot, rate: u64) -> Live {
    let (breaker, limiter) = (&bot.desk.breaker, &bot.desk.limiter);
    let (calls, tokens) = (breaker.stats(), limiter.stats());
    let state = breaker.state();
    let inactive = bot.watchdog.inactive().as_secs_f64();
    let bot_is = match bot.watchdog.is_triggered() {
        false => (Tone::Good, "awake".to_owned()),
        true => (Tone::Bad, format!("FROZEN {inactive:.1} s")),
    };
    let beat = bot.last_beat.lock().map(|beat| beat.clone()).unwrap_or_default();
    let (status, number) = beat.split_at(beat.find(' ').unwrap_or(beat.len()));
    let plain = |text: String| (Tone::Plain, text);
    // What a narrow terminal has no room for.
    let detail = |text: String| (Tone::Faint, text);
    vec![
        plain("bot ".to_owned()),
        bot_is,
        plain(" | breaker ".to_owned()),
        (tone(state), state.to_string()),
        plain(format!(" {rate}/s")),
        detail(format!(", {} failed, {} refused", calls.failed, calls.rejected)),
        plain(format!(" | limiter {:.1} tokens", limiter.tokens())),
        detail(format!(", {} refused", tokens.rejected)),
        plain(format!(" | heart {status}")),
        detail(number.to_owned()),
    ]
}

fn summary(bot: &TradingBot, exchange: Option<&Exchange>, took: Duration) -> Vec<(&'static str, &'static str, String)> {
    let seconds = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
    let calls = bot.desk.breaker.stats();
    let tokens = bot.desk.limiter.stats();
    let pings = bot.watchdog.stats();
    let mut rows = vec![
        ("bot", "traded for", seconds(took)),
        ("bot", "orders placed", bot.desk.orders.load(Relaxed).to_string()),
        ("bot", "chances missed for want of a token", bot.desk.missed.load(Relaxed).to_string()),
        ("breaker", "calls", calls.total.to_string()),
        ("breaker", "successful", calls.successful.to_string()),
        ("breaker", "failed", calls.failed.to_string()),
        ("breaker", "refused while open", calls.rejected.to_string()),
        ("breaker", "ignored (429)", calls.ignored.to_string()),
        ("breaker", "changes of state", calls.state_changes.to_string()),
        ("limiter", "granted", tokens.acquired.to_string()),
        ("limiter", "refused", tokens.rejected.to_string()),
        ("limiter", "waited in all", seconds(tokens.waited)),
        ("watchdog", "pings", pings.pings_total.to_string()),
        ("watchdog", "freezes", pings.timeouts_triggered.to_string()),
    ];
    if let Some(seen) = exchange.map(Exchange::tally) {
        rows.push(("exchange", "requests seen", seen.requests.to_string()));
        rows.push(("exchange", "sooner than Retry-After allowed", seen.impatient.to_string()));
        rows.push(("exchange", "positions left open", seen.open_positions.to_string()));
    }
    rows
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "/._-+".contains(character);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
