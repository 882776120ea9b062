//! The arguments, one after the other, with what every command understands taken out: `--config`, `--help`.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser, ValueExt as _};

use super::failure::Failure;

/// An argument of a command.
#[derive(Debug)]
pub enum Argument {
    /// `--open`, without its dashes.
    Option(String),
    /// Anything that is no option.
    Value(OsString),
}

/// The arguments that are left.
pub struct Arguments {
    parser: Parser,
    command: String,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--help` was among them.
    pub help: bool,
}

impl Arguments {
    pub fn new(parser: Parser) -> Self {
        Self { parser, command: "usage".to_owned(), config: None, help: false }
    }

    /// The command that errors name from now on.
    pub fn command(&mut self, name: &str) {
        self.command = name.to_owned();
    }

    /// The next argument; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Argument>, Failure> {
        loop {
            let argument = match self.parser.next() {
                Ok(Some(Arg::Short('h'))) => {
                    self.help = true;
                    continue;
                }
                Ok(Some(Arg::Short('V'))) => Argument::Option("version".to_owned()),
                Ok(Some(Arg::Short(short))) => return Err(self.wrong(format!("no such option: -{short}"))),
                Ok(Some(Arg::Long(long))) => Argument::Option(long.to_owned()),
                Ok(Some(Arg::Value(value))) => Argument::Value(value),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.wrong(error)),
            };
            match argument {
                Argument::Option(name) if name == "help" => self.help = true,
                Argument::Option(name) if name == "config" => self.config = Some(self.raw_value()?.into()),
                argument => return Ok(Some(argument)),
            }
        }
    }

    /// The value of the option that was just read.
    pub fn value<T>(&mut self, option: &str) -> Result<T, Failure>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text()?;
        text.parse().map_err(|error| self.wrong(format!("--{option} {text:?}: {error}")))
    }

    /// The same, with a reading of its own, which is told as `what` when it fails.
    pub fn value_by<T>(&mut self, option: &str, what: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
        let text = self.text()?;
        read(&text).ok_or_else(|| self.wrong(format!("--{option} {text:?}: is not {what}")))
    }

    /// A whole number between two bounds.
    pub fn number(&mut self, option: &str, least: u32, most: u32) -> Result<u32, Failure> {
        let what = format!("a number from {least} to {most}");
        let in_bounds = |number: &u32| (least..=most).contains(number);
        self.value_by(option, &what, |text| text.parse().ok().filter(in_bounds))
    }

    /// The value as the system gave it, for paths.
    pub fn raw_value(&mut self) -> Result<OsString, Failure> {
        self.parser.value().map_err(|error| self.wrong(error))
    }

    /// The value as a text.
    pub fn text(&mut self) -> Result<String, Failure> {
        self.raw_value()?.string().map_err(|error| self.wrong(error))
    }

    /// An argument that the command does not know.
    pub fn unexpected(&self, argument: &Argument) -> Failure {
        match argument {
            Argument::Option(name) => self.wrong(format!("no such option: --{name}")),
            Argument::Value(value) => self.wrong(format!("unexpected argument {value:?}")),
        }
    }

    /// Wrong usage of the command.
    pub fn wrong(&self, why: impl Display) -> Failure {
        Failure::usage(&self.command, why)
    }

    /// Refuses whatever is left: the command takes nothing.
    pub fn end(&mut self) -> Result<(), Failure> {
        match self.next()? {
            Some(argument) => Err(self.unexpected(&argument)),
            None => Ok(()),
        }
    }
}
