//! `run`: the agent, in the foreground.

use std::path::PathBuf;

use chargegate::agent::{Agent, StartError};
use chargegate::config::Config;
use chargegate::logging;

use super::failure::{Failure, Outcome};

/// Runs the agent until it is told to stop. `file` is where its configuration came from.
pub fn run(config: Config, file: Option<PathBuf>) -> Outcome {
    logging::start(config.log.level);
    let mut agent = Agent::open(config, 1).map_err(|error| not_started(&error))?;
    agent.watch_signals().map_err(|error| not_started(&error))?;
    match agent.run(file) {
        Ok(_) => Ok(()),
        Err(fatal) => Err(Failure::failed("run", fatal.to_string())),
    }
}

fn not_started(error: &StartError) -> Failure {
    if error.is_wrong_configuration() {
        Failure::usage("run", error.to_string())
    } else {
        Failure::failed("run", error.to_string())
    }
}
