//! The rules of orders (contract §4, §5) at one port: what was there, what came, what followed. No byte, no row, no
//! clock: the port decides on what it is handed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod anything;
mod figures;
mod held;
mod issues;
mod later_truth;
mod reports;
mod sessions;
mod start;
mod stop;
mod stuck;
mod taken_back;

use std::time::Duration;

use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, OrderNo, PortKey, PortNo,
    SocketNo, WattHours,
};
use chargegate::order::{EndReason, Flag, Order, OrderStatus, Plan, PowerTier, Settlement, Source};
use chargegate::port::{
    Answered, Case, Desk, Dirty, Downtime, Effect, Figures, IssueType, Names, OrderEvent, Outcome, Port, PortStatus,
    Reach, Reading, Refusal, Report, ReportFate, Terms,
};
use chargegate::sim::Random;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Long enough ago that everything before it is the past.
const BEGIN: u64 = 100 * HOUR;

fn key() -> PortKey {
    let device: DeviceId = "82241218000382".parse().unwrap();
    PortKey { device, socket: SocketNo::new(1).unwrap(), port: PortNo::A }
}

fn number(no: u16) -> Option<BusinessNo> {
    BusinessNo::new(no)
}

struct Counted {
    next: u32,
}

impl Names for Counted {
    fn message_id(&mut self) -> MessageId {
        self.next += 1;
        MessageId(self.next)
    }

    fn order_no(&mut self) -> OrderNo {
        self.next += 1;
        OrderNo::new(&format!("made-up-{}", self.next)).unwrap()
    }
}

/// What a reading is an answer to.
#[derive(Clone, Copy)]
enum To {
    /// To nothing that was asked.
    Nothing,
    /// A `1c` under our id, to a question just sent.
    Question,
    /// A status report, to a question just sent.
    ByReport,
    /// A `1c`, to a question that was sent so long ago, ms.
    Older(u64),
    /// To nothing, after a question of so long ago, ms, that stayed without a reply.
    Unanswered(u64),
}

/// One port, its orders, and the time.
struct Scene {
    case: Case,
    up: u64,
    names: Counted,
    reach: Reach,
    effects: Vec<Effect>,
    downtime: Downtime,
    started: UpTime,
    resumes: bool,
    stops_strays: bool,
    answer_retries: u32,
    orders: u32,
    /// How wrong the wall clock is, ms.
    jump: i64,
}

impl Scene {
    /// A port that was shown idle.
    fn idle() -> Self {
        let mut scene = Self::unseen();
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.effects.clear();
        scene
    }

    fn unseen() -> Self {
        Self {
            case: Case::new(Port::unseen(key())),
            up: BEGIN,
            names: Counted { next: 0 },
            reach: Reach::Online,
            effects: Vec::new(),
            downtime: Downtime::default(),
            started: UpTime(BEGIN - 50 * HOUR),
            resumes: true,
            stops_strays: true,
            answer_retries: 2,
            orders: 0,
            jump: 0,
        }
    }

    /// With a running order of so many minutes under this number, begun now.
    fn charging(no: u16, minutes: u16) -> Self {
        let mut scene = Self::idle();
        let message_id = scene.start(Plan::Time { minutes });
        scene.answer(message_id, true, no);
        scene.effects.clear();
        scene
    }

    fn at<R>(&mut self, decide: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        let reason = |code| (code == 8).then_some(EndReason::Full);
        let terms = Terms {
            answer_timeout: Duration::from_secs(15),
            answer_retries: self.answer_retries,
            end_report_grace: Duration::from_secs(60),
            silent_timeout: Duration::from_secs(1800),
            offline_timeout: Duration::from_secs(300),
            overrun_grace: Duration::from_secs(300),
            longest: Duration::from_secs(15 * 3600),
            resumes: self.resumes,
            stops_strays: self.stops_strays,
            offline_after: Duration::from_secs(150),
            power_ceiling_w: 1000,
            stops_ignored: 3,
            reason: &reason,
            downtime: &self.downtime,
            started: self.started,
        };
        let now = Now { up: UpTime(self.up), wall: WallTime(self.wall()), synchronized: true };
        let mut desk = Desk {
            case: &mut self.case,
            now,
            terms: &terms,
            reach: self.reach,
            names: &mut self.names,
            effects: &mut self.effects,
        };
        decide(&mut desk)
    }

