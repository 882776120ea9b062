//! The rules of orders (contract §4, §5) at one port: what was there, what came, what followed. No byte, no row, no
//! clock: the port decides on what it is handed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use chargegate::clock::{Now, UpTime, WallTime};
use chargegate::ids::{
    BusinessNo, Cents, DeciVolts, DeciWatts, DeviceId, MessageId, MilliAmperes, Minutes, OrderNo, PortKey, PortNo,
    SocketNo, WattHours,
};
use chargegate::order::{EndReason, Flag, Order, OrderStatus, Plan, PowerTier, Settlement, Source};
use chargegate::port::{
    Answered, Case, Desk, Downtime, Effect, Figures, Names, OrderEvent, Outcome, Port, PortStatus, Reach, Reading,
    Refusal, Report, ReportFate, Terms,
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
        1_700_000_000_000 + i64::try_from(self.up - BEGIN).unwrap()
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

    fn start(&mut self, plan: Plan) -> MessageId {
        self.orders += 1;
        let order_no = OrderNo::new(&format!("order-{}", self.orders)).unwrap();
        let mut order = Order::new(order_no, key(), Source::Site, (WallTime(self.wall()), UpTime(self.up)));
        order.plan = Some(plan);
        order.course.command_id = Some(format!("start-{}", self.orders));
        self.at(|desk| desk.start(order, None));
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
            To::Older(ago) => Some(self.up - ago),
        };
        let by_id = !matches!(to, To::ByReport);
        let answers = sent.map(|sent| Answered { sent: UpTime(sent), by_id });
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
        let order_no = order_no.map(|no| OrderNo::new(no).unwrap());
        self.at(|desk| desk.stop(order_no.as_ref(), "stop".to_owned(), "guard".to_owned()));
    }

    fn stop_answered(&mut self, ok: bool) {
        let message_id = *self.sent_stops().last().unwrap();
        self.at(|desk| desk.stop_answered(message_id, ok));
    }

    fn order(&self) -> &Order {
        &self.case.orders.last().unwrap().order
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

mod starts {
    use super::*;

    #[test]
    fn a_fault_goes_before_a_busy_port_and_only_a_free_idle_one_may_start() {
        type Make = fn(&mut Scene);
        let rows: [(Make, Result<(), Refusal>); 6] = [
            (|_| {}, Ok(())),
            (|scene| scene.shows(0xb0, 5, 0, 0, To::Nothing), Err(Refusal::PortBusy)),
            (|scene| scene.shows(0xc0, 0, 0, 0, To::Nothing), Err(Refusal::PortFault)),
            (|scene| scene.shows(0xb1, 5, 0, 0, To::Nothing), Err(Refusal::PortFault)),
            (|scene| scene.at(|desk| desk.left()), Err(Refusal::DeviceOffline)),
            (
                |scene| {
                    scene.at(|desk| {
                        desk.left();
                        desk.returned();
                    })
                },
                Err(Refusal::PortBusy),
            ),
        ];
        for (place, (make, expected)) in rows.into_iter().enumerate() {
            let mut scene = Scene::idle();
            make(&mut scene);
            assert_eq!(scene.may_start(), expected, "row {place}");
        }
    }

    #[test]
    fn an_ok_gives_the_number_and_a_refusal_is_final_with_bounds_of_zero() {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 26);
        assert_eq!((scene.order().status, scene.order().business_no), (OrderStatus::Charging, number(26)));
        assert_eq!(scene.case.port.status, PortStatus::Charging);
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, false, 0);
        assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartRefused), Some(Settlement::Estimated)));
        assert!(scene.order().is_final && scene.bounds() == (0, 0));
        assert_eq!(scene.may_start(), Ok(()), "each sending was answered: not held");
    }

    #[test]
    fn the_socket_is_asked_before_each_repetition_and_after_two_more_tries_the_start_has_failed() {
        let mut scene = Scene::idle();
        let first = scene.start(Plan::Time { minutes: 60 });
        for _ in 0..2 {
            scene.run(15_000);
            assert_eq!(scene.at(|desk| desk.wants_question()), Some(UpTime(scene.up)));
            scene.effects.clear();
            scene.shows(0x80, 0, 0, 0, To::Question);
            assert_eq!(scene.sent_start(), Some(first), "the same message id");
        }
        scene.effects.clear();
        scene.run(15_000);
        assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartTimeout), Some(Settlement::Provisional)));
        assert_eq!(scene.sent_stops().len(), 1);
        assert_eq!(scene.bounds(), (1000, 60), "the whole plan");
        assert_eq!(scene.replies(), [("start-1".to_owned(), Outcome::Failed(Refusal::NoAnswer))]);
    }

    #[test]
    fn a_question_without_a_reply_is_a_try_used_up() {
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.run(45_000);
        assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
        assert_eq!(scene.effects.iter().filter(|effect| matches!(effect, Effect::SendStart { .. })).count(), 1);
    }

    #[test]
    fn a_charging_status_is_the_ok_only_as_the_answer_to_a_question_after_the_start() {
        for (to, expected) in [
            (To::Nothing, OrderStatus::Pending),
            (To::Older(20_000), OrderStatus::Pending),
            (To::Question, OrderStatus::Charging),
            (To::ByReport, OrderStatus::Charging),
        ] {
            let mut scene = Scene::idle();
            scene.start(Plan::Time { minutes: 60 });
            scene.pass(15_001);
            scene.at(|desk| desk.timeout());
            scene.shows(0xb0, 31, 0, 0, to);
            assert_eq!(scene.order().status, expected);
        }
    }

    #[test]
    fn a_refusal_of_a_repetition_decides_nothing_until_the_socket_is_asked() {
        for (shown, expected) in [(0xb0, None), (0x80, Some(EndReason::StartRefused))] {
            let mut scene = Scene::idle();
            let message_id = scene.start(Plan::Time { minutes: 60 });
            scene.run(15_000);
            scene.shows(0x80, 0, 0, 0, To::Question);
            scene.answer(message_id, false, 0);
            assert_eq!(scene.order().status, OrderStatus::Pending);
            scene.shows(shown, if shown == 0xb0 { 31 } else { 0 }, 0, 0, To::Question);
            assert_eq!(scene.order().end_reason, expected);
        }
    }

    #[test]
    fn a_kept_report_is_whose_the_starts_fate_says() {
        type Fate = fn(&mut Scene, MessageId);
        let rows: [(Fate, bool, &str); 5] = [
            (|scene, id| scene.answer(id, true, 33), true, "an ok under its number"),
            (|scene, id| scene.answer(id, true, 0), true, "an ok without a number"),
            (|scene, id| scene.answer(id, true, 34), false, "an ok under another number"),
            (|scene, id| scene.answer(id, false, 0), false, "a refusal"),
            (|scene, _| scene.stop(Some("order-1")), false, "cancelled"),
        ];
        for (fate, its_own, what) in rows {
            let mut scene = Scene::idle();
            let message_id = scene.start(Plan::Time { minutes: 60 });
            assert_eq!(scene.report(0x98, 33, 0, 0), ReportFate::Kept);
            fate(&mut scene, message_id);
            assert_eq!(scene.order().settlement == Some(Settlement::Reported), its_own, "{what}");
            assert_eq!(scene.unknown_ends(), usize::from(!its_own), "{what}");
        }
    }

    #[test]
    fn a_kept_report_and_idle_when_asked_are_ok_and_end_in_one() {
        let mut scene = Scene::idle();
        let sent = scene.wall();
        scene.start(Plan::Time { minutes: 60 });
        scene.report(0x98, 33, 0, 0);
        scene.run(15_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::NoLoad), Some(Settlement::Reported)));
        assert_eq!((scene.order().start_time, scene.order().business_no), (Some(WallTime(sent)), number(33)));
        assert_eq!(scene.told(), [OrderEvent::Started, OrderEvent::Completed]);
    }

    #[test]
    fn a_numberless_order_takes_no_report_whose_minutes_are_too_many_or_that_may_be_an_earlier_ones() {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.report(0xb0, 33, 9, 5);
        scene.answer(message_id, true, 0);
        assert_eq!((scene.order().status, scene.unknown_ends()), (OrderStatus::Charging, 1), "five minutes within one");
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene.run(2 * MINUTE);
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.may_start(), Ok(()));
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.report(0x98, 33, 0, 0);
        scene.answer(message_id, true, 0);
        assert_eq!(scene.order().status, OrderStatus::Charging, "it may be the cancelled one's");
    }

    #[test]
    fn a_late_ok_leaves_its_number_and_is_answered_with_a_stop_and_a_report_under_it_adds_its_figures() {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.run(45_000);
        scene.at(|desk| desk.timeout());
        let ended = scene.order().end_time;
        scene.stop_answered(true);
        scene.effects.clear();
        scene.answer(message_id, true, 44);
        assert_eq!((scene.sent_stops().len(), scene.order().business_no), (1, number(44)));
        assert!(matches!(scene.report(0x80, 44, 3, 1), ReportFate::Booked(_)));
        assert_eq!(scene.ended(), (OrderStatus::Failed, Some(EndReason::StartTimeout), Some(Settlement::Corrected)));
        assert_eq!((scene.order().energy_wh, scene.order().end_time), (Some(WattHours(3)), ended));
    }

    #[test]
    fn after_a_restart_a_pending_start_is_asked_about_and_not_sent_again() {
        for (shown, no, expected) in [(0xb0, 31, OrderStatus::Charging), (0x80, 0, OrderStatus::Failed)] {
            let mut scene = Scene::idle();
            scene.start(Plan::Time { minutes: 60 });
            scene.effects.clear();
            scene.pass(1000);
            scene.started = UpTime(scene.up);
            scene.at(|desk| desk.restarted());
            scene.reach = Reach::Online;
            scene.pass(1000);
            scene.shows(shown, no, 0, 0, To::Question);
            assert_eq!((scene.order().status, scene.sent_start()), (expected, None));
        }
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.started = UpTime(scene.up);
        scene.reach = Reach::Away(UpTime(scene.up));
        scene.at(|desk| desk.restarted());
        scene.run(149_000);
        assert_eq!(scene.order().status, OrderStatus::Pending, "it gets offline_after to return");
        scene.run(2000);
        assert_eq!(scene.order().end_reason, Some(EndReason::StartTimeout));
        scene.effects.clear();
        scene.reach = Reach::Online;
        scene.at(|desk| desk.returned());
        assert_eq!(scene.sent_stops().len(), 1, "the stop was owed");
    }
}

