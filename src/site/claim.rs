//! `claim_order`: an adopted order gets the cloud's number (contract §6).

use crate::clock::Now;
use crate::command::{Claim, Code, Problem, Reply};
use crate::event::{Stream, order_data};
use crate::ids::{OrderNo, PortKey};
use crate::order::{Order, Source};
use crate::port::{Desk, OrderEvent};
use crate::turn::Fatal;

use super::Site;
use super::commands::Step;
use super::held::WhenFull;

impl Site {
    pub(super) fn claim_order(&mut self, id: &str, claim: &Claim, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let Some(order) = self.find_order(&claim.order_no)? else {
            return Ok(Err(Problem::of(Code::UnknownOrder, "order_no", "no order has this number")));
        };
        if order.source != Source::Adopted {
            let why = "only an order that was adopted can be claimed; this one has its number";
            return Ok(Err(Problem::of(Code::OutOfRange, "order_no", why)));
        }
        if let Some(other) = self.find_order(&claim.new_order_no)? {
            let problem = Problem::of(Code::DuplicateOrderNo, "new_order_no", "an order of this number exists");
            let reply = Reply::rejected(Some(id), problem).about(other.order_no.clone()).with(order_data(&other));
            return Ok(Ok(Step::Reply(reply, WhenFull::Give)));
        }
        let plan = match claim.plan() {
            Ok(plan) => plan,
            Err(problem) => return Ok(Err(problem)),
        };
        let (key, was, new) = (order.port, &claim.order_no, &claim.new_order_no);
        if self.case(key).is_some() {
            self.load_order(key, was)?;
            self.at_port(key, now, |desk: &mut Desk<'_>| desk.claim(was, new, plan))?;
            // What is read from here on finds it by its number.
            let written = self.write_case(key);
            self.kept(written)?;
        } else {
            self.claim_of_removed_device(Order { plan: plan.or_else(|| order.plan.clone()), ..order }, new, now)?;
        }
        let renamed = self.store.rename_order(was, new);
        self.kept(renamed)?;
        let mut reply = Reply::done(id).about(new.clone());
        reply.data = self.find_order(new)?.as_ref().map(order_data);
        Ok(Ok(Step::Reply(reply, WhenFull::Refuse)))
    }

    /// Its device was removed, so it is over: nothing is left to decide.
    fn claim_of_removed_device(&mut self, mut order: Order, new: &OrderNo, now: Now) -> Result<(), Fatal> {
        let was = std::mem::replace(&mut order.order_no, new.clone());
        order.revision += 1;
        let written = self.store.put_order(&mut order);
        self.kept(written)?;
        self.tell_claim(&order, &was, now)
    }

    pub(super) fn tell_claimed(&mut self, key: PortKey, new: &OrderNo, was: &OrderNo, now: Now) -> Result<(), Fatal> {
        match self.case(key).and_then(|case| case.order(new)).cloned() {
            Some(order) => self.tell_claim(&order, was, now),
            None => Ok(()),
        }
    }

    fn tell_claim(&mut self, order: &Order, was: &OrderNo, now: Now) -> Result<(), Fatal> {
        log::info!("order.claimed order={} was={was} port={}", order.order_no, order.port);
        let mut data = order_data(order);
        data["was_order_no"] = was.as_str().into();
        let kind = OrderEvent::Claimed.word();
        self.tell(Stream::Order, kind, Some(order.port.device), Some(&order.order_no), &data, now)
    }
}
