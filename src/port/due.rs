//! What time asks: one due time a port, and the question that it wants to put to its socket.

use crate::clock::UpTime;
use crate::order::{EndReason, OrderStatus, Settlement};
use crate::port::state::{KeptReport, StopPhase};
use crate::port::status::order_waits_for_idle;
use crate::port::{Desk, PortStatus, Reach};

impl Desk<'_> {
    /// When time alone next changes something here, questions aside.
    pub fn due(&self) -> Option<UpTime> {
        let of_order = match self.open_index() {
            Some(index) if self.peek(index).status == OrderStatus::Pending => self.pending_due(index),
            Some(index) => self.running_due(index),
            None => None,
        };
        let of_closed = (0..self.case.orders.len()).filter_map(|index| self.closed_due(index)).min();
        let of_stop = self.case.memory().and_then(|memory| memory.stop.as_ref()).and_then(|stop| {
            let sent = stop.sent.filter(|_| stop.phase == StopPhase::Waiting)?;
            Some(sent.after(self.terms.answer_timeout))
        });
        [of_order, of_closed, of_stop].into_iter().flatten().min()
    }

    fn pending_due(&self, index: usize) -> Option<UpTime> {
        let start = self.peek(index).course.start?;
        match (start.asking, self.reach) {
            (None, _) => Some(start.last_sent.after(self.terms.answer_timeout)),
            (Some(_), Reach::Away(_)) if start.restarted => Some(self.terms.started.after(self.terms.offline_after)),
            (Some(since), Reach::Away(_)) => Some(since.after(self.terms.answer_timeout)),
            // The caller tells of a question that failed. One that is answered again and again without a word about
            // this port must not keep the order for ever.
            (Some(since), Reach::Online) => Some(since.after(self.terms.answer_timeout * 4)),
        }
    }

    fn running_due(&self, index: usize) -> Option<UpTime> {
        let grace = self.grace_ends(index);
        let overrun = Some(self.overrun_at(index)).filter(|_| self.may_overrun(index));
        let offline = match self.reach {
            Reach::Online => None,
            Reach::Away(since) => Some(self.offline_at(since)),
        };
        [grace, overrun, offline].into_iter().flatten().min()
    }

    /// When an order is closed whose device or socket is away since then. After a start of the agent a device gets at
    /// least `offline_after` to return.
    fn offline_at(&self, since: UpTime) -> UpTime {
        let at = since.after(self.terms.offline_timeout);
        let heard_in_this_run = since > self.terms.started;
        if heard_in_this_run { at } else { at.max(self.terms.started.after(self.terms.offline_after)) }
    }

    /// Past its paid time an order is stopped once, and not while the port is shown idle: its grace decides then.
    fn may_overrun(&self, index: usize) -> bool {
        let course = &self.peek(index).course;
        !course.stop_by_overrun && course.idle_since.is_none()
    }

    fn overrun_at(&self, index: usize) -> UpTime {
        let paid = u64::from(self.peek(index).paid_minutes(self.terms.longest).0) * 60;
        let allowed = std::time::Duration::from_secs(paid) + self.terms.overrun_grace;
        self.now.up.after(allowed.saturating_sub(self.ran_for(index)))
    }

    fn closed_due(&self, index: usize) -> Option<UpTime> {
        let order = self.peek(index);
        let waits = order.course.waits_since.filter(|_| order_waits_for_idle(order));
        waits.map(|since| since.after(self.terms.end_report_grace))
    }

    /// Something may be due.
    pub fn timeout(&mut self) {
        let stop_due = self.case.memory().and_then(|memory| memory.stop.as_ref()).is_some_and(|stop| {
            let sent = stop.sent.filter(|_| stop.phase == StopPhase::Waiting);
            sent.is_some_and(|sent| self.now.up >= sent.after(self.terms.answer_timeout))
        });
        if stop_due {
            self.stop_unanswered();
        }
        match self.open_index() {
            Some(index) if self.peek(index).status == OrderStatus::Pending => self.pending_timeout(index),
            Some(index) => self.running_timeout(index),
            None => {}
        }
        self.closed_timeout();
        self.finish();
    }

    fn pending_timeout(&mut self, index: usize) {
        if self.pending_due(index).is_none_or(|due| self.now.up < due) {
            return;
        }
        let Some(start) = self.peek(index).course.start else { return };
        match start.asking {
            None => self.start_unanswered(index),
            Some(_) if start.restarted && self.reach != Reach::Online => self.give_up_start(index),
            Some(_) => self.start_question_failed(index),
        }
    }

    fn running_timeout(&mut self, index: usize) {
        self.close_when_grace_is_over(index);
        if !self.peek(index).status.is_running() {
            return;
        }
        if let Reach::Away(since) = self.reach
            && self.now.up >= self.offline_at(since)
        {
            self.close(index, EndReason::Offline, Settlement::Provisional);
        } else if self.may_overrun(index) && self.now.up >= self.overrun_at(index) {
            self.overrun(index);
        }
    }

    fn closed_timeout(&mut self) {
        for index in 0..self.case.orders.len() {
            if self.closed_due(index).is_some_and(|due| self.now.up >= due) {
                let end = self.peek(index).course.idle_since.unwrap_or(self.now.up);
                self.estimate(index, end);
            }
        }
    }

    /// Since when the port has wanted to know what it shows; the caller asks (`1d`) as soon as this has come,
    /// one question a socket at a time.
    pub fn wants_question(&self) -> Option<UpTime> {
        if self.reach != Reach::Online {
            return None;
        }
        let memory = self.case.memory();
        let doubt = memory.and_then(|memory| memory.doubt).filter(|doubt| !doubt.settled);
        let doubt = doubt.map(|doubt| doubt.since);
        let grace = self.terms.end_report_grace;
        let stray =
            memory.and_then(|memory| memory.stray).filter(|stray| !stray.told).map(|stray| stray.since.after(grace));
        let of_order = self.open_index().and_then(|index| self.question_of_open(index));
        let hold = self.hold().filter(|_| self.open_index().is_none()).map(|hold| hold.sent.after(grace));
        [doubt, stray, of_order, hold].into_iter().flatten().min()
    }

    /// Whether its question does not wait for the pause between questions: a start hangs on it, the second proof, or
    /// the end of an order on an idle port, which is asked about once.
    pub fn is_urgent(&self) -> bool {
        let in_grace = self.running_index().is_some_and(|index| {
            let course = &self.peek(index).course;
            course.idle_since.is_some() && !course.grace_asked
        });
        in_grace || self.pending_index().is_some() || self.hold().is_some_and(|hold| hold.evidence > 0)
    }

    fn question_of_open(&self, index: usize) -> Option<UpTime> {
        let order = self.peek(index);
        if order.status == OrderStatus::Pending {
            return order.course.start.and_then(|start| start.asking);
        }
        let course = &order.course;
        let halfway = self.terms.end_report_grace / 2;
        let in_grace = [course.idle_since, course.stop_accepted].into_iter().flatten().min();
        let in_grace = in_grace.filter(|_| !course.grace_asked).map(|since| since.after(halfway));
        let silence = Some(self.silent_at(index));
        let reused = self.case.memory().and_then(|memory| {
            let of_it = |number| order.has_number(number);
            let of_it = |kept: &&KeptReport| kept.report.number.is_some_and(of_it);
            // Power can linger: what is still shown charging is asked about once more when the grace is over.
            let asks =
                |kept: &KeptReport| if kept.asked { kept.at.after(self.terms.end_report_grace) } else { kept.at };
            memory.kept.iter().filter(of_it).map(asks).min()
        });
        [in_grace, silence, reused].into_iter().flatten().min()
    }

    /// When the running order has had no news for too long; each return after `timeout` doubles it.
    fn silent_at(&self, index: usize) -> UpTime {
        let order = self.peek(index);
        let accepted = order.course.start.and_then(|start| start.accepted).unwrap_or(order.created_up);
        let news = self.case.port.updated_up.unwrap_or(accepted).max(accepted);
        news.after(self.terms.silent_timeout * 2u32.saturating_pow(u32::from(order.course.resumed_after_timeout)))
    }

    /// A question that was sent at `sent` got no reply.
    pub fn question_failed(&mut self, sent: UpTime) {
        if let Some(index) = self.open_index() {
            if self.peek(index).status == OrderStatus::Pending {
                let asking = self.peek(index).course.start.and_then(|start| start.asking);
                if asking.is_some_and(|since| sent >= since) {
                    self.start_question_failed(index);
                }
            } else {
                self.running_question_failed(index, sent);
            }
        }
        self.finish();
    }

    fn running_question_failed(&mut self, index: usize, sent: UpTime) {
        let course = &self.peek(index).course;
        let in_grace = [course.idle_since, course.stop_accepted].into_iter().flatten().min();
        if in_grace.is_some_and(|since| sent >= since) && !course.grace_asked {
            self.order(index).course.grace_asked = true;
            self.close_when_grace_is_over(index);
        }
        let silent = self.reach == Reach::Online && sent >= self.silent_at(index);
        if silent && self.peek(index).status.is_running() {
            self.close(index, EndReason::Timeout, Settlement::Provisional);
        }
    }

    /// Device or socket is gone: what the port does is not known.
    pub fn left(&mut self) {
        self.show(PortStatus::Offline);
        self.finish();
    }

    /// Device and socket are back: online, but not known which; what is owed goes out.
    pub fn returned(&mut self) {
        if self.case.port.status == PortStatus::Offline {
            self.show(PortStatus::Unclear);
        }
        self.stop_on_return();
        self.finish();
    }

    /// The agent was restarted: a pending start is asked about, an unanswered stop is owed.
    pub fn restarted(&mut self) {
        if let Some(index) = self.open_index()
            && self.peek(index).status == OrderStatus::Pending
        {
            self.start_restarted(index);
        }
        self.stop_restarted();
        self.show(PortStatus::Offline);
        self.finish();
    }

    /// Time alone makes the closed order of this number final (`orders.final_after`).
    pub fn finalize(&mut self, order_no: &crate::ids::OrderNo) {
        if let Some(index) = self.index_of(order_no)
            && !self.peek(index).is_final
            && !self.peek(index).status.is_open()
        {
            let order = self.order(index);
            order.is_final = true;
            order.revise();
            self.tell(super::OrderEvent::Finalized, index);
        }
        self.finish();
    }
}
