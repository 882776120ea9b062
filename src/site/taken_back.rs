//! A full disk took a commit back: nothing that waited goes out, and what was touched is read again (contract §5
//! *Bad input*).
//!
//! What is known here and not in the store stands all the same, and is told anew with each further try: who is
//! connected, what devices answered, what was stopped. What devices showed and will not repeat soon is asked about.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Now;
use crate::device::{Device, Socket};
use crate::ids::{DeviceId, PortKey, SocketNo};
use crate::limits::{COMMANDS_AGAIN, FULL_RETRY_MS, ROOM_AGAIN};
use crate::port::state::StopPhase;
use crate::port::{Case, Desk, Dirty, Port, PortStatus};
use crate::store::{SendingKind, StoreError};
use crate::turn::Fatal;

use super::dues::Due;
use super::held::{Caller, HeldReply, WhenFull, store_full};
use super::{Gateway, Quirks, Site, fatal};

/// The `type` of the one command whose outcome waits for a commit that is taken back.
const START: &str = "start_charge";

impl Site {
    pub(super) fn take_back(&mut self, error: &StoreError, now: Now) -> Result<(), Fatal> {
        let first = self.keeping.full_since.is_none();
        if first {
            log::error!("{error}: nothing is acknowledged until there is room; free some space");
            self.keeping.full_since = Some(now.wall);
        }
        log::debug!("commit taken back");
        fatal(self.store.rollback())?;
        let made_room = self.make_room(now)?;
        let (replies, unsent) = self.held.take_back();
        for reply in replies {
            self.take_reply_back(reply)?;
        }
        self.read_again(&unsent, now)?;
        self.replays_taken_back()?;
        self.take_commands_back()?;
        self.end_commands_of_the_last_run(now)?;
        self.tell_refusals_again(now)?;
        for key in std::mem::take(&mut self.keeping.strange_keys) {
            self.strange_keys.remove(&key);
        }
        self.take_up_alerts(now)?;
        self.plan_finalize(now)?;
        self.keeping.up_time = false;
        // Room that was made may be enough; when it is not, that is not tried again at once.
        self.keeping.rests = !(first && made_room);
        let retry = now.up.after(Duration::from_millis(FULL_RETRY_MS));
        self.dues.set(Due::FullRetry, Some(retry), now.up);
        self.feed_taken_back(now)
    }

    /// At its quota the file has room inside: the oldest frames give way.
    fn make_room(&mut self, now: Now) -> Result<bool, Fatal> {
        if self.keeping.no_room_until.is_some_and(|until| now.up < until) {
            return Ok(false);
        }
        let made = self.store.make_room().and_then(|_| self.store.commit());
        match made {
            Ok(made) => Ok(made),
            Err(error) if error.passes() => {
                // The disk itself is full: not even deleting works, and trying it is dear.
                self.keeping.no_room_until = Some(now.up.after(ROOM_AGAIN));
                fatal(self.store.rollback()).map(|()| false)
            }
            Err(error) => Err(Fatal(format!("store: {error}"))),
        }
    }

    /// A reply is given, waits on, or says that nothing was done.
    fn take_reply_back(&mut self, reply: HeldReply) -> Result<(), Fatal> {
        let HeldReply { caller, id, line, when_full } = reply;
        if when_full == WhenFull::Refuse {
            self.keeping.commands.remove(&id);
            self.say_at_once(caller, &store_full(&id));
            return Ok(());
        }
        let kept = fatal(self.store.command(&id))?;
        let lost = kept.filter(|row| row.reply.is_none());
        if lost.as_ref().is_some_and(|row| row.kind == START) {
            self.keeping.commands.remove(&id);
            self.wait_for(&id, caller);
            return Ok(());
        }
        if let Some(mut row) = lost {
            row.reply = Some(line.clone());
            self.keeping.commands.entry(id).or_insert(row);
        }
        self.say_at_once(caller, &line);
        Ok(())
    }

    /// A reply that waits for no commit. That of the cloud was taken back with its outbox row.
    fn say_at_once(&mut self, caller: Caller, line: &str) {
        match (caller, &mut self.feed) {
            (Caller::Client(client), _) => self.ready.reply(client, line.as_bytes()),
            (Caller::Cloud(to), Some(feed)) => {
                feed.reply_unkept(line);
                to.iter().for_each(|to| feed.reply_to(to, line));
            }
            (Caller::Cloud(_), None) => {}
        }
    }

