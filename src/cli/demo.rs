//! `demo`: agent and simulated site in one process.

use std::path::PathBuf;

use chargegate::config::{BrokerUrl, Config};
use chargegate::logging;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::simulate::{MOST_DEVICES, MOST_SPEED};

/// What the arguments say.
#[derive(Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Simulated devices.
    pub devices: u32,
    /// Ends after so many seconds of real time; when interrupted, if none.
    pub seconds: Option<u64>,
    /// How many times as fast both clocks run.
    pub speed: u32,
    /// Where the store is kept; nowhere, if none.
    pub keep: Option<PathBuf>,
    /// The broker that is told, checked to be a [`BrokerUrl`].
    pub mqtt: Option<String>,
}

pub fn parse(arguments: &mut Arguments) -> Result<DemoOptions, Failure> {
    let mut options = DemoOptions { devices: 50, seconds: None, speed: 60, keep: None, mqtt: None };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "devices" => options.devices = arguments.number(name, 1, MOST_DEVICES)?,
            Argument::Option(name) if name == "seconds" => {
                options.seconds = Some(arguments.number(name, 1, u32::MAX)?.into());
            }
            Argument::Option(name) if name == "speed" => options.speed = arguments.number(name, 1, MOST_SPEED)?,
            Argument::Option(name) if name == "keep" => options.keep = Some(arguments.raw_value()?.into()),
            Argument::Option(name) if name == "mqtt" => {
                options.mqtt = Some(arguments.value::<BrokerUrl>(name)?.to_string());
            }
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    Ok(options)
}

/// Shows the live table until the time is over.
pub fn run(config: Config, _options: DemoOptions) -> Outcome {
    logging::start(config.log.level);
    // SEAM: the demo (agent and chargegate::sim on one scaled clock) goes here.
    Err(Failure::failed("demo", "not built yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<DemoOptions, Failure> {
        parse(&mut Arguments::new(lexopt::Parser::from_args(arguments)))
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let defaults = DemoOptions { devices: 50, seconds: None, speed: 60, keep: None, mqtt: None };
        assert_eq!(parsed(&[]), Ok(defaults));
    }

    #[test]
    fn every_option_is_taken() {
        let given = ["--devices", "3", "--seconds=9", "--speed", "1", "--keep", "a b", "--mqtt", "mqtt://b"];
        let expected = DemoOptions {
            devices: 3,
            seconds: Some(9),
            speed: 1,
            keep: Some(PathBuf::from("a b")),
            mqtt: Some("mqtt://b:1883".to_owned()),
        };
        assert_eq!(parsed(&given), Ok(expected));
    }
}
