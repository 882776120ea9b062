//! What devices say: whose it is, what it means, and the acknowledgement by contract §5.
//!
//! Heartbeats and statuses repeat themselves and are answered at once. What happens once (an end, a card, an abnormal
//! event) is answered when it is durable, a duplicate as well.

use serde_json::{Value, json};

use crate::bkv::{
    Abnormal, AbnormalAck, CalendarTime, CardOrder, CardSwipe, DecodeError, Downlink, EndAckForm, EndKind, EndReport,
    FeeEndAck, Frame, Heartbeat, HeartbeatReply, NetworkList, PortReading, QueryAnswer, ResultByte, Salvaged,
    SalvagedKind, Sequence, Setting, SettingValue, SocketStatus, StartAnswer, StatusAck, StatusReport, Uplink, salvage,
};
use crate::clock::{Now, WallTime};
use crate::config::EndAck;
use crate::event::{Stream, device_event, port_event};
use crate::ids::{DeviceId, MessageId, OrderNo, PortKey, SocketNo, WattHours};
use crate::limits::STRANGE_KEYS;
use crate::mutants::{self, Mutant};
use crate::order::TierSpent;
use crate::port::{Answered, Case, Desk, Figures, Port, PortStatus, Reading, Report, ReportFate};
use crate::store::{Direction, FrameVerdict, SendingKind};
use crate::time_text::calendar;
use crate::turn::{ConnId, Fatal};

use super::persist::Kept;
use super::refusals::Reason;
use super::{Site, fatal};

impl Site {
    pub(super) fn handle_frame(&mut self, conn: ConnId, frame: &Frame<'_>, now: Now) -> Result<(), Fatal> {
        let Some(session) = self.sessions.get(&conn) else { return Ok(()) };
        let (known, peer) = (session.device, session.peer);
        let Some(id) = frame.device() else {
            return self.keep(frame, Noted::malformed(known, "a gateway id that is not decimal"), now);
        };
        let is_first = known.is_none();
        if let Some(known) = known.filter(|known| *known != id) {
            self.ready.close(conn);
            self.keep(frame, Noted::malformed(Some(known), "another device's id"), now)?;
            return self.tell_refused(Reason::ForeignId, Some(id), peer, now);
        }
        if is_first && !self.admit(conn, id, now)? {
            return Ok(());
        }
        if let Some(gateway) = self.devices.get_mut(&id) {
            gateway.record.heard = Some(now.up);
            gateway.record.last_seen = Some(now.wall);
            if !std::mem::replace(&mut gateway.seen, true) {
                self.device_touched(id, false, now);
            }
        }
        match Uplink::decode(frame) {
            Ok(message) => self.handle_message(conn, id, frame, message, now)?,
            Err(error) => self.handle_nonsense(conn, id, frame, &error, now)?,
        }
        if is_first { self.device_returned(id, now) } else { Ok(()) }
    }

    fn handle_message(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        message: Uplink,
        now: Now,
    ) -> Result<(), Fatal> {
        if let Some(report) = message.end_report() {
            return self.handle_end(conn, id, frame, &report, now);
        }
        if let Some(answer) = message.start_answer() {
            return self.handle_switch_answer(id, frame, &answer, now);
        }
        match message {
            Uplink::Heartbeat(heartbeat) => self.handle_heartbeat(conn, id, frame, &heartbeat, now),
            Uplink::Status(report) => {
                let ack = Downlink::StatusAck(StatusAck::new(report.sequence, ResultByte::OK));
                self.ready.send(conn, |out| ack.encode_into(id, frame.message_id(), out));
                let has_strange_keys = self.has_new_strange_key(id, &report);
                for status in std::iter::once(&report.first).chain(&report.more) {
                    let timeout = self.config.orders.answer_timeout;
                    let answers = self.asks.get_mut(&(id, status.socket));
                    let answers = answers.and_then(|ask| ask.answered_by_report(now.up, timeout));
                    self.handle_status(id, frame, status, answers, has_strange_keys, now)?;
                }
                Ok(())
            }
            Uplink::QueryAnswer(QueryAnswer { status, .. }) => {
                let timeout = self.config.orders.answer_timeout;
                let answers = self.asks.get_mut(&(id, status.socket));
                let answers = answers.and_then(|ask| ask.answered_by_id(frame.message_id(), now.up, timeout));
                self.handle_status(id, frame, &status, answers, false, now)
            }
            Uplink::Abnormal(event) => self.handle_abnormal(conn, id, frame, &event, now),
            Uplink::CardSwipe(swipe) => self.handle_card(conn, id, frame, swipe, now),
            Uplink::NetworkList(list) => self.handle_network_list(id, frame, &list, now),
            Uplink::Reconnected(_) => self.keep(frame, Noted::accepted(id), now),
            Uplink::Unknown(_) | Uplink::BalanceQuery(_) | Uplink::OtaProgress(_) => {
                self.keep(frame, Noted { verdict: FrameVerdict::Unsupported, ..Noted::accepted(id) }, now)
            }
            Uplink::NetworkAnswer(_)
            | Uplink::CardAccepted(_)
            | Uplink::VoiceAnswer(_)
            | Uplink::SetParamsAnswer(_)
            | Uplink::Params(_) => self.keep(frame, Noted::unmatched(id, "an answer to nothing that was asked"), now),
            // Taken as end reports and start answers above.
            Uplink::SwitchAnswer(_)
            | Uplink::FeeStartAnswer(_)
            | Uplink::ChargeEnd(_)
            | Uplink::TiersEnd(_)
            | Uplink::CardEnd(_)
            | Uplink::FeeEnd(_) => Ok(()),
        }
    }

