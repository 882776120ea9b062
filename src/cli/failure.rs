//! How a command ends when it does not end well: one line on stderr and an exit code (contract §2).

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use chargegate::config::ConfigError;
use chargegate::logging::one_line;

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

/// The end of a command that is not, or not only, "fine".
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    line: Option<String>,
}

impl Failure {
    /// It failed, or the answer is no, and here is why: exit code 1.
    pub fn failed(what: &str, why: impl Display) -> Self {
        Self { code: 1, line: Some(format!("{what}: {why}")) }
    }

    /// The answer is no, and the output has said so: exit code 1.
    pub const fn answer_is_no() -> Self {
        Self { code: 1, line: None }
    }

    /// Wrong usage: exit code 2.
    pub fn usage(what: &str, why: impl Display) -> Self {
        Self { code: 2, line: Some(format!("{what}: {why}")) }
    }

    /// The reader of our output is gone: it had enough.
    const fn enough() -> Self {
        Self { code: 0, line: None }
    }

    /// Writes the line, if there is one, and gives the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(line) = self.line {
            use io::Write as _;
            let line = format!("chargegate: {}\n", one_line(&line));
            // Nobody is left to be told when stderr fails as well.
            let _ = io::stderr().write_all(line.as_bytes());
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage("configuration", error)
    }
}

/// Of writing to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::enough() } else { Self::failed("output", error) }
    }
}
