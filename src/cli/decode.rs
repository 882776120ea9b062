//! `decode`: frames explained field by field.

use std::ffi::OsString;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};

/// What the arguments say.
pub struct DecodeOptions {
    /// The frames in hex; from stdin, if there are none.
    frames: Vec<OsString>,
}

pub fn parse(arguments: &mut Arguments) -> Result<DecodeOptions, Failure> {
    let mut frames = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Value(value) => frames.push(value),
            unknown => return Err(arguments.unexpected(&unknown)),
        }
    }
    Ok(DecodeOptions { frames })
}

pub fn run(options: DecodeOptions) -> Outcome {
    let _ = options.frames;
    Err(Failure::failed("decode", "not built yet"))
}