    fn wall(&self) -> i64 {
        1_700_000_000_000 + self.jump + i64::try_from(self.up - BEGIN).unwrap()
    }

    fn pass(&mut self, ms: u64) {
        self.up += ms;
    }

    /// Lets time pass, and every deadline in it come; questions are not answered.
    fn run(&mut self, ms: u64) {
        let end = self.up + ms;
        loop {
            let due = self.at(|desk| desk.due()).map(|due| due.0).filter(|due| *due <= end);
            let asks =
                self.at(|desk| desk.wants_question()).map(|at| at.0.max(self.up) + 15_000).filter(|at| *at <= end);
            let Some(next) = due.into_iter().chain(asks).min() else { break };
            self.up = next.max(self.up);
            if Some(next) == asks {
                let sent = UpTime(next - 15_000);
                self.at(|desk| desk.question_failed(sent));
            }
            self.at(|desk| desk.timeout());
        }
        self.up = end;
        self.at(|desk| desk.timeout());
    }

    fn may_start(&mut self) -> Result<(), Refusal> {
        self.at(|desk| desk.may_start())
    }

    /// Lets time pass, and every deadline in it come; no question gets as far as being unanswered.
    fn run_unasked(&mut self, ms: u64) {
        let end = self.up + ms;
        while let Some(due) = self.at(|desk| desk.due()).filter(|due| due.0 <= end) {
            self.up = due.0.max(self.up);
            self.at(|desk| desk.timeout());
        }
        self.up = end;
    }

    fn leaves(&mut self) {
        self.reach = Reach::Away(UpTime(self.up));
        self.at(|desk| desk.left());
    }

    fn returns(&mut self) {
        self.reach = Reach::Online;
        self.at(|desk| desk.returned());
    }

    /// The agent starts anew; the device is not back yet.
    fn restarts(&mut self) {
        self.started = UpTime(self.up);
        self.reach = Reach::Away(UpTime(self.up));
        self.at(|desk| desk.restarted());
    }

    /// The question that was sent so long ago stays without a reply.
    fn question_fails(&mut self, ago: u64) {
        let sent = UpTime(self.up - ago);
        self.at(|desk| desk.question_failed(sent));
    }

    fn start(&mut self, plan: Plan) -> MessageId {
        self.start_until(plan, None)
    }

    fn start_until(&mut self, plan: Plan, expires_at: Option<WallTime>) -> MessageId {
        self.orders += 1;
        let order_no = OrderNo::new(&format!("order-{}", self.orders)).unwrap();
        let mut order = Order::new(order_no, key(), Source::Site, (WallTime(self.wall()), UpTime(self.up)));
        order.plan = Some(plan);
        order.course.command_id = Some(format!("start-{}", self.orders));
        self.at(|desk| desk.start(order, expires_at));
        self.sent_start().unwrap()
    }

