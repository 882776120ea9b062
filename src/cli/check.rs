//! `check`: where orders and ports disagree.

use chargegate::config::Config;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::{listing, read};

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
    match read::show_all(config, &listing::ISSUES, options.json)? {
        0 => Ok(()),
        _ => Err(Failure::answer_is_no()),
    }
}
