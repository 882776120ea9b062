//! `simulate`: only the simulated devices, against any agent.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chargegate::clock::{Clock, UpTime};
use chargegate::logging;
use chargegate::server::raise_open_files;
use chargegate::sim::Fault;
use chargegate::sim::fleet::{Fleet, Member, device_id};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};

/// Simulated devices in one process: each takes a file descriptor.
pub const MOST_DEVICES: u32 = 10_000;
/// How many times as fast clocks can run.
pub const MOST_SPEED: u32 = 1000;
/// A line about what the devices do.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// The same devices each time.
const SEED: u64 = 1;

/// What the arguments say.
#[derive(Debug, PartialEq, Eq)]
pub struct SimulateOptions {
    /// The agent, `HOST:PORT`.
    pub connect: String,
    /// How many devices.
    pub devices: u32,
    /// How many of them have which fault, first come, first served.
    pub faults: Vec<(Fault, u32)>,
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
                let what = format!("NAME=N with one of {}", names().join(" "));
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

fn fault(text: &str) -> Option<(Fault, u32)> {
    let (name, count) = text.split_once('=')?;
    let count = count.parse().ok().filter(|count| *count <= MOST_DEVICES)?;
    Fault::from_word(name).map(|fault| (fault, count))
}

fn names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|fault| fault.word()).collect()
}

/// Runs the devices until it is interrupted.
pub fn run(options: &SimulateOptions) -> Outcome {
    logging::start(log::LevelFilter::Warn);
    let failed = |why: &dyn std::fmt::Display| Failure::failed("simulate", why);
    let target = resolve(&options.connect).map_err(|why| failed(&format!("{}: {why}", options.connect)))?;
    let members = members(options.devices, &options.faults);
    raise_open_files(u64::from(options.devices) + 64);
    let clock = Clock::scaled(UpTime(0), options.speed);
    let mut fleet = Fleet::new(target, &members, SEED, clock).map_err(|error| failed(&error))?;
    let (stop, counts) = (fleet.stop_flag(), fleet.counts());
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&stop)).map_err(|error| failed(&error))?;
    }
    println(&format!("{} devices connect to {target}; interrupt to end", members.len()))?;
    let (ended, wait) = std::sync::mpsc::channel();
    let devices = std::thread::spawn(move || {
        let result = fleet.run();
        // The other side is gone when it was the first to end.
        let _ = ended.send(());
        result
    });
    while wait.recv_timeout(STATUS_EVERY).is_err() {
        let [connected, charging, ends, acknowledged] =
            [&counts.connected, &counts.charging, &counts.ends, &counts.acknowledged]
                .map(|count| count.load(Ordering::Relaxed));
        println(&format!("connected={connected} charging={charging} ends={ends} acknowledged={acknowledged}"))?;
    }
    match devices.join() {
        Ok(result) => result.map_err(|error| failed(&error)),
        Err(_) => Err(failed(&"the devices ended unexpectedly")),
    }
}

/// Of a name with several addresses the first IPv4 one: agents listen there unless told otherwise.
fn resolve(target: &str) -> Result<SocketAddr, String> {
    let addresses: Vec<_> = target.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| "no such address".to_owned())
}

/// The first are honest, the faulty ones come last.
pub fn members(devices: u32, faults: &[(Fault, u32)]) -> Vec<Member> {
    let faulty: Vec<Fault> = faults.iter().flat_map(|(fault, count)| (0..*count).map(|_| *fault)).collect();
    let honest = usize::try_from(devices).unwrap_or(0).saturating_sub(faulty.len());
    let all = std::iter::repeat_n(None, honest).chain(faulty.into_iter().map(Some));
    (0..devices).zip(all).filter_map(|(place, fault)| device_id(place).map(|id| Member { id, fault })).collect()
}

fn println(line: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
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
            faults: vec![(Fault::Deaf, 2), (Fault::NoEnd, 3)],
            speed: 10,
        };
        assert_eq!(parsed(&given), Ok(expected));
    }

    #[test]
    fn every_fault_of_the_contract_has_its_name() {
        for name in names() {
            let options = parsed(&["--connect", "[::1]:7065", "--fault", &format!("{name}=1")]).unwrap();
            assert_eq!(options.faults, [(Fault::from_word(name).unwrap(), 1)]);
        }
    }
}
