//! A simulated site with one device of each fault: whatever it makes the program tell is as it is described.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use chargegate::clock::{Clock, UpTime};
use chargegate::sim::Fault;
use chargegate::sim::fleet::{Fleet, Member, device_id};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::scaled::Scaled;
use crate::support::asyncapi::{EVENTS, asyncapi, enveloped};
use crate::support::{Agent, Client, rows_of, wait_for};

const SPEED: u32 = 60;

struct Devices {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    count: u32,
}

impl Devices {
    /// An honest one, and one of each fault.
    fn start(agent: &Agent) -> Self {
        let faults = std::iter::once(None).chain(Fault::ALL.iter().copied().map(Some));
        let members: Vec<Member> =
            (0..).zip(faults).map(|(place, fault)| Member { id: device_id(place).unwrap(), fault }).collect();
        let mut fleet = Fleet::new(agent.address, &members, 1, Clock::scaled(UpTime(0), SPEED)).unwrap();
        let (stop, count) = (fleet.stop_flag(), u32::try_from(members.len()).unwrap());
        Self { stop, thread: Some(std::thread::spawn(move || fleet.run().unwrap())), count }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn whatever_faulty_devices_make_of_their_orders_is_told_as_it_is_described() {
    let inside = Scaled::start(SPEED, "[orders]\nsilent_timeout = \"6m\"\n");
    let agent = &inside.agent;
    let devices = Devices::start(agent);
    wait_for("all ports", || {
        (number(agent, "SELECT count(*) AS n FROM ports WHERE status = 9 AND port_no = 1") >= i64::from(devices.count))
            .then_some(())
    });
    let starts: Vec<Client> = (0..devices.count).map(|place| agent.begin(start(place))).collect();
    for start in starts {
        // Checked by the client.
        start.reply();
    }
    wait_for("all orders to end", || {
        (number(agent, "SELECT count(*) AS n FROM orders WHERE status IN (0, 2, 9)") == 0).then_some(())
    });
    drop(devices);
    let told = agent.told();
    let orders = told.iter().filter(|(topic, _)| topic.ends_with("/order")).count();
    assert!(orders >= Fault::ALL.len(), "{orders}");
    for (topic, event) in told {
        asyncapi().check(&topic, &event).unwrap_or_else(|why| panic!("{topic}: {why}\n{event}"));
    }
}

#[test]
fn all_that_a_demo_tells_is_as_it_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_chargegate"));
    demo.args(["demo", "--seconds", "8", "--speed", "120", "--devices", "30", "--keep"]).arg(&kept);
    let output = demo.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let db = Connection::open(kept.join("chargegate.db")).unwrap();
    let rows = rows_of(&db, EVENTS);
    let ended = rows.iter().filter(|row| row["type"] == "order.completed").count();
    assert!(ended > 10, "{ended} of {}", rows.len());
    for (topic, event) in rows.iter().map(enveloped) {
        asyncapi().check(&topic, &event).unwrap_or_else(|why| panic!("{topic}: {why}\n{event}"));
    }
}

fn start(place: u32) -> Value {
    json!({ "type": "start_charge", "device": device_id(place).unwrap(), "socket": 1, "port": 1, "mode": "time", "minutes": 1 })
}

fn number(agent: &Agent, sql: &str) -> i64 {
    agent.rows(sql)[0]["n"].as_i64().unwrap()
}
