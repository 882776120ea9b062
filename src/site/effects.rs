//! Carrying out what ports decide: frames, events, replies, rows, all in the transaction of the turn.

use serde_json::json;

use crate::clock::Now;
use crate::command::{Code, Problem, Reply};
use crate::event::{Stream, order_data, port_event};
use crate::ids::{OrderNo, PortKey};
use crate::order::{Flag, Order, Settlement, Verdict};
use crate::port::{Desk, Effect, OrderEvent, Outcome, Refusal};
use crate::store::{FrameVerdict, SendingKind, Severity, Subject};
use crate::turn::Fatal;

use super::dues::Due;
use super::held::WhenFull;
use super::{Site, fatal};

pub(super) const STOP_IGNORED: &str = "stop_ignored";

impl Site {
    /// In the order given.
    pub(super) fn carry_out(&mut self, key: PortKey, effects: &mut Vec<Effect>, now: Now) -> Result<(), Fatal> {
        for effect in effects.drain(..) {
            match effect {
                Effect::SendStart { order_no, message_id } => self.send_start(key, &order_no, message_id, now)?,
                Effect::SendStop { order_no, message_id } => self.send_stop(key, order_no.as_ref(), message_id, now)?,
                Effect::Tell { what, order_no } => self.tell_order(key, what, &order_no, now)?,
                Effect::Claimed { order_no, was } => self.tell_claimed(key, &order_no, &was, now)?,
                // The same bytes once more: it was told.
                Effect::UnknownEnd { .. } if self.told_before => {}
                Effect::UnknownEnd { number, energy, minutes } => {
                    let more = json!({ "business_no": number, "energy_wh": energy, "minutes": minutes });
                    log::warn!("end report of nobody port={key} number={number:?}");
                    self.tell(Stream::Order, "order.unknown_end", Some(key.device), None, &port_event(key, more), now)?;
                }
                Effect::Repaired(issue) => {
                    log::warn!("session without an order port={key}");
                    self.tell_repaired(key, &issue, now)?;
                }
                Effect::Reply { command_id, order_no, outcome } => {
                    self.reply_outcome(key, &command_id, order_no, outcome, now)?;
                }
                Effect::StopIgnored { stops } => {
                    self.dues.set(Due::StopObeyed(key), None, now.up);
                    self.stop_ignored(key, stops, now)?;
                }
                Effect::StopObeyed => {
                    let clear_at = now.up.after(self.config.alerts.clear_after);
                    self.dues.set(Due::StopObeyed(key), Some(clear_at), now.up);
                }
                Effect::Note(reason) => self.notes.push(reason),
            }
        }
        Ok(())
    }

    pub(super) fn stop_ignored(&mut self, key: PortKey, stops: u32, now: Now) -> Result<(), Fatal> {
        let details = json!({ "stops": stops });
        let raised = self.raise(STOP_IGNORED, Severity::Critical, subject(key), now.wall, &details, now);
        self.kept(raised).map(drop)
    }

    /// The port has obeyed for `alerts.clear_after`.
    pub(super) fn clear_stop_ignored(&mut self, key: PortKey, now: Now) -> Result<(), Fatal> {
        let cleared = self.clear(STOP_IGNORED, subject(key), now);
        self.kept(cleared).map(drop)
    }

    fn tell_order(&mut self, key: PortKey, what: OrderEvent, order_no: &OrderNo, now: Now) -> Result<(), Fatal> {
        let unset = self.clock_is_unset();
        let level = self.keeping.level(log::Level::Info);
        let closes = matches!(what, OrderEvent::Closed);
        let verdict = if closes { self.verdict_of(key, order_no)? } else { None };
        let Some(case) = self.case_mut(key) else { return Ok(()) };
        let Some(entry) = case.orders.iter_mut().find(|entry| entry.order.order_no == *order_no) else { return Ok(()) };
        if unset {
            entry.order.flags.insert(Flag::ClockUnset);
        }
        if closes {
            entry.order.verdict = verdict;
        }
        let data = order_data(&entry.order);
        log_order(level, what, &entry.order);
        let unsettled = !entry.order.is_final && entry.order.settlement.is_some();
        self.tell(Stream::Order, what.word(), Some(key.device), Some(order_no), &data, now)?;
        if unsettled && !self.dues.is_set(Due::Finalize) {
            let at = now.up.after(self.config.orders.final_after);
            self.dues.set(Due::Finalize, Some(at), now.up);
        }
        Ok(())
    }

    /// Why the report is missing, from the frames of the order's own socket and port during its life.
    fn verdict_of(&mut self, key: PortKey, order_no: &OrderNo) -> Result<Option<Verdict>, Fatal> {
        let Some(order) = self.case(key).and_then(|case| case.order(order_no)) else { return Ok(None) };
        if !order.was_accepted() || order.settlement == Some(Settlement::Reported) {
            return Ok(None);
        }
        let since = order.created_up;
        let whole_since = fatal(self.store.journal_whole_since())?;
        let refused = fatal(self.store.refused_frames_since(key.device, since))?;
        let of_it = refused
            .iter()
            .filter(|entry| entry.socket.is_none_or(|socket| socket == key.socket))
            .filter(|entry| entry.port.is_none_or(|port| port == key.port))
            .filter(|entry| super::frames::is_end_report(&entry.frame));
        let verdicts: Vec<FrameVerdict> = of_it.map(|entry| entry.verdict).collect();
        Ok(Some(if verdicts.contains(&FrameVerdict::Malformed) {
            Verdict::ReceivedMalformed
        } else if verdicts.contains(&FrameVerdict::Unmatched) {
            Verdict::ReceivedUnmatched
        } else if whole_since.is_some_and(|whole| whole > since) {
            Verdict::Unknown
        } else {
            Verdict::NeverReceived
        }))
    }