    /// Commands that nobody will answer any more are refused. What else was noted is noted again.
    fn take_commands_back(&mut self) -> Result<(), Fatal> {
        let ids: Vec<String> = self.waiting.keys().filter(|id| !self.waits_on(id)).cloned().collect();
        for id in ids {
            if fatal(self.store.command(&id))?.is_none() {
                self.keeping.commands.remove(&id);
                for caller in self.waiting.remove(&id).unwrap_or_default() {
                    self.say_at_once(caller, &store_full(&id));
                }
            }
        }
        self.keeping.commands_again = self.keeping.commands.keys().take(COMMANDS_AGAIN).cloned().collect();
        let again = &self.keeping.commands_again;
        self.keeping.commands.retain(|id, _| again.contains(id));
        Ok(())
    }

    fn read_again(&mut self, unsent: &BTreeSet<PortKey>, now: Now) -> Result<(), Fatal> {
        for id in std::mem::take(&mut self.keeping.removed) {
            self.take_in_again(id)?;
        }
        let devices = std::mem::take(&mut self.keeping.devices);
        let sockets = std::mem::take(&mut self.keeping.sockets);
        let ports = std::mem::take(&mut self.keeping.ports);
        for id in &devices {
            self.read_device_again(*id, now)?;
        }
        for key in &ports {
            self.read_port_again(*key, unsent.contains(key), now)?;
        }
        for (id, socket) in &sockets {
            self.read_socket_again(*id, *socket)?;
        }
        self.adopt_orphans_again(now)?;
        let touched = sockets.iter().map(|(id, _)| *id).chain(ports.iter().map(|key| key.device));
        let touched: BTreeSet<DeviceId> = devices.iter().copied().chain(touched).collect();
        for id in touched {
            self.judge_presence(id, now)?;
            self.judge_policies(id, now)?;
        }
        Ok(())
    }

    /// A device that could not be removed. Its connection was closed.
    fn take_in_again(&mut self, id: DeviceId) -> Result<(), Fatal> {
        let Some(record) = fatal(self.store.device(id))? else { return Ok(()) };
        let gateway = self.devices.entry(id).or_insert_with(|| Box::new(Gateway::new(record, &self.config)));
        self.keeping.devices.insert(id);
        for record in fatal(self.store.sockets())?.into_iter().filter(|record| record.device == id) {
            self.keeping.sockets.insert((id, record.no));
            let node = gateway.node_or_new(record.no);
            node.record = record;
        }
        for port in fatal(self.store.ports())?.into_iter().filter(|port| port.key.device == id) {
            self.keeping.ports.insert(port.key);
            let node = gateway.node_or_new(port.key.socket);
            if node.case(port.key.port).is_none() {
                node.cases.push(Case::new(port));
            }
        }
        for order in fatal(self.store.unsettled_orders())?.into_iter().filter(|order| order.port.device == id) {
            if let Some(case) = self.case_mut(order.port) {
                case.take_in(vec![order]);
            }
        }
        Ok(())
    }

    fn read_device_again(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let kept = fatal(self.store.device(id))?;
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        let known = kept.is_some();
        if !known && gateway.conn.is_none() {
            self.forget_unregistered(id, now);
            return Ok(());
        }
        let Device { heard, last_seen, rssi, firmware, iccid, .. } = gateway.record.clone();
        gateway.record = match kept {
            Some(record) => Device { heard, last_seen, rssi, ..record },
            // It is served all the same: its registration is told with the next try.
            None => Device { heard, last_seen, rssi, firmware, iccid, ..Device::new(id) },
        };
        gateway.quirks = Quirks::of_record(&self.config, &gateway.record);
        if known { Ok(()) } else { self.tell_registered(id, now) }
    }

    /// Nobody is connected under this id any more, and the store does not know it.
    fn forget_unregistered(&mut self, id: DeviceId, now: Now) {
        for socket in self.sockets_of(id) {
            for key in self.ports_of(id, socket) {
                self.forget_port(key, now);
            }
            self.dues.set(Due::Ask(id, socket), None, now.up);
        }
        self.asks.retain(|(device, _), _| *device != id);
        self.watch.forget(id);
        self.devices.remove(&id);
    }