mod held {
    use super::*;

    /// A start that was cancelled, its stop answered: the port is held for the grace, and until idle is proven.
    fn cancelled() -> Scene {
        let mut scene = Scene::idle();
        scene.start(Plan::Time { minutes: 60 });
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene
    }

    #[test]
    fn idle_is_proven_by_one_answer_under_our_id_or_by_two_others_and_by_nothing_older() {
        let rows: [(&[To], bool); 5] = [
            (&[To::Question], true),
            (&[To::ByReport], false),
            (&[To::ByReport, To::ByReport], true),
            (&[To::Nothing, To::Nothing], false),
            (&[To::Older(70_000), To::Older(70_000)], false),
        ];
        for (place, (readings, free)) in rows.into_iter().enumerate() {
            let mut scene = cancelled();
            scene.pass(61_000);
            for to in readings {
                scene.shows(0x80, 0, 0, 0, *to);
            }
            assert_eq!(scene.may_start().is_ok(), free, "row {place}");
        }
    }

    #[test]
    fn within_the_grace_nothing_frees_the_port() {
        let mut scene = cancelled();
        scene.pass(59_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.may_start(), Err(Refusal::PortBusy));
    }

    #[test]
    fn the_end_of_the_hold_makes_a_cancelled_order_an_estimate() {
        let mut scene = cancelled();
        assert_eq!(scene.order().settlement, Some(Settlement::Provisional));
        scene.pass(61_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        assert_eq!(scene.ended(), (OrderStatus::Cancelled, Some(EndReason::Cancelled), Some(Settlement::Estimated)));
        // 1000 W from the first sending to the proof: 61 s, rounded up.
        assert_eq!((scene.bounds(), scene.order().revision), ((17, 2), 2));
    }
}

mod stops {
    use super::*;

