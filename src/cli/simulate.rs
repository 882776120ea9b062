//! `simulate`: only the simulated devices, against any agent.

use chargegate::logging;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};

/// Simulated devices in one process: each takes a file descriptor.
pub const MOST_DEVICES: u32 = 10_000;
/// How many times as fast clocks can run.
pub const MOST_SPEED: u32 = 1000;

/// The faults that devices can have (contract §2).
const FAULTS: [&str; 12] = [
    "no-end",
    "no-status",
    "refuse",
    "no-answer",
    "late-answer",
    "lost-ack",
    "garbage",
    "half-frame",
    "silent",
    "drop",
    "deaf",
    "old-number",
];

/// What the arguments say.
#[derive(Debug, PartialEq, Eq)]
pub struct SimulateOptions {
    /// The agent, `HOST:PORT`.
    pub connect: String,
    /// How many devices.
    pub devices: u32,
    /// How many of them have which fault, by the contract's names.
    pub faults: Vec<(String, u32)>,
    /// How many times as fast their clocks run.
    pub speed: u32,
}

pub fn parse(arguments: &mut Arguments) -> Result<SimulateOptions, Failure> {
    let mut connect = None;
    let mut options = SimulateOptions { connect: String::new(), devices: 50, faults: Vec::new(), speed: 1 };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "connect" => {
                connect = Some(arguments.value_by(name, "HOST:PORT", host_and_port)?);
            }
            Argument::Option(name) if name == "devices" => options.devices = arguments.number(name, 1, MOST_DEVICES)?,
            Argument::Option(name) if name == "fault" => {
                let what = format!("NAME=N with one of {}", FAULTS.join(" "));
                options.faults.push(arguments.value_by(name, &what, fault)?);
            }
            Argument::Option(name) if name == "speed" => options.speed = arguments.number(name, 1, MOST_SPEED)?,
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    if arguments.help {
        return Ok(options);
    }
    options.connect = connect.ok_or_else(|| arguments.wrong("--connect HOST:PORT is missing"))?;
    let faulty = options.faults.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
    if faulty > options.devices {
        return Err(arguments.wrong(format!("{faulty} faulty devices are more than {}", options.devices)));
    }
    Ok(options)
}

fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let good = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0);
    good.then(|| text.to_owned())
}

fn fault(text: &str) -> Option<(String, u32)> {
    let (name, count) = text.split_once('=')?;
    let count = count.parse().ok().filter(|count| *count <= MOST_DEVICES)?;
    FAULTS.contains(&name).then(|| (name.to_owned(), count))
}

/// Runs the devices until it is interrupted.
pub fn run(_options: SimulateOptions) -> Outcome {
    logging::start(log::LevelFilter::Info);
    // SEAM: the devices of chargegate::sim on real sockets go here.
    Err(Failure::failed("simulate", "not built yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<SimulateOptions, Failure> {
        parse(&mut Arguments::new(lexopt::Parser::from_args(arguments)))
    }

    #[test]
    fn every_option_is_taken_and_faults_add_up() {
        let given = ["--connect", "gate:7065", "--devices=9", "--fault", "deaf=2", "--fault=no-end=3", "--speed", "10"];
        let expected = SimulateOptions {
            connect: "gate:7065".to_owned(),
            devices: 9,
            faults: vec![("deaf".to_owned(), 2), ("no-end".to_owned(), 3)],
            speed: 10,
        };
        assert_eq!(parsed(&given), Ok(expected));
    }

    #[test]
    fn every_fault_of_the_contract_has_its_name() {
        for name in FAULTS {
            let options = parsed(&["--connect", "[::1]:7065", "--fault", &format!("{name}=1")]).unwrap();
            assert_eq!(options.faults, [(name.to_owned(), 1)]);
        }
    }
}