    fn forget_port(&mut self, key: PortKey, now: Now) {
        self.dues.set(Due::Port(key), None, now.up);
        self.dues.set(Due::StopObeyed(key), None, now.up);
        self.counting.remove(&key);
        self.keeping.port_figures.remove(&key);
        if let Some(node) = self.devices.get_mut(&key.device).and_then(|gateway| gateway.node_mut(key.socket)) {
            node.cases.retain(|case| case.port.key != key);
        }
    }

    /// What a socket tells of itself stands; what was set of it does not.
    fn read_socket_again(&mut self, id: DeviceId, socket: SocketNo) -> Result<(), Fatal> {
        let kept = fatal(self.store.socket(id, socket))?;
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        let Some(node) = gateway.node_mut(socket) else { return Ok(()) };
        if kept.is_none() && node.record.heard.is_none() && node.cases.is_empty() {
            gateway.nodes.retain(|node| node.record.no != socket);
            return Ok(());
        }
        let Socket { firmware, temperature_c, rssi, online, last_seen, heard, lost, .. } = node.record;
        let kept = kept.unwrap_or_else(|| Socket::new(id, socket));
        let record = Socket { firmware, temperature_c, rssi, online, last_seen, heard, lost, ..kept };
        node.record = record;
        self.keeping.sockets.insert((id, socket));
        Ok(())
    }

    fn read_port_again(&mut self, key: PortKey, unsent: bool, now: Now) -> Result<(), Fatal> {
        let Some(was) = self.case(key).cloned() else { return Ok(()) };
        let Some(kept) = fatal(self.store.port(key))? else {
            self.forget_port(key, now);
            self.keeping.to_ask.insert((key.device, key.socket));
            return Ok(());
        };
        let mut orders = fatal(self.store.orders_of_port(key, &[], now.up))?;
        for entry in &was.orders {
            if !orders.iter().any(|order| order.serial == entry.order.serial) {
                orders.extend(fatal(self.store.order(&entry.order.order_no))?);
            }
        }
        let Some(case) = self.case_mut(key) else { return Ok(()) };
        *case = Case::new(kept);
        case.port.figures = was.port.figures;
        case.port.updated_at = was.port.updated_at;
        case.port.updated_up = was.port.updated_up;
        case.dirty = Dirty::Figures;
        case.take_in(orders);
        self.keeping.port_figures.insert(key);
        self.figures_moved(now);
        self.at_port(key, now, |desk: &mut Desk<'_>| desk.stands(&was, unsent))?;
        self.dues.set(Due::Port(key), Some(now.up), now.up);
        if self.case(key).is_some_and(|case| shows_less(&case.port, &was.port)) {
            self.keeping.to_ask.insert((key.device, key.socket));
        }
        self.note_stop_again(key, now)
    }

    /// Its answer is to find it, and an alert about it is to be raised, also when that could not be kept.
    fn note_stop_again(&mut self, key: PortKey, now: Now) -> Result<(), Fatal> {
        let Some(case) = self.case(key) else { return Ok(()) };
        let stop = case.port.memory.as_ref().and_then(|memory| memory.stop.clone());
        if let Some(stop) = stop.filter(|stop| stop.phase == StopPhase::Waiting) {
            self.note_sending(key, stop.message_id, SendingKind::Stop, stop.order_no.as_ref(), now)?;
        }
        let stops = self.stops_in_vain(key);
        if stops >= self.config.alerts.stop_ignored { self.stop_ignored(key, stops, now) } else { Ok(()) }
    }

    /// An order whose port was made for it.
    fn adopt_orphans_again(&mut self, now: Now) -> Result<(), Fatal> {
        for order in fatal(self.store.open_orders())? {
            let key = order.port;
            if self.case(key).is_none() {
                self.adopt_orphan(&order, now)?;
                if let Some(case) = self.case_mut(key) {
                    case.take_in(vec![order]);
                }
                self.dues.set(Due::Port(key), Some(now.up), now.up);
            }
        }
        Ok(())
    }

    /// There is room again.
    pub(super) fn ask_what_was_taken_back(&mut self, now: Now) -> Result<(), Fatal> {
        for (id, socket) in std::mem::take(&mut self.keeping.to_ask) {
            if self.gateway(id).is_some() {
                self.ask_on_return(id, socket, now)?;
            }
        }
        Ok(())
    }
}

/// A status is answered and not repeated soon: what it showed was taken back.
fn shows_less(port: &Port, was: &Port) -> bool {
    let shown = (port.raw_status, port.business_no) != (was.raw_status, was.business_no);
    shown || port.status == PortStatus::Unclear && was.status != PortStatus::Unclear
}
