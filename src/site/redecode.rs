//! Old end reports read once more (contract §2 `redecode`): those that could not be read, or were nobody's, when they
//! came, and those that say something else with the present decoder and configuration. What is booked for them, and
//! for which order, the port decides; orders that are open are left to it alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::bkv::{EndReport, Frame, Uplink};
use crate::clock::{Now, UpTime, WallTime};
use crate::command::{Problem, Reply};
use crate::config::Config;
use crate::event::{Stream, order_data};
use crate::ids::{DeviceId, MessageId, OrderNo, PortKey};
use crate::order::{EndReason, Order};
use crate::port::{Case, Desk, Names, OrderEvent, Port, Reach, ReportFate};
use crate::store::{FrameVerdict, JournalEntry, Material};
use crate::time_text::rfc3339;
use crate::turn::Fatal;

use super::commands::Step;
use super::frames::report_of;
use super::held::WhenFull;
use super::{Quirks, Site, fatal, terms};

/// What would be booked otherwise for one order.
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// The frame in the journal.
    pub frame: i64,
    /// When it came.
    pub came: WallTime,
    /// What became of it then.
    pub verdict: FrameVerdict,
    /// The order as it stands.
    pub stands: Order,
    /// The order as it would be.
    pub corrected: Order,
}

impl Correction {
    /// For people and other programs: the order, the report, what stands, what would be booked.
    pub fn to_json(&self) -> Value {
        json!({
            "order_no": self.stands.order_no,
            "device_id": self.stands.port.device,
            "socket_no": self.stands.port.socket,
            "port_no": self.stands.port.port,
            "reported_at": rfc3339(self.came),
            "journal_verdict": self.verdict.word(),
            "stands": booked(&self.stands),
            "would_book": booked(&self.corrected),
        })
    }
}

/// What a report says of an order.
fn booked(order: &Order) -> Value {
    const COLUMNS: &[&str] = &[
        "business_no",
        "status",
        "settlement",
        "end_reason",
        "revision",
        "energy_wh",
        "energy_max_wh",
        "minutes",
        "minutes_max",
        "spent_cents",
        "electricity_cents",
        "service_cents",
        "settlement_power_w",
        "tiers",
        "raw_reason",
        "raw_status",
        "device_end_time",
        "card_no",
        "flags",
    ];
    let mut data = order_data(order);
    COLUMNS.iter().map(|column| ((*column).to_owned(), data[*column].take())).collect::<Map<_, _>>().into()
}

/// The port that a frame is an end report of, as it can be read now.
pub fn port_of_report(entry: &JournalEntry) -> Option<PortKey> {
    end_of(entry).map(|(port, _)| port)
}

fn end_of(entry: &JournalEntry) -> Option<(PortKey, EndReport)> {
    let frame = Frame::parse(&entry.frame).ok()?;
    let device = frame.device().filter(|device| entry.device == Some(*device))?;
    let end = Uplink::decode(&frame).ok()?.end_report()?;
    Some((PortKey { device, socket: end.socket, port: end.port }, end))
}

/// What would be booked otherwise, by this configuration; one correction an order.
pub fn corrections(config: &Config, material: &Material) -> Vec<Correction> {
    let own = material.frames.iter().filter(|entry| entry.verdict != FrameVerdict::Duplicate);
    let own: BTreeSet<&OrderNo> = own.filter_map(|entry| entry.order_no.as_ref()).collect();
    let mut rereading = Rereading { config, material, orders: material.orders.clone(), done: BTreeSet::new() };
    let mut found = Vec::new();
    for entry in &material.frames {
        let Some((port, end)) = end_of(entry) else { continue };
        let correction = match (&entry.order_no, entry.verdict) {
            (_, FrameVerdict::Duplicate | FrameVerdict::Sent | FrameVerdict::Unsupported) => None,
            (None, FrameVerdict::Malformed | FrameVerdict::Unmatched) => rereading.of_misread(entry, port, &end),
            (Some(order_no), _) => rereading.of_booked(entry, port, order_no, &end),
            // Kept until a start was decided, then maybe booked.
            (None, FrameVerdict::Accepted) => rereading
                .booked_under(entry, port, &end)
                .filter(|order_no| !own.contains(order_no))
                .and_then(|order_no| rereading.of_booked(entry, port, &order_no, &end)),
        };
        found.extend(correction);
    }
    found
}

struct Rereading<'a> {
    config: &'a Config,
    material: &'a Material,
    /// As they are after what was found so far.
    orders: BTreeMap<PortKey, Vec<Order>>,
    /// Orders that have their correction, by serial.
    done: BTreeSet<i64>,
}

/// A report is about an order that is there already.
struct NoNames;

impl Names for NoNames {
    fn message_id(&mut self) -> MessageId {
        MessageId::DEVICE
    }

    fn order_no(&mut self) -> OrderNo {
        OrderNo::made_up("none", "none", 0)
    }
}

