//! The other side of the cloud feed (docs/cloud.md): keeps every event once, asks for those that are missing, keeps the
//! newest state of each order, and prints an order when it is settled.
//!
//! `cargo run --example receiver -- [--ack] HOST:PORT PREFIX/SITE FILE`; `--ack` with `mqtt.confirm = "application"`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::{collections::BTreeSet, time::Duration};

use rumqttc::v5::{Client, Event, MqttOptions, mqttbytes::QoS::AtLeastOnce, mqttbytes::v5::Packet};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// What is to be published, by the end of its topic.
type Sendings = Vec<(&'static str, Value)>;
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// All of a stream up to `done` are here, or gone for ever; the rowid of `streams` tells which instance came first.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, instance, stream, seq, event, UNIQUE (instance, stream, seq));
CREATE TABLE IF NOT EXISTS streams (instance, stream, done, PRIMARY KEY (instance, stream));
CREATE TABLE IF NOT EXISTS orders (order_no TEXT PRIMARY KEY, revision, generation, seq, final, data);
CREATE TABLE IF NOT EXISTS claimed (was TEXT PRIMARY KEY);";
const UPSERT: &str = "INSERT INTO orders SELECT ?1, ?2, min(rowid), ?3, ?4, ?5 FROM streams WHERE instance = ?6
    AND ?1 NOT IN (SELECT was FROM claimed) HAVING count(*) > 0 ON CONFLICT DO UPDATE SET revision = excluded.revision,
    generation = excluded.generation, seq = excluded.seq, final = excluded.final, data = excluded.data
    WHERE (excluded.revision, excluded.generation, excluded.seq) > (revision, generation, seq)";
const GAPS: &str = "SELECT seq + 1, next - 1 FROM (SELECT seq, lead(seq) OVER (ORDER BY seq) AS next
    FROM (SELECT ?3 AS seq UNION SELECT ?4 UNION SELECT seq FROM events WHERE instance = ?1 AND stream = ?2
    AND seq > ?3 AND seq < ?4)) WHERE next > seq + 1 AND seq >= ?3 AND ?1 = ?5 LIMIT 50";
const RAISE: &str = "INSERT INTO streams VALUES (?1, ?2, ?3)
    ON CONFLICT DO UPDATE SET done = max(done, excluded.done) RETURNING done";