    #[test]
    fn an_accepted_stop_makes_it_stopping_and_the_report_ends_it_by_remote_stop() {
        let mut scene = Scene::charging(26, 60);
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        assert_eq!(scene.order().status, OrderStatus::Stopping);
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Done)]);
        scene.report(0x80, 26, 1, 0);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(Settlement::Reported)));
    }

    #[test]
    fn a_report_that_comes_before_the_answer_does_the_stop() {
        let mut scene = Scene::charging(26, 60);
        scene.stop(Some("order-1"));
        scene.report(0x80, 26, 1, 0);
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Done)]);
        assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop));
    }

    #[test]
    fn a_refused_stop_is_owed_and_repeated_at_most_every_thirty_seconds_until_it_is_ignored() {
        let mut scene = Scene::charging(26, 900);
        scene.stop(Some("order-1"));
        scene.stop_answered(false);
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::RefusedByDevice))]);
        for round in 1..4 {
            scene.pass(10_000);
            scene.shows(0xb0, 26, 1, 1, To::Nothing);
            assert_eq!(scene.sent_stops().len(), round, "not yet");
            scene.pass(20_000);
            scene.shows(0xb0, 26, 1, 1, To::Nothing);
            assert_eq!(scene.sent_stops().len(), round + 1);
            scene.stop_answered(false);
        }
        assert!(scene.effects.contains(&Effect::StopIgnored { stops: 3 }));
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        assert!(scene.effects.contains(&Effect::StopObeyed));
    }

    #[test]
    fn an_unanswered_stop_is_repeated_under_its_id_and_stays_owed() {
        let mut scene = Scene::charging(26, 900);
        scene.stop(Some("order-1"));
        scene.run(46_000);
        let ids = scene.sent_stops();
        assert_eq!((ids.len(), ids[0] == ids[2]), (3, true));
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::NoAnswer))]);
        scene.report(0x80, 26, 1, 0);
        assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop), "accepted or not answered");
    }

    #[test]
    fn a_stop_for_a_device_that_is_away_goes_out_at_its_return() {
        let mut scene = Scene::charging(26, 900);
        scene.reach = Reach::Away(UpTime(scene.up));
        scene.at(|desk| desk.left());
        scene.stop(Some("order-1"));
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::StopOwed(Refusal::DeviceOffline))]);
        assert!(scene.sent_stops().is_empty());
        scene.reach = Reach::Online;
        scene.at(|desk| desk.returned());
        assert_eq!(scene.sent_stops().len(), 1);
    }

    #[test]
    fn no_stop_goes_out_for_an_order_while_a_later_one_is_open() {
        let mut scene = Scene::idle();
        let late = scene.start(Plan::Time { minutes: 60 });
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene.pass(61_000);
        scene.shows(0x80, 0, 0, 0, To::Question);
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 27);
        scene.effects.clear();
        scene.answer(late, true, 44);
        assert!(scene.sent_stops().is_empty(), "it would switch off who paid");
        assert_eq!(scene.order().status, OrderStatus::Charging);
    }

    #[test]
    fn what_still_charges_after_an_accepted_stop_is_stopped_again_and_its_grace_begins_anew() {
        let mut scene = Scene::charging(26, 900);
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene.pass(40_000);
        scene.shows(0xb0, 26, 1, 0, To::Nothing);
        assert_eq!(scene.sent_stops().len(), 2);
        scene.run(50_000);
        assert_eq!(scene.order().status, OrderStatus::Stopping);
    }

    #[test]
    fn a_closed_order_that_is_not_provisional_cannot_be_stopped() {
        let mut scene = Scene::charging(26, 60);
        scene.report(0x98, 26, 0, 0);
        scene.stop(Some("order-1"));
        assert_eq!(scene.replies(), [("stop".to_owned(), Outcome::Failed(Refusal::OrderNotOpen))]);
        assert!(scene.sent_stops().is_empty());
    }
}

