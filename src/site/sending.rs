//! What goes to devices by the agent's own will: starts, stops, questions; each is kept in the journal.

use crate::bkv::{
    self, Carrier, Downlink, Extras, FeeTier, PowerTier, QueryStatus, Sequence, StartByFee, StartByTiers, Switch,
    SwitchOrder, UpTo,
};
use crate::clock::Now;
use crate::config::TiersCommand;
use crate::ids::{Cents, DeviceId, MessageId, Minutes, OrderNo, PortKey, SocketNo, WattHours};
use crate::order::{Plan, ServiceFeeBy};
use crate::store::{Direction, FrameVerdict, SendingKind};
use crate::time_text::minute_of_day;
use crate::turn::{ConnId, Fatal};

use super::Site;
use super::persist::Kept;

impl Site {
    /// Sends the start of an order, once it is durable.
    pub(super) fn send_start(
        &mut self,
        key: PortKey,
        order_no: &OrderNo,
        message_id: MessageId,
        now: Now,
    ) -> Result<(), Fatal> {
        self.note_sending(key, message_id, SendingKind::Start, Some(order_no), now)?;
        let Some(gateway) = self.gateway(key.device) else { return Ok(()) };
        let Some(conn) = gateway.conn else { return Ok(()) };
        let plan = gateway.node(key.socket).and_then(|node| node.case(key.port)).and_then(|case| case.order(order_no));
        let Some(plan) = plan.and_then(|order| order.plan.as_ref()) else { return Ok(()) };
        let start = start_of(key, plan, gateway.quirks.tiers_command);
        let bytes = start.encode(key.device, message_id);
        self.keep_sent(key, &bytes, Some(order_no), now)?;
        self.held.send_start(conn, key, &bytes);
        Ok(())
    }

    /// Switches a port off, at once: stops wait for nothing but the start that they are to undo.
    pub(super) fn send_stop(
        &mut self,
        key: PortKey,
        order_no: Option<&OrderNo>,
        message_id: MessageId,
        now: Now,
    ) -> Result<(), Fatal> {
        self.note_sending(key, message_id, SendingKind::Stop, order_no, now)?;
        let Some(conn) = self.gateway(key.device).and_then(|gateway| gateway.conn) else { return Ok(()) };
        let off = Downlink::Switch(Switch { socket: key.socket, port: key.port, order: SwitchOrder::Off });
        let bytes = off.encode(key.device, message_id);
        if self.held.has_start(key) {
            self.held.send(conn, |out| out.extend_from_slice(&bytes));
        } else {
            self.ready.send(conn, |out| out.extend_from_slice(&bytes));
        }
        self.keep_sent(key, &bytes, order_no, now)
    }

    /// Asks a socket what its ports do.
    pub(super) fn send_query(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        socket: SocketNo,
        message_id: MessageId,
        now: Now,
    ) -> Result<(), Fatal> {
        let bytes = Downlink::QueryStatus(QueryStatus { socket }).encode(id, message_id);
        let of_order = self.ports_of(id, socket).into_iter().find_map(|key| {
            let order = self.case(key)?.open_order()?;
            Some((key, order.order_no.clone()))
        });
        if let Some((key, order_no)) = of_order {
            self.keep_sent(key, &bytes, Some(&order_no), now)?;
        }
        self.ready.send(conn, |out| out.extend_from_slice(&bytes));
        Ok(())
    }

    fn keep_sent(&mut self, key: PortKey, bytes: &[u8], order_no: Option<&OrderNo>, now: Now) -> Result<(), Fatal> {
        let frame = Kept {
            device: Some(key.device),
            socket: Some(key.socket),
            port: Some(key),
            direction: Direction::Down,
            bytes,
            verdict: FrameVerdict::Sent,
            reason: None,
            order_no,
        };
        self.note_frame(frame, now)
    }
}

/// The frame that orders what was ordered.
fn start_of(key: PortKey, plan: &Plan, tiers_command: TiersCommand) -> Downlink {
    let PortKey { socket, port, .. } = key;
    match plan {
        Plan::Time { minutes } => {
            Downlink::Switch(Switch { socket, port, order: SwitchOrder::Time(Minutes(u32::from(*minutes))) })
        }
        Plan::Energy { energy_wh } => {
            Downlink::Switch(Switch { socket, port, order: SwitchOrder::Energy(WattHours(u32::from(*energy_wh))) })
        }
        Plan::Tiers { amount_cents, tiers } => {
            let tiers: Vec<_> = tiers
                .iter()
                .map(|tier| PowerTier {
                    limit: tier.limit(),
                    price: Cents(u32::from(tier.price_cents)),
                    minutes: Minutes(u32::from(tier.minutes)),
                })
                .collect();
            let carrier = match tiers_command {
                TiersCommand::Control => Carrier::Control,
                TiersCommand::Network => Carrier::Network,
            };
            let tiers = UpTo::from_slice(&tiers).unwrap_or_default();
            Downlink::StartByTiers(StartByTiers {
                carrier,
                socket,
                port,
                amount: Cents(u32::from(*amount_cents)),
                tiers,
            })
        }
        Plan::Fee { amount_cents, service_fee_by, tiers } => {
            let tiers: Vec<_> = tiers
                .iter()
                .map(|tier| {
                    let until = minute_of_day(&tier.until).unwrap_or(0);
                    FeeTier {
                        until_hour: u8::try_from(until / 60).unwrap_or(0),
                        until_minute: u8::try_from(until % 60).unwrap_or(0),
                        electricity: Cents(u32::from(tier.electricity_cents)),
                        service: Cents(u32::from(tier.service_cents)),
                    }
                })
                .collect();
            let service_fee_by = match service_fee_by {
                ServiceFeeBy::Time => bkv::ServiceFeeBy::Time,
                ServiceFeeBy::Energy => bkv::ServiceFeeBy::Energy,
            };
            Downlink::StartByFee(StartByFee {
                sequence: Sequence::MessageId,
                socket,
                port,
                amount: Cents(u32::from(*amount_cents)),
                service_fee_by,
                tiers: UpTo::from_slice(&tiers).unwrap_or_default(),
                extras: Extras::default(),
            })
        }
    }
}
