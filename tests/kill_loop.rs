//! Kills the real program again and again under load, and holds a ledger of what devices were told: no report that was
//! acknowledged is lost, none counts twice. Seconds of it: `CHARGEGATE_KILL_LOOP_SECONDS`, 60 when that is not set.
//!
//! The load: devices that show their ports several times a second, orders that are started, run for a moment, end or are
//! stopped, reports that are repeated although they were acknowledged. Kills come at random moments, and right after an
//! acknowledgement has arrived: what is said before it is durable is lost then.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "running/agent.rs"]
#[expect(dead_code, reason = "shared with the tests of damaged stores")]
mod agent;
#[path = "running/device.rs"]
#[expect(dead_code, reason = "shared with the tests of damaged stores")]
mod device;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use agent::{Agent, Folder, PATIENCE};
use chargegate::clock::Stopwatch;
use chargegate::ids::DeviceId;
use device::{Device, Ended};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const DEVICES: u64 = 24;
/// Threads that start orders.
const STARTERS: u64 = 3;

const QUICK: &str = "orders.end_report_grace = \"2s\"\norders.answer_timeout = \"1s\"\n\
                     devices.heartbeat_interval = \"1s\"\ndevices.offline_after = \"3s\"\nlog.level = \"warn\"";

fn device_id(no: u64) -> DeviceId {
    format!("{:014}", 82_241_218_000_000 + no).parse().unwrap()
}

/// Numbers that differ from thread to thread and not from run to run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What all threads know.
#[derive(Default)]
struct Shared {
    /// No order is started any more.
    winding_up: AtomicBool,
    /// Devices with nothing left to do.
    done: AtomicU64,
    over: AtomicBool,
    /// Orders whose start was told to be done.
    started: Mutex<BTreeSet<String>>,
    /// Stops that were done.
    stopped: AtomicU64,
    /// Who hears the next acknowledgement kills this agent.
    doomed: Mutex<Option<Pid>>,
}

/// What a device did and was told.
#[derive(Default)]
struct Ledger {
    sent: Vec<Ended>,
    acknowledged: Vec<Ended>,
    repeated: u64,
    statuses: u64,
}

fn live(no: u64, folder: &Folder, shared: &Shared) -> Ledger {
    let mut device = Device::new(device_id(no), folder.address);
    device.runs_for = |number| Duration::from_millis(20 + u64::from(number) * 37 % 800);
    device.shows_every = Duration::from_millis(250);
    device.repeats_one_in = 3;
    let mut was_done = false;
    while !shared.over.load(Ordering::Relaxed) {
        let acknowledged = device.acknowledged.len();
        device.live();
        if device.acknowledged.len() > acknowledged {
            kill_doomed(shared);
        }
        let is_done = shared.winding_up.load(Ordering::Relaxed) && device.is_done();
        if is_done != was_done {
            was_done = is_done;
            let _ = if is_done {
                shared.done.fetch_add(1, Ordering::Relaxed)
            } else {
                shared.done.fetch_sub(1, Ordering::Relaxed)
            };
        }
    }
    let Device { sent, acknowledged, repeated, statuses, .. } = device;
    Ledger { sent, acknowledged, repeated, statuses }
}

/// At once: the moment in which what was said may not be durable is short.
fn kill_doomed(shared: &Shared) {
    if let Some(agent) = shared.doomed.lock().unwrap().take() {
        kill_process(agent, Signal::KILL).unwrap();
    }
}

/// Starts orders on random ports as fast as replies come, and stops some of them. Returns how many were asked for.
fn start_orders(starter: u64, folder: &Folder, shared: &Shared) -> u64 {
    let mut seeded = Seeded(0x0dd5_eed0 + starter);
    let mut count = 0;
    while !shared.winding_up.load(Ordering::Relaxed) {
        count += 1;
        let order_no = format!("order-{starter}-{count}");
        let start = json!({"id": format!("command-{starter}-{count}"), "type": "start_charge",
                           "device": device_id(seeded.below(DEVICES)), "socket": 1, "port": seeded.below(2),
                           "order_no": order_no, "mode": "time", "minutes": 10});
        match folder.command(&start) {
            Some(reply) if reply["result"] == "done" => {
                shared.started.lock().unwrap().insert(order_no.clone());
                if seeded.below(4) == 0 {
                    stop_order(&order_no, folder, shared);
                }
            }
            // The port is taken, or the agent has just been killed.
            Some(_) | None => thread::park_timeout(Duration::from_millis(2)),
        }
    }
    count
}

