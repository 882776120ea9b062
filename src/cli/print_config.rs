//! `config`: the effective configuration, every key with its comment.

use std::io::{self, Write};

use chargegate::config::Config;

use super::failure::Outcome;

pub fn run(config: &Config) -> Outcome {
    io::stdout().write_all(config.render().as_bytes())?;
    Ok(())
}
