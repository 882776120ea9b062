//! A start and its answers (contract §5 *Start*).

use crate::ids::{BusinessNo, MessageId, Minutes, OrderNo};
use crate::mutants::{self, Mutant};
use crate::order::{EndReason, Order, OrderStatus, Settlement, StartCourse};
use crate::port::effect::unknown_end;
use crate::port::figures;
use crate::port::state::{KeptReport, StopCause, StopPhase};
use crate::port::{Desk, Dirty, Effect, Entry, Expiry, OrderEvent, Outcome, PortStatus, Reach, Refusal};

impl Desk<'_> {
    /// Whether a start may go out; a fault goes before a busy port (contract §6 codes).
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn may_start(&self) -> Result<(), Refusal> {
        let port = &self.case.port;
        if port.status == PortStatus::Offline || matches!(self.reach, Reach::Away(_)) {
            return Err(Refusal::DeviceOffline);
        }
        if port.raw_status.is_some_and(|raw| crate::bkv::StatusByte(raw).has_fault()) {
            return Err(Refusal::PortFault);
        }
        // A late answer to an older sending may end the hold while a stop is on its way.
        let stop = self.case.memory().and_then(|memory| memory.stop.as_ref());
        let stopping = stop.is_some_and(|stop| stop.phase == StopPhase::Waiting);
        let held = !mutants::off(Mutant::Hold) && (self.case.is_held() || stopping);
        let free = port.status == PortStatus::Idle && !held && self.open_index().is_none();
        if free { Ok(()) } else { Err(Refusal::PortBusy) }
    }

    /// Takes a new pending order in and sends its start. [`Self::may_start`] has said yes.
    pub fn start(&mut self, mut order: Order, expiry: impl Into<Expiry>) {
        let expiry = expiry.into();
        let message_id = self.names.message_id();
        order.course.start = Some(StartCourse {
            message_id,
            first_sent: self.now.up,
            last_sent: self.now.up,
            sendings: 1,
            tries: 0,
            asking: None,
            refusal: false,
            restarted: false,
            accepted: None,
            expires_at: expiry.at,
            expires_up: expiry.up,
        });
        let order_no = order.order_no.clone();
        self.case.orders.push(Entry { order, dirty: Dirty::Whole });
        // A start needs proven idle: whatever stop was owed before is discharged by that.
        self.drop_stop();
        self.hold_for_sending();
        self.effects.push(Effect::SendStart { order_no, message_id });
        self.finish();
    }

    /// The device answers a start, maybe late, maybe again.
    pub fn start_answered(&mut self, order_no: &OrderNo, ok: bool, number: Option<BusinessNo>) {
        self.hold_answered();
        if let Some(index) = self.index_of(order_no) {
            if ok {
                self.start_accepted(index, number);
            } else {
                self.start_refused(index);
            }
        }
        self.finish();
    }

    fn start_accepted(&mut self, index: usize, number: Option<BusinessNo>) {
        match self.peek(index).status {
            OrderStatus::Pending => self.accept(index, number),
            OrderStatus::Charging | OrderStatus::Stopping => {
                self.give_number(index, number);
                self.end_grace(index);
                self.show(PortStatus::Charging);
                if self.is_to_be_stopped(index) {
                    self.stop_late(index);
                }
            }
            OrderStatus::Completed if self.resumes(index) => {
                self.give_number(index, number);
                self.resume(index);
            }
            OrderStatus::Completed | OrderStatus::Cancelled | OrderStatus::Failed => {
                self.give_number(index, number);
                self.stop_late(index);
            }
        }
    }

    fn is_to_be_stopped(&self, index: usize) -> bool {
        self.peek(index).status == OrderStatus::Stopping || self.stopped_running() == Some(index)
    }

    /// The newest number that the device uses for this order, unless it is none.
    pub(super) fn give_number(&mut self, index: usize, number: Option<BusinessNo>) {
        let Some(number) = number else { return };
        let order = self.order(index);
        order.course.numbers.retain(|known| *known != number);
        if let Some(before) = order.business_no.replace(number).filter(|before| *before != number) {
            order.course.numbers.push(before);
        }
    }

    fn start_refused(&mut self, index: usize) {
        let now = self.now.up;
        let order = self.order(index);
        if order.status != OrderStatus::Pending {
            return;
        }
        let Some(start) = order.course.start.as_mut() else { return };
        if start.sendings > 1 || start.restarted {
            // The port may be busy because the first one worked: only a question decides.
            start.refusal = true;
            start.asking.get_or_insert(now);
            return;
        }
        self.fail_start(index, EndReason::StartRefused);
    }

    /// The device has accepted, by an answer or by what it shows. That decides whose the kept reports are.
    pub(super) fn accept(&mut self, index: usize, number: Option<BusinessNo>) {
        let kept = self.take_kept();
        let own = kept.iter().position(|kept| match number {
            Some(number) => kept.report.number == Some(number),
            None => self.fits_numberless(index, kept),
        });
        let shown = number.or(own.and_then(|own| kept[own].report.number));
        self.begin(index, number);
        self.show(PortStatus::Charging);
        if shown.is_some() && self.case.port.business_no != shown {
            self.case.port.business_no = shown;
            self.case.dirty = Dirty::Whole;
        }
        self.settle_kept(index, kept, own);
    }

    fn begin(&mut self, index: usize, number: Option<BusinessNo>) {
        let (wall, up) = self.at();
        self.give_number(index, number);
        let order = self.order(index);
        order.status = OrderStatus::Charging;
        order.start_time = Some(wall);
        if let Some(start) = order.course.start.as_mut() {
            start.accepted = Some(up);
            start.asking = None;
        }
        let command_id = order.course.command_id.take();
        if let Some(id) = command_id {
            self.reply(id, Some(index), Outcome::Done);
        }
        self.tell(OrderEvent::Started, index);
    }

    /// Idle when asked, with a report kept: ok and end in one. Tells whether it was so.
    fn take_ok_and_end(&mut self, index: usize) -> bool {
        let kept = self.take_kept();
        let own = kept.iter().position(|kept| self.fits_numberless(index, kept));
        if own.is_some() {
            // The port stays as it was shown: nobody saw it charging.
            self.begin(index, None);
        }
        self.settle_kept(index, kept, own);
        own.is_some()
    }

    /// The one at `own` is this order's, ok and end in one; the others are nobody's.
    fn settle_kept(&mut self, index: usize, kept: Vec<KeptReport>, own: Option<usize>) {
        for (place, kept) in kept.into_iter().enumerate() {
            if own == Some(place) {
                self.book_ok_and_end(index, kept);
            } else {
                self.effects.push(unknown_end(&kept.report));
            }
        }
    }

    /// Ok and end in one: it ended before the agent knew that it had begun, so it began with the first sending.
    fn book_ok_and_end(&mut self, index: usize, kept: KeptReport) {
        self.give_number(index, kept.report.number);
        let order = self.order(index);
        order.start_time = Some(order.created_at);
        order.course.idle_since.get_or_insert(kept.at);
        order.course.idle_wall.get_or_insert(kept.wall);
        self.close_by_report(index, &kept.report);
    }

    fn take_kept(&mut self) -> Vec<KeptReport> {
        if self.case.memory().is_none_or(|memory| memory.kept.is_empty()) {
            return Vec::new();
        }
        std::mem::take(&mut self.memory().kept)
    }

    /// A report under a number that was not seen before is a numberless order's, with two exceptions.
    pub(super) fn fits_numberless(&self, index: usize, kept: &KeptReport) -> bool {
        let another_numberless = self.case.orders[..index].iter().any(|entry| {
            let earlier = &entry.order;
            let refused = earlier.end_reason == Some(EndReason::StartRefused);
            earlier.business_no.is_none() && !refused
        });
        let since_sending = self.terms.elapsed_for_sure(figures::session_start(self.peek(index)), kept.at);
        let possible = since_sending.is_none_or(|since| u64::from(kept.report.minutes.0) <= since.as_secs() / 60 + 1);
        !another_numberless && possible
    }

    /// A question sent after the start was answered with idle.
    pub(super) fn pending_shown_idle(&mut self, index: usize) {
        if self.case.memory().is_some_and(|memory| !memory.kept.is_empty()) && self.take_ok_and_end(index) {
            return;
        }
        let Some(start) = self.peek(index).course.start else { return };
        if start.restarted {
            self.fail_start(index, EndReason::StartTimeout);
            self.hold_lingers();
        } else if start.refusal {
            self.fail_start(index, EndReason::StartRefused);
        } else if start.asking.is_some() {
            self.repeat_or_give_up(index);
        }
    }

    pub(super) fn repeat_or_give_up(&mut self, index: usize) {
        let Some(start) = self.peek(index).course.start else { return };
        let expired = start.expires_at.is_some_and(|at| self.now.wall >= at)
            || start.expires_up.is_some_and(|up| self.now.up >= up);
        if u32::from(start.tries) >= self.terms.answer_retries || expired {
            self.give_up_start(index);
            return;
        }
        let up = self.now.up;
        let order = self.order(index);
        let order_no = order.order_no.clone();
        if let Some(start) = order.course.start.as_mut() {
            start.tries += 1;
            start.sendings = start.sendings.saturating_add(1);
            start.last_sent = up;
            start.asking = None;
        }
        self.hold_for_sending();
        self.effects.push(Effect::SendStart { order_no, message_id: start.message_id });
    }

    /// No answer for `answer_timeout` since the last sending.
    pub(super) fn start_unanswered(&mut self, index: usize) {
        let Some(start) = self.peek(index).course.start else { return };
        if u32::from(start.tries) >= self.terms.answer_retries {
            self.give_up_start(index);
            return;
        }
        if mutants::off(Mutant::AskBeforeRepeating) {
            return self.repeat_or_give_up(index);
        }
        let up = self.now.up;
        if let Some(start) = self.order(index).course.start.as_mut() {
            start.asking = Some(up);
        }
    }

    /// A question of a pending start got no reply, or could not be sent: a try used up.
    pub(super) fn start_question_failed(&mut self, index: usize) {
        let up = self.now.up;
        let retries = self.terms.answer_retries;
        let Some(start) = self.order(index).course.start.as_mut() else { return };
        start.tries = start.tries.saturating_add(1);
        start.asking = Some(up);
        if u32::from(start.tries) >= retries {
            self.give_up_start(index);
        }
    }

    /// Whether it works is not known: failed, and a stop goes out, owed until the port is idle.
    pub(super) fn give_up_start(&mut self, index: usize) {
        self.fail_start(index, EndReason::StartTimeout);
        self.hold_lingers();
        let number = self.peek(index).business_no;
        self.send_stop(Some(index), number, StopCause::Start, None);
    }

    /// Stopped before it charged: 5 at once, whatever the device will say.
    pub(super) fn cancel(&mut self, index: usize) {
        self.fail_start(index, EndReason::Cancelled);
        self.hold_lingers();
    }

    pub(super) fn fail_start(&mut self, index: usize, reason: EndReason) {
        let (wall, up) = self.at();
        for kept in self.take_kept() {
            self.effects.push(unknown_end(&kept.report));
        }
        let terms = self.terms;
        let order = self.order(index);
        order.status = if reason == EndReason::Cancelled { OrderStatus::Cancelled } else { OrderStatus::Failed };
        order.end_time = Some(wall);
        order.end_reason = Some(reason);
        order.revise();
        order.course.closed = Some(up);
        if reason == EndReason::StartRefused {
            order.settlement = Some(Settlement::Estimated);
            order.is_final = true;
            order.energy_max_wh = Some(crate::ids::WattHours(0));
            order.minutes_max = Some(Minutes(0));
        } else {
            order.settlement = Some(Settlement::Provisional);
            figures::bound_by_plan(order, terms);
        }
        let command_id = order.course.command_id.take();
        let (event, refusal) = match reason {
            EndReason::StartRefused => (OrderEvent::Failed, Refusal::RefusedByDevice),
            EndReason::Cancelled => (OrderEvent::Cancelled, Refusal::Cancelled),
            _ => (OrderEvent::Failed, Refusal::NoAnswer),
        };
        if let Some(id) = command_id {
            self.reply(id, Some(index), Outcome::Failed(refusal));
        }
        self.tell(event, index);
    }

    /// After a restart a pending start is not sent again: it is asked about.
    pub(super) fn start_restarted(&mut self, index: usize) {
        let up = self.now.up;
        if let Some(start) = self.order(index).course.start.as_mut() {
            start.restarted = true;
            start.asking = Some(up);
        }
        self.hold_lingers();
    }

    /// Whether `message_id` is of this order's start.
    pub fn is_start_of(order: &Order, message_id: MessageId) -> bool {
        order.course.start.is_some_and(|start| start.message_id == message_id)
    }
}
