//! Evidence for `state_consistency_rate` (contract §7) in the store: what is kept, and what the file alone tells.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may end so")]

use std::path::PathBuf;
use std::time::Duration;

use chargegate::clock::{UpTime, WallTime};
use chargegate::device::Device;
use chargegate::ids::{DeviceId, OrderNo, PortKey, PortNo, SocketNo};
use chargegate::port::state::Port;
use chargegate::port::{Issue, IssueType};
use chargegate::store::{Inconsistency, PortTime, Settings, Store, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

const WALL: WallTime = WallTime(1_790_000_000_000);
const HOUR: u64 = 3_600_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.db");
        Self { _folder: folder, path }
    }

    fn open(&self) -> Store {
        Store::open(&self.path, &Settings::default(), WALL).unwrap()
    }

    fn outside(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.outside().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn device() -> DeviceId {
    "82200520004869".parse().unwrap()
}

fn key(socket: u8) -> PortKey {
    PortKey { device: device(), socket: SocketNo::new(socket).unwrap(), port: PortNo::A }
}

/// A port whose first status came at this up-time.
fn seen(socket: u8, up: u64) -> Port {
    Port { updated_up: Some(UpTime(up)), ..Port::unseen(key(socket)) }
}

fn lonely(socket: u8, began: u64, late: u64, ended: Option<u64>) -> Inconsistency {
    Inconsistency {
        port: key(socket),
        issue: Issue { kind: IssueType::LonelyChargingPort, order_no: None },
        began: (WallTime(WALL.0 + 1), UpTime(began)),
        late: UpTime(late),
        ended: ended.map(|up| (WallTime(WALL.0 + 2), UpTime(up))),
    }
}

fn hours(span: Duration) -> f64 {
    span.as_secs_f64() / 3600.0
}

#[test]
fn an_inconsistency_is_one_row_from_its_beginning_to_its_end_however_often_it_is_written() {
    let place = Place::new();
    let mut store = place.open();
    let order_no = OrderNo::new("A-1");
    let mismatch = Issue { kind: IssueType::OrderPortMismatch, order_no };
    let lasts = Inconsistency { issue: mismatch, ..lonely(1, 100, 180, None) };
    for _ in 0..2 {
        store.put_inconsistency(&lasts).unwrap();
    }
    store.put_inconsistency(&lonely(2, 100, 180, Some(900))).unwrap();
    store.close().unwrap();
    let mut store = place.open();
    assert_eq!(store.open_inconsistencies().unwrap(), std::slice::from_ref(&lasts));
    let ended = Inconsistency { ended: Some((WALL, UpTime(500))), ..lasts };
    for _ in 0..2 {
        store.put_inconsistency(&ended).unwrap();
    }
    store.commit().unwrap();
    assert_eq!(store.open_inconsistencies().unwrap(), []);
    let rows = "SELECT group_concat(concat_ws(' ', socket_no, issue_type, ifnull(order_no, '-'), began_up, late_up, ended_up), '; ')
                  FROM (SELECT * FROM inconsistencies ORDER BY socket_no)";
    assert_eq!(
        place.one::<String>(rows),
        "1 order_port_mismatch A-1 100 180 500; 2 lonely_charging_port - 100 180 900"
    );
}

#[test]
fn the_rate_counts_port_time_beyond_the_grace_within_the_window() {
    let place = Place::new();
    let mut store = place.open();
    // Until hour 100, over a day: one port known all along, one for its last 6 hours.
    store.put_port(&seen(1, HOUR)).unwrap();
    store.put_port(&seen(2, 94 * HOUR)).unwrap();
    for row in [
        // Before the window, and half of it before.
        lonely(1, 10 * HOUR, 11 * HOUR, Some(20 * HOUR)),
        lonely(1, 70 * HOUR, 75 * HOUR, Some(77 * HOUR)),
        // Its grace does not count.
        lonely(1, 90 * HOUR, 91 * HOUR, Some(92 * HOUR)),
        // It lasts.
        lonely(2, 98 * HOUR, 99 * HOUR, None),
    ] {
        store.put_inconsistency(&row).unwrap();
    }
    let time = store.port_time(UpTime(100 * HOUR), DAY).unwrap();
    assert_eq!((hours(time.known), hours(time.inconsistent)), (30.0, 3.0));
    assert_eq!(time.consistency_rate(), Some(0.9));
    store.set_up(UpTime(100 * HOUR)).unwrap();
    // The file alone tells the same, while the agent runs and after a kill.
    store.commit().unwrap();
    assert_eq!(PortTime::read(&place.outside(), DAY).unwrap(), Some(time));
    drop(store);
    assert_eq!(PortTime::read(&place.outside(), DAY).unwrap(), Some(time));
}

#[test]
fn without_port_time_there_is_no_rate() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.port_time(UpTime(HOUR), DAY).unwrap().consistency_rate(), None);
    store.put_port(&seen(1, HOUR)).unwrap();
    assert_eq!(store.port_time(UpTime(HOUR), DAY).unwrap().consistency_rate(), None);
    assert_eq!(store.port_time(UpTime(2 * HOUR), DAY).unwrap().consistency_rate(), Some(1.0));
    // A file of somebody who keeps none of this.
    let other = Connection::open_in_memory().unwrap();
    assert_eq!(PortTime::read(&other, DAY).unwrap(), None);
}

