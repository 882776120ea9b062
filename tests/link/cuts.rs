//! Connections that are cut at any byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use chargegate::cloud::{CloudInput, CloudOutput, Settlement, Ticket};

use crate::broker::Broker;
use crate::fake::cutting_proxy;
use crate::{Hand, message};

const ROWS: u64 = 2500;
const CUTS: usize = 60;

/// Feeds its rows as the site does: in order, within the window, after each `Up` from the first that is left.
struct Outbox {
    rows: BTreeSet<u64>,
    fed: BTreeMap<u64, ()>,
    window: Option<usize>,
    fed_to: u64,
}

impl Outbox {
    fn feed(&mut self, hand: &mut Hand) {
        let Some(window) = self.window else { return };
        while self.fed.len() < window
            && let Some(row) = self.rows.range(self.fed_to + 1..).next().copied()
        {
            hand.publish(row, message("chargegate/s/event/order", &format!("{row} {}", "x".repeat(180))));
            self.fed.insert(row, ());
            self.fed_to = row;
        }
    }

    fn take(&mut self, input: CloudInput, hand: &mut Hand) {
        match input {
            CloudInput::Up { window, .. } => self.window = Some(window),
            CloudInput::Settled { ticket: Ticket(row), settlement, .. } => {
                assert_eq!(settlement, Settlement::Confirmed);
                assert!(self.fed.remove(&row).is_some(), "{row} was settled in a session that did not send it");
                assert!(self.rows.remove(&row));
            }
            CloudInput::Down { .. } => {
                self.window = None;
                self.fed.clear();
                self.fed_to = 0;
                hand.connect();
            }
            CloudInput::Received { session, receipt, .. } => {
                hand.link.carry(CloudOutput::Acknowledge { session, receipt });
            }
        }
        self.feed(hand);
    }
}

fn nothing_is_lost(protocol: &str, seed: u64) {
    let broker = Broker::open();
    let listener = broker.listen("chargegate/s/event/order");
    let (port, cuts) = cutting_proxy(broker.port, CUTS, seed);
    let mut hand = Hand::with(&format!("mqtt.url = \"mqtt://127.0.0.1:{port}\"\n{protocol}"));
    let mut outbox = Outbox { rows: (1..=ROWS).collect(), fed: BTreeMap::new(), window: None, fed_to: 0 };
    hand.connect();
    while !outbox.rows.is_empty() {
        let input = hand.hear();
        outbox.take(input, &mut hand);
    }
    assert!(cuts.load(Ordering::Relaxed) >= CUTS, "{cuts:?} cuts: too few rows");
    // A row that was settled before the broker had it was never sent again: it would be missing here.
    let mut first_seen = Vec::new();
    let mut seen = BTreeSet::new();
    let mut repeated = 0;
    while seen.len() < ROWS as usize {
        let row: u64 = listener.hear().payload.split(' ').next().unwrap().parse().unwrap();
        if seen.insert(row) {
            first_seen.push(row);
        } else {
            repeated += 1;
        }
    }
    assert!(first_seen.is_sorted(), "out of order");
    assert!(repeated <= cuts.load(Ordering::Relaxed) * 32, "{repeated} repetitions");
}

#[test]
fn nothing_is_settled_undelivered_or_lost_over_many_cuts() {
    nothing_is_lost("", 1);
}

#[test]
fn nothing_is_settled_undelivered_or_lost_over_many_cuts_with_mqtt_3() {
    nothing_is_lost("mqtt.protocol = 4\n", 2);
}
