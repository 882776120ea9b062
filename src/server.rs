//! The loop: one thread, one poll, one turn after another. Owns sockets, buffers and the clock; knows no meaning.
//!
//! ```text
//! poll -> signals -> other threads -> accept -> read, within budget -> control lines -> deadlines
//!      -> outputs -> commit, when due -> outputs that waited for it -> poll
//! ```
//!
//! It sleeps until something comes or the first deadline is due. What is ready and could not be handled within the
//! turn's budget is handled in the next turns, with polls that do not sleep: so one that floods costs the others a
//! turn each, and input goes before deadlines.

mod deadlines;
mod devices;
pub(crate) mod listener;
mod pace;
pub(crate) mod seldom;
mod signals;
pub(crate) mod slots;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::{Clock, Now, Stopwatch, UpTime};
use crate::config::{self, Config};
use crate::control::Control;
use crate::limits::{
    CONTROL_CLIENTS, DEVICE_SLOTS, END_FLUSH, EVENTS_A_POLL, FIRST_CLIENT_SLOT, FIRST_OTHER_SLOT, LONGEST_SLEEP,
    OTHER_FILES, READ_BYTES,
};
use crate::turn::{Core, Fatal, Output};
use devices::Devices;
use listener::SpareFile;
pub use listener::raise_open_files;
use pace::Pace;
use signals::Signals;
use slots::slot_of;

pub(crate) const DEVICES: Token = Token(FIRST_OTHER_SLOT as usize);
pub(crate) const CONTROL: Token = Token(FIRST_OTHER_SLOT as usize + 1);
const SIGNALS: Token = Token(FIRST_OTHER_SLOT as usize + 2);
const WAKER: Token = Token(FIRST_OTHER_SLOT as usize + 3);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address for devices cannot be had.
    #[error("cannot listen on {address}: {}", reason(source))]
    Devices {
        /// `devices.listen`.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The control socket cannot be had.
    #[error("control socket {}: {}", path.display(), reason(source))]
    Control {
        /// `control.socket`.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers on the control socket.
    #[error("control socket {}: another agent is running", path.display())]
    AnotherAgent {
        /// `control.socket`.
        path: PathBuf,
    },
    /// The system has no poll, socket pair or signal handler for us.
    #[error("cannot set up the event loop: {0}")]
    System(#[from] io::Error),
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address in use".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotFound => "no such folder".to_owned(),
        _ => error.to_string(),
    }
}

/// Why the loop ended cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// SIGTERM or SIGINT.
    Signal,
    /// [`Handle::stop`].
    Stopped,
}

/// What belongs to the process around the loop. `()` is the process that does nothing of it.
pub trait Hooks<C> {
    /// Devices can connect from now on.
    fn ready(&mut self, core: &mut C) {
        let _ = core;
    }

    /// SIGHUP: read the configuration again and hand it to the core. What comes back is the section of the devices
    /// that holds from now on; `None` when nothing changed or the new file is refused.
    ///
    /// # Errors
    /// When the store fails for good.
    fn reload(&mut self, core: &mut C, now: Now) -> Result<Option<config::Devices>, Fatal> {
        let _ = (core, now);
        Ok(None)
    }

    /// Another thread called [`Handle::wake`]: drain its channel.
    ///
    /// # Errors
    /// When the store fails for good.
    fn woken(&mut self, core: &mut C, now: Now) -> Result<(), Fatal> {
        let _ = (core, now);
        Ok(())
    }

    /// A turn ended: outputs were sent, commits made.
    ///
    /// # Errors
    /// When the store fails for good.
    fn turn_ended(&mut self, core: &mut C, now: Now) -> Result<(), Fatal> {
        let _ = (core, now);
        Ok(())
    }

    /// When a turn is wanted whatever else comes, such as for a watchdog.
    fn next_deadline(&self) -> Option<UpTime> {
        None
    }
}

impl<C> Hooks<C> for () {}

/// Reaches the loop from other threads.
#[derive(Debug, Clone)]
pub struct Handle {
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
}

impl Handle {
    /// Asks the loop to end as SIGTERM does.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Has the loop call [`Hooks::woken`]. Send first, then wake.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::warn!("loop not woken error={error:?}");
        }
    }
}

