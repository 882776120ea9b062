//! `decode`: frames explained field by field.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufWriter, Write};

use chargegate::bkv::{Line, Unexplained, explain_hex};
use chargegate::logging::one_line;

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
    let mut frames = Frames { out: BufWriter::new(io::stdout().lock()), count: 0, bad: Vec::new() };
    if options.frames.is_empty() {
        frames.each_line_of_stdin()?;
        if frames.count == 0 {
            return Err(Failure::failed("decode", "no hex: there is no frame on stdin"));
        }
    } else {
        for frame in &options.frames {
            frames.explain(&frame.to_string_lossy())?;
        }
        frames.out.flush()?;
    }
    frames.verdict()
}

/// What was explained so far.
struct Frames<W> {
    out: W,
    count: usize,
    /// The bad ones: which, and why.
    bad: Vec<(usize, String)>,
}

impl<W: Write> Frames<W> {
    /// One frame a line. Each is shown at once: they may come out of a running capture.
    fn each_line_of_stdin(&mut self) -> Outcome {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map_err(|error| Failure::failed("decode", format!("stdin: {error}")))?;
            let line = String::from_utf8_lossy(&line);
            if !line.trim().is_empty() {
                self.explain(&line)?;
                self.out.flush()?;
            }
        }
        Ok(())
    }

    fn explain(&mut self, frame: &str) -> io::Result<()> {
        if self.count > 0 {
            writeln!(self.out)?;
        }
        self.count += 1;
        match explain_hex(frame) {
            Ok(explanation) => {
                self.line(&explanation.title)?;
                self.fields(&explanation.lines)
            }
            Err(error) => {
                let why = format!("at byte {}: {error}", error.offset());
                self.line(&format!("bad {why}"))?;
                self.bad.push((self.count, why));
                match error {
                    // The fields before the one that makes no sense.
                    Unexplained::Message { lines, .. } => self.fields(&lines),
                    Unexplained::Hex(_) | Unexplained::Frame(_) => Ok(()),
                }
            }
        }
    }

    fn fields(&mut self, fields: &[Line]) -> io::Result<()> {
        fields.iter().try_for_each(|field| self.line(&field.to_string()))
    }

    /// What a device wrote must not steer the terminal.
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", one_line(text))
    }

    /// The output has told each reason; whoever only sees the error line is told the first.
    fn verdict(self) -> Outcome {
        let Some((number, why)) = self.bad.first() else { return Ok(()) };
        let (bad, count) = (self.bad.len(), self.count);
        let which = if count == 1 {
            "bad frame".to_owned()
        } else {
            format!("{bad} of {count} frames bad, first frame {number}")
        };
        Err(Failure::failed("decode", format!("{which} {why}")))
    }
}
