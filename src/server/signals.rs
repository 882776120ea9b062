//! SIGTERM, SIGINT and SIGHUP as a readable socket of the loop and flags.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// The registered handlers; gone with this value.
#[derive(Debug)]
pub struct Signals {
    handlers: Vec<SigId>,
    pipe: mio::net::UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over from the default actions.
    pub fn register() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut signals = Self {
            handlers: Vec::new(),
            pipe: mio::net::UnixStream::from_std(ours),
            end: Arc::default(),
            reload: Arc::default(),
        };
        for signal in [SIGTERM, SIGINT] {
            // Before the flag is set: the second one finds it set and ends the process, wherever the loop is stuck.
            let end = Arc::clone(&signals.end);
            signals.handlers.push(signal_hook::flag::register_conditional_shutdown(signal, 1, end)?);
            signals.handlers.push(signal_hook::flag::register(signal, Arc::clone(&signals.end))?);
            signals.handlers.push(pipe::register(signal, theirs.try_clone()?)?);
        }
        signals.handlers.push(signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?);
        signals.handlers.push(pipe::register(SIGHUP, theirs)?);
        Ok(signals)
    }

    /// What the poll watches.
    pub fn source(&mut self) -> &mut mio::net::UnixStream {
        &mut self.pipe
    }

    /// To be called when it is readable, before the flags are read.
    pub fn clear(&mut self) {
        let mut bytes = [0; 64];
        loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Whether the process was asked to end.
    pub fn end(&self) -> bool {
        self.end.load(Ordering::Acquire)
    }

    /// Whether the configuration is to be read again, once a signal.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handlers.drain(..).for_each(|handler| {
            unregister(handler);
        });
    }
}