fn stop_order(order_no: &str, folder: &Folder, shared: &Shared) {
    let stop = json!({"id": format!("stop-{order_no}"), "type": "stop_charge", "order_no": order_no});
    if folder.command(&stop).is_some_and(|reply| reply["result"] == "done") {
        shared.stopped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Kills an agent at a random moment: while it opens, while it takes up what was under way, or under full load; or as
/// soon after that as an acknowledgement arrives at a device. Whether it was that.
fn kill_sometime(agent: Agent, seeded: &mut Seeded, shared: &Shared) -> bool {
    let longest = [20, 200, 1500, 300][usize::try_from(seeded.below(4)).unwrap()];
    thread::park_timeout(Duration::from_millis(seeded.below(longest)));
    let mut was_heard = false;
    if longest == 300 {
        *shared.doomed.lock().unwrap() = Some(agent.pid());
        let patience = Stopwatch::start();
        while shared.doomed.lock().unwrap().is_some() && patience.elapsed() < Duration::from_secs(2) {
            thread::park_timeout(Duration::from_millis(2));
        }
        // Its number is not given to another process before it is waited for, below.
        was_heard = shared.doomed.lock().unwrap().take().is_none();
    }
    agent.kill();
    was_heard
}

/// Waits without a lock until something holds.
fn until(what: &str, patience: Duration, holds: impl Fn() -> bool) {
    let stopwatch = Stopwatch::start();
    while !holds() {
        assert!(stopwatch.elapsed() < patience, "never: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn no_acknowledged_report_is_lost_and_none_counts_twice_however_often_the_agent_is_killed() {
    let seconds = std::env::var("CHARGEGATE_KILL_LOOP_SECONDS").ok().map_or(60, |text| text.parse().unwrap());
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("site.db");
    let folder = Folder::new(place.path(), &store, QUICK);
    let shared = Arc::new(Shared::default());
    let devices: Vec<_> = (0..DEVICES)
        .map(|no| {
            let (folder, shared) = (folder.clone(), Arc::clone(&shared));
            thread::spawn(move || live(no, &folder, &shared))
        })
        .collect();
    let starters: Vec<_> = (0..STARTERS)
        .map(|no| {
            let (folder, shared) = (folder.clone(), Arc::clone(&shared));
            thread::spawn(move || start_orders(no, &folder, &shared))
        })
        .collect();

    let mut seeded = Seeded(0xdead_beef);
    let (stopwatch, mut kills, mut heard) = (Stopwatch::start(), 0_u64, 0_u64);
    while stopwatch.elapsed() < Duration::from_secs(seconds) {
        heard += u64::from(kill_sometime(folder.spawn(), &mut seeded, &shared));
        kills += 1;
    }
    let agent = folder.spawn();
    shared.winding_up.store(true, Ordering::Relaxed);
    let asked: u64 = starters.into_iter().map(|starter| starter.join().unwrap()).sum();
    until("devices are done", PATIENCE * 2, || shared.done.load(Ordering::Relaxed) == DEVICES);
    // Every order comes to its end, whatever the kills left of it.
    until("orders are closed", PATIENCE * 2, || {
        let (code, orders) = folder.run(&["orders", "--open", "--json"]);
        code == 0 && orders.trim() == "[]"
    });
    until("no issue", PATIENCE * 2, || folder.run(&["check"]).0 == 0);
    shared.over.store(true, Ordering::Relaxed);
    let mut ledger = Ledger::default();
    for device in devices {
        let one = device.join().unwrap();
        ledger.sent.extend(one.sent);
        ledger.acknowledged.extend(one.acknowledged);
        ledger.repeated += one.repeated;
        ledger.statuses += one.statuses;
    }
    let Ledger { sent, acknowledged, repeated, statuses } = ledger;
    agent.terminate();
    let (status, lines) = agent.ended();
    assert_eq!(status.code(), Some(0), "{lines:#?}");

    let db = Connection::open(&store).unwrap();
    let booked = booked(&db);
    let stopped = shared.stopped.load(Ordering::Relaxed);
    println!("{kills} kills, {heard} of them right after an acknowledgement; {asked} starts asked for");
    println!("{statuses} statuses, {stopped} stops, {} reports acknowledged, {repeated} once more", acknowledged.len());
    println!("{} of them were nobody's", nobodys(&db).len());
    let least = [kills, 4 * heard, acknowledged.len() as u64, 10 * stopped, 5 * repeated, statuses / 10];
    assert!(least.iter().all(|count| *count > seconds), "too little happened: {least:?}");
    let (nobodys, given_up) = (nobodys(&db), given_up(&db));
    for ended in &acknowledged {
        let orders = booked.get(ended).map_or(&[][..], Vec::as_slice);
        let told = nobodys.iter().filter(|nobodys| *nobodys == ended).count();
        // A start that was given up, as the port was idle when asked, has no claim to a report that comes after that.
        let is_nobodys = orders.is_empty() && told == 1 && given_up.contains(&(ended.device, ended.port));
        let counts_once = orders.len() == 1 && told == 0;
        assert!(counts_once || is_nobodys, "{ended:?} counts for {orders:?}: {:#?}", story(&db, ended));
    }
    let sent: BTreeSet<Ended> = sent.into_iter().collect();
    assert!(booked.keys().all(|ended| sent.contains(ended)), "a report was booked that no device sent");
    for order_no in shared.started.lock().unwrap().iter() {
        let sql = "SELECT settlement IN ('reported', 'corrected') FROM orders WHERE order_no = ?1";
        let reported: Option<bool> = db.query_row(sql, [order_no], |row| row.get(0)).ok();
        assert_eq!(reported, Some(true), "{order_no} was started");
    }
    whole(&db);
}

/// Reports in the store, and the orders that they count for.
fn booked(db: &Connection) -> BTreeMap<Ended, Vec<String>> {
    let mut booked: BTreeMap<Ended, Vec<String>> = BTreeMap::new();
    let sql = "SELECT device_id, port_no, business_no, energy_wh, order_no FROM orders
                WHERE settlement IN ('reported', 'corrected')";
    let mut statement = db.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let device = row.get::<_, String>(0).unwrap().parse().unwrap();
        let (port, number, energy) = (row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
        booked.entry(Ended { device, port, number, energy }).or_default().push(row.get(4).unwrap());
    }
    booked
}

/// Reports that were told to be nobody's.
fn nobodys(db: &Connection) -> Vec<Ended> {
    let sql = "SELECT device_id, data ->> 'port', data ->> 'business_no', data ->> 'energy_wh' FROM events
                WHERE type = 'order.unknown_end'";
    let mut statement = db.prepare(sql).unwrap();
    let ended = |row: &rusqlite::Row<'_>| {
        let device = row.get::<_, String>(0)?.parse().unwrap();
        Ok(Ended { device, port: row.get(1)?, number: row.get(2)?, energy: row.get(3)? })
    };
    statement.query_map([], ended).unwrap().map(Result::unwrap).collect()
}

/// Ports with a start that was given up.
fn given_up(db: &Connection) -> BTreeSet<(DeviceId, u8)> {
    let sql = "SELECT DISTINCT device_id, port_no FROM orders WHERE end_reason = 'start_timeout'";
    let mut statement = db.prepare(sql).unwrap();
    let port = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?.parse().unwrap(), row.get(1)?));
    statement.query_map([], port).unwrap().map(Result::unwrap).collect()
}

/// What the store has on the port around a report, to see what went wrong.
fn story(db: &Connection, ended: &Ended) -> Vec<String> {
    let sql = "WITH told(up) AS (SELECT up FROM journal WHERE device_id = ?1 AND port_no = ?3
                                    AND hex(frame) LIKE '%B0' || ?2 || '%' ORDER BY id LIMIT 1)
               SELECT * FROM (
               SELECT journal.up, direction || ' ' || verdict || ' ' || ifnull(order_no, '') || ' ' || ifnull(reason, '') ||
                      ' ' || hex(frame)
                 FROM journal, told WHERE device_id = ?1 AND ifnull(port_no, ?3) = ?3
                  AND journal.up BETWEEN told.up - 400 AND told.up + 500
                UNION ALL
               SELECT created_up, 'event ' || type || ' ' || ifnull(order_no, '') || ' ' || data
                 FROM events, told
                WHERE device_id = ?1 AND ifnull(data ->> 'port', ?3) = ?3
                  AND created_up BETWEEN told.up - 400 AND told.up + 500
                UNION ALL
               SELECT created_up, 'order ' || order_no || ' status ' || status || ' number ' ||
                      ifnull(business_no, '-') || ' settlement ' || ifnull(settlement, '-')
                 FROM orders, told WHERE device_id = ?1 AND port_no = ?3 AND created_up BETWEEN told.up - 3000 AND told.up + 1000
               ) ORDER BY 1";
    let mut statement = db.prepare(sql).unwrap();
    let of = (ended.device.to_string(), format!("{:04X}", ended.number), ended.port);
    let text = |row: &rusqlite::Row<'_>| Ok(format!("{} {}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    statement.query_map(of, text).unwrap().map(Result::unwrap).collect()
}

