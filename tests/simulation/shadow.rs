//! What really happened: who ordered what, what flowed at each port, and what devices were told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chargegate::bkv::EndReport;
use chargegate::ids::MessageId;
use chargegate::sim::{Witness, Witnessed};
use serde_json::Value;

/// A port: place of its device, and its number there.
pub type At = (usize, u8);

/// What somebody asked for.
pub struct Ordered {
    pub at: At,
    pub asked: u64,
    /// Paid for so long, ms.
    pub paid: u64,
    pub stop_asked: bool,
}

/// Power that flowed.
#[derive(Debug, Clone)]
pub struct Charging {
    pub order: Option<String>,
    pub number: u16,
    pub began: u64,
    pub ended: Option<u64>,
    pub energy: i64,
    pub minutes: i64,
    /// Times that it began anew.
    pub anew: u32,
}

#[derive(Default)]
pub struct Shadow {
    pub orders: BTreeMap<String, Ordered>,
    /// Asked for, and not sent yet, the oldest first.
    unsent: BTreeMap<At, VecDeque<String>>,
    commands: BTreeMap<String, String>,
    starts: BTreeMap<(usize, MessageId), String>,
    pub sessions: BTreeMap<At, Vec<Charging>>,
    /// Reports that devices were told are received.
    pub ledger: Vec<(usize, EndReport)>,
    /// Stops that reached a session that is paid for, and whose order may have failed in what is not committed yet.
    pub doubtful_stops: Vec<(String, u64)>,
    /// Orders that were seen closed for want of news.
    pub silent_closes: BTreeSet<String>,
    /// Since when something that has to pass lasts.
    pub since: BTreeMap<String, u64>,
}

impl Shadow {
    pub fn asked(&mut self, command: String, order_no: String, at: At, now: u64, paid: u64) {
        self.unsent.entry(at).or_default().push_back(order_no.clone());
        self.commands.insert(command, order_no.clone());
        let ordered = Ordered { at, asked: now, paid, stop_asked: false };
        self.orders.insert(order_no, ordered);
    }

    /// A reply came; that of a start counts.
    pub fn replied(&mut self, reply: &Value) {
        let Some(order_no) = reply["id"].as_str().and_then(|id| self.commands.get(id)) else { return };
        let Some(ordered) = self.orders.get(order_no) else { return };
        if reply["result"] != "done"
            && let Some(unsent) = self.unsent.get_mut(&ordered.at)
        {
            unsent.retain(|unsent| unsent != order_no);
        }
    }

    /// The agent was killed: what it has not sent it never sends.
    pub fn agent_is_gone(&mut self) {
        self.unsent.clear();
        self.doubtful_stops.clear();
    }

    /// A start leaves for the first time, or again: it is for the oldest order of its port that has none.
    pub fn start_sent(&mut self, at: At, message_id: MessageId) {
        if self.starts.contains_key(&(at.0, message_id)) {
            return;
        }
        if let Some(order_no) = self.unsent.get_mut(&at).and_then(VecDeque::pop_front) {
            self.starts.insert((at.0, message_id), order_no);
        }
    }

    pub fn order_of(&self, place: usize, message_id: MessageId) -> Option<&str> {
        self.starts.get(&(place, message_id)).map(String::as_str)
    }

    pub fn witnessed(&mut self, place: usize, what: Witnessed, now: u64) {
        let at = (place, what.port.get());
        let sessions = self.sessions.entry(at).or_default();
        match what.what {
            Witness::Began(message_id) => sessions.push(Charging {
                order: self.starts.get(&(place, message_id)).cloned(),
                number: what.number.get(),
                began: now,
                ended: None,
                energy: 0,
                minutes: 0,
                anew: 0,
            }),
            Witness::BeganAnew => sessions.last_mut().unwrap().anew += 1,
            Witness::Ended(energy, minutes) => {
                let session = sessions.last_mut().unwrap();
                session.ended = Some(now);
                (session.energy, session.minutes) = (i64::from(energy.0), i64::from(minutes.0));
            }
        }
    }

    pub fn current(&self, at: At) -> Option<&Charging> {
        self.sessions.get(&at)?.last().filter(|session| session.ended.is_none())
    }

    /// The sessions of an order, the newest last.
    pub fn sessions_of(&self, order_no: &str) -> Vec<&Charging> {
        let Some(at) = self.orders.get(order_no).map(|ordered| ordered.at) else { return Vec::new() };
        let all = self.sessions.get(&at).into_iter().flatten();
        all.filter(|session| session.order.as_deref() == Some(order_no)).collect()
    }

    /// How long it has lasted by now. `lasts` false: it does not.
    pub fn lasts(&mut self, what: &str, lasts: bool, now: u64) -> u64 {
        if !lasts {
            self.since.remove(what);
            return 0;
        }
        now - *self.since.entry(what.to_owned()).or_insert(now)
    }
}
