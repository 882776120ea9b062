//! Devices and sockets that come and go, questions to sockets, and what is taken up after a start (contract §5).

use std::time::Duration;

use serde_json::json;

use crate::clock::{Now, UpTime, WallTime};
use crate::command::Code;
use crate::config::Admission;
use crate::device::Device;
use crate::event::{Stream, device_event};
use crate::ids::{DeviceId, PortKey, SocketNo};
use crate::port::Case;
use crate::store::Subject;
use crate::turn::{ConnId, Fatal};

use super::dues::Due;
use super::effects::STOP_IGNORED;
use super::persist::STORE_FAILING;
use super::refusals::Reason;
use super::{Gateway, Site, fatal};

impl Site {
    /// Everything as the store has it; what was under way is taken up.
    pub(super) fn restore(&mut self, newest: Option<(WallTime, UpTime)>, now: Now) -> Result<(), Fatal> {
        self.note_downtime(newest, now);
        self.keeping.tell_damage(fatal(self.store.damage())?);
        for record in fatal(self.store.devices())? {
            if record.online {
                self.unreturned.insert(record.id);
            }
            let id = record.id;
            self.devices.insert(id, Box::new(Gateway::new(record, &self.config)));
        }
        for record in fatal(self.store.sockets())? {
            if let Some(gateway) = self.devices.get_mut(&record.device) {
                let node = gateway.node_or_new(record.no);
                node.record = record;
            }
        }
        for port in fatal(self.store.ports())? {
            if let Some(gateway) = self.devices.get_mut(&port.key.device) {
                gateway.node_or_new(port.key.socket).cases.push(Case::new(port));
            }
        }
        for order in fatal(self.store.unsettled_orders())? {
            if order.status.is_open() && self.case(order.port).is_none() {
                self.adopt_orphan(&order, now)?;
            }
            if let Some(case) = self.case_mut(order.port) {
                case.take_in(vec![order]);
            }
        }
        self.take_up_inconsistencies(now)?;
        self.take_up(now)
    }

    /// Down time counts where real time does, when the clock can be believed at both ends. `newest` was believed last.
    fn note_downtime(&mut self, newest: Option<(WallTime, UpTime)>, now: Now) {
        if now.up == UpTime(0) {
            return;
        }
        // With another restart meanwhile, the clock tells how long both took, and nobody how long each.
        let newest = newest.filter(|(_, up)| self.trust.is_believed() && self.downtime.unknown_after(*up) == 0);
        let away = newest.map(|newest| self.away_since(newest, now));
        if away.is_some_and(|away| away < Duration::from_secs(1)) {
            return;
        }
        let reach = UpTime(now.up.0.saturating_sub(crate::limits::REPORT_MATCHES_FOR_MS));
        self.downtime.note(now.up, away, reach);
        self.keeping.note_downtime();
    }

    /// What passed since the clock was believed last, that the agent was not up for, and that is not noted yet.
    fn away_since(&self, (before, up): (WallTime, UpTime), now: Now) -> Duration {
        let away = now.wall.0 - before.0 - i64::try_from(now.up.since(up).as_millis()).unwrap_or(0);
        Duration::from_millis(u64::try_from(away).unwrap_or(0)).saturating_sub(self.downtime.known_after(up))
    }

    /// The clock is believed again: how long the agent was down before this start can be told now.
    pub(super) fn clock_is_believed(&mut self, newest: Option<(WallTime, UpTime)>, now: Now) {
        if let Some(newest) = newest.filter(|(_, up)| self.downtime.unknown_after(*up) == 1) {
            let away = self.away_since(newest, now);
            self.downtime.is_known(self.started, away);
            self.keeping.note_downtime();
        }
    }

    fn take_up(&mut self, now: Now) -> Result<(), Fatal> {
        let keys: Vec<_> = self
            .devices
            .values()
            .flat_map(|gateway| &gateway.nodes)
            .flat_map(|node| &node.cases)
            .map(|case| case.port.key)
            .collect();
        for key in keys {
            if self.case(key).is_some_and(|case| case.port.memory.is_some()) {
                self.load_history(key, &[], now)?;
            }
            self.at_port(key, now, |desk| desk.restarted())?;
        }
        self.end_commands_of_the_last_run(now)?;
        let offline_after = self.config.devices.offline_after;
        let unreturned = (!self.unreturned.is_empty()).then(|| now.up.after(offline_after));
        self.dues.set(Due::Unreturned, unreturned, now.up);
        self.dues.set(Due::Retention, Some(now.up.after(Duration::from_secs(60))), now.up);
        self.take_up_alerts(now)?;
        self.take_up_cloud(now)?;
        self.plan_finalize(now)
    }