/// The file, its events and its alerts, after all those kills.
fn whole(db: &Connection) {
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    assert_eq!(
        one("SELECT count(*) FROM (SELECT stream FROM events GROUP BY stream HAVING min(seq) <> 1
                      OR max(seq) <> count(*))"),
        0,
        "numbers with gaps"
    );
    // Told once each: an order starts once, and no revision of it is told twice.
    assert_eq!(
        one("SELECT count(*) FROM (SELECT 1 FROM events WHERE type = 'order.started'
                     GROUP BY order_no HAVING count(*) > 1)"),
        0,
        "started twice"
    );
    assert_eq!(
        one("SELECT count(*) FROM (SELECT 1 FROM events
                     WHERE type IN ('order.completed', 'order.closed', 'order.failed', 'order.corrected')
                     GROUP BY order_no, data ->> 'revision' HAVING count(*) > 1)"),
        0,
        "a revision told twice"
    );
    let strays: Vec<Value> = db
        .prepare("SELECT data FROM events WHERE type IN ('consistency.repaired', 'order.adopted')")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(|data| serde_json::from_str(&data.unwrap()).unwrap())
        .collect();
    assert!(strays.is_empty(), "sessions of nobody: {strays:#?}");
    assert_eq!(one("SELECT count(*) FROM alerts WHERE rule = 'store_damaged'"), 0, "a kill is no damage");
}
