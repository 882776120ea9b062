//! Orders a charge at each device, in all four modes, over the control socket as a site's own program would.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chargegate::sim::Member;
use chargegate::sim::random::Random;
use serde_json::{Value, json};

use super::super::agent::made_up_id;

/// A start that was rejected, because the port is not known yet or not free, is tried again after so much time.
const TRY_AGAIN: Duration = Duration::from_secs(20);
/// Between the orders of a device when the demo has no end.
const PAUSE: Duration = Duration::from_secs(120);
/// Minutes of an order when the demo has no end.
const MINUTES: (u64, u64) = (5, 15);

/// What is to be ordered at one device.
#[derive(Debug)]
struct Order {
    member: Member,
    mode: usize,
    minutes: u64,
    due: Option<Duration>,
    attempt: u32,
}

/// Sends starts when they are due, and again when they were rejected.
#[derive(Debug)]
pub(super) struct Starter {
    out: UnixStream,
    replies: Receiver<Value>,
    orders: Vec<Order>,
    under_way: BTreeMap<String, usize>,
    /// How the ids of its commands begin: a kept store knows those of earlier demos.
    mark: String,
    /// The demo ends: each device gets one order, and none is started after this.
    latest: Option<Duration>,
}

impl Starter {
    /// `length` is how long the demo lasts by its own clock; without end when there is none.
    pub(super) fn connect(socket: &Path, members: &[Member], length: Option<Duration>) -> io::Result<Self> {
        let out = UnixStream::connect(socket)?;
        let lines = BufReader::new(out.try_clone()?).lines();
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(reply) = serde_json::from_str(&line) else { continue };
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        let orders = plan(members, length.map(|length| length.as_secs()));
        let (under_way, mark) = (BTreeMap::new(), made_up_id());
        Ok(Self { out, replies, orders, under_way, mark, latest: length.map(|length| length / 2) })
    }

    /// Sends what is due, and takes replies.
    pub(super) fn act(&mut self, now: Duration) -> io::Result<()> {
        while let Ok(reply) = self.replies.try_recv() {
            self.take(&reply, now);
        }
        for place in 0..self.orders.len() {
            if self.orders[place].due.is_some_and(|due| due <= now) {
                self.order(place)?;
            }
        }
        Ok(())
    }

    fn order(&mut self, place: usize) -> io::Result<()> {
        let order = &mut self.orders[place];
        order.due = None;
        order.attempt += 1;
        let id = format!("{}-{}-{}", self.mark, order.member.id, order.attempt);
        let mut command = json!({ "id": id, "type": "start_charge", "actor": "demo", "device": order.member.id,
                                  "socket": 1, "port": place % 2 });
        for (field, value) in order.plan() {
            command[field] = value;
        }
        self.under_way.insert(id, place);
        writeln!(self.out, "{command}")
    }

    fn take(&mut self, reply: &Value, now: Duration) {
        let id = reply["id"].as_str().unwrap_or_default();
        let Some(place) = self.under_way.remove(id) else { return };
        let order = &mut self.orders[place];
        if reply["result"] == "rejected" {
            let again = now + TRY_AGAIN;
            order.due = self.latest.is_none_or(|latest| again <= latest).then_some(again);
        } else if self.latest.is_none() {
            // Busy until this order is over: the port refuses until then.
            order.due = Some(now + PAUSE + Duration::from_secs(order.minutes * 60));
        }
    }
}

impl Order {
    fn plan(&self) -> Vec<(&'static str, Value)> {
        let minutes = self.minutes;
        match self.mode {
            0 | 1 => vec![("mode", "time".into()), ("minutes", minutes.into())],
            // What 80 W take in that time: nearly all batteries take more.
            2 => vec![("mode", "energy".into()), ("energy_wh", (minutes * 80 / 60).max(1).into())],
            3 => vec![
                ("mode", "tiers".into()),
                ("amount_cents", minutes.into()),
                (
                    "tiers",
                    json!([{ "power_w": 150, "price_cents": 60, "minutes": 60 },
                                 { "power_w": 400, "price_cents": 90, "minutes": 60 }]),
                ),
            ],
            _ => vec![
                ("mode", "fee".into()),
                // The same, at a cent a Wh in all.
                ("amount_cents", (minutes * 80 / 60).max(1).into()),
                ("service_fee_by", "energy".into()),
                ("tiers", json!([{ "until": "23:59", "electricity_cents": 700, "service_cents": 300 }])),
            ],
        }
    }
}

/// Orders begin within the first third, and are over well before the end.
fn plan(members: &[Member], length: Option<u64>) -> Vec<Order> {
    let mut random = Random::new(11);
    let window = length.map_or(120, |length| length * 3 / 10);
    let (least, most) = length.map_or(MINUTES, |length| ((length / 60 / 6).max(1), (length / 60 * 2 / 5).max(1)));
    let order = |(place, member): (usize, &Member)| Order {
        member: *member,
        mode: place % 5,
        minutes: random.within(least, most),
        due: Some(Duration::from_secs(random.within(window / 20, window))),
        attempt: 0,
    };
    members.iter().enumerate().map(order).collect()
}
