//! The agent whole: store, site and loop put together, from opening to the clean end.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::clock::{Clock, Now, Stopwatch, UpTime};
use crate::cloud::link::Link;
use crate::config::{Admission, Config, Devices};
use crate::limits::CLOUD_GOODBYE;
use crate::logging;
use crate::server::{BindError, Exit, Handle, Hooks, Server};
use crate::site::Site;
use crate::store::{OpenError, Settings, Store};
use crate::turn::Fatal;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An address is taken, or the system refuses.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store fails.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The system gives no thread for the broker.
    #[error("cannot set up the link to the broker: {0}")]
    Link(std::io::Error),
}

impl StartError {
    /// Whether the configuration has to be changed first, so that starting again by itself is of no use.
    pub const fn is_wrong_configuration(&self) -> bool {
        matches!(self, Self::Store(OpenError::ForeignFile(_) | OpenError::NewerVersion { .. }))
    }
}

/// An agent whose store is open and whose addresses are bound.
#[derive(Debug)]
pub struct Agent {
    site: Site,
    server: Server,
    clock: Clock,
    link: Option<Link>,
}

impl Agent {
    /// Opens the store, takes up what was under way, and listens. On a clock that runs `speed` times as fast.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn open(config: Config, speed: u32) -> Result<Self, StartError> {
        let settings = Settings {
            max_size: config.store.max_size,
            journal_max: config.store.journal_max,
            retention: config.store.retention,
        };
        let store = Store::open(&config.store.path, &settings, Clock::start(UpTime(0)).now().wall)?;
        let clock = Clock::scaled(store.up_base(), speed).with_marker(&config.site.clock_synchronized_file);
        let clock = match store.believed_wall() {
            Ok(Some(wall)) => clock.not_before(wall),
            _ => clock,
        };
        let server = Server::bind(&config)?;
        if config.devices.admission == Admission::Open && !config.devices.listen.ip().is_loopback() {
            log::warn!(
                "devices.listen={} is open to the network and devices.admission is open: any unit that can reach it is \
                 taken in; set devices.allow_from, or devices.admission to \"registered\"",
                config.devices.listen
            );
        }
        let handle = server.handle();
        let link = Link::open(&config, move || handle.wake()).map_err(StartError::Link)?;
        let site = Site::open(config, store, clock.now())?;
        Ok(Self { site, server, clock, link })
    }

    /// Ends on SIGTERM and SIGINT, reads the configuration again on SIGHUP.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn watch_signals(&mut self) -> Result<(), StartError> {
        Ok(self.server.watch_signals()?)
    }

    /// Where devices connect.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn devices_address(&self) -> std::io::Result<SocketAddr> {
        self.server.devices_address()
    }

    /// To end it from another thread.
    pub fn handle(&self) -> Handle {
        self.server.handle()
    }

    /// Serves until it is asked to end, then closes the store. SIGHUP reads `file` again.
    ///
    /// # Errors
    /// When the store fails for good: nothing that waited for it went out, the store counts as not closed.
    pub fn run(mut self, file: Option<PathBuf>) -> Result<Exit, Fatal> {
        if let Ok(address) = self.devices_address() {
            log::info!("listening devices={address} control={:?}", self.site.config().control.socket);
        }
        let mut process = Process { file, link: self.link };
        let exit = self.server.run(&mut self.site, &self.clock, &mut process)?;
        process.leave_cloud(&mut self.site, &self.clock)?;
        self.site.close(self.clock.now())?;
        log::info!("ended cleanly");
        Ok(exit)
    }
}

/// What belongs to the process around the loop.
struct Process {
    file: Option<PathBuf>,
    link: Option<Link>,
}

impl Process {
    /// Says goodbye to the broker, for a bounded time: what it does not take now stays in the outbox.
    fn leave_cloud(&mut self, site: &mut Site, clock: &Clock) -> Result<(), Fatal> {
        let Some(link) = &mut self.link else { return Ok(()) };
        site.leave_cloud(clock.now());
        let watch = Stopwatch::start();
        loop {
            carry_out(site, link);
            if site.has_left_cloud() {
                return Ok(());
            }
            let Some(input) = link.next_within(CLOUD_GOODBYE.saturating_sub(watch.elapsed())) else {
                log::warn!("the broker did not take the goodbye in time");
                return Ok(());
            };
            site.cloud(input, clock.now())?;
        }
    }
}

/// Hands on what the site wants of the broker.
fn carry_out(site: &mut Site, link: &mut Link) {
    while let Some(output) = site.take_cloud_output() {
        link.carry(output);
    }
}

impl Hooks<Site> for Process {
    fn reload(&mut self, site: &mut Site, now: Now) -> Result<Option<Devices>, Fatal> {
        let Some(file) = &self.file else {
            log::warn!("SIGHUP: there is no configuration file to read again");
            return Ok(None);
        };
        match Config::load(file) {
            Ok(new) => {
                for key in site.config().changed_keys_that_need_a_restart(&new) {
                    log::warn!("SIGHUP: {key} changed, which needs a restart");
                }
                site.reconfigure(&new, now)?;
                logging::set_level(site.config().log.level);
                log::info!("SIGHUP: configuration read again");
                Ok(Some(site.config().devices.clone()))
            }
            Err(error) => {
                log::warn!("SIGHUP: the old configuration stays: {error}");
                Ok(None)
            }
        }
    }
    fn woken(&mut self, site: &mut Site, now: Now) -> Result<(), Fatal> {
        while let Some(input) = self.link.as_mut().and_then(Link::next) {
            site.cloud(input, now)?;
        }
        Ok(())
    }

    fn turn_ended(&mut self, site: &mut Site, _now: Now) -> Result<(), Fatal> {
        if let Some(link) = &mut self.link {
            carry_out(site, link);
        }
        Ok(())
    }
}