mod closes {
    use super::*;

    #[test]
    fn an_idle_port_without_a_report_is_closed_after_the_grace_once_asked() {
        let mut scene = Scene::charging(26, 60);
        scene.pass(10 * MINUTE);
        scene.shows(0xb0, 26, 100, 10, To::Nothing);
        scene.pass(10 * MINUTE);
        let idle = scene.wall();
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        scene.run(59_000);
        assert_eq!(scene.order().status, OrderStatus::Charging);
        scene.run(20_000);
        assert_eq!(
            scene.ended(),
            (OrderStatus::Completed, Some(EndReason::EndReportMissing), Some(Settlement::Estimated))
        );
        assert_eq!(scene.order().end_time, Some(WallTime(idle)), "the first evidence of the end");
        // 1000 W for the ten minutes that nobody saw: 166.67 Wh, rounded up.
        assert_eq!(scene.bounds(), (267, 20));
        assert_eq!(scene.case.port.status, PortStatus::Idle);
    }

    #[test]
    fn silence_closes_only_after_a_question_and_the_port_is_never_idle_by_it() {
        for (after, status) in [(14_000, OrderStatus::Charging), (16_000, OrderStatus::Completed)] {
            let mut scene = Scene::charging(26, 900);
            scene.shows(0xb0, 26, 1, 0, To::Nothing);
            scene.run(30 * MINUTE + after);
            assert_eq!(scene.order().status, status, "the question waits 15 s");
        }
        let mut scene = Scene::charging(26, 900);
        scene.shows(0xb0, 26, 1, 0, To::Nothing);
        scene.run(31 * MINUTE);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Timeout), Some(Settlement::Provisional)));
        assert_eq!(scene.bounds(), (15_000, 900), "the whole plan");
        assert_eq!(scene.case.port.status, PortStatus::Unclear);
    }

    #[test]
    fn an_order_whose_device_is_away_is_closed_five_minutes_after_it_was_last_heard() {
        let mut scene = Scene::charging(26, 900);
        scene.reach = Reach::Away(UpTime(scene.up));
        scene.at(|desk| desk.left());
        scene.run(299_000);
        assert_eq!(scene.order().status, OrderStatus::Charging);
        scene.run(1000);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Offline), Some(Settlement::Provisional)));
        assert_eq!(scene.case.port.status, PortStatus::Offline);
    }

    #[test]
    fn past_its_paid_time_it_is_stopped_and_a_stop_that_fails_closes_it() {
        let mut scene = Scene::charging(26, 10);
        for minute in 1..15 {
            scene.pass(MINUTE);
            scene.shows(0xb0, 26, minute, minute, To::Nothing);
            scene.at(|desk| desk.timeout());
        }
        assert!(scene.sent_stops().is_empty());
        scene.run(MINUTE);
        assert_eq!(scene.sent_stops().len(), 1);
        scene.stop_answered(false);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Overrun), Some(Settlement::Provisional)));
    }

    #[test]
    fn energy_above_plan_by_more_than_five_per_cent_and_fifty_wh_is_an_overrun() {
        for (ordered, energy, stopped) in [
            (1000, 1050, false),
            (1000, 1051, true),
            (100, 150, false),
            (100, 151, true),
            (2000, 2100, false),
            (2000, 2101, true),
        ] {
            let mut scene = Scene::idle();
            let message_id = scene.start(Plan::Energy { energy_wh: ordered });
            scene.answer(message_id, true, 26);
            scene.pass(3 * HOUR);
            scene.shows(0xb0, 26, energy, 180, To::Nothing);
            assert_eq!(!scene.sent_stops().is_empty(), stopped, "{energy} of {ordered} Wh");
        }
    }

    #[test]
    fn an_accepted_stop_without_a_report_is_provisional_unless_idle_was_shown() {
        for (idle, settlement) in [(false, Settlement::Provisional), (true, Settlement::Estimated)] {
            let mut scene = Scene::charging(26, 900);
            scene.stop(Some("order-1"));
            scene.stop_answered(true);
            scene.pass(1000);
            if idle {
                scene.shows(0x80, 0, 0, 0, To::Nothing);
            }
            scene.run(80_000);
            assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::RemoteStop), Some(settlement)));
        }
    }
}

