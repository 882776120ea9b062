//! `status`: the site on one screen, running agent or not.

use std::io::{self, Write};
use std::path::Path;

use chargegate::clock::{Clock, Now, UpTime, WallTime};
use chargegate::config::Config;
use chargegate::trust::Trust;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;
use serde_json::Value;

use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::{agent, store_file, time};

/// What the arguments say.
pub struct StatusOptions {
    json: bool,
}

pub fn parse(arguments: &mut Arguments) -> Result<StatusOptions, Failure> {
    let mut options = StatusOptions { json: false };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "json" => options.json = true,
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    Ok(options)
}

pub fn run(config: &Config, options: &StatusOptions) -> Outcome {
    let path = &config.store.path;
    // Without a store there is nothing that could be flushed into it.
    let told = if path.exists() { agent::ask_to_flush(&config.control.socket) } else { None };
    let store = store_file::open("status", path)?;
    let now = Clock::start(UpTime::default()).with_marker(&config.site.clock_synchronized_file).now();
    let told = told.as_ref().filter(|reply| reply["result"] == "done").map(|reply| &reply["data"]);
    let status =
        Status::read(config, &store, told, now).map_err(|error| store_file::unreadable("status", path, &error))?;
    let mut out = io::stdout().lock();
    if options.json {
        return Ok(writeln!(out, "{}", serde_json::to_value(&status).unwrap_or_default())?);
    }
    Ok(status.write(&mut out)?)
}

