//! `demo`: agent and simulated site in one process, on one fast clock, with a table that a person can follow.
//!
//! The agent is the real one: its devices come over TCP, its orders over its control socket, and what is shown is read
//! from its store as any other program would.

mod place;
mod row_text;
mod screen;
mod starter;
mod summary;
mod watch;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chargegate::agent::Agent;
use chargegate::clock::{Clock, UpTime};
use chargegate::config::BrokerUrl;
use chargegate::logging;
use chargegate::server::raise_open_files;
use chargegate::sim::{Fault, Fleet, FleetCounts};
use log::LevelFilter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::simulate::{MOST_DEVICES, MOST_SPEED, members};
use place::Place;
use screen::{Screen, Seen, Setting};
use starter::Starter;
use watch::Watch;

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

/// The same site each time.
const SEED: u64 = 7;
/// Reads the store so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Statuses come more often than the 5 minutes that devices owe: the table is to move.
const STATUS_PERIOD: Duration = Duration::from_secs(45);

/// Shows the live table until the time is over.
pub fn run(options: &DemoOptions) -> Outcome {
    let on_terminal = std::io::stdout().is_terminal();
    // On a terminal the table has the screen for itself.
    logging::start(if on_terminal { LevelFilter::Off } else { LevelFilter::Error });
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    let place = Place::new(options.keep.as_deref(), options.mqtt.as_deref()).map_err(failed)?;
    let outcome = play(options, &place, on_terminal, &stop);
    let kept = place.config_file();
    place.leave();
    outcome?;
    if let Some(config) = kept {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nThe store is kept. Read it with:\n  chargegate --config {} orders", config.display())?;
    }
    Ok(())
}

fn play(options: &DemoOptions, place: &Place, on_terminal: bool, stop: &AtomicBool) -> Outcome {
    raise_open_files(u64::from(options.devices) * 2 + 256);
    let config = chargegate::config::Config::parse(&place.config()).map_err(failed)?;
    let agent = Agent::open(config, options.speed).map_err(failed)?;
    let address = agent.devices_address().map_err(failed)?;
    let handle = agent.handle();
    let mut watch = Watch::open(&place.store()).map_err(failed)?;
    let members = members(options.devices, &faults(options.devices));
    let clock = Clock::scaled(UpTime(0), options.speed);
    // Other business numbers than those of an earlier demo in the same folder, which the store remembers.
    let seed = SEED.wrapping_add_signed(watch.earlier());
    let mut fleet = Fleet::new(address, &members, seed, clock.clone()).map_err(failed)?;
    fleet.set_status_period(STATUS_PERIOD);
    let (fleet_stop, counts) = (fleet.stop_flag(), fleet.counts());
    let agent = std::thread::spawn(move || agent.run(None));
    let devices = std::thread::spawn(move || fleet.run());
    let length = options.seconds.map(|seconds| Duration::from_secs(seconds.saturating_mul(options.speed.into())));
    let mut screen = Screen::new(Setting { on_terminal, length, speed: options.speed }, &members);
    let starter = Starter::connect(&place.socket(), &members, length).map_err(failed);
    let shown = starter.and_then(|starter| show(length, starter, &mut watch, &mut screen, &counts, &clock, stop));
    let ended = screen.end(&mut std::io::stdout().lock());
    // The agent closes its store as the last one that has it open.
    let earlier = watch.close();
    // The agent ends first: its devices are still there then, as they are when a gateway restarts.
    handle.stop();
    let agent = agent.join();
    fleet_stop.store(true, Ordering::Relaxed);
    let devices = devices.join();
    shown?;
    ended?;
    match (agent, devices) {
        (Ok(Ok(_)), Ok(Ok(()))) => {}
        (Ok(Err(fatal)), _) => return Err(failed(fatal)),
        (_, Ok(Err(error))) => return Err(failed(error)),
        _ => return Err(failed("a thread ended unexpectedly")),
    }
    let orders = Watch::all(&place.store(), earlier).map_err(failed)?;
    Ok(summary::write(&mut std::io::stdout().lock(), &orders, &members)?)
}

/// Starts orders and shows what becomes of them, until the time is over.
fn show(
    length: Option<Duration>,
    mut starter: Starter,
    watch: &mut Watch,
    screen: &mut Screen,
    counts: &FleetCounts,
    clock: &Clock,
    stop: &AtomicBool,
) -> Outcome {
    let (_ticker, tick) = std::sync::mpsc::channel::<()>();
    let begun = clock.now().up;
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now().up.since(begun);
        if length.is_some_and(|length| now >= length) {
            break;
        }
        starter.act(now).map_err(failed)?;
        let connected = counts.connected.load(Ordering::Relaxed);
        let seen = Seen { now, connected, orders: watch.look().map_err(failed)? };
        screen.draw(&mut std::io::stdout().lock(), &seen)?;
        // Nobody sends: the time-out is the tick.
        let _ = tick.recv_timeout(LOOK_EVERY);
    }
    Ok(())
}

/// A few of the devices are faulty, one of each fault that shows within minutes.
fn faults(devices: u32) -> Vec<(Fault, u32)> {
    let shown = [
        Fault::Refuse,
        Fault::NoEnd,
        Fault::LateAnswer,
        Fault::LostAck,
        Fault::Garbage,
        Fault::NoAnswer,
        Fault::NoStatus,
        Fault::HalfFrame,
    ];
    let count = usize::try_from(devices / 6).unwrap_or(0).min(shown.len());
    shown[..count].iter().map(|fault| (*fault, 1)).collect()
}

fn failed(why: impl std::fmt::Display) -> Failure {
    Failure::failed("demo", why)
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