mod later_truth {
    use super::*;

    fn closed_offline() -> Scene {
        let mut scene = Scene::charging(26, 60);
        scene.reach = Reach::Away(UpTime(scene.up));
        scene.at(|desk| desk.left());
        scene.run(5 * MINUTE);
        scene.reach = Reach::Online;
        scene.at(|desk| desk.returned());
        scene.effects.clear();
        scene
    }

    #[test]
    fn a_guessed_close_opens_again_when_its_session_charges_within_its_paid_time() {
        let mut scene = closed_offline();
        scene.shows(0xb0, 26, 5, 5, To::Question);
        assert_eq!(scene.ended(), (OrderStatus::Charging, None, None));
        assert_eq!((scene.order().end_time, scene.order().energy_max_wh, scene.order().revision), (None, None, 2));
        assert_eq!(scene.told(), [OrderEvent::Resumed]);
    }

    #[test]
    fn after_its_paid_time_or_where_resuming_is_off_it_is_stopped_instead() {
        let mut scene = closed_offline();
        scene.pass(HOUR);
        scene.shows(0xb0, 26, 5, 5, To::Question);
        assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Completed, 1));
        let mut scene = closed_offline();
        scene.resumes = false;
        scene.shows(0xb0, 26, 5, 5, To::Question);
        assert_eq!((scene.order().status, scene.sent_stops().len()), (OrderStatus::Completed, 1));
    }

    #[test]
    fn what_spoke_for_an_end_keeps_it_closed() {
        let mut scene = closed_offline();
        scene.shows(0x80, 0, 0, 0, To::Question);
        scene.shows(0xb0, 26, 5, 5, To::Question);
        assert_eq!(scene.order().status, OrderStatus::Completed);
    }

    #[test]
    fn a_provisional_close_shown_idle_becomes_an_estimate_after_the_grace() {
        let mut scene = closed_offline();
        scene.shows(0x80, 0, 0, 0, To::Question);
        scene.run(59_000);
        assert_eq!(scene.order().settlement, Some(Settlement::Provisional));
        scene.run(1000);
        assert_eq!(scene.ended(), (OrderStatus::Completed, Some(EndReason::Offline), Some(Settlement::Estimated)));
        // 1000 W for the five minutes to the return: 83.3 Wh, rounded up.
        assert_eq!((scene.bounds(), scene.order().revision), ((84, 5), 2));
    }

    #[test]
    fn a_report_after_the_close_corrects_it_and_keeps_its_end_time() {
        let mut scene = closed_offline();
        let ended = scene.order().end_time;
        assert!(matches!(scene.report(0xb0, 26, 40, 59), ReportFate::Booked(_)));
        assert_eq!(scene.order().settlement, Some(Settlement::Corrected));
        assert_eq!(scene.order().end_reason, Some(EndReason::TimeReached), "the report's reason");
        assert_eq!((scene.order().end_time, scene.bounds(), scene.order().is_final), (ended, (40, 59), true));
    }
}