    fn handle_heartbeat(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        heartbeat: &Heartbeat,
        now: Now,
    ) -> Result<(), Fatal> {
        let reply = Downlink::HeartbeatReply(HeartbeatReply { time: self.site_time(now) });
        self.ready.send(conn, |out| reply.encode_into(id, frame.message_id(), out));
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        let record = &mut gateway.record;
        if record.rssi != Some(heartbeat.rssi) {
            record.rssi = Some(heartbeat.rssi);
        }
        let iccid = non_empty(heartbeat.iccid.to_string());
        let firmware = non_empty(heartbeat.firmware.to_string());
        let other_iccid = record.iccid != iccid;
        if other_iccid {
            record.iccid = iccid;
        }
        let before = (record.firmware != firmware).then(|| std::mem::replace(&mut record.firmware, firmware.clone()));
        if other_iccid || before.is_some() {
            self.device_touched(id, true, now);
        }
        let Some(before) = before else { return Ok(()) };
        if before.is_some() {
            log::info!("firmware changed device={id} from={before:?} to={firmware:?}");
            let more = json!({ "from": before, "to": firmware });
            self.tell(Stream::Device, "device.firmware_changed", Some(id), None, &device_event(Some(id), more), now)?;
        }
        self.judge_policies(id, now)
    }

    /// The site's local time, as devices are told it.
    fn site_time(&self, now: Now) -> CalendarTime {
        let told = self.trust.told(now);
        let local = calendar(WallTime(told.0 + i64::from(self.config.site.utc_offset.seconds()) * 1000));
        CalendarTime {
            year: u16::try_from(local.year).unwrap_or(0),
            month: local.month,
            day: local.day,
            hour: local.hour,
            minute: local.minute,
            second: local.second,
        }
    }

    /// Whether the report holds a key that nobody knows, for the first time from this device: it would come with each
    /// status.
    fn has_new_strange_key(&mut self, id: DeviceId, report: &StatusReport) -> bool {
        let of_sockets = std::iter::once(&report.first).chain(&report.more).flat_map(|status| status.extras.iter());
        let mut is_new = false;
        for extra in report.extras.iter().chain(of_sockets) {
            let room = self.strange_keys.len() < STRANGE_KEYS;
            if room && self.strange_keys.insert((id, extra.key())) {
                is_new = true;
                self.keeping.strange_keys.push((id, extra.key()));
            }
        }
        is_new
    }

