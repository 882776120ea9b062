//! The only file that asks the time. Everything below the loop is handed a [`Now`], sampled once a turn.
//!
//! Deadlines live in **up-time**: milliseconds that the agent has been up, carried over restarts by the
//! store, so that a grace that was half over before a power cut is half over after it (contract §5 *Time*).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds that the agent has been up, over all its restarts. Never steps back, whatever the wall clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UpTime(pub u64);

impl UpTime {
    /// The moment `span` after this one.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this moment, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Unix time in milliseconds, UTC, as the system has it: it may be wrong by decades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

/// One sample of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub up: UpTime,
    /// For records and people.
    pub wall: WallTime,
    /// The system calls its clock synchronised (`site.clock_synchronized_file` exists).
    pub synchronized: bool,
}

/// Source of [`Now`]; `speed` times as fast as real time on both clocks (the demo's scaled clock).
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    wall_started: SystemTime,
    base: UpTime,
    speed: u32,
    marker: Option<Marker>,
}

/// The file that exists when the system calls its clock synchronised, looked for now and then.
#[derive(Debug, Clone)]
struct Marker {
    path: PathBuf,
    exists: Cell<bool>,
    looked: Cell<Option<UpTime>>,
}

impl Marker {
    /// How long an answer holds.
    const HOLDS: Duration = Duration::from_secs(5);

    fn is_there(&self, up: UpTime) -> bool {
        if self.looked.get().is_none_or(|looked| up >= looked.after(Self::HOLDS)) {
            self.exists.set(self.path.exists());
            self.looked.set(Some(up));
        }
        self.exists.get()
    }
}

impl Clock {
    /// A clock that runs as real time does; up-time goes on from `base`, which the store kept.
    pub fn start(base: UpTime) -> Self {
        Self::scaled(base, 1)
    }

    /// A clock that runs `speed` times as fast.
    #[expect(clippy::disallowed_methods, reason = "this file is where the clocks are read")]
    pub fn scaled(base: UpTime, speed: u32) -> Self {
        Self { started: Instant::now(), wall_started: SystemTime::now(), base, speed: speed.max(1), marker: None }
    }

    /// A scaled clock that stood at `wall` before goes on from there, as it had run ahead of the real one. A clock at
    /// real speed shows what the system has.
    #[must_use]
    pub fn not_before(mut self, wall: WallTime) -> Self {
        let since_epoch = Duration::from_millis(u64::try_from(wall.0).unwrap_or(0));
        if let Some(time) = UNIX_EPOCH.checked_add(since_epoch)
            && self.speed > 1
        {
            self.wall_started = self.wall_started.max(time);
        }
        self
    }

    /// The clock counts as synchronised while this file exists. A scaled clock never is.
    #[must_use]
    pub fn with_marker(mut self, path: &Path) -> Self {
        let marker = || Marker { path: path.to_owned(), exists: Cell::new(false), looked: Cell::new(None) };
        self.marker = (self.speed == 1).then(marker);
        self
    }

    /// Samples both clocks.
    pub fn now(&self) -> Now {
        let elapsed = self.started.elapsed() * self.speed;
        let up = self.base.after(elapsed);
        let synchronized = self.marker.as_ref().is_some_and(|marker| marker.is_there(up));
        Now { up, wall: self.wall(elapsed), synchronized }
    }

    /// Real time until the up-time `due`, zero when it has passed.
    pub fn real_time_until(&self, due: UpTime) -> Duration {
        due.since(self.now().up) / self.speed
    }

    #[expect(clippy::disallowed_methods, reason = "this file is where the clocks are read")]
    fn wall(&self, elapsed: Duration) -> WallTime {
        // At real speed the system clock is read anew each time, so that its steps are seen; a scaled
        // clock can only run on from where it began.
        let time = if self.speed == 1 { SystemTime::now() } else { self.wall_started + elapsed };
        let millis = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        WallTime(millis)
    }
}

/// Measures real time, whatever the speed of the [`Clock`]: how long a commit takes is no matter of the site's time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "this file is where the clocks are read")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Real time since then.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