/// Everything on the screen. Null is not known.
#[derive(Debug, PartialEq, Serialize)]
struct Status {
    site: Site,
    devices: Devices,
    orders: Orders,
    cloud: Cloud,
    store: Store,
    clock: ClockState,
    alerts: Alerts,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Site {
    id: String,
    /// The store's name.
    instance: Option<String>,
    /// The agent has answered.
    running: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Devices {
    known: u64,
    online: u64,
    disabled: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Orders {
    open: u64,
    /// Since midnight at the site.
    closed_today: u64,
    /// Closed by a time limit only, and not final yet.
    provisional: u64,
    /// Open or closed today, with something that a person should look at.
    flagged: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Cloud {
    configured: bool,
    url: Option<String>,
    connected: Option<bool>,
    /// Messages that wait for their confirmation.
    backlog: u64,
    /// Since when the oldest of them waits.
    oldest: Option<String>,
    /// Why there is, or was last, no connection.
    trouble: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Store {
    path: String,
    file_bytes: u64,
    max_bytes: u64,
    /// Free on its disk.
    free_bytes: Option<u64>,
    journal_frames: u64,
    journal_bytes: u64,
    events: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ClockState {
    quality: String,
    time: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Alerts {
    critical: u64,
    warning: u64,
}

impl Status {
    /// `told` is what a running agent says of itself.
    fn read(config: &Config, store: &Connection, told: Option<&Value>, now: Now) -> rusqlite::Result<Self> {
        Ok(Self {
            site: Site { id: config.site.id.clone(), instance: meta(store, "instance")?, running: told.is_some() },
            devices: Devices::read(store)?,
            orders: Orders::read(store, midnight(now, config.site.utc_offset.seconds()))?,
            cloud: Cloud::read(config, store, told)?,
            store: Store::read(config, store)?,
            clock: ClockState::read(store, told, now)?,
            alerts: Alerts::read(store)?,
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, what) in [
            ("site", self.site.line()),
            ("devices", self.devices.line()),
            ("orders", self.orders.line()),
            ("cloud", self.cloud.line()),
            ("store", self.store.line()),
            ("clock", self.clock.line()),
            ("alerts", self.alerts.line()),
        ] {
            writeln!(out, "{name:<8} {}", chargegate::logging::one_line(&what))?;
        }
        Ok(())
    }
}

impl Site {
    fn line(&self) -> String {
        let agent = if self.running { "the agent runs" } else { "no agent answers: this is what it left" };
        let instance = self.instance.as_deref().map_or(String::new(), |instance| format!(" (store {instance})"));
        format!("{}{instance}, {agent}", self.id)
    }
}

impl Devices {
    fn read(store: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE online = 1), count(*) FILTER (WHERE status = 'disabled')
                     FROM devices";
        let read = |row: &Row<'_>| Ok(Self { known: count(row, 0)?, online: count(row, 1)?, disabled: count(row, 2)? });
        store.query_row(sql, [], read)
    }

    fn line(&self) -> String {
        format!("{} online of {} known, {} disabled", self.online, self.known, self.disabled)
    }
}

impl Orders {
    fn read(store: &Connection, midnight: WallTime) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*) FILTER (WHERE is_open),
                          count(*) FILTER (WHERE NOT is_open AND end_time >= ?1),
                          count(*) FILTER (WHERE settlement = 'provisional' AND final = 0),
                          count(*) FILTER (WHERE flags <> '[]' AND (is_open OR end_time >= ?1))
                     FROM (SELECT status IN (0, 2, 9) AS is_open, end_time, settlement, final, flags FROM orders)";
        store.query_row(sql, [midnight.0], |row| {
            let (open, closed_today) = (count(row, 0)?, count(row, 1)?);
            Ok(Self { open, closed_today, provisional: count(row, 2)?, flagged: count(row, 3)? })
        })
    }

    fn line(&self) -> String {
        let Self { open, closed_today, provisional, flagged } = self;
        format!("{open} open, {closed_today} closed today, {provisional} provisional, {flagged} with flags")
    }
}

impl Cloud {
    fn read(config: &Config, store: &Connection, told: Option<&Value>) -> rusqlite::Result<Self> {
        let url = config.mqtt.url.as_ref().map(ToString::to_string);
        let sql = "SELECT count(*), (SELECT created_at FROM outbox ORDER BY id LIMIT 1) FROM outbox";
        let (backlog, oldest): (u64, Option<i64>) =
            store.query_row(sql, [], |row| Ok((count(row, 0)?, row.get(1)?)))?;
        // The running agent alone knows; null where it does not tell. No agent, no connection.
        let connected = match told {
            Some(told) => told["cloud"]["connected"].as_bool(),
            None => Some(false),
        };
        Ok(Self {
            configured: url.is_some(),
            connected: connected.filter(|_| url.is_some()),
            url,
            backlog,
            oldest: oldest.and_then(time::rfc3339),
            trouble: told.and_then(|told| told["cloud"]["trouble"].as_str()).map(str::to_owned),
        })
    }

    fn line(&self) -> String {
        let url = self.url.as_deref().unwrap_or("not configured");
        let state = match self.connected {
            _ if !self.configured => "",
            Some(true) => ", connected",
            Some(false) => ", not connected",
            None => ", not known whether connected",
        };
        let trouble = self.trouble.as_deref().map_or(String::new(), |trouble| format!(" ({trouble})"));
        let backlog = match (&self.oldest, self.configured || self.backlog > 0) {
            (_, false) => String::new(),
            (Some(oldest), _) => format!("; {} wait, the oldest since {oldest}", self.backlog),
            (None, _) => "; nothing waits".to_owned(),
        };
        format!("{url}{state}{trouble}{backlog}")
    }
}

impl Store {
    fn read(config: &Config, store: &Connection) -> rusqlite::Result<Self> {
        let one = |sql: &str| store.query_row(sql, [], |row| count(row, 0));
        Ok(Self {
            path: config.store.path.display().to_string(),
            file_bytes: one("PRAGMA page_count")? * one("PRAGMA page_size")?,
            max_bytes: config.store.max_size,
            free_bytes: free_bytes(&config.store.path),
            journal_frames: one("SELECT count(*) FROM journal")?,
            journal_bytes: one("SELECT coalesce(sum(length(frame)), 0) FROM journal")?,
            events: one("SELECT count(*) FROM events")?,
        })
    }

    fn line(&self) -> String {
        let free = self.free_bytes.map_or(String::new(), |free| format!(", {} free on the disk", size(free)));
        format!(
            "{}: {} of at most {}{free}; {} frames ({}) and {} events kept",
            self.path,
            size(self.file_bytes),
            size(self.max_bytes),
            self.journal_frames,
            size(self.journal_bytes),
            self.events,
        )
    }
}

impl ClockState {
    /// As the running agent judges it, else as one would that started now.
    fn read(store: &Connection, told: Option<&Value>, now: Now) -> rusqlite::Result<Self> {
        let of_agent = told.and_then(|told| told["clock"].as_str()).map(str::to_owned);
        let newest: Option<i64> = meta(store, "believed_wall_ms")?;
        let judged = || Trust::new(newest.map(|wall| (WallTime(wall), now.up)), now).quality().word().to_owned();
        Ok(Self { quality: of_agent.unwrap_or_else(judged), time: time::rfc3339(now.wall.0) })
    }

    fn line(&self) -> String {
        let meaning = match self.quality.as_str() {
            "synced" => "the system calls it synchronised",
            "restored" => "believed, though not synchronised",
            _ => "not to be believed",
        };
        let time = self.time.as_deref().unwrap_or("-");
        format!("{time}, {}: {meaning}", self.quality)
    }
}

impl Alerts {
    fn read(store: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*) FILTER (WHERE severity = 'critical'), count(*) FILTER (WHERE severity = 'warning')
                     FROM alerts WHERE cleared_at IS NULL";
        store.query_row(sql, [], |row| Ok(Self { critical: count(row, 0)?, warning: count(row, 1)? }))
    }

    fn line(&self) -> String {
        format!("{} critical and {} warning open", self.critical, self.warning)
    }
}

/// SQLite's integers have a sign, counts have none.
fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn meta<T: rusqlite::types::FromSql>(store: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    store.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// The last midnight where the site is.
fn midnight(now: Now, utc_offset_seconds: i32) -> WallTime {
    const DAY_MS: i64 = 86_400_000;
    let offset = i64::from(utc_offset_seconds) * 1000;
    WallTime((now.wall.0 + offset).div_euclid(DAY_MS) * DAY_MS - offset)
}

fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// For people: with one digit behind the point.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..=1023 => return format!("{bytes} B"),
        1024..=0xf_ffff => (1 << 10, "KiB"),
        0x10_0000..=0x3fff_ffff => (1 << 20, "MiB"),
        _ => (1_u64 << 30, "GiB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_where_the_site_is() {
        let at = |wall| Now { up: UpTime(0), wall: WallTime(wall), synchronized: false };
        let (hour, day) = (3_600_000, 86_400_000);
        assert_eq!(midnight(at(day + hour), 0), WallTime(day));
        assert_eq!(midnight(at(day + hour), 8 * 3600), WallTime(day - 8 * hour));
        assert_eq!(midnight(at(day + 17 * hour), 8 * 3600), WallTime(2 * day - 8 * hour));
        assert_eq!(midnight(at(day + hour), -2 * 3600), WallTime(2 * hour));
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (256 << 20, "256.0 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
