//! What the cloud's side asks to be told again: a snapshot of everything, and events that it missed. The real program,
//! asked through its control socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod replay;
mod snapshot;
mod status;

use std::path::Path;

use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::config::Config;
use chargegate::site::Site;
use chargegate::store::{ClockQuality, NewEvent, Settings, Store, Stream};
use chargegate::turn::{ClientId, Core as _, Output};
use serde_json::{Value, json};

use support::Agent;

/// What a reply says: its result, its code, the field.
fn code(reply: &Value) -> (&str, &str, Option<&str>) {
    (
        reply["result"].as_str().unwrap(),
        reply["error"]["code"].as_str().unwrap_or("-"),
        reply["error"]["field"].as_str(),
    )
}

/// Writes into the store of an agent that does not run.
fn fill(agent: &Agent, write: impl FnOnce(&mut Store)) {
    let mut store = Store::open(&agent.path("store.db"), &Settings::default(), WallTime(1_790_000_000_000)).unwrap();
    write(&mut store);
    store.commit().unwrap();
    store.close().unwrap();
}

/// A broker that nobody is.
const CLOUD: &str = "[site]\nid = \"yard\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n";

fn add_events(store: &mut Store, count: u64) {
    for number in 1..=count {
        let (device, data) = (support::id(), json!({ "device": support::id().to_string() }));
        let (kind, at, up) = ("device.online", WallTime(1_790_000_000_000), UpTime(0));
        let clock = ClockQuality::Synced;
        let event =
            NewEvent { stream: Stream::Device, kind, device: Some(device), order_no: None, at, up, clock, data: &data };
        assert_eq!(store.add_event(&event).unwrap(), number);
    }
}

/// A site without its loop: what has to be tried between two turns can be.
struct Turns {
    site: Site,
    up: u64,
}

impl Turns {
    fn open(path: &Path, fill: impl FnOnce(&mut Store)) -> Self {
        let settings = Settings { max_size: 1 << 20, ..Settings::default() };
        let mut store = Store::open(path, &settings, WallTime(1_790_000_000_000)).unwrap();
        fill(&mut store);
        store.commit().unwrap();
        let now = Self::at(0);
        Self { site: Site::open(Config::parse(CLOUD).unwrap(), store, now).unwrap(), up: 0 }
    }

    fn at(up: u64) -> Now {
        Now { up: UpTime(up), wall: WallTime(1_790_000_000_000 + i64::try_from(up).unwrap()), synchronized: true }
    }

    fn command(&mut self, command: &Value) -> Option<Value> {
        self.site.command(ClientId(1), command.to_string().as_bytes(), None, Self::at(self.up)).unwrap();
        self.end_turn()
    }

    /// What is due next, and the reply that came of it.
    fn turn(&mut self) -> Option<Value> {
        self.up = self.site.next_deadline().unwrap().0.max(self.up);
        self.site.timeout(Self::at(self.up)).unwrap();
        self.end_turn()
    }

    fn end_turn(&mut self) -> Option<Value> {
        if self.site.wants_commit() {
            self.site.commit(Self::at(self.up)).unwrap();
        }
        let mut reply = None;
        while let Some((output, bytes)) = self.site.outputs().next() {
            if let Output::Reply(..) = output {
                reply = Some(serde_json::from_slice(bytes).unwrap());
            }
        }
        self.site.outputs().recycle();
        reply
    }

    fn reply(&mut self) -> Value {
        (0..1000).find_map(|_| self.turn()).unwrap()
    }
}
