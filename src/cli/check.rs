//! `check`: where orders and ports disagree, and for how much of their time they did.

use std::io::Write as _;
use std::time::Duration;

use chargegate::config::Config;
use chargegate::store::PortTime;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::{listing, read, store_file};

/// What the rate is told of.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the arguments say.
pub struct CheckOptions {
    json: bool,
}

pub fn parse(arguments: &mut Arguments) -> Result<CheckOptions, Failure> {
    let mut options = CheckOptions { json: false };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "json" => options.json = true,
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    Ok(options)
}

pub fn run(config: &Config, options: &CheckOptions) -> Outcome {
    let issues = read::show_all(config, &listing::ISSUES, options.json)?;
    if !options.json {
        show_rate(config)?;
    }
    match issues {
        0 => Ok(()),
        _ => Err(Failure::answer_is_no()),
    }
}

/// `state_consistency_rate` of the last 24 h of up-time, when there is anything to tell of.
fn show_rate(config: &Config) -> Outcome {
    let path = &config.store.path;
    let store = store_file::open("check", path)?;
    let time = PortTime::read(&store, DAY).map_err(|error| store_file::unreadable("check", path, &error))?;
    if let Some(rate) = time.and_then(|time| time.consistency_rate()) {
        writeln!(std::io::stdout(), "state consistency: {} % of port time in 24 h", percent(rate))?;
    }
    Ok(())
}

/// With two decimals, rounded down: 100 % is said of what had no issue at all.
fn percent(rate: f64) -> String {
    format!("{:.2}", (rate * 10_000.0).floor() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_issue_is_told_as_a_hundred_per_cent() {
        for (rate, text) in [(1.0, "100.00"), (0.999_999, "99.99"), (0.9998, "99.98"), (0.5, "50.00"), (0.0, "0.00")] {
            assert_eq!(percent(rate), text);
        }
    }
}
