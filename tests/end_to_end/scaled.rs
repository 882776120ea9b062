//! An agent inside the test, on a clock that runs faster: minutes of a rule pass in seconds. Sockets and store are real.

use std::thread::JoinHandle;

use chargegate::agent::Agent as Inside;
use chargegate::clock::{Clock, UpTime};
use chargegate::config::Config;
use chargegate::server::{Exit, Handle};
use chargegate::turn::Fatal;

use crate::support::{Agent, wait_for};

/// One that runs until it is dropped.
pub struct Scaled {
    /// Its folder and addresses; no process of its own.
    pub agent: Agent,
    clock: Clock,
    handle: Handle,
    running: Option<JoinHandle<Result<Exit, Fatal>>>,
}

impl Scaled {
    pub fn start(speed: u32, config: &str) -> Self {
        let agent = Agent::prepare(config);
        let config = Config::load(&agent.path("agent.toml")).unwrap();
        let clock = Clock::scaled(UpTime(0), speed);
        let inside = Inside::open(config, speed).unwrap();
        let handle = inside.handle();
        let running = Some(std::thread::spawn(move || inside.run(None)));
        Self { agent, clock, handle, running }
    }

    /// Milliseconds on its clock.
    pub fn now(&self) -> u64 {
        self.clock.now().up.0
    }

    /// Waits until its clock shows so many milliseconds.
    pub fn wait_until(&self, millis: u64) {
        wait_for("the time", || (self.now() >= millis).then_some(()));
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.running.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}
