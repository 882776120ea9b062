//! A full store file, ways to damage it, and what is in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chargegate::clock::{UpTime, WallTime};
use chargegate::device::{Device, Socket};
use chargegate::ids::{BusinessNo, DeviceId, MessageId, OrderNo, PortKey, PortNo, SocketNo, WattHours};
use chargegate::order::{Order, OrderStatus, Settlement, Source, StartCourse};
use chargegate::port::state::{Hold, Memory, Port};
use chargegate::port::{Issue, IssueType};
use chargegate::store::{
    ClockQuality, CommandRow, CommandSource, Direction, FrameVerdict, Inconsistency, JournalRow, NewEvent, Sending,
    SendingKind, Settings, Severity, Store, Stream, Subject,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tempfile::TempDir;

pub const WALL: WallTime = WallTime(1_795_508_100_000);
pub const PAGE: usize = 4096;
pub const DEVICES: u64 = 40;
pub const ORDERS: u64 = 4000;

/// A folder with a copy of the full store in it.
pub struct Place {
    folder: TempDir,
    pub path: PathBuf,
}

impl Place {
    /// A store with thousands of rows in every state, as a kill leaves it: everything in the file, not closed.
    pub fn full() -> Self {
        static FULL: OnceLock<Vec<u8>> = OnceLock::new();
        let place = Self::empty();
        std::fs::write(&place.path, FULL.get_or_init(make)).unwrap();
        place
    }

    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.db");
        Self { folder, path }
    }

    pub fn open(&self) -> Store {
        Store::open(&self.path, &Settings::default(), WALL).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    pub fn write(&self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).unwrap();
    }

    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    pub fn rows(&self) -> Rows {
        rows(&self.path)
    }

    /// The rows that the file would have, were its header whole.
    pub fn rows_of_a_whole_copy(&self) -> Rows {
        Self::full().rows()
    }

    pub fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        Connection::open(&self.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn device_id(no: u64) -> DeviceId {
    format!("{:014}", 82_200_520_000_000 + no).parse().unwrap()
}

pub fn port_key(no: u64) -> PortKey {
    let socket = SocketNo::new(u8::try_from(no / DEVICES % 4 + 1).unwrap()).unwrap();
    let port = PortNo::new(u8::try_from(no / DEVICES / 4 % 2).unwrap()).unwrap();
    PortKey { device: device_id(no % DEVICES), socket, port }
}

fn order(no: u64) -> Order {
    let ports = DEVICES * 8;
    let is_open = no + ports / 2 > ORDERS;
    let number = OrderNo::new(&format!("order-{no:05}")).unwrap();
    let mut order = Order::new(number, port_key(no % ports), Source::Cloud, (WALL, UpTime(1000 + no)));
    order.business_no = BusinessNo::new(u16::try_from(no % 60_000 + 1).unwrap());
    order.started_by = Some(format!("customer {}", no % 97));
    order.start_time = Some(WALL);
    order.course.start = Some(StartCourse {
        message_id: MessageId(u32::try_from(no).unwrap()),
        first_sent: order.created_up,
        last_sent: order.created_up,
        sendings: 1,
        accepted: Some(order.created_up),
        ..StartCourse::default()
    });
    if is_open {
        order.status = OrderStatus::Charging;
    } else {
        order.status = OrderStatus::Completed;
        order.is_final = !no.is_multiple_of(50);
        order.end_time = Some(WallTime(WALL.0 + 60_000));
        order.settlement = Some(Settlement::Reported);
        order.energy_wh = Some(WattHours(u32::try_from(no).unwrap()));
        order.energy_max_wh = order.energy_wh;
        order.course.closed = Some(UpTime(2000 + no));
    }
    order
}

/// Every third one lasts.
fn inconsistency(no: u64) -> Inconsistency {
    let lonely = no.is_multiple_of(2);
    let kind = if lonely { IssueType::LonelyChargingPort } else { IssueType::OrderPortMismatch };
    let order_no = OrderNo::new(&format!("order-{no:05}")).filter(|_| !lonely);
    Inconsistency {
        port: port_key(no),
        issue: Issue { kind, order_no },
        began: (WALL, UpTime(1000 + no)),
        late: UpTime(1080 + no),
        ended: (!no.is_multiple_of(3)).then_some((WALL, UpTime(2000 + no))),
    }
}

fn make() -> Vec<u8> {
    let place = Place::empty();
    let mut store = place.open();
    for no in 0..DEVICES {
        let note = Some(format!("row {no}"));
        store
            .put_device(&Device { note: note.map(String::into_boxed_str), online: true, ..Device::new(device_id(no)) })
            .unwrap();
    }
    for no in 0..DEVICES * 8 {
        let key = port_key(no);
        if key.port == PortNo::A {
            store.put_socket(&Socket { firmware: Some(0x00a1), ..Socket::new(key.device, key.socket) }).unwrap();
        }
        let hold = (no % 16 == 0).then(|| Hold::new(UpTime(no)));
        let memory = Memory { hold, ..Memory::default() };
        let port = Port { raw_status: Some(0x80), memory: Some(Box::new(memory)), ..Port::unseen(key) };
        store.put_port(&port).unwrap();
    }
    let data = json!({ "what": "x".repeat(150) });
    for no in 1..=ORDERS {
        let mut order = order(no);
        store.put_order(&mut order).unwrap();
        let event = NewEvent {
            stream: if no % 5 == 0 { Stream::Device } else { Stream::Order },
            kind: "order.started",
            device: Some(order.port.device),
            order_no: Some(&order.order_no),
            at: WallTime(WALL.0 + i64::try_from(no).unwrap()),
            up: order.created_up,
            clock: ClockQuality::Synced,
            data: &data,
        };
        store.add_event(&event).unwrap();
        let frame = no.to_be_bytes().repeat(10);
        let row = JournalRow {
            at: WALL,
            up: order.created_up,
            device: Some(order.port.device),
            socket: Some(order.port.socket),
            port: Some(order.port.port),
            direction: Direction::Up,
            frame: &frame,
            verdict: if no % 7 == 0 { FrameVerdict::Malformed } else { FrameVerdict::Accepted },
            reason: None,
            order_no: Some(&order.order_no),
        };
        store.add_journal(&row).unwrap();
        if no % 4 == 0 {
            let command = CommandRow {
                id: format!("command-{no}"),
                at: WALL,
                created_up: order.created_up,
                source: CommandSource::Cloud,
                actor: "cloud".into(),
                kind: "start_charge".into(),
                payload: json!({ "order_no": order.order_no }).to_string(),
                reply: Some(json!({ "result": "done" }).to_string()),
                order_no: Some(order.order_no.clone()),
            };
            store.put_command(&command).unwrap();
            let sending = Sending {
                device: order.port.device,
                message_id: MessageId(u32::try_from(no).unwrap()),
                kind: SendingKind::Start,
                sent_up: order.created_up,
                socket: Some(order.port.socket),
                port: Some(order.port.port),
                order_no: Some(order.order_no.clone()),
            };
            store.put_sending(&sending).unwrap();
        }
        if no % 25 == 0 {
            store.put_inconsistency(&inconsistency(no / 25)).unwrap();
        }
        if no <= 400 {
            let subject = Subject { device: Some(device_id(no)), ..Subject::default() };
            store.raise_alert("port_fault", Severity::Warning, subject, WALL, &json!({ "no": no })).unwrap();
        }
    }
    store.set_up(UpTime(1_000_000)).unwrap();
    store.set_believed_wall(WALL).unwrap();
    store.commit().unwrap();
    store.close().unwrap();
    // Free pages in the middle, and not closed.
    let db = Connection::open(&place.path).unwrap();
    let sql = "DELETE FROM events WHERE seq BETWEEN 100 AND 600; DELETE FROM journal WHERE id <= 800;
               UPDATE meta SET value = 0 WHERE key = 'clean'";
    db.execute_batch(sql).unwrap();
    db.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
    drop(db);
    assert!(place.beside("-wal").metadata().map_or(0, |log| log.len()) == 0);
    place.bytes()
}

/// The tables whose rows are compared.
pub const TABLES: [&str; 11] = [
    "devices",
    "sockets",
    "ports",
    "orders",
    "sendings",
    "commands",
    "alerts",
    "outbox",
    "events",
    "journal",
    "inconsistencies",
];

/// Rows as text by table. Numbers and sums of events are left out: a new file has its own. So are the marks of ports.
pub type Rows = BTreeMap<&'static str, BTreeSet<String>>;

pub fn rows(path: &Path) -> Rows {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut all = Rows::new();
    for table in TABLES {
        let columns = match table {
            "events" => "rowid, stream, at, created_up, clock, type, device_id, order_no, data",
            "ports" => "rowid, *, json_remove(memory, '$.orders_lost')",
            _ => "rowid, *",
        };
        let mut statement = db.prepare(&format!("SELECT {columns} FROM {table}")).unwrap();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query([]).unwrap();
        let rows = all.entry(table).or_default();
        while let Some(row) = found.next().unwrap() {
            let text: Vec<String> = names
                .iter()
                .enumerate()
                .filter(|(_, name)| table != "ports" || *name != "memory")
                .map(|(column, name)| format!("{name}={}", text(row.get_ref(column).unwrap())))
                .filter(|text| !text.ends_with("={}"))
                .collect();
            rows.insert(text.join(" "));
        }
    }
    all
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "{}".to_owned(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

/// Numbers that look random and are the same in every run.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| u8::try_from(self.next() & 0xff).unwrap());
    }
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Header,
    Schema,
    TableInterior,
    TableLeaf,
    IndexInterior,
    IndexLeaf,
    Free,
}

/// The pages of a file by their kind, counted from 0; `owner` is told of each page of the schema's table.
pub fn pages(bytes: &[u8]) -> BTreeMap<Kind, Vec<usize>> {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut free = BTreeSet::new();
    let mut trunk = number(32);
    while trunk != 0 {
        let at = (trunk - 1) * PAGE;
        free.insert(trunk - 1);
        free.extend((0..number(at + 4)).map(|leaf| number(at + 8 + 4 * leaf) - 1));
        trunk = number(at);
    }
    assert_eq!(free.len(), number(36));
    let is_schema = |page: &[u8]| page.windows(12).any(|text| text == b"CREATE TABLE") && page[0] == 13;
    let mut kinds: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for (no, page) in bytes.chunks(PAGE).enumerate() {
        let kind = match page[0] {
            _ if no == 0 => Kind::Header,
            _ if free.contains(&no) => Kind::Free,
            _ if is_schema(page) => Kind::Schema,
            5 => Kind::TableInterior,
            13 => Kind::TableLeaf,
            2 => Kind::IndexInterior,
            10 => Kind::IndexLeaf,
            other => panic!("page {no} is of kind {other}"),
        };
        kinds.entry(kind).or_default().push(no);
    }
    kinds
}