#[test]
fn a_port_is_known_from_its_first_status_whatever_comes_later() {
    let place = Place::new();
    let mut store = place.open();
    store.put_port(&Port::unseen(key(1))).unwrap();
    store.put_port(&seen(2, 5)).unwrap();
    for up in [70, 80] {
        store.put_port(&seen(1, up)).unwrap();
        store.put_port(&seen(2, up)).unwrap();
        store.put_port_figures(&seen(2, up + 1)).unwrap();
    }
    store.commit().unwrap();
    let known = "SELECT group_concat(known_up) FROM (SELECT known_up FROM ports ORDER BY socket_no)";
    assert_eq!(place.one::<String>(known), "70,5");
}

#[test]
fn up_time_never_runs_behind_what_an_inconsistency_was_written_with() {
    let place = Place::new();
    let mut store = place.open();
    store.put_inconsistency(&lonely(1, 100, 180, Some(900))).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_eq!(place.open().up_base(), UpTime(901));
}

#[test]
fn ended_ones_go_with_the_retention_and_those_of_a_removed_device_with_it() -> Result<(), StoreError> {
    let place = Place::new();
    let mut store = place.open();
    let day = 24 * HOUR;
    store.put_device(&Device::new(device()))?;
    for (socket, ended) in [(1, Some(10)), (2, Some(50 * day)), (3, None)] {
        store.put_inconsistency(&lonely(socket, 1, 2, ended))?;
    }
    assert_eq!(store.drop_old(UpTime(91 * day))?.rows, 1);
    store.commit()?;
    assert_eq!(place.one::<String>("SELECT group_concat(socket_no) FROM inconsistencies"), "2,3");
    store.remove_device(device())?;
    store.commit()?;
    assert_eq!(place.one::<i64>("SELECT count(*) FROM inconsistencies"), 0);
    Ok(())
}

/// Tables, indexes and views with their columns.
fn shape(db: &Connection) -> Vec<String> {
    let sql =
        "SELECT concat_ws(' ', s.type, s.name, group_concat(concat_ws(' ', c.name, c.type, c.\"notnull\", c.pk), ', '))
                 FROM sqlite_schema s LEFT JOIN pragma_table_info(s.name) c GROUP BY s.name ORDER BY s.name";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A file of version 1 with a port in it, last noted after an hour; not closed.
fn version_1() -> Place {
    let place = Place::new();
    let db = place.outside();
    db.execute_batch(include_str!("vectors/schema-1.sql")).unwrap();
    db.execute_batch(
        "INSERT INTO meta VALUES ('instance', 'abc'), ('created_at', 0), ('clean', 1), ('up_ms', 3600000);
         INSERT INTO ports (device_id, socket_no, port_no, status, updated_up) VALUES ('82200520004869', 1, 0, 9, 50);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    db.pragma_update(None, "application_id", chargegate::store::APPLICATION_ID).unwrap();
    place
}

#[test]
fn a_file_of_version_1_is_upgraded_with_its_rows_and_its_port_time_begins() {
    let (place, fresh) = (version_1(), Place::new());
    assert_eq!(PortTime::read(&place.outside(), DAY).unwrap(), None, "nothing was kept");
    let mut store = place.open();
    drop(fresh.open());
    assert_eq!((store.instance(), store.up_base()), ("abc", UpTime(HOUR + 1)));
    assert_eq!(store.ports().unwrap().len(), 1);
    assert_eq!(shape(&place.outside()), shape(&fresh.outside()));
    let time = store.port_time(UpTime(3 * HOUR), DAY).unwrap();
    assert_eq!(hours(time.known), 2.0);
    store.put_inconsistency(&lonely(1, HOUR, 2 * HOUR, None)).unwrap();
    assert_eq!(store.port_time(UpTime(3 * HOUR), DAY).unwrap().consistency_rate(), Some(0.5));
}

#[test]
fn a_damaged_file_of_version_1_is_brought_over_without_a_word_of_a_table_that_it_never_had() {
    let place = version_1();
    // A row that the program cannot read.
    let db = place.outside();
    db.execute_batch(
        "INSERT INTO devices VALUES ('no id', 'enabled', 0, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .unwrap();
    db.execute_batch("UPDATE meta SET value = 0 WHERE key = 'clean'").unwrap();
    drop(db);
    let store = place.open();
    let damage = store.damage().unwrap().unwrap();
    assert_eq!(damage["pages_lost"], serde_json::json!({}), "{damage}");
    assert_eq!(store.ports().unwrap().len(), 1);
    assert_eq!(place.one::<i32>("PRAGMA user_version"), 2);
}
