//! An adopted order gets the cloud's number, and what was paid when that is known (contract §6 `claim_order`).

use crate::ids::OrderNo;
use crate::order::{EndReason, OrderStatus, Plan, Settlement};
use crate::port::again::as_booked;
use crate::port::report::reason_of;
use crate::port::{Desk, Effect, figures};

impl Desk<'_> {
    /// From here on the order has this number; what was told before has the old one. It may be over already.
    pub fn claim(&mut self, order_no: &OrderNo, new: &OrderNo, plan: Option<Plan>) {
        let Some(index) = self.index_of(order_no) else { return };
        let order = self.order(index);
        order.order_no = new.clone();
        if !order.status.is_open() {
            order.revision += 1;
        }
        if let Some(plan) = plan {
            order.plan = Some(plan);
            self.apply_plan(index);
        }
        if self
            .case
            .memory()
            .and_then(|memory| memory.stop.as_ref())
            .is_some_and(|stop| stop.order_no.as_ref() == Some(order_no))
            && let Some(stop) = self.memory().stop.as_mut()
        {
            stop.order_no = Some(new.clone());
        }
        self.effects.push(Effect::Claimed { order_no: new.clone(), was: order_no.clone() });
        self.finish();
    }

    /// What a plan bounds, and what it reached, is judged by it although it came after the close.
    fn apply_plan(&mut self, index: usize) {
        let (now, terms) = (self.now.up, self.terms);
        let order = self.order(index);
        match order.settlement {
            None => {}
            Some(Settlement::Provisional) => figures::bound_by_plan(order, terms),
            Some(Settlement::Estimated) => {
                let end = order.course.idle_since.or(order.course.closed).unwrap_or(now);
                figures::bound_by_evidence(order, end, terms);
            }
            Some(Settlement::Reported | Settlement::Corrected) if order.status == OrderStatus::Completed => {
                self.find_plan_reached(index);
            }
            Some(Settlement::Reported | Settlement::Corrected) => {}
        }
    }

    fn find_plan_reached(&mut self, index: usize) {
        let Some(report) = as_booked(self.peek(index)) else { return };
        let (terms, stopped) = (self.terms, self.stopped_then(index));
        let reason = reason_of(self.peek(index), &report, stopped, terms);
        if matches!(reason, EndReason::TimeReached | EndReason::EnergyReached | EndReason::AmountReached) {
            self.order(index).end_reason = Some(reason);
        }
    }
}