    /// Alerts whose condition is gone clear after the usual time: it went while or before the last run ended, or in a
    /// turn that was taken back.
    pub(super) fn take_up_alerts(&mut self, now: Now) -> Result<(), Fatal> {
        let clear_at = now.up.after(self.config.alerts.clear_after);
        for alert in fatal(self.store.open_alerts())? {
            let Subject { device, socket, port } = alert.subject;
            match (alert.rule.as_str(), device, socket, port) {
                // That commits work is known once the first one has.
                (STORE_FAILING, ..) if !self.dues.is_set(Due::AlertClear) => {
                    self.dues.set(Due::AlertClear, Some(clear_at), now.up);
                }
                (STOP_IGNORED, Some(device), Some(socket), Some(port)) => {
                    let key = PortKey { device, socket, port };
                    if !self.ignores_stops(key) && !self.dues.is_set(Due::StopObeyed(key)) {
                        self.dues.set(Due::StopObeyed(key), Some(clear_at), now.up);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ignores_stops(&self, key: PortKey) -> bool {
        self.stops_in_vain(key) >= self.config.alerts.stop_ignored
    }

    pub(super) fn stops_in_vain(&self, key: PortKey) -> u32 {
        let memory = self.case(key).and_then(|case| case.port.memory.as_ref());
        let stop = memory.and_then(|memory| memory.stop.as_ref());
        stop.map_or(0, |stop| stop.in_vain)
    }

    /// A device speaks on this connection for the first time. Tells whether it may.
    pub(super) fn admit(&mut self, conn: ConnId, id: DeviceId, now: Now) -> Result<bool, Fatal> {
        let Some(peer) = self.sessions.get(&conn).map(|session| session.peer) else { return Ok(false) };
        if self.gateway(id).is_none() {
            let reason = if self.config.devices.admission == Admission::Registered {
                Some(Reason::Unknown)
            } else if self.devices.len() >= self.config.devices.max_known as usize {
                Some(Reason::Limit)
            } else {
                None
            };
            if let Some(reason) = reason {
                self.hang_up(conn);
                self.tell_refused(reason, Some(id), peer, now)?;
                return Ok(false);
            }
            self.register(id, now)?;
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.device = Some(id);
        }
        let older = self.devices.get_mut(&id).and_then(|gateway| gateway.conn.replace(conn));
        if let Some(older) = older.filter(|older| *older != conn) {
            // The newer wins; the end of the older does not make the device offline.
            log::info!("device connected again device={id} older={} newer={}", older.0, conn.0);
            self.hang_up(older);
            self.questions_lost(id);
        }
        Ok(true)
    }

    /// Closes a connection that is nobody's any more: what it still says in this turn is not heard.
    pub(super) fn hang_up(&mut self, conn: ConnId) {
        self.sessions.remove(&conn);
        self.ready.close(conn);
    }

    /// Takes an unknown device in.
    pub(super) fn register(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        log::info!("device registered device={id}");
        self.devices.insert(id, Box::new(Gateway::new(Device::new(id), &self.config)));
        self.judge_policies(id, now)?;
        self.tell_registered(id, now)
    }

    pub(super) fn tell_registered(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        self.device_touched(id, true, now);
        self.tell(Stream::Device, "device.registered", Some(id), None, &device_event(Some(id), json!({})), now)
    }

    /// The first frame of a connection was answered: the device is back, its ports are asked about.
    pub(super) fn device_returned(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let unreturned = self.unreturned.remove(&id);
        if self.gateway(id).is_some_and(|gateway| !gateway.record.online) {
            self.device_online(id, now)?;
        } else if unreturned {
            log::info!("device back device={id}");
        }
        for socket in self.sockets_of(id) {
            for key in self.ports_of(id, socket) {
                self.port_returned(key, now)?;
            }
            self.ask_on_return(id, socket, now)?;
        }
        Ok(())
    }

    fn device_online(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        gateway.record.online = true;
        self.device_touched(id, true, now);
        log::log!(self.keeping.level(log::Level::Info), "device online device={id}");
        self.tell(Stream::Device, "device.online", Some(id), None, &device_event(Some(id), json!({})), now)
    }

    /// The record of a device was read again: whether it is there is known here, and told when that differs.
    pub(super) fn judge_presence(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let Some(gateway) = self.gateway(id) else { return Ok(()) };
        match (gateway.conn.is_some(), gateway.record.online) {
            (true, false) => self.device_online(id, now),
            (false, true) if !self.unreturned.contains(&id) => self.device_offline(id, now),
            _ => Ok(()),
        }
    }

    fn port_returned(&mut self, key: PortKey, now: Now) -> Result<(), Fatal> {
        if self.case(key).is_some_and(|case| case.port.memory.is_some()) {
            self.load_history(key, &[], now)?;
        }
        self.at_port(key, now, |desk| desk.returned()).map(drop)
    }

    /// Each known socket is asked when its device returns.
    pub(super) fn ask_on_return(&mut self, id: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let in_flight = self.asks.get(&(id, socket)).is_some_and(|ask| ask.question.is_some());
        if in_flight { Ok(()) } else { self.send_question(id, socket, now) }
    }

    /// Its connection is gone.
    pub(super) fn device_left(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        gateway.conn = None;
        self.questions_lost(id);
        for socket in self.sockets_of(id) {
            let queries = self.asks.get_mut(&(id, socket)).map(|ask| std::mem::take(&mut ask.queries));
            for query in queries.unwrap_or_default() {
                self.query_failed(&query.command_id, Code::DeviceOffline, now)?;
            }
        }
        self.device_offline(id, now)
    }

    fn device_offline(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        let was_online = std::mem::replace(&mut gateway.record.online, false);
        for socket in self.sockets_of(id) {
            for key in self.ports_of(id, socket) {
                self.at_port(key, now, |desk| desk.left())?;
            }
            let node = self.devices.get_mut(&id).and_then(|gateway| gateway.node_mut(socket));
            if node.is_some_and(|node| std::mem::replace(&mut node.record.online, false)) {
                self.socket_touched(id, socket, true, now);
            }
        }
        if was_online {
            log::log!(self.keeping.level(log::Level::Info), "device offline device={id}");
            self.device_touched(id, true, now);
            self.tell(Stream::Device, "device.offline", Some(id), None, &device_event(Some(id), json!({})), now)?;
        }
        Ok(())
    }

    /// Devices that were online before a restart and did not come back in time.
    pub(super) fn tell_unreturned(&mut self, now: Now) -> Result<(), Fatal> {
        for id in std::mem::take(&mut self.unreturned) {
            if self.gateway(id).is_some_and(|gateway| gateway.conn.is_none()) {
                self.device_offline(id, now)?;
            }
        }
        Ok(())
    }

    /// The socket's radio link is lost: its ports are not known, which is no evidence of an end.
    pub(super) fn socket_lost(&mut self, id: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let Some(node) = self.devices.get_mut(&id).and_then(|gateway| gateway.node_mut(socket)) else { return Ok(()) };
        if node.record.lost.is_none() {
            node.record.lost = Some(now.up);
            node.record.online = false;
            log::info!("socket lost device={id} socket={socket}");
            self.socket_touched(id, socket, true, now);
            for key in self.ports_of(id, socket) {
                self.at_port(key, now, |desk| desk.left())?;
            }
        }
        Ok(())
    }

    /// The socket is heard by its gateway.
    pub(super) fn socket_heard(&mut self, id: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let Some(node) = self.devices.get_mut(&id).and_then(|gateway| gateway.node_mut(socket)) else { return Ok(()) };
        let was_lost = node.record.lost.take().is_some();
        let was_online = std::mem::replace(&mut node.record.online, true);
        if !was_online {
            self.socket_touched(id, socket, true, now);
        }
        if was_lost {
            log::info!("socket back device={id} socket={socket}");
            for key in self.ports_of(id, socket) {
                self.port_returned(key, now)?;
            }
        }
        Ok(())
    }

    /// Sends `1d` to a socket.
    pub(super) fn send_question(&mut self, id: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let Some(conn) = self.gateway(id).and_then(|gateway| gateway.conn) else { return Ok(()) };
        let message_id = self.store.next_message_id();
        let ask = self.asks.entry((id, socket)).or_default();
        ask.sent(message_id, now.up);
        let fails_at = ask.fails_at(self.config.orders.answer_timeout);
        self.dues.set(Due::Ask(id, socket), fails_at, now.up);
        self.send_query(conn, id, socket, message_id, now)
    }

    /// A question got no reply.
    pub(super) fn question_unanswered(&mut self, id: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let (timeout, retries) = (self.config.orders.answer_timeout, self.config.orders.answer_retries);
        let Some(ask) = self.asks.get_mut(&(id, socket)) else { return Ok(()) };
        let Some(sent) = ask.fail(now.up, timeout) else { return Ok(()) };
        let mut failed = Vec::new();
        ask.queries.retain_mut(|query| {
            query.tries += 1;
            let goes_on = query.tries <= retries;
            if !goes_on {
                failed.push(query.command_id.clone());
            }
            goes_on
        });
        let goes_on = !ask.queries.is_empty();
        for command_id in failed {
            self.query_failed(&command_id, Code::NoAnswer, now)?;
        }
        for key in self.ports_of(id, socket) {
            self.at_port(key, now, |desk| desk.question_failed(sent))?;
        }
        let in_flight = self.asks.get(&(id, socket)).is_some_and(|ask| ask.question.is_some());
        if goes_on && !in_flight {
            self.send_question(id, socket, now)?;
        }
        Ok(())
    }

    /// The link is gone: what was asked will not be answered.
    fn questions_lost(&mut self, id: DeviceId) {
        for socket in self.sockets_of(id) {
            if let Some(ask) = self.asks.get_mut(&(id, socket)) {
                ask.link_lost();
            }
            self.dues.set(Due::Ask(id, socket), None, UpTime(0));
        }
    }

    /// Judges the policies for a device and its sockets; a change of what holds is told (contract §5 *Disabled*).
    pub(super) fn judge_policies(&mut self, id: DeviceId, now: Now) -> Result<(), Fatal> {
        let policies = &self.config.policies;
        let default_model = self.config.devices.default_model.as_deref();
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        if policies.is_empty() && !gateway.record.policy_disabled {
            let none_disabled = gateway.nodes.iter().all(|node| !node.record.policy_disabled);
            if none_disabled {
                return Ok(());
            }
        }
        let before = Enabled::of(gateway);
        let model = gateway.record.model.as_deref().or(default_model);
        let firmware = gateway.record.firmware.as_deref();
        let disabled = policies.iter().any(|policy| policy.matches_device(model, firmware));
        for node in &mut gateway.nodes {
            let version = format!("{:04x}", node.record.firmware.unwrap_or(0xffff));
            node.record.policy_disabled =
                policies.iter().any(|policy| policy.matches_socket(model, firmware, &version));
        }
        gateway.record.policy_disabled = disabled;
        self.tell_enabled(id, &before, now)
    }

    /// Tells and keeps what became enabled or disabled since `before`.
    pub(super) fn tell_enabled(&mut self, id: DeviceId, before: &Enabled, now: Now) -> Result<(), Fatal> {
        let Some(after) = self.gateway(id).map(Enabled::of) else { return Ok(()) };
        if after.device != before.device {
            self.device_touched(id, true, now);
            self.tell_one_enabled(id, None, after.device, now)?;
        }
        for (socket, enabled) in after.sockets {
            let was = before.sockets.iter().find(|(no, _)| *no == socket).is_none_or(|(_, enabled)| *enabled);
            if was != enabled {
                self.socket_touched(id, socket, true, now);
                self.tell_one_enabled(id, Some(socket), enabled, now)?;
            }
        }
        Ok(())
    }

    fn tell_one_enabled(
        &mut self,
        id: DeviceId,
        socket: Option<SocketNo>,
        enabled: bool,
        now: Now,
    ) -> Result<(), Fatal> {
        let kind = if enabled { "device.enabled" } else { "device.disabled" };
        log::log!(self.keeping.level(log::Level::Info), "{kind} device={id} socket={socket:?}");
        let more = socket.map_or_else(|| json!({}), |socket| json!({ "socket": socket }));
        self.tell(Stream::Device, kind, Some(id), None, &device_event(Some(id), more), now)
    }
}

/// What may start, by the operator's word and the policies.
pub(super) struct Enabled {
    device: bool,
    sockets: Vec<(SocketNo, bool)>,
}

impl Enabled {
    pub(super) fn of(gateway: &Gateway) -> Self {
        Self {
            device: gateway.is_enabled(),
            sockets: gateway.nodes.iter().map(|node| (node.record.no, node.is_enabled())).collect(),
        }
    }
}