    /// One socket of a status report or of a query's answer.
    fn handle_status(
        &mut self,
        id: DeviceId,
        frame: &Frame<'_>,
        status: &SocketStatus,
        answers: Option<Answered>,
        has_strange_keys: bool,
        now: Now,
    ) -> Result<(), Fatal> {
        let socket = status.socket;
        self.note_socket(id, status, now)?;
        let is_lost = !status.ports.is_empty() && status.ports.iter().all(|reading| !reading.status.online());
        let was_lost =
            self.gateway(id).and_then(|gateway| gateway.node(socket)).is_some_and(|n| n.record.lost.is_some());
        if is_lost {
            self.socket_lost(id, socket, now)?;
        } else {
            self.socket_heard(id, socket, now)?;
        }
        let last_question = self.asks.get(&(id, socket)).and_then(|ask| ask.last_sent);
        let mut notable = Notable::default();
        for reading in status.ports.iter() {
            let key = PortKey { device: id, socket, port: reading.port };
            self.know_port(key, now);
            if reading.status.online() {
                let asked = Asked { answers, last_question };
                self.handle_reading(key, reading, asked, &mut notable, now)?;
            } else {
                self.at_port(key, now, |desk| desk.left())?;
                let open = self.case(key).and_then(Case::open_order).filter(|_| is_lost && !was_lost);
                if let Some(order_no) = open.map(|order| order.order_no.clone()) {
                    notable.of(key, Some(order_no));
                }
            }
        }
        if answers.is_some() {
            self.answer_queries(id, socket, now)?;
            for key in self.ports_of(id, socket) {
                // A port of which the answer says nothing is asked as much as if none had come.
                let unsaid = answers.filter(|_| status.port(key.port).is_none());
                self.at_port(key, now, |desk| unsaid.map_or((), |question| desk.question_failed(question.sent)))?;
            }
        }
        let reason = self.notes.first().copied().or(has_strange_keys.then_some("a key that nobody knows"));
        self.notes.clear();
        if notable.is || reason.is_some() {
            let is_odd_one_out = has_strange_keys && notable.order_no.is_none();
            let noted = Noted {
                socket: Some(socket),
                port: notable.port,
                verdict: if is_odd_one_out { FrameVerdict::Unsupported } else { FrameVerdict::Accepted },
                reason,
                order_no: notable.order_no.as_ref(),
                ..Noted::accepted(id)
            };
            self.keep(frame, noted, now)?;
        }
        Ok(())
    }

