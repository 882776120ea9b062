//! The log: one line a record on stderr, in UTC, written with one system call.
//!
//! simplelog writes a record in a dozen pieces; [`Lines`] collects them. What devices and brokers say can stand in
//! a message, so control characters are escaped: nobody outside can forge a line.

use std::borrow::Cow;
use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

/// Starts logging to stderr, once for the process. A second call only sets the level.
pub fn start(level: LevelFilter) {
    let logger: Box<dyn Log> = Box::new(Escaping { to: line_logger(io::stderr()) });
    let _ = log::set_boxed_logger(logger);
    set_level(level);
}

/// Changes the level while the process runs (SIGHUP).
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// `text` on one line and without anything that moves a terminal's cursor or turns its text around.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_unprintable(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

fn is_unprintable(c: char) -> bool {
    let invisible =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || invisible
}

fn line_logger<W: Write + Send + 'static>(to: W) -> Box<WriteLogger<Lines<W>>> {
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_level_padding(LevelPadding::Right)
        // Who logged it is for us, not for an operator.
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    // It could not be told another level later: `log::max_level` decides instead.
    WriteLogger::new(LevelFilter::Trace, config, Lines { line: Vec::new(), to })
}

/// Libraries that tell of each packet, and of what the agent itself tells in a line of its own.
const TALKATIVE: [&str; 3] = ["rumqttc", "rustls", "mio"];

fn is_left_out(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let library = target.split("::").next().unwrap_or(target);
    TALKATIVE.contains(&library) && log::max_level() < LevelFilter::Trace
}

/// Hands on records whose message is a single line; those of libraries only at `trace`.
struct Escaping<L> {
    to: L,
}

impl<L: Log> Log for Escaping<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_left_out(metadata) && metadata.level() <= log::max_level() && self.to.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        // The macros have compared the level, and ask nothing else before they call this.
        if is_left_out(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let message = one_line(&message);
        self.to.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{message}"))
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .build(),
        );
    }

    fn flush(&self) {
        self.to.flush();
    }
}

/// Collects what is written until its line ends, then writes it at once.
struct Lines<W> {
    line: Vec<u8>,
    to: W,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let written = self.to.write_all(&self.line);
            // A line that could not be written is gone; the next one must not grow by it.
            self.line.clear();
            written?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::*;

    /// Keeps each write by itself.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: Level, message: &str) -> Vec<String> {
        written_by("t", level, message)
    }

    fn written_by(target: &str, level: Level, message: &str) -> Vec<String> {
        let writes = Writes::default();
        let logger = Escaping { to: line_logger(writes.clone()) };
        logger.log(&Record::builder().level(level).target(target).args(format_args!("{message}")).build());
        std::mem::take(&mut *writes.0.lock().unwrap())
    }

    #[test]
    fn a_record_is_one_line_in_one_write_with_time_level_and_message() {
        let writes = written(Level::Warn, "device gone id=82241218000382");
        let [line] = writes.as_slice() else { panic!("{writes:?}") };
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() >= 20 && time.contains('T') && time.ends_with('Z'), "{time}");
        assert_eq!(rest, "[WARN ] device gone id=82241218000382\n");
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let writes = written(Level::Info, "iccid=x\n2026-01-01T00:00:00Z [ERROR] forged\r\u{1b}[2J");
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].matches('\n').count(), 1);
        assert!(writes[0].ends_with("iccid=x\\n2026-01-01T00:00:00Z [ERROR] forged\\r\\u{1b}[2J\n"), "{}", writes[0]);
    }

    #[test]
    fn what_libraries_say_of_each_packet_is_left_out() {
        assert_eq!(written_by("rumqttc::v5::state", Level::Error, "Unsolicited puback").len(), 0);
        assert_eq!(written_by("chargegate::cloud::link", Level::Error, "down").len(), 1);
    }

    #[test]
    fn only_what_cannot_be_printed_is_escaped() {
        assert_eq!(one_line("é 充电 \"x\" \\"), "é 充电 \"x\" \\");
        assert_eq!(one_line("a\tb\u{202e}c\u{7f}"), "a\\tb\\u{202e}c\\u{7f}");
    }
}