    fn reply_outcome(
        &mut self,
        key: PortKey,
        command_id: &str,
        order_no: Option<OrderNo>,
        outcome: Outcome,
        now: Now,
    ) -> Result<(), Fatal> {
        let mut reply = match outcome {
            Outcome::Done => Reply::done(command_id),
            Outcome::Failed(Refusal::OrderNotOpen) => Reply::rejected(Some(command_id), problem(Refusal::OrderNotOpen)),
            Outcome::Failed(refusal) => Reply::failed(command_id, problem(refusal)),
            Outcome::StopOwed(Refusal::DeviceOffline)
                if self.gateway(key.device).is_some_and(|gateway| gateway.conn.is_some()) =>
            {
                let why = "the socket has lost its radio link; the stop goes out when it is back";
                let problem = Problem::of(Code::DeviceOffline, "socket", why);
                Reply::failed(command_id, problem).with(json!({ "stop_owed": true }))
            }
            Outcome::StopOwed(refusal) => {
                Reply::failed(command_id, problem(refusal)).with(json!({ "stop_owed": true }))
            }
        };
        reply.order_no = order_no;
        self.finish_command(command_id, &reply, WhenFull::Give, now)
    }

    /// The oldest close without a report, and those as old, become final.
    pub(super) fn finalize_oldest(&mut self, now: Now) -> Result<(), Fatal> {
        let final_after = u64::try_from(self.config.orders.final_after.as_millis()).unwrap_or(u64::MAX);
        if let Some(until) = now.up.0.checked_sub(final_after) {
            for order in fatal(self.store.orders_to_finalize(crate::clock::UpTime(until), 100))? {
                self.finalize(order, now)?;
            }
        }
        self.plan_finalize(now)
    }

    fn finalize(&mut self, order: Order, now: Now) -> Result<(), Fatal> {
        let (key, order_no) = (order.port, order.order_no.clone());
        if let Some(case) = self.case_mut(key) {
            case.take_in(vec![order]);
            return self.at_port(key, now, |desk: &mut Desk<'_>| desk.finalize(&order_no)).map(drop);
        }
        // Its device was removed: nothing is left to decide.
        let mut order = order;
        order.is_final = true;
        order.revise();
        let written = self.store.put_order(&mut order);
        self.kept(written)?;
        self.tell(
            Stream::Order,
            OrderEvent::Finalized.word(),
            Some(key.device),
            Some(&order_no),
            &order_data(&order),
            now,
        )
    }

    pub(super) fn plan_finalize(&mut self, now: Now) -> Result<(), Fatal> {
        let first = fatal(self.store.first_to_finalize())?;
        // One that could not be written yet is tried again after a while.
        let soonest = now.up.after(std::time::Duration::from_secs(1));
        let at = first.map(|closed| closed.after(self.config.orders.final_after).max(soonest));
        self.dues.set(Due::Finalize, at, now.up);
        Ok(())
    }

    /// What was sent, so that a late answer finds what it is about.
    pub(super) fn note_sending(
        &mut self,
        key: PortKey,
        message_id: crate::ids::MessageId,
        kind: SendingKind,
        order_no: Option<&OrderNo>,
        now: Now,
    ) -> Result<(), Fatal> {
        let sending = crate::store::Sending {
            device: key.device,
            message_id,
            kind,
            sent_up: now.up,
            socket: Some(key.socket),
            port: Some(key.port),
            order_no: order_no.cloned(),
        };
        let noted = self.store.put_sending(&sending);
        self.kept(noted).map(drop)
    }
}

fn subject(key: PortKey) -> Subject {
    Subject { device: Some(key.device), socket: Some(key.socket), port: Some(key.port) }
}

fn problem(refusal: Refusal) -> Problem {
    let message = match refusal {
        Refusal::PortBusy => "the port is busy or held",
        Refusal::PortFault => "the port reports a fault",
        Refusal::DeviceOffline => "the device is offline; the stop goes out when it is back",
        Refusal::RefusedByDevice => "the device refused",
        Refusal::NoAnswer => "the device gave no answer",
        Refusal::Cancelled => "the order was stopped before it charged",
        Refusal::OrderNotOpen => "the order is over",
    };
    Problem::new(refusal.into(), message)
}

fn log_order(level: log::Level, what: OrderEvent, order: &Order) {
    let reason = order.end_reason.map_or("-", crate::order::EndReason::word);
    let settlement = order.settlement.map_or("-", Settlement::word);
    log::log!(
        level,
        "{} order={} port={} number={:?} reason={reason} settlement={settlement} energy_wh={:?} minutes={:?}",
        what.word(),
        order.order_no,
        order.port,
        order.business_no.map(crate::ids::BusinessNo::get),
        order.energy_wh.map(|energy| energy.0),
        order.minutes.map(|minutes| minutes.0),
    );
}