mod sessions {
    use super::*;

    #[test]
    fn what_charged_when_the_port_was_first_seen_is_adopted_less_the_minutes_that_it_reports() {
        let mut scene = Scene::unseen();
        scene.shows(0xb0, 500, 100, 30, To::Nothing);
        let order = scene.order();
        assert_eq!(
            (order.source, order.status, order.business_no),
            (Source::Adopted, OrderStatus::Charging, number(500))
        );
        assert_eq!(order.start_time, Some(WallTime(scene.wall() - 30 * 60_000)));
        assert_eq!(scene.told(), [OrderEvent::Adopted]);
    }

    #[test]
    fn a_number_without_the_charging_bit_counts_when_a_question_repeats_it() {
        for (power, adopted) in [(49, false), (50, true)] {
            let mut scene = Scene::unseen();
            scene.shows_power(0x80, 500, (0, 0, power), To::Nothing);
            assert!(scene.case.orders.is_empty());
            scene.shows_power(0x80, 500, (0, 0, power), To::Question);
            assert_eq!(!scene.case.orders.is_empty(), adopted, "at {power} tenths of a watt");
        }
    }

    #[test]
    fn any_other_session_is_asked_about_and_stopped_after_the_grace_or_only_told() {
        for (stops, count) in [(true, 1), (false, 0)] {
            let mut scene = Scene::idle();
            scene.stops_strays = stops;
            scene.shows(0xb0, 888, 1, 1, To::Nothing);
            scene.pass(59_000);
            scene.shows(0xb0, 888, 1, 1, To::Question);
            assert!(scene.sent_stops().is_empty());
            scene.pass(2000);
            scene.shows(0xb0, 888, 1, 1, To::Question);
            scene.shows(0xb0, 888, 1, 1, To::Question);
            assert_eq!(scene.sent_stops().len(), count);
            let told = scene.effects.iter().filter(|effect| matches!(effect, Effect::Repaired { .. })).count();
            assert_eq!(told, 1, "once");
        }
    }

    #[test]
    fn an_unseen_number_becomes_the_orders_own_when_asked_and_an_earlier_orders_never_does() {
        let mut scene = Scene::charging(26, 60);
        scene.report(0x98, 26, 0, 0);
        scene.shows(0x80, 0, 0, 0, To::Nothing);
        let message_id = scene.start(Plan::Time { minutes: 60 });
        scene.answer(message_id, true, 27);
        scene.pass(MINUTE);
        scene.shows(0xb0, 28, 1, 1, To::Nothing);
        assert_eq!(scene.order().business_no, number(27));
        scene.pass(1000);
        scene.shows(0xb0, 28, 1, 1, To::Question);
        assert_eq!(scene.order().business_no, number(28));
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, 9, 2, To::Nothing);
        scene.pass(1000);
        scene.shows(0xb0, 26, 9, 2, To::Question);
        assert_eq!(scene.order().business_no, number(28));
        assert!(scene.order().flags.contains(&Flag::ReusedNumber));
        assert_eq!(scene.order().energy_wh, Some(WattHours(1)), "its figures are left out");
    }
}

mod reports {
    use super::*;

    #[test]
    fn the_first_reason_that_fits_is_the_end_reason() {
        let with = |raw: u8, minutes: u32, code: u8| Report { raw_reason: Some(code), ..report(raw, 26, 0, minutes) };
        let rows = [
            (with(0xf7, 60, 8), EndReason::MeteringFault),
            (with(0xb7, 60, 8), EndReason::OverTemperature),
            (with(0xb3, 60, 8), EndReason::OverCurrent),
            (with(0xb1, 60, 8), EndReason::OverPower),
            (with(0x98, 60, 8), EndReason::NoLoad),
            (with(0xb0, 60, 8), EndReason::TimeReached),
            (with(0xb0, 59, 8), EndReason::TimeReached),
            (with(0xb0, 58, 8), EndReason::Full),
            (with(0xb0, 58, 2), EndReason::Unknown),
        ];
        for (report, reason) in rows {
            let mut scene = Scene::charging(26, 60);
            scene.pass(HOUR);
            scene.report_of(&report);
            assert_eq!(scene.order().end_reason, Some(reason), "{report:?}");
        }
        let mut scene = Scene::charging(26, 60);
        scene.stop(Some("order-1"));
        scene.stop_answered(true);
        scene.report(0x98, 26, 0, 0);
        assert_eq!(scene.order().end_reason, Some(EndReason::RemoteStop), "a stop goes before no load");
    }