    fn sent_start(&self) -> Option<MessageId> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::SendStart { message_id, .. } => Some(*message_id),
            _ => None,
        })
    }

    fn sent_stops(&self) -> Vec<MessageId> {
        let stop = |effect: &Effect| match effect {
            Effect::SendStop { message_id, .. } => Some(*message_id),
            _ => None,
        };
        self.effects.iter().filter_map(stop).collect()
    }

    /// The device answers the newest order's start.
    fn answer(&mut self, message_id: MessageId, ok: bool, no: u16) {
        let of_it = |order: &&Order| Desk::is_start_of(order, message_id);
        let order_no = self.case.orders.iter().map(|entry| &entry.order).find(of_it).unwrap().order_no.clone();
        self.at(|desk| desk.start_answered(&order_no, ok, number(no)));
    }

    fn shows(&mut self, raw: u8, no: u16, energy: u32, minutes: u32, to: To) {
        let power = if raw & 0x10 == 0 { 0 } else { 1200 };
        self.shows_power(raw, no, (energy, minutes, power), to);
    }

    fn shows_power(&mut self, raw: u8, no: u16, (energy, minutes, power): (u32, u32, u32), to: To) {
        let sent = match to {
            To::Nothing => None,
            To::Question | To::ByReport => Some(self.up),
            To::Older(ago) | To::Unanswered(ago) => Some(self.up - ago),
        };
        let by_id = !matches!(to, To::ByReport);
        let answered = sent.filter(|_| !matches!(to, To::Unanswered(_)));
        let answers = answered.map(|sent| Answered { sent: UpTime(sent), by_id });
        let figures = Figures {
            voltage: DeciVolts(2280),
            power: DeciWatts(power),
            current: MilliAmperes(power),
            energy: WattHours(energy),
            minutes: Minutes(minutes),
        };
        let reading = Reading { raw, number: number(no), figures, answers, last_question: sent.map(UpTime) };
        self.at(|desk| desk.status(reading));
    }

    fn report(&mut self, raw: u8, no: u16, energy: u32, minutes: u32) -> ReportFate {
        self.report_of(&report(raw, no, energy, minutes))
    }

    fn report_of(&mut self, report: &Report) -> ReportFate {
        self.at(|desk| desk.report(report))
    }

    fn stop(&mut self, order_no: Option<&str>) {
        self.stop_by("stop", order_no);
    }

    fn stop_by(&mut self, command_id: &str, order_no: Option<&str>) {
        let order_no = order_no.map(|no| OrderNo::new(no).unwrap());
        self.at(|desk| desk.stop(order_no.as_ref(), command_id.to_owned(), "guard".to_owned()));
    }

    fn stop_answered(&mut self, ok: bool) {
        let message_id = *self.sent_stops().last().unwrap();
        self.at(|desk| desk.stop_answered(message_id, ok));
    }

    fn sent_starts(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::SendStart { .. })).count()
    }

    fn order(&self) -> &Order {
        &self.case.orders.last().unwrap().order
    }

    /// The order that was begun as so many-th, from 0.
    fn order_at(&self, place: usize) -> &Order {
        &self.case.orders[place].order
    }

    fn wants_question(&mut self) -> Option<UpTime> {
        self.at(|desk| desk.wants_question())
    }

    /// Status, end reason and settlement of the newest order.
    fn ended(&self) -> (OrderStatus, Option<EndReason>, Option<Settlement>) {
        (self.order().status, self.order().end_reason, self.order().settlement)
    }

    fn bounds(&self) -> (u32, u32) {
        (self.order().energy_max_wh.unwrap().0, self.order().minutes_max.unwrap().0)
    }

    fn told(&self) -> Vec<OrderEvent> {
        let told = |effect: &Effect| match effect {
            Effect::Tell { what, .. } => Some(*what),
            _ => None,
        };
        self.effects.iter().filter_map(told).collect()
    }

    fn replies(&self) -> Vec<(String, Outcome)> {
        let reply = |effect: &Effect| match effect {
            Effect::Reply { command_id, outcome, .. } => Some((command_id.clone(), *outcome)),
            _ => None,
        };
        self.effects.iter().filter_map(reply).collect()
    }

    fn unknown_ends(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::UnknownEnd { .. })).count()
    }
}

fn report(raw: u8, no: u16, energy: u32, minutes: u32) -> Report {
    Report {
        number: number(no),
        raw_status: raw,
        energy: WattHours(energy),
        minutes: Minutes(minutes),
        amount: None,
        electricity: None,
        service: None,
        settlement_power: None,
        tiers: None,
        device_end_time: None,
        raw_reason: None,
        card_no: None,
    }
}
