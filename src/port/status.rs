//! What a status proves (contract §5 *Whose session?*, *Held ports*, protocol §5).

use crate::bkv::StatusByte;
use crate::ids::BusinessNo;
use crate::order::{EndReason, Flag, Order, OrderStatus, Settlement, Source};
use crate::port::figures;
use crate::port::state::{Doubt, Stray};
use crate::port::{Desk, Dirty, Effect, Entry, IDLE_POWER, Issue, IssueType, OrderEvent, PROOF, PortStatus, Reading};

/// What a status byte and a number together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Charging,
    Idle,
    /// A number without bit 4: no evidence until a question repeats it.
    NumberAlone,
}

impl Desk<'_> {
    /// A status of the port, its socket being online.
    pub fn status(&mut self, reading: Reading) {
        // What is doubted at first sight is still first seen when a question has settled it.
        let doubted = self.case.memory().and_then(|memory| memory.doubt).is_some_and(|doubt| doubt.first_sight);
        let first_ever = self.case.port.raw_status.is_none() || doubted;
        let shown = self.read(&reading);
        self.display(&reading, shown);
        match shown {
            Shown::Charging => self.charging(&reading, first_ever),
            Shown::Idle => self.idle(&reading),
            Shown::NumberAlone => {}
        }
        if shown != Shown::NumberAlone && self.case.memory().is_some_and(|memory| memory.orders_lost) {
            self.memory().orders_lost = false;
        }
        self.finish();
    }

    fn read(&mut self, reading: &Reading) -> Shown {
        let charging = StatusByte(reading.raw).charging();
        match (charging, reading.number) {
            (true, Some(_)) => Shown::Charging,
            (false, None) => Shown::Idle,
            (true, None) => {
                self.effects.push(Effect::Note("charging without a business number"));
                Shown::Charging
            }
            (false, Some(_)) => {
                self.effects.push(Effect::Note("a business number without the charging bit"));
                if !self.settles_doubt(reading, charging) {
                    Shown::NumberAlone
                } else if reading.figures.power < IDLE_POWER {
                    Shown::Idle
                } else {
                    Shown::Charging
                }
            }
        }
    }

    /// Whether a question that is younger than the doubt repeats what was doubted; else it is doubted from here.
    fn settles_doubt(&mut self, reading: &Reading, charging: bool) -> bool {
        let now = self.now.up;
        let doubt = self.case.memory().and_then(|memory| memory.doubt);
        let same = doubt.filter(|doubt| doubt.number == reading.number && doubt.charging == charging);
        match (same, reading.answers) {
            (Some(doubt), _) if doubt.settled && charging => true,
            (Some(doubt), Some(question)) if question.sent >= doubt.since => {
                self.memory().doubt = Some(Doubt { settled: charging, ..doubt });
                true
            }
            (Some(_), _) => false,
            (None, _) => {
                let first_sight = self.case.port.raw_status.is_none();
                self.memory().doubt =
                    Some(Doubt { number: reading.number, charging, since: now, first_sight, settled: false });
                false
            }
        }
    }

    fn drop_doubt(&mut self) {
        if self.case.memory().is_some_and(|memory| memory.doubt.is_some()) {
            self.memory().doubt = None;
        }
    }

    fn display(&mut self, reading: &Reading, shown: Shown) {
        let faulty = StatusByte(reading.raw).has_fault();
        match shown {
            Shown::Charging => self.show(PortStatus::Charging),
            Shown::Idle if faulty => self.show(PortStatus::Unclear),
            Shown::Idle => self.show(PortStatus::Idle),
            Shown::NumberAlone if self.case.port.status == PortStatus::Offline => self.show(PortStatus::Unclear),
            Shown::NumberAlone => {}
        }
        let (wall, up) = self.at();
        let port = &mut self.case.port;
        let changed = port.raw_status != Some(reading.raw) || port.business_no != reading.number;
        port.raw_status = Some(reading.raw);
        port.business_no = reading.number;
        port.figures = Some(reading.figures);
        port.updated_at = Some(wall);
        port.updated_up = Some(up);
        self.case.dirty = self.case.dirty.max(if changed { Dirty::Whole } else { Dirty::Figures });
    }

    fn charging(&mut self, reading: &Reading, first_ever: bool) {
        if self.hold().is_some_and(|hold| hold.evidence > 0)
            && let Some(hold) = self.memory().hold.as_mut()
        {
            hold.evidence = 0;
        }
        if let Some(index) = self.pending_index() {
            self.charging_while_pending(index, reading);
        } else if let Some(index) = self.running_index() {
            if self.is_session_of(index, reading) {
                self.news(index, reading);
            }
        } else if self.is_of_a_lost_order(reading.number) {
            self.adopt(reading);
        } else if let Some(index) = self.closed_owner(reading.number) {
            if self.is_session_of(index, reading) {
                self.charges_after_close(index, reading);
            }
        } else if first_ever && self.case.orders.is_empty() {
            self.adopt(reading);
        } else {
            self.stray(reading);
        }
    }

    /// Only the answer to a question that was sent after the start is the ok.
    fn charging_while_pending(&mut self, index: usize, reading: &Reading) {
        if !self.answers_after_start(index, reading) {
            return;
        }
        let reused = reading.number.filter(|number| self.is_of_another(index, *number));
        self.accept(index, reading.number.filter(|_| reused.is_none()));
        if reused.is_some() {
            self.order(index).flags.insert(Flag::ReusedNumber);
        } else if let Some(index) = self.running_index() {
            self.news(index, reading);
        }
    }

    fn answers_after_start(&self, index: usize, reading: &Reading) -> bool {
        let Some((start, question)) = self.peek(index).course.start.zip(reading.answers) else { return false };
        // A start waits for its commit: what was asked at the same moment went out before it.
        question.sent > start.last_sent || start.asking.is_some_and(|asking| question.sent >= asking)
    }

    fn is_of_another(&self, index: usize, number: BusinessNo) -> bool {
        let others = self.case.orders.iter().enumerate();
        others.filter(|(place, _)| *place != index).any(|(_, entry)| entry.order.has_number(number))
    }

    /// Whether what charges is the session of this order, which owns the port: a number that disagrees is no
    /// evidence until a question repeats it; then an unseen one becomes the order's own, another's never does.
    fn is_session_of(&mut self, index: usize, reading: &Reading) -> bool {
        let Some(number) = reading.number else { return true };
        if self.peek(index).has_number(number) {
            self.drop_doubt();
            return true;
        }
        if !self.settles_doubt(reading, true) {
            return false;
        }
        if self.is_of_another(index, number) {
            if !self.peek(index).flags.contains(&Flag::ReusedNumber) {
                self.order(index).flags.insert(Flag::ReusedNumber);
            }
        } else {
            self.drop_doubt();
            self.give_number(index, Some(number));
        }
        true
    }

    /// The open order's session is shown charging.
    pub(super) fn news(&mut self, index: usize, reading: &Reading) {
        self.end_grace(index);
        if let Some(question) = reading.answers {
            self.settle_reused(index, Some(question.sent));
        }
        let own_number = reading.number.is_none_or(|number| self.peek(index).has_number(number));
        if own_number {
            self.take_figures(index, reading);
        }
        if self.peek(index).status == OrderStatus::Stopping {
            self.charges_after_accepted_stop(index);
        }
        self.chase_stop(reading.number);
        if self.peek(index).status.is_running() && figures::is_past_ordered_energy(self.peek(index)) {
            self.overrun(index);
        }
    }

    fn take_figures(&mut self, index: usize, reading: &Reading) {
        let (now, terms) = (self.now.up, self.terms);
        let entry = &mut self.case.orders[index];
        let plausible = figures::take_status(&mut entry.order, &reading.figures, now, terms);
        entry.dirty = entry.dirty.max(Dirty::Figures);
        if !plausible.energy {
            self.effects.push(Effect::Note("implausible energy"));
        }
        if !plausible.minutes {
            self.effects.push(Effect::Note("implausible minutes"));
        }
    }

    /// A status that shows the session charging ends a grace.
    pub(super) fn end_grace(&mut self, index: usize) {
        let course = &self.peek(index).course;
        if course.idle_since.is_some() || course.waits_since.is_some() {
            let course = &mut self.order(index).course;
            course.waits_since = None;
            course.idle_since = None;
            course.idle_wall = None;
            course.grace_asked = false;
        }
    }

    /// The closed order that owns what charges: the newest accepted one until idle was shown or its report came;
    /// after that the one whose number is shown, while it is the newest of the port.
    pub(super) fn closed_owner(&self, number: Option<BusinessNo>) -> Option<usize> {
        let newest = self.newest_index()?;
        if let Some(accepted) = self.case.orders.iter().rposition(|entry| entry.order.was_accepted()) {
            let order = self.peek(accepted);
            let reported = matches!(order.settlement, Some(Settlement::Reported | Settlement::Corrected));
            if !reported && !order.course.end_shown && order.course.idle_since.is_none() {
                return Some(accepted);
            }
        }
        number.filter(|number| self.peek(newest).has_number(*number)).map(|_| newest)
    }

    /// Orders were lost, and those that are left know nothing of this session.
    fn is_of_a_lost_order(&self, number: Option<BusinessNo>) -> bool {
        let known = |number| self.case.orders.iter().any(|entry| entry.order.has_number(number));
        self.case.memory().is_some_and(|memory| memory.orders_lost) && !number.is_some_and(known)
    }

    /// A session that already ran when its port was first seen by this store becomes an order of its own.
    fn adopt(&mut self, reading: &Reading) {
        let key = self.case.port.key;
        let (wall, up) = self.at();
        let minutes = i64::from(reading.figures.minutes.0);
        let order_no = self.names.order_no();
        let mut order = Order::new(order_no, key, Source::Adopted, (wall, up));
        order.status = OrderStatus::Charging;
        order.start_time = Some(crate::clock::WallTime(wall.0 - minutes * 60_000));
        order.started_by = Some("agent".to_owned());
        self.case.orders.push(Entry { order, dirty: Dirty::Whole });
        let index = self.case.orders.len() - 1;
        self.give_number(index, reading.number);
        self.take_figures(index, reading);
        self.tell(OrderEvent::Adopted, index);
    }

    /// A session without an order: asked about, and stopped when it still charges after the grace.
    fn stray(&mut self, reading: &Reading) {
        if self.is_chased(reading.number) {
            self.chase_stop(reading.number);
            return;
        }
        let now = self.now.up;
        let known = self.case.memory().and_then(|memory| memory.stray);
        let stray = match known.filter(|stray| stray.number == reading.number) {
            Some(stray) => stray,
            None => {
                let stray = Stray { number: reading.number, since: now, told: false };
                self.memory().stray = Some(stray);
                stray
            }
        };
        let due = stray.since.after(self.terms.end_report_grace);
        let proven = reading.answers.is_some_and(|question| question.sent >= due);
        if proven && !stray.told {
            self.memory().stray = Some(Stray { told: true, ..stray });
            self.effects.push(Effect::Repaired(Issue { kind: IssueType::LonelyChargingPort, order_no: None }));
            if self.terms.stops_strays {
                self.send_stop(None, reading.number, super::state::StopCause::Stray, None);
            }
        }
        self.chase_stop(reading.number);
    }

    fn idle(&mut self, reading: &Reading) {
        self.drop_doubt();
        if self.case.memory().is_some_and(|memory| memory.stray.is_some()) {
            self.memory().stray = None;
        }
        if let Some(index) = self.pending_index() {
            if self.answers_after_start(index, reading) {
                self.pending_shown_idle(index);
            }
        } else if let Some(index) = self.running_index() {
            self.running_shown_idle(index, reading);
        } else {
            (0..self.case.orders.len()).for_each(|index| self.closed_shown_idle(index));
        }
        // After the order: what fails a start by being idle may prove in the same breath that the port is free.
        self.idle_evidence_for_hold(reading);
        self.discharge_stop(reading);
    }

    fn running_shown_idle(&mut self, index: usize, reading: &Reading) {
        let (wall, up) = self.at();
        let since = match self.peek(index).course.idle_since {
            Some(since) => since,
            None => {
                let course = &mut self.order(index).course;
                course.idle_since = Some(up);
                course.idle_wall = Some(wall);
                course.grace_asked = false;
                up
            }
        };
        let asked = reading.answers.is_some_and(|question| question.sent >= since);
        if asked && !self.peek(index).course.grace_asked {
            self.order(index).course.grace_asked = true;
        }
        if asked {
            self.settle_reused(index, None);
        }
        if self.running_index() != Some(index) {
            return;
        }
        self.close_when_grace_is_over(index);
    }

    /// Idle speaks for the end of what was closed without a report; a provisional close waits a grace for it.
    fn closed_shown_idle(&mut self, index: usize) {
        let (wall, up) = self.at();
        if !self.peek(index).was_accepted() || self.has_report(index) {
            return;
        }
        if !self.peek(index).course.end_shown {
            self.order(index).course.end_shown = true;
        }
        if order_waits_for_idle(self.peek(index)) && self.peek(index).course.waits_since.is_none() {
            let course = &mut self.order(index).course;
            course.waits_since = Some(up);
            course.idle_since.get_or_insert(up);
            course.idle_wall.get_or_insert(wall);
        }
    }

    /// Idle from before proves nothing, nor does what answers an older question: a `1c` under our id counts
    /// double, anything else after a question once, two are needed.
    fn idle_evidence_for_hold(&mut self, reading: &Reading) {
        let Some(hold) = self.hold() else { return };
        let proof_from = hold.sent.after(self.terms.end_report_grace);
        let weight = match (reading.answers, reading.last_question) {
            (Some(question), _) if question.sent < proof_from => 0,
            (Some(question), _) if question.by_id => PROOF,
            (Some(_), _) => 1,
            (None, Some(sent)) if sent >= proof_from => 1,
            (None, _) => 0,
        };
        if weight == 0 {
            return;
        }
        let evidence = hold.evidence.saturating_add(weight);
        if evidence >= PROOF {
            self.release_hold();
        } else if let Some(hold) = self.memory().hold.as_mut() {
            hold.evidence = evidence;
        }
    }

    fn release_hold(&mut self) {
        self.memory().hold = None;
        // Proven idle discharges whatever was owed, and settles what the hold kept provisional.
        self.drop_stop();
        let up = self.now.up;
        for index in 0..self.case.orders.len() {
            let order = self.peek(index);
            let by_hold = matches!(order.end_reason, Some(EndReason::Cancelled | EndReason::StartTimeout));
            if by_hold && order.settlement == Some(Settlement::Provisional) {
                let end = order.course.idle_since.unwrap_or(up);
                self.estimate(index, end);
            }
        }
    }
}

/// A provisional close of a session that was accepted waits to be shown idle.
pub(super) fn order_waits_for_idle(order: &Order) -> bool {
    order.settlement == Some(Settlement::Provisional) && order.was_accepted() && !order.is_final
}