    #[test]
    fn ordered_energy_and_amount_are_reached_by_the_devices_figures() {
        let mut scene = Scene::idle();
        let message_id = scene.start(Plan::Energy { energy_wh: 50 });
        scene.answer(message_id, true, 26);
        scene.pass(HOUR);
        scene.report(0xb0, 26, 50, 60);
        assert_eq!(scene.order().end_reason, Some(EndReason::EnergyReached));
        let mut scene = Scene::idle();
        let tiers = vec![PowerTier { power_w: 200.0, price_cents: 25, minutes: 60 }];
        let message_id = scene.start(Plan::Tiers { amount_cents: 100, tiers });
        scene.answer(message_id, true, 26);
        scene.pass(HOUR);
        scene.report_of(&Report { amount: Some(Cents(100)), ..report(0xb0, 26, 50, 60) });
        assert_eq!(
            (scene.order().end_reason, scene.order().spent_cents),
            (Some(EndReason::AmountReached), Some(Cents(100)))
        );
    }

    #[test]
    fn figures_that_cannot_be_are_booked_and_flagged() {
        let rows: [(u64, u32, u32, &[Flag]); 4] = [
            (HOUR, 1000, 60, &[]),
            (HOUR, 2051, 60, &[Flag::ImplausibleEnergy]),
            (HOUR, 1000, 63, &[Flag::ImplausibleMinutes]),
            (MINUTE, 300, 9, &[Flag::ImplausibleEnergy, Flag::ImplausibleMinutes]),
        ];
        for (after, energy, minutes, flags) in rows {
            let mut scene = Scene::charging(26, 900);
            scene.pass(after);
            scene.report(0xb0, 26, energy, minutes);
            assert_eq!(scene.order().flags.iter().copied().collect::<Vec<_>>(), flags);
            assert_eq!(scene.order().energy_wh, Some(WattHours(energy)), "booked all the same");
        }
    }

    #[test]
    fn energy_far_from_the_mean_power_of_the_statuses_is_flagged() {
        // 120 W for an hour: 120 Wh are expected, three times either way are believed.
        for (energy, flagged) in [(39, true), (40, false), (360, false), (361, true)] {
            let mut scene = Scene::charging(26, 900);
            for minute in 1..=60 {
                scene.pass(MINUTE);
                scene.shows(0xb0, 26, 0, minute, To::Nothing);
            }
            scene.report(0xb0, 26, energy, 60);
            assert_eq!(scene.order().flags.contains(&Flag::ImplausibleEnergy), flagged, "{energy} Wh");
        }
    }

    #[test]
    fn figures_of_a_status_that_cannot_be_are_left_out_each_by_itself() {
        let mut scene = Scene::charging(26, 900);
        scene.pass(10 * MINUTE);
        scene.shows(0xb0, 26, 100, 10, To::Nothing);
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, 5000, 11, To::Nothing);
        assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(100)), Some(Minutes(11))));
        scene.pass(MINUTE);
        scene.shows(0xb0, 26, 110, 3, To::Nothing);
        assert_eq!((scene.order().energy_wh, scene.order().minutes), (Some(WattHours(110)), Some(Minutes(11))));
    }

    #[test]
    fn a_duplicate_changes_nothing_and_another_one_is_nobodys() {
        let mut scene = Scene::charging(26, 60);
        scene.report(0xb0, 26, 10, 1);
        let order = scene.order().clone();
        assert!(matches!(scene.report(0xb0, 26, 10, 1), ReportFate::Duplicate(_)));
        assert_eq!(*scene.order(), order);
        assert_eq!(scene.report(0xb0, 26, 11, 1), ReportFate::Nobody);
        assert_eq!((scene.order(), scene.unknown_ends()), (&order, 1));
    }

    #[test]
    fn a_report_makes_idle_only_a_port_that_shows_its_number_charging() {
        let mut scene = Scene::charging(26, 60);
        scene.shows(0xb0, 26, 0, 0, To::Nothing);
        scene.report(0x98, 26, 0, 0);
        assert_eq!(scene.case.port.status, PortStatus::Idle);
        let mut scene = Scene::charging(26, 60);
        scene.at(|desk| desk.left());
        scene.report(0x98, 26, 0, 0);
        assert_eq!(scene.case.port.status, PortStatus::Offline);
    }

    #[test]
    fn paid_time_is_the_longest_that_the_amount_buys_in_any_tier() {
        let tier = |price_cents, minutes| PowerTier { power_w: 100.0, price_cents, minutes };
        let plan = |tiers| Plan::Tiers { amount_cents: 100, tiers };
        assert_eq!(plan(vec![tier(25, 60), tier(50, 60)]).paid_minutes(), Some(Minutes(240)));
        assert_eq!(plan(vec![tier(30, 60)]).paid_minutes(), Some(Minutes(200)));
        assert_eq!(plan(vec![tier(0, 60)]).paid_minutes(), None);
        assert_eq!(Plan::Energy { energy_wh: 9 }.paid_minutes(), None);
    }
}