/// Sockets, buffers and the poll.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    events: Events,
    handle: Handle,
    signals: Option<Signals>,
    control: Control,
    devices: Devices,
    spare: SpareFile,
    /// The one read buffer.
    buffer: Box<[u8]>,
    pace: Pace,
    stopwatch: Stopwatch,
}

/// What other threads and the system asked for.
#[derive(Debug, Default)]
struct Asked {
    end: Option<Exit>,
    reload: bool,
    woken: bool,
}

impl Server {
    /// Listens on the control socket, then for devices; both are served once [`Server::run`] is called, clients of
    /// the control socket first.
    ///
    /// # Errors
    /// When an address is taken, another agent runs, or the system refuses.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let wanted = u64::from(config.devices.max_connections.min(DEVICE_SLOTS));
        let open_files = raise_open_files(wanted + u64::from(CONTROL_CLIENTS) + OTHER_FILES);
        let control = Control::bind(&config.control.socket, poll.registry())?;
        let devices = Devices::bind(&config.devices, open_files.saturating_sub(OTHER_FILES))?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_A_POLL),
            handle: Handle { waker, stop: Arc::default() },
            signals: None,
            control,
            devices,
            spare: SpareFile::open(),
            buffer: vec![0; READ_BYTES].into(),
            pace: Pace::default(),
            stopwatch: Stopwatch::start(),
        })
    }

    /// Ends on SIGTERM and SIGINT, reloads on SIGHUP. Without this call signals do what they do by default.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn watch_signals(&mut self) -> Result<(), BindError> {
        let mut signals = Signals::register()?;
        self.poll.registry().register(signals.source(), SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// To reach the loop from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where devices connect: the port that was given, when 0 was asked for.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn devices_address(&self) -> io::Result<SocketAddr> {
        self.devices.address()
    }

    /// Serves until it is asked to end. At a clean end what waited is committed and sent; the device connections
    /// simply end with the server, since devices that an agent leaves are not offline.
    ///
    /// # Errors
    /// When the core's store fails for good: nothing that waited for it goes out.
    pub fn run<C: Core>(&mut self, core: &mut C, clock: &Clock, hooks: &mut impl Hooks<C>) -> Result<Exit, Fatal> {
        let mut clients_first = Some(16_u32);
        loop {
            let timeout = match clients_first {
                Some(_) => Some(Duration::ZERO),
                None => self.timeout(core, clock, hooks.next_deadline()),
            };
            let asked = self.poll(timeout)?;
            let now = clock.now();
            self.turn(&asked, core, hooks, now)?;
            if let Some(exit) = asked.end {
                self.end(core, now)?;
                return Ok(exit);
            }
            clients_first = match clients_first {
                Some(turns) if turns > 0 && (self.control.has_work(now.up) || !self.events.is_empty()) => {
                    Some(turns - 1)
                }
                Some(_) => {
                    self.open(core, hooks)?;
                    None
                }
                None => None,
            };
        }
    }

    fn open<C: Core>(&mut self, core: &mut C, hooks: &mut impl Hooks<C>) -> Result<(), Fatal> {
        let refused = |error: io::Error| Fatal(format!("cannot accept devices: {error}"));
        self.devices.open(self.poll.registry()).map_err(refused)?;
        log::info!("devices can connect address={}", self.devices.address().map_err(refused)?);
        hooks.ready(core);
        Ok(())
    }

    /// How long the poll may sleep; `None`: until something comes.
    fn timeout<C: Core>(&mut self, core: &C, clock: &Clock, of_hooks: Option<UpTime>) -> Option<Duration> {
        let now = clock.now().up;
        if self.devices.has_work(now) || self.control.has_work(now) {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.devices.next_deadline(), self.control.next_deadline(), core.next_deadline(), of_hooks];
        let first = deadlines.into_iter().flatten().min();
        let due = first.map(|due| clock.real_time_until(due).min(LONGEST_SLEEP));
        [due, self.pace.sleep(self.stopwatch.elapsed())].into_iter().flatten().min()
    }

    /// Waits for events and tells whose they are.
    fn poll(&mut self, timeout: Option<Duration>) -> Result<Asked, Fatal> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(Fatal(format!("cannot poll: {error}"))),
        }
        let mut asked = Asked::default();
        for event in &self.events {
            match event.token() {
                DEVICES => self.devices.listener_ready(),
                CONTROL => self.control.listener_ready(),
                SIGNALS => self.signals.iter_mut().for_each(Signals::clear),
                WAKER => asked.woken = true,
                token if slot_of(token) < FIRST_CLIENT_SLOT => self.devices.ready(event),
                _ => self.control.ready(event),
            }
        }
        if self.handle.stop.load(Ordering::Acquire) {
            asked.end = Some(Exit::Stopped);
        }
        if let Some(signals) = &self.signals {
            asked.reload = signals.take_reload();
            if signals.end() {
                asked.end = Some(Exit::Signal);
            }
        }
        Ok(asked)
    }

    /// One turn after the poll.
    fn turn<C: Core>(&mut self, asked: &Asked, core: &mut C, hooks: &mut impl Hooks<C>, now: Now) -> Result<(), Fatal> {
        let began = self.stopwatch.elapsed();
        if asked.reload
            && let Some(settings) = hooks.reload(core, now)?
        {
            self.devices.reconfigure(&settings);
        }
        if asked.woken {
            hooks.woken(core, now)?;
        }
        if let Some(why) = asked.end {
            log::info!("ending why={why:?}");
            self.devices.stop_accepting();
            self.control.stop_accepting();
        }
        self.control.accept(self.poll.registry(), &mut self.spare, now);
        self.devices.accept(self.poll.registry(), &mut self.spare, core, now)?;
        self.devices.read(&mut self.buffer, core, now)?;
        self.control.serve(&mut self.buffer, core, now)?;
        self.devices.expire(&mut self.buffer, core, now)?;
        self.control.expire(now);
        if core.next_deadline().is_some_and(|due| due <= now.up) {
            core.timeout(now)?;
        }
        self.send_outputs(core, now)?;
        self.pace.note(core.wants_commit(), began);
        if self.pace.until_due(self.stopwatch.elapsed()) == Some(Duration::ZERO) {
            self.commit(core, now)?;
        }
        hooks.turn_ended(core, now)
    }

    fn commit<C: Core>(&mut self, core: &mut C, now: Now) -> Result<(), Fatal> {
        let began = self.stopwatch.elapsed();
        core.commit(now)?;
        let ended = self.stopwatch.elapsed();
        self.pace.committed(began, ended);
        self.send_outputs(core, now)?;
        self.pace.note(core.wants_commit(), ended);
        Ok(())
    }

    /// Carries out what the core wants, until it wants nothing more.
    fn send_outputs<C: Core>(&mut self, core: &mut C, now: Now) -> Result<(), Fatal> {
        loop {
            let outputs = core.outputs();
            while let Some((output, bytes)) = outputs.next_joined() {
                match output {
                    Output::Send(conn, _) => self.devices.send(conn, bytes),
                    Output::Reply(client, _) => self.control.reply(client, bytes),
                    Output::Close(conn) => self.devices.hang_up(conn),
                }
            }
            outputs.recycle();
            if !self.tell_closed(core, now)? {
                return Ok(());
            }
        }
    }

    /// Tells the core who is gone; whether anyone was.
    fn tell_closed<C: Core>(&mut self, core: &mut C, now: Now) -> Result<bool, Fatal> {
        let mut any = false;
        while let Some(conn) = self.devices.take_closed() {
            any = true;
            core.disconnected(conn, now)?;
        }
        while let Some(client) = self.control.take_gone() {
            any = true;
            core.client_gone(client);
        }
        if any {
            self.devices.file_closed();
            self.control.file_closed();
        }
        Ok(any)
    }

    /// Commits and sends what waits, for a bounded time.
    fn end<C: Core>(&mut self, core: &mut C, now: Now) -> Result<(), Fatal> {
        if core.wants_commit() {
            self.commit(core, now)?;
        }
        let began = self.stopwatch.elapsed();
        loop {
            let left = (began + END_FLUSH).saturating_sub(self.stopwatch.elapsed());
            if left.is_zero() || !(self.devices.has_waiting() || self.control.has_waiting()) {
                return Ok(());
            }
            self.poll(Some(left))?;
        }
    }
}

const _: () = assert!(WAKER.0 <= 0xffff, "the tokens have their slots");