fn main() -> Outcome<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let acks = words.iter().position(|word| word == "--ack").map(|place| words.remove(place)).is_some();
    let [address, site, file] = &words[..] else { return Err("receiver [--ack] HOST:PORT PREFIX/SITE FILE".into()) };
    let (host, port) = address.rsplit_once(':').ok_or("HOST:PORT")?;
    let db = Connection::open(file)?;
    db.execute_batch(TABLES)?;
    let instance = db.query_row("SELECT instance FROM streams ORDER BY rowid DESC LIMIT 1", [], |row| row.get(0)).ok();
    let mut receiver = Receiver { db, acks, instance, asked: BTreeSet::new() };
    loop {
        // One client a connection: what is confirmed late on an old one must not count on the next.
        let mut options = MqttOptions::new(format!("receiver-{}", site.replace('/', "-")), host, port.parse()?);
        // The broker keeps for us what comes meanwhile, and gets no confirmation before it is on disk.
        options.set_clean_start(false).set_session_expiry_interval(Some(604_800)).set_manual_acks(true);
        options.set_receive_maximum(Some(64)).set_max_packet_size(Some(1 << 20)).set_outgoing_inflight_upper_limit(512);
        let (client, mut connection) = Client::new(options, 1024);
        client.try_subscribe(format!("{site}/state"), AtLeastOnce)?;
        client.try_subscribe(format!("{site}/event/+"), AtLeastOnce)?;
        receiver.asked.clear();
        for happened in connection.iter().map_while(Result::ok) {
            if let Event::Incoming(Packet::Publish(message)) = happened {
                for (tail, payload) in receiver.take(&String::from_utf8_lossy(&message.topic), &message.payload)? {
                    client.try_publish(format!("{site}/{tail}"), AtLeastOnce, false, payload.to_string())?;
                }
                client.try_ack(&message)?;
            }
        }
        eprintln!("no connection to {address}");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

struct Receiver {
    db: Connection,
    acks: bool,
    /// The one that the site has now.
    instance: Option<String>,
    /// Gaps that were asked for on this connection.
    asked: BTreeSet<(String, i64, i64)>,
}

impl Receiver {
    /// What was taken is durable when it returns. What is no message of the feed is left out.
    fn take(&mut self, topic: &str, payload: &[u8]) -> Outcome<Sendings> {
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        match (topic.rsplit_once("/event/"), message["instance"].as_str(), message["seq"].as_i64()) {
            (Some((_, stream)), Some(instance), Some(seq)) => self.event(instance, stream, seq, &message),
            (None, Some(instance), None) => self.state(instance, &message),
            _ => Ok(Vec::new()),
        }
    }

    /// What is older than the oldest is gone for ever; what is older than the next should be here.
    fn state(&mut self, instance: &str, state: &Value) -> Outcome<Sendings> {
        self.instance = Some(instance.to_owned());
        let mut asks = Vec::new();
        for (stream, range) in state["streams"].as_object().into_iter().flatten() {
            let done = advance(&self.db, instance, stream, range["oldest"].as_i64().unwrap_or(1) - 1)?;
            asks.append(&mut self.ask(instance, stream, done, range["next"].as_i64().unwrap_or(1))?);
        }
        Ok(asks)
    }

    fn event(&mut self, instance: &str, stream: &str, seq: i64, event: &Value) -> Outcome<Sendings> {
        let (data, transaction) = (&event["data"], self.db.transaction()?);
        let row = params![event["id"].as_str(), instance, stream, seq, event.to_string()];
        transaction.execute("INSERT OR IGNORE INTO events VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
        let done = advance(&transaction, instance, stream, 0)?;
        let settled = data["revision"].is_i64() && upsert(&transaction, instance, seq, data)?;
        transaction.commit()?;
        if settled {
            println!("settled {} revision {} energy_wh {}", data["order_no"], data["revision"], data["energy_wh"]);
        }
        let ack = ("ack", json!({ "stream": stream, "instance": instance, "upto": done }));
        let asks = self.ask(instance, stream, done, seq)?;
        Ok(asks.into_iter().chain((self.acks && done > 0).then_some(ack)).collect())
    }

    /// Asks for what is missing between these two; only the present store of the site can still have it.
    fn ask(&mut self, instance: &str, stream: &str, done: i64, next: i64) -> Outcome<Sendings> {
        let mut asks = Vec::new();
        let mut gaps = self.db.prepare_cached(GAPS)?;
        let mut gaps = gaps.query(params![instance, stream, done, next, self.instance])?;
        while let Some(gap) = gaps.next()? {
            let (from, to): (i64, i64) = (gap.get(0)?, gap.get(1)?);
            if self.asked.insert((stream.to_owned(), from, to)) {
                // A new id each time: a repetition under the old one would send nothing.
                let id: String = self.db.query_row("SELECT hex(randomblob(16))", [], |row| row.get(0))?;
                let gap = json!({ "id": id, "type": "replay", "stream": stream, "from_seq": from, "to_seq": to });
                asks.push(("command", gap));
            }
        }
        Ok(asks)
    }
}

/// Up to where a stream is complete, from at least `least` on.
fn advance(db: &Connection, instance: &str, stream: &str, least: i64) -> Outcome<i64> {
    let raise = |to: i64| db.query_row(RAISE, params![instance, stream, to], |row| row.get(0));
    let mut done: i64 = raise(least)?;
    let mut has = db.prepare_cached("SELECT 1 FROM events WHERE instance = ?1 AND stream = ?2 AND seq = ?3")?;
    while has.exists(params![instance, stream, done + 1])? {
        done += 1;
    }
    Ok(raise(done)?)
}

/// Takes an order unless a newer state of it is here; whether it is settled by that.
fn upsert(db: &Connection, instance: &str, seq: i64, order: &Value) -> Outcome<bool> {
    if let Some(was) = order["was_order_no"].as_str() {
        db.execute("INSERT OR IGNORE INTO claimed VALUES (?1)", [was])?;
        db.execute("DELETE FROM orders WHERE order_no = ?1", [was])?;
    }
    let (number, settled) = (order["order_no"].as_str(), order["final"] == true);
    let row = params![number, order["revision"].as_i64(), seq, settled, order.to_string(), instance];
    Ok(db.execute(UPSERT, row)? == 1 && settled)
}