    fn handle_reading(
        &mut self,
        key: PortKey,
        reading: &PortReading,
        asked: Asked,
        notable: &mut Notable,
        now: Now,
    ) -> Result<(), Fatal> {
        let Some(gateway) = self.gateway(key.device) else { return Ok(()) };
        let Some(case) = gateway.node(key.socket).and_then(|node| node.case(key.port)) else { return Ok(()) };
        let unit = gateway.quirks.energy_unit_wh;
        let port = &case.port;
        let changed = port.raw_status != Some(reading.status.0) || port.business_no != reading.business_no;
        let settled = case.open_order().is_some_and(|order| {
            order.status.is_running() && reading.business_no.is_some_and(|number| order.has_number(number))
        });
        let unclear = port.status == PortStatus::Unclear;
        // It may prove something without showing anything new.
        let may_prove = unclear || port.status == PortStatus::Offline || asked.answers.is_some();
        let watched = port.memory.is_some() || case.open_order().is_some_and(|order| !order.status.is_running());
        if changed || watched || unclear || (!settled && reading.business_no.is_some()) {
            let numbers: Vec<_> = reading.business_no.into_iter().collect();
            self.load_history(key, &numbers, now)?;
        }
        let figures = Figures {
            voltage: reading.voltage,
            power: reading.power,
            current: reading.current,
            energy: WattHours(u32::from(reading.energy_units.0).saturating_mul(unit)),
            minutes: reading.minutes,
        };
        let Asked { answers, last_question } = asked;
        let read = Reading { raw: reading.status.0, number: reading.business_no, figures, answers, last_question };
        if !(changed || watched || may_prove) {
            self.at_port(key, now, |desk: &mut Desk<'_>| desk.status(read))?;
            self.tell_progress(key, now);
            return Ok(());
        }
        let order_before = self.case(key).and_then(Case::open_order).map(|order| order.order_no.clone());
        let mark_before = self.case(key).and_then(mark);
        self.at_port(key, now, |desk: &mut Desk<'_>| desk.status(read))?;
        self.tell_progress(key, now);
        let moved = mark_before.is_some() && mark_before != self.case(key).and_then(mark);
        if changed || watched || moved {
            let order_after = || self.case(key).and_then(Case::open_order).map(|order| order.order_no.clone());
            let order_no = order_before.or_else(order_after);
            notable.of(key, order_no);
        }
        Ok(())
    }

    /// A port is known from its first status on.
    fn know_port(&mut self, key: PortKey, _now: Now) {
        let Some(node) = self.devices.get_mut(&key.device).and_then(|gateway| gateway.node_mut(key.socket)) else {
            return;
        };
        if node.case(key.port).is_none() {
            node.cases.reserve_exact(1);
            node.cases.push(Case::new(Port::unseen(key)));
            node.cases.sort_by_key(|case| case.port.key);
        }
    }

    fn note_socket(&mut self, id: DeviceId, status: &SocketStatus, now: Now) -> Result<(), Fatal> {
        let Some(gateway) = self.devices.get_mut(&id) else { return Ok(()) };
        let is_new = gateway.node(status.socket).is_none();
        let node = gateway.node_or_new(status.socket);
        let record = &mut node.record;
        let other_firmware = record.firmware != Some(status.firmware);
        record.firmware = Some(status.firmware);
        record.temperature_c = Some(status.temperature_c);
        record.rssi = Some(status.rssi);
        record.last_seen = Some(now.wall);
        record.heard = Some(now.up);
        let seen = std::mem::replace(&mut node.seen, true);
        if is_new || other_firmware {
            self.socket_touched(id, status.socket, true, now);
        }
        if !seen {
            self.socket_touched(id, status.socket, false, now);
        }
        if other_firmware { self.judge_policies(id, now) } else { Ok(()) }
    }

    /// The answer to a start or a stop, maybe late, maybe again.
    fn handle_switch_answer(
        &mut self,
        id: DeviceId,
        frame: &Frame<'_>,
        answer: &StartAnswer,
        now: Now,
    ) -> Result<(), Fatal> {
        let (message_id, ok, number) = (frame.message_id(), answer.ok, answer.business_no);
        let sent = fatal(self.store.sending(id, message_id))?.and_then(|sending| {
            let key = PortKey { device: id, socket: sending.socket?, port: sending.port? };
            Some((key, sending.kind, sending.order_no))
        });
        let sending = sent.or_else(|| self.unkept_stop(id, message_id).map(|key| (key, SendingKind::Stop, None)));
        let Some((key, kind, order_no)) = sending.filter(|(key, ..)| self.case(*key).is_some()) else {
            return self.keep(frame, Noted::unmatched(id, "an answer to nothing that was sent"), now);
        };
        let names_it =
            answer.socket.is_none_or(|socket| socket == key.socket) && answer.port.is_none_or(|port| port == key.port);
        if !names_it {
            return self.keep(frame, Noted::unmatched(id, "an answer that names another port than was sent to"), now);
        }
        let numbers: Vec<_> = number.into_iter().collect();
        self.load_history(key, &numbers, now)?;
        match (kind, &order_no) {
            (SendingKind::Start, Some(order_no)) => {
                self.load_order(key, order_no)?;
                self.at_port(key, now, |desk: &mut Desk<'_>| desk.start_answered(order_no, ok, number))?;
            }
            _ => {
                self.at_port(key, now, |desk: &mut Desk<'_>| desk.stop_answered(message_id, ok))?;
            }
        }
        self.notes.clear();
        let noted =
            Noted { socket: Some(key.socket), port: Some(key), order_no: order_no.as_ref(), ..Noted::accepted(id) };
        self.keep(frame, noted, now)
    }

    /// A stop that is under way in memory alone, as the disk was full when it went out.
    fn unkept_stop(&self, id: DeviceId, message_id: MessageId) -> Option<PortKey> {
        let gateway = self.gateway(id)?;
        let mut cases = gateway.nodes.iter().flat_map(|node| &node.cases);
        let of_it = |case: &&Case| {
            let stop = case.port.memory.as_ref().and_then(|memory| memory.stop.as_ref());
            stop.is_some_and(|stop| stop.message_id == message_id)
        };
        cases.find(of_it).map(|case| case.port.key)
    }

    pub(super) fn load_order(&mut self, key: PortKey, order_no: &OrderNo) -> Result<(), Fatal> {
        if self.case(key).is_some_and(|case| case.order(order_no).is_some()) {
            return Ok(());
        }
        if let Some(order) = fatal(self.store.order(order_no))?
            && let Some(case) = self.case_mut(key)
        {
            case.take_in(vec![order]);
        }
        Ok(())
    }

    /// An end report: its port decides whose it is; it is acknowledged once durable, whatever became of it.
    fn handle_end(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        end: &EndReport,
        now: Now,
    ) -> Result<(), Fatal> {
        let key = PortKey { device: id, socket: end.socket, port: end.port };
        if self.case(key).is_none() {
            // A report can be the first that is heard of a port: it has to be known to remember whose it is.
            if let Some(gateway) = self.devices.get_mut(&id) {
                gateway.node_or_new(end.socket);
            }
            self.know_port(key, now);
            self.socket_touched(id, end.socket, true, now);
            self.keeping.touched(key, crate::port::Dirty::Whole);
        }
        let numbers: Vec<_> = end.business_no.into_iter().collect();
        self.load_history(key, &numbers, now)?;
        let unit = self.gateway(id).map_or(1, |gateway| gateway.quirks.energy_unit_wh);
        let report = report_of(end, unit);
        let since = crate::clock::UpTime(now.up.0.saturating_sub(crate::limits::REPORT_MATCHES_FOR_MS));
        self.told_before = fatal(self.store.has_refused_frame_since(id, frame.bytes(), since))?;
        let fate = self.at_port(key, now, |desk: &mut Desk<'_>| desk.report(&report));
        let told_before = std::mem::take(&mut self.told_before);
        let fate = fate?;
        self.notes.clear();
        let (verdict, order_no, reason) = match fate {
            Some(ReportFate::Booked(order_no)) => (FrameVerdict::Accepted, Some(order_no), None),
            Some(ReportFate::Duplicate(order_no)) => (FrameVerdict::Duplicate, Some(order_no), None),
            Some(ReportFate::Kept) => (FrameVerdict::Accepted, None, Some("kept until the start is decided")),
            Some(ReportFate::Nobody) if told_before => {
                (FrameVerdict::Duplicate, None, Some("of nobody, and told before"))
            }
            Some(ReportFate::Nobody) | None => (FrameVerdict::Unmatched, None, Some("an end report of nobody")),
        };
        let noted = Noted {
            device: Some(id),
            socket: Some(end.socket),
            port: Some(key),
            verdict,
            reason,
            order_no: order_no.as_ref(),
        };
        self.keep(frame, noted, now)?;
        let ack = self.end_ack(id, end.kind, end.sequence, end.socket.get(), end.port.get());
        let write = |out: &mut Vec<u8>| ack.encode_into(id, frame.message_id(), out);
        if mutants::off(Mutant::AnswerAfterCommit) {
            self.ready.send(conn, write);
        } else {
            self.held.send(conn, write);
        }
        Ok(())
    }

    fn end_ack(&self, id: DeviceId, kind: EndKind, sequence: Sequence, socket: u8, port: u8) -> Downlink {
        if kind == EndKind::Fee {
            return Downlink::FeeEndAck(FeeEndAck::new(sequence, ResultByte::OK, socket, port));
        }
        let echoes = self.gateway(id).is_some_and(|gateway| gateway.quirks.end_ack == EndAck::Echo);
        let form = if echoes { EndAckForm::Echo(kind) } else { EndAckForm::Usual };
        Downlink::EndAck(crate::bkv::EndAck { form, socket, result: ResultByte::OK })
    }

    /// A well-formed frame that makes no sense. An end report is acknowledged all the same: a device that is not
    /// acknowledged repeats, reconnects and takes its sockets along for ever.
    fn handle_nonsense(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        error: &DecodeError,
        now: Now,
    ) -> Result<(), Fatal> {
        log::debug!("violation device={id} {error}");
        let salvaged = salvage(frame);
        let socket = salvaged.and_then(|salvaged| salvaged.socket).and_then(SocketNo::new);
        let port = salvaged.and_then(|salvaged| salvaged.port).and_then(crate::ids::PortNo::new);
        let key = socket.zip(port).map(|(socket, port)| PortKey { device: id, socket, port });
        let reason = error.to_string();
        let noted = Noted { socket, port: key, ..Noted::malformed(Some(id), &reason) };
        self.keep(frame, noted, now)?;
        match salvaged {
            Some(Salvaged { kind: SalvagedKind::End(kind), sequence, socket, port }) => {
                let ack = self.end_ack(id, kind, sequence, socket.unwrap_or(0), port.unwrap_or(0));
                self.held.send(conn, |out| ack.encode_into(id, frame.message_id(), out));
            }
            Some(Salvaged { kind: SalvagedKind::Status, sequence, .. }) => {
                let ack = Downlink::StatusAck(StatusAck::new(sequence, ResultByte::REFUSED));
                self.ready.send(conn, |out| ack.encode_into(id, frame.message_id(), out));
            }
            Some(Salvaged { kind: SalvagedKind::Abnormal, sequence, socket, .. }) => {
                let ack = Downlink::AbnormalAck(AbnormalAck::new(sequence, socket.unwrap_or(0), ResultByte::REFUSED));
                self.held.send(conn, |out| ack.encode_into(id, frame.message_id(), out));
            }
            None => {}
        }
        Ok(())
    }

    /// The device's own report of something abnormal: told once, acknowledged once durable.
    fn handle_abnormal(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        event: &Abnormal,
        now: Now,
    ) -> Result<(), Fatal> {
        let repeated = self.is_repeated(id, frame, now)?;
        if !repeated {
            let mut more = serde_json::Map::new();
            more.insert("socket".to_owned(), event.socket.get().into());
            for setting in &event.settings {
                more.insert(setting.key.name().to_owned(), setting_value(setting));
            }
            log::warn!("abnormal event device={id} socket={}", event.socket);
            let data = device_event(Some(id), Value::Object(more));
            self.tell(Stream::Abnormal, "abnormal.reported", Some(id), None, &data, now)?;
        }
        let verdict = if repeated { FrameVerdict::Duplicate } else { FrameVerdict::Accepted };
        self.keep(frame, Noted { socket: Some(event.socket), verdict, ..Noted::accepted(id) }, now)?;
        let ack = Downlink::AbnormalAck(AbnormalAck::new(event.sequence, event.socket.get(), ResultByte::OK));
        self.held.send(conn, |out| ack.encode_into(id, frame.message_id(), out));
        Ok(())
    }

    /// A swiped card is answered "off" and told, until cards are supported.
    fn handle_card(
        &mut self,
        conn: ConnId,
        id: DeviceId,
        frame: &Frame<'_>,
        swipe: CardSwipe,
        now: Now,
    ) -> Result<(), Fatal> {
        let key = PortKey { device: id, socket: swipe.socket, port: swipe.port };
        let repeated = self.is_repeated(id, frame, now)?;
        if !repeated {
            let more = json!({ "card_no": swipe.card_no.to_string(), "business_no": swipe.business_no });
            log::info!("card refused port={key}");
            self.tell(Stream::Device, "card.refused", Some(id), None, &port_event(key, more), now)?;
        }
        let verdict = if repeated { FrameVerdict::Duplicate } else { FrameVerdict::Accepted };
        self.keep(frame, Noted { socket: Some(swipe.socket), port: Some(key), verdict, ..Noted::accepted(id) }, now)?;
        let off: CardOrder = swipe.turned_down();
        let message_id = self.store.next_message_id();
        self.held.send(conn, |out| Downlink::CardOrder(off).encode_into(id, message_id, out));
        Ok(())
    }

    /// The same bytes within two minutes: the device repeats what was not acknowledged in time.
    fn is_repeated(&self, id: DeviceId, frame: &Frame<'_>, now: Now) -> Result<bool, Fatal> {
        let since = crate::clock::UpTime(now.up.0.saturating_sub(crate::limits::REPETITION_MS));
        fatal(self.store.has_frame_since(id, frame.bytes(), since))
    }

    fn handle_network_list(
        &mut self,
        id: DeviceId,
        frame: &Frame<'_>,
        list: &NetworkList,
        now: Now,
    ) -> Result<(), Fatal> {
        for listed in &list.sockets {
            let Some(gateway) = self.devices.get_mut(&id) else { break };
            let record = &mut gateway.node_or_new(listed.socket).record;
            record.mac = Some(listed.mac.to_string().into());
            record.uid = Some(listed.uid.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into());
            self.socket_touched(id, listed.socket, true, now);
        }
        self.keep(frame, Noted::accepted(id), now)
    }

    fn keep(&mut self, frame: &Frame<'_>, noted: Noted<'_>, now: Now) -> Result<(), Fatal> {
        let kept = Kept {
            device: noted.device,
            socket: noted.socket,
            port: noted.port,
            direction: Direction::Up,
            bytes: frame.bytes(),
            verdict: noted.verdict,
            reason: noted.reason,
            order_no: noted.order_no,
        };
        self.note_frame(kept, now)
    }
}

/// What the journal says of a frame.
#[derive(Debug, Clone, Copy)]
struct Noted<'a> {
    device: Option<DeviceId>,
    socket: Option<SocketNo>,
    port: Option<PortKey>,
    verdict: FrameVerdict,
    reason: Option<&'a str>,
    order_no: Option<&'a OrderNo>,
}

impl<'a> Noted<'a> {
    const fn accepted(device: DeviceId) -> Self {
        Self {
            device: Some(device),
            socket: None,
            port: None,
            verdict: FrameVerdict::Accepted,
            reason: None,
            order_no: None,
        }
    }

    const fn unmatched(device: DeviceId, reason: &'a str) -> Self {
        Self { verdict: FrameVerdict::Unmatched, reason: Some(reason), ..Self::accepted(device) }
    }

    const fn malformed(device: Option<DeviceId>, reason: &'a str) -> Self {
        Self {
            device,
            socket: None,
            port: None,
            verdict: FrameVerdict::Malformed,
            reason: Some(reason),
            order_no: None,
        }
    }
}

/// What a status answers, and when its socket was last asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    answers: Option<Answered>,
    last_question: Option<crate::clock::UpTime>,
}

/// Why a status goes into the journal: something changed, or an order hangs on it.
#[derive(Debug, Default)]
struct Notable {
    is: bool,
    port: Option<PortKey>,
    order_no: Option<OrderNo>,
}

impl Notable {
    /// This port is one reason, and the first one with an order names it.
    fn of(&mut self, key: PortKey, order_no: Option<OrderNo>) {
        self.is = true;
        self.port = self.port.or(Some(key));
        self.order_no = self.order_no.take().or(order_no);
    }
}

/// What a status can prove of the newest order of a port without showing anything new itself: that the port is known
/// again, or that it is still idle when asked.
fn mark(case: &Case) -> Option<(PortStatus, bool, bool, bool)> {
    let order = &case.orders.last()?.order;
    let course = &order.course;
    Some((case.port.status, course.grace_asked, course.idle_since.is_some(), order.status.is_open()))
}

fn non_empty(text: String) -> Option<Box<str>> {
    (!text.is_empty()).then_some(text.into_boxed_str())
}

fn setting_value(setting: &Setting) -> Value {
    match (setting.as_number(), &setting.value) {
        (Some(number), _) => number.into(),
        (None, SettingValue::Raw(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        (None, _) => Value::Null,
    }
}

/// The report as decisions see it: scaled, no bytes.
pub(super) fn report_of(end: &EndReport, unit_wh: u32) -> Report {
    let energy = |units: u32| WattHours(units.saturating_mul(unit_wh));
    let tiers: Vec<TierSpent> = end
        .tiers
        .iter()
        .map(|tier| TierSpent { minutes: tier.minutes, energy_wh: tier.energy_units.map(energy) })
        .collect();
    // The device tells the two fees; what was spent is their sum.
    let fees = || end.electricity_fee.zip(end.service_fee).map(|(electricity, service)| electricity + service);
    Report {
        number: end.business_no,
        raw_status: end.status.0,
        energy: energy(u32::from(end.energy_units.0)),
        minutes: end.minutes,
        amount: end.amount.or_else(fees),
        electricity: end.electricity_fee,
        service: end.service_fee,
        settlement_power: end.settlement_power,
        tiers: (!tiers.is_empty()).then_some(tiers),
        device_end_time: end.device_end_time.map(|time| time.to_string()),
        raw_reason: end.raw_reason,
        card_no: end.card_no.map(|card| card.to_string()),
    }
}

/// Whether a frame of the journal is an end report, readable or not.
pub(super) fn is_end_report(bytes: &[u8]) -> bool {
    let frame = Frame::parse(bytes).ok();
    let salvaged = frame.as_ref().and_then(salvage);
    salvaged.is_some_and(|salvaged| matches!(salvaged.kind, SalvagedKind::End(_)))
}