/// Anything may come in any order: the port never panics and never breaks what always holds.
#[test]
fn no_sequence_of_inputs_breaks_what_always_holds() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let mut scene = if random.once_in(4) { Scene::unseen() } else { Scene::idle() };
        for _ in 0..60 {
            step(&mut scene, &mut random);
            check(&scene, seed);
            scene.effects.clear();
        }
    }
}

fn step(scene: &mut Scene, random: &mut Random) {
    let no = u16::try_from(random.within(0, 4)).unwrap();
    let (energy, minutes) =
        (u32::try_from(random.within(0, 300)).unwrap(), u32::try_from(random.within(0, 90)).unwrap());
    let to = [To::Nothing, To::Question, To::ByReport, To::Older(20_000)][random.within(0, 3) as usize];
    match random.within(0, 11) {
        0 | 1 => {
            if scene.may_start().is_ok() {
                scene.start(Plan::Time { minutes: 60 });
            }
        }
        2 => {
            let starts: Vec<MessageId> =
                scene.case.orders.iter().filter_map(|entry| Some(entry.order.course.start?.message_id)).collect();
            if let Some(message_id) = starts.get(random.within(0, 7) as usize) {
                scene.answer(*message_id, random.once_in(2), no);
            }
        }
        3 => scene.shows(0xb0, no, energy, minutes, to),
        4 => scene.shows(0x80, 0, 0, 0, to),
        5 => scene.shows(0x80, no, energy, minutes, to),
        6 => drop(scene.report(0xb0, no, energy, minutes)),
        7 => {
            let order_no = scene.case.orders.last().map(|entry| entry.order.order_no.to_string());
            scene.stop(order_no.as_deref().filter(|_| random.once_in(2)));
        }
        8 => {
            let stop =
                scene.case.port.memory.as_ref().and_then(|memory| memory.stop.as_ref()).map(|stop| stop.message_id);
            if let Some(message_id) = stop {
                scene.at(|desk| desk.stop_answered(message_id, no % 2 == 0));
            }
        }
        9 => {
            let away = matches!(scene.reach, Reach::Away(_));
            scene.reach = if away { Reach::Online } else { Reach::Away(UpTime(scene.up)) };
            if away { scene.at(|desk| desk.returned()) } else { scene.at(|desk| desk.left()) }
        }
        10 => {
            scene.started = UpTime(scene.up);
            scene.at(|desk| desk.restarted());
            scene.at(|desk| desk.returned());
        }
        _ => scene.run(random.within(1000, 20 * MINUTE)),
    }
}

fn check(scene: &Scene, seed: u64) {
    let open: Vec<&Order> =
        scene.case.orders.iter().map(|entry| &entry.order).filter(|order| order.status.is_open()).collect();
    assert!(open.len() <= 1, "seed {seed}");
    for effect in &scene.effects {
        if let Effect::SendStop { order_no: Some(order_no), .. } = effect {
            let place = scene.case.orders.iter().position(|entry| entry.order.order_no == *order_no).unwrap();
            let later = scene.case.orders[place + 1..].iter().any(|entry| entry.order.status.is_open());
            assert!(!later, "seed {seed}: a stop for {order_no} reaches a later customer");
        }
    }
    for entry in &scene.case.orders {
        let order = &entry.order;
        assert!(order.status.is_open() || order.energy_max_wh >= order.energy_wh, "seed {seed}");
        assert_eq!(order.status.is_open(), order.settlement.is_none(), "seed {seed}");
    }
}
