//! Arguments, configuration, logger, exit codes. What a command does stands in `cli`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main(lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