impl Rereading<'_> {
    fn of_misread(&mut self, entry: &JournalEntry, port: PortKey, end: &EndReport) -> Option<Correction> {
        let report = report_of(end, self.quirks(port.device).energy_unit_wh);
        let (fate, case) = self.at_desk(entry, port, |desk| desk.report_misread(&report));
        match fate {
            ReportFate::Booked(order_no) => self.found(entry, &case, &order_no),
            ReportFate::Duplicate(_) | ReportFate::Kept | ReportFate::Nobody => None,
        }
    }

    fn of_booked(
        &mut self,
        entry: &JournalEntry,
        port: PortKey,
        order_no: &OrderNo,
        end: &EndReport,
    ) -> Option<Correction> {
        let report = report_of(end, self.quirks(port.device).energy_unit_wh);
        let (differs, case) = self.at_desk(entry, port, |desk| desk.report_reread(order_no, &report));
        if differs { self.found(entry, &case, order_no) } else { None }
    }

    /// The order that has a report under this number.
    fn booked_under(&self, entry: &JournalEntry, port: PortKey, end: &EndReport) -> Option<OrderNo> {
        let of_it = |order: &&Order| {
            let reported = order.course.reported;
            order.created_up <= entry.up && reported.is_some_and(|reported| reported.number == end.business_no)
        };
        self.orders.get(&port)?.iter().rev().find(of_it).map(|order| order.order_no.clone())
    }

    /// The port as it was when the frame came: no order that began later.
    fn at_desk<R>(&self, entry: &JournalEntry, key: PortKey, decide: impl FnOnce(&mut Desk<'_>) -> R) -> (R, Case) {
        let mut case = Case::new(Port::unseen(key));
        let orders = self.orders.get(&key).into_iter().flatten();
        case.take_in(orders.filter(|order| order.created_up <= entry.up).cloned().collect());
        let model = self.model(key.device);
        let reason = |code| self.config.end_reason(code, model).and_then(EndReason::from_word);
        let terms = terms(self.config, self.quirks(key.device), &self.material.downtime, UpTime::default(), &reason);
        let now = Now { up: entry.up, wall: entry.at, synchronized: false };
        let (mut names, mut effects) = (NoNames, Vec::new());
        let mut desk = Desk {
            case: &mut case,
            now,
            terms: &terms,
            reach: Reach::Online,
            names: &mut names,
            effects: &mut effects,
        };
        let result = decide(&mut desk);
        (result, case)
    }

    fn found(&mut self, entry: &JournalEntry, case: &Case, order_no: &OrderNo) -> Option<Correction> {
        let corrected = case.order(order_no)?.clone();
        let of_port = self.orders.get_mut(&corrected.port)?;
        let place = of_port.iter().position(|order| order.serial == corrected.serial)?;
        let stands = std::mem::replace(&mut of_port[place], corrected.clone());
        let first = self.done.insert(corrected.serial);
        first.then_some(Correction { frame: entry.id, came: entry.at, verdict: entry.verdict, stands, corrected })
    }

    fn model(&self, device: DeviceId) -> Option<&str> {
        let own = self.material.models.get(&device).map(String::as_str);
        own.or(self.config.devices.default_model.as_deref())
    }

    fn quirks(&self, device: DeviceId) -> Quirks {
        Quirks::of(self.config, self.model(device))
    }
}

impl Site {
    /// Reads these frames of the journal again and books what they say otherwise, each once.
    pub(super) fn redecode(
        &mut self,
        id: &str,
        frames: &BTreeSet<i64>,
        now: Now,
    ) -> Result<Result<Step, Problem>, Fatal> {
        // What memory has is what is judged.
        for key in self.keeping.touched_ports().collect::<Vec<_>>() {
            let written = self.write_case(key);
            self.kept(written)?;
        }
        let material = fatal(self.store.material(frames, port_of_report))?;
        let corrections = corrections(&self.config, &material);
        let booked: Vec<Value> = corrections.iter().map(Correction::to_json).collect();
        for correction in corrections {
            self.book_correction(correction, now)?;
        }
        Ok(Ok(Step::Reply(Reply::done(id).with(json!({ "booked": booked })), WhenFull::Refuse)))
    }

    fn book_correction(&mut self, correction: Correction, now: Now) -> Result<(), Fatal> {
        let Correction { frame, mut corrected, .. } = correction;
        let (key, order_no) = (corrected.port, corrected.order_no.clone());
        let given = self.store.frame_is_of(frame, &order_no);
        self.kept(given)?;
        if self.case(key).is_some() {
            self.load_order(key, &order_no)?;
            return self.at_port(key, now, |desk: &mut Desk<'_>| desk.take_correction(corrected)).map(drop);
        }
        // Its device was removed: nothing is left to decide.
        let written = self.store.put_order(&mut corrected);
        self.kept(written)?;
        let data = order_data(&corrected);
        let kind = OrderEvent::Corrected.word();
        self.tell(Stream::Order, kind, Some(key.device), Some(&order_no), &data, now)
    }
}
