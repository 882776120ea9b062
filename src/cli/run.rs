//! `run`: the agent, in the foreground.

use chargegate::config::Config;
use chargegate::logging;

use super::failure::{Failure, Outcome};

/// Runs the agent until it is told to stop.
pub fn run(config: Config) -> Outcome {
    logging::start(config.log.level);
    // SEAM: chargegate::server::run(config, …) goes here, with its errors as exit code 1 (a port that is taken) or
    // 2 (a store of a newer version or of another program, contract §5).
    Err(Failure::failed("run", "not built yet"))
}
