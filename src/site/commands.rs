//! What is asked for over the control socket and by the cloud: looked up by its id before anything else, judged, done, answered once
//! durable (contract §6).

use std::time::Duration;

use serde_json::{Value, json};

use crate::ask::Query;
use crate::clock::{Now, UpTime};
use crate::cloud::topics::REPLY;
use crate::command::{Action, Code, Command, Problem, Reply, Request, SetDevice, SetSocket, Start, Stop};
use crate::event::{order_data, port_data, socket_data};
use crate::ids::{DeviceId, OrderNo, PortKey, SocketNo};
use crate::order::{Order, Settlement, Source};
use crate::port::{Desk, Expiry, Refusal};
use crate::store::{CommandRow, CommandSource};
use crate::turn::{ClientId, Fatal};

use super::held::{Caller, WhenFull};
use super::presence::Enabled;
use super::snapshot::GET_SNAPSHOT;
use super::{Quirks, Site, fatal};

/// A command as it comes in.
pub(super) struct Incoming<'a> {
    pub(super) line: &'a [u8],
    pub(super) caller: Caller,
    /// By whom, when the command does not say.
    pub(super) actor: String,
    /// What is left of its message's life.
    pub(super) expires_in: Option<Duration>,
}

/// Who asks, under which id.
struct Asker {
    id: String,
    actor: String,
    source: CommandSource,
    /// Its message holds no longer.
    message_expires: Option<UpTime>,
}

impl Asker {
    const fn order_source(&self) -> Source {
        match self.source {
            CommandSource::Cloud => Source::Cloud,
            CommandSource::Site => Source::Site,
        }
    }
}

/// How a command goes on.
pub(super) enum Step {
    /// With this reply, once durable.
    Reply(Reply, WhenFull),
    /// The reply follows when the device has answered.
    UnderWay,
}

impl Site {
    pub(super) fn handle_command(
        &mut self,
        client: ClientId,
        line: &[u8],
        user: Option<u32>,
        now: Now,
    ) -> Result<(), Fatal> {
        let actor = user.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        self.take_command(Incoming { line, caller: Caller::Client(client), actor, expires_in: None }, now)
    }

    pub(super) fn take_command(&mut self, incoming: Incoming<'_>, now: Now) -> Result<(), Fatal> {
        let Incoming { line, caller, actor, expires_in } = incoming;
        let request = match Request::read(line) {
            Ok(request) => request,
            Err(problem) => return self.answer_at_once(caller, &Reply::rejected(None, problem), now),
        };
        if self.is_repetition(&caller, &request, now)? {
            return Ok(());
        }
        let asker = Asker {
            id: request.id.clone(),
            actor: request.actor().map_or(actor, str::to_owned),
            source: caller.source(),
            message_expires: expires_in.map(|span| now.up.after(span)),
        };
        let mut command = request.command();
        if caller.is_cloud() {
            command = command.and_then(|command| super::cloud::judge(command, expires_in.is_some()));
        }
        if let Ok(Command { action: Action::Flush, .. }) = command {
            return self.flush_for(caller, &asker.id, now);
        }
        if self.keeping.is_full() || matches!(command, Ok(Command { action: Action::GetSnapshot(_), .. })) {
            // What could not be kept did not happen: a stop, above all, is judged by what is committed, and a snapshot
            // tells of nothing else.
            self.commit_all(now)?;
        }
        self.note_command(&request, &asker, now)?;
        self.wait_for(&asker.id, caller);
        let step = match command {
            Ok(command) => self.perform(&asker, command, now)?,
            Err(problem) => Err(problem),
        };
        match step {
            Ok(Step::UnderWay) => Ok(()),
            Ok(Step::Reply(reply, when_full)) => self.finish_command(&asker.id, &reply, when_full, now),
            Err(problem) => {
                let reply = Reply::rejected(Some(&asker.id), problem);
                self.finish_command(&asker.id, &reply, WhenFull::Give, now)
            }
        }
    }

    /// Figures that only move go to the store with the commit that the reply waits for.
    fn flush_for(&mut self, caller: Caller, id: &str, now: Now) -> Result<(), Fatal> {
        self.keeping.flush();
        let reply = Reply::done(id).with(self.condition(now));
        self.answer(caller, id, &reply.to_line(), WhenFull::Give, now)
    }

    pub(super) fn wait_for(&mut self, id: &str, caller: Caller) {
        let callers = self.waiting.entry(id.to_owned()).or_default();
        // The broker may deliver a command again: its reply is one.
        if !(caller.is_cloud() && callers.contains(&caller)) {
            callers.push(caller);
        }
    }

    pub(super) fn answer_client_too_long(&mut self, client: ClientId) {
        self.ready.reply(client, Reply::rejected(None, too_long()).to_line().as_bytes());
    }

    pub(super) fn answer_too_long(&mut self, caller: Caller, now: Now) -> Result<(), Fatal> {
        self.answer_at_once(caller, &Reply::rejected(None, too_long()), now)
    }

    /// What changes nothing waits for no commit, but where its reply is to be kept until it arrives.
    fn answer_at_once(&mut self, caller: Caller, reply: &Reply, now: Now) -> Result<(), Fatal> {
        let line = reply.to_line();
        match caller {
            Caller::Client(client) => {
                self.ready.reply(client, line.as_bytes());
                Ok(())
            }
            Caller::Cloud(_) => self.answer(caller, reply.id.as_deref().unwrap_or(""), &line, WhenFull::Give, now),
        }
    }

    /// A reply, once durable.
    fn answer(&mut self, caller: Caller, id: &str, line: &str, when_full: WhenFull, now: Now) -> Result<(), Fatal> {
        if caller.is_cloud() {
            self.put_out_reply(line, now)?;
        }
        self.held.reply(caller, id, line, when_full);
        Ok(())
    }

    fn put_out_reply(&mut self, line: &str, now: Now) -> Result<(), Fatal> {
        let queued = self.store.enqueue(REPLY, line, now.wall);
        self.kept(queued).map(drop)
    }

    /// A repetition gets the same reply and has no second effect, or waits for the one under way.
    fn is_repetition(&mut self, caller: &Caller, request: &Request, now: Now) -> Result<bool, Fatal> {
        let noted = self.keeping.commands.get(&request.id).cloned();
        let known = if noted.is_some() { noted } else { fatal(self.store.command(&request.id))? };
        let Some(known) = known else { return Ok(false) };
        if known.payload != request.payload() {
            let problem = Problem::of(Code::OutOfRange, "id", "this id was used for another command; give a new one");
            self.answer_at_once(caller.clone(), &Reply::rejected(Some(&request.id), problem), now)?;
            return Ok(true);
        }
        match known.reply {
            Some(line) => self.answer(caller.clone(), &request.id, &line, WhenFull::Give, now)?,
            None => self.wait_for(&request.id, caller.clone()),
        }
        Ok(true)
    }

    fn note_command(&mut self, request: &Request, asker: &Asker, now: Now) -> Result<(), Fatal> {
        let row = CommandRow {
            id: request.id.clone(),
            at: now.wall,
            created_up: now.up,
            source: asker.source,
            actor: asker.actor.clone(),
            kind: request.type_word().to_owned(),
            payload: request.payload(),
            reply: None,
            order_no: None,
        };
        let noted = self.store.put_command(&row);
        // A snapshot is long and changes nothing: one that is taken back is made anew.
        if row.kind != GET_SNAPSHOT {
            self.keeping.commands.insert(row.id.clone(), row);
        }
        self.kept(noted).map(drop)
    }

    /// The reply is kept with the command and goes to everybody who waits for it, once durable.
    pub(super) fn finish_command(
        &mut self,
        id: &str,
        reply: &Reply,
        when_full: WhenFull,
        now: Now,
    ) -> Result<(), Fatal> {
        let line = reply.to_line();
        let mut callers = self.waiting.remove(id).unwrap_or_default();
        if !callers.iter().any(Caller::is_cloud) && self.is_of_cloud(id)? {
            // It was asked for before a restart.
            callers.push(Caller::Cloud(None));
        }
        self.keep_reply(id, reply, &line)?;
        if callers.iter().any(Caller::is_cloud) {
            self.put_out_reply(&line, now)?;
        }
        for caller in callers {
            self.held.reply(caller, id, &line, when_full);
        }
        Ok(())
    }

    fn keep_reply(&mut self, id: &str, reply: &Reply, line: &str) -> Result<(), Fatal> {
        let is_full = reply.problem.as_ref().is_some_and(|problem| problem.code == Code::StoreFull);
        let kept = if is_full {
            // Not remembered: with more room it can be done.
            self.keeping.commands.remove(id);
            self.store.forget_command(id)
        } else {
            if let Some(row) = self.keeping.commands.get_mut(id) {
                row.reply = Some(line.to_owned());
                row.order_no = reply.order_no.clone().or_else(|| row.order_no.take());
            }
            self.store.set_reply(id, line, reply.order_no.as_ref())
        };
        self.kept(kept).map(drop)
    }

    fn is_of_cloud(&self, id: &str) -> Result<bool, Fatal> {
        if self.feed.is_none() {
            return Ok(false);
        }
        Ok(fatal(self.store.command(id))?.is_some_and(|command| command.source == CommandSource::Cloud))
    }

    fn perform(&mut self, asker: &Asker, command: Command, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let (id, actor) = (asker.id.as_str(), asker.actor.as_str());
        let is_stop = matches!(command.action, Action::Stop(_));
        let expiry = Expiry { at: command.expires_at, up: asker.message_expires };
        if !is_stop && let Err(problem) = self.judge_expiry(expiry, now) {
            return Ok(Err(problem));
        }
        match command.action {
            Action::Start(start) => self.start_charge(asker, &start, expiry, now),
            Action::Stop(stop) => self.stop_charge(id, actor, stop, now),
            Action::QueryStatus(device, socket) => self.query_status(id, device, socket, now),
            Action::GetOrder(order_no) => self.get_order(id, &order_no),
            Action::GetSnapshot(device) => self.get_snapshot(id, device),
            Action::Replay(wanted) => self.replay(id, wanted, now),
            Action::SetDevice(set) => self.set_device(id, set, now),
            Action::SetSocket(set) => self.set_socket(id, set, now),
            Action::RemoveDevice(device) => self.remove_device(id, device, now),
            Action::Redecode(frames) => self.redecode(id, &frames, now),
            Action::Acknowledge(what) => self.acknowledge(id, &what, now),
            Action::Claim(claim) => self.claim_order(id, &claim, now),
            // Answered before it came here.
            Action::Flush => Ok(Ok(Step::UnderWay)),
        }
    }

    fn judge_expiry(&self, expiry: Expiry, now: Now) -> Result<(), Problem> {
        if expiry.up.is_some_and(|up| now.up >= up) {
            return Err(Problem::new(Code::Expired, "the command's message had expired when it came"));
        }
        let Some(expires_at) = expiry.at else { return Ok(()) };
        if self.clock_is_unset() {
            let why = "the gateway's clock is not set; send the command again without expires_at, or set the clock";
            return Err(Problem::of(Code::ClockUnknown, "expires_at", why));
        }
        if now.wall >= expires_at {
            return Err(Problem::of(Code::Expired, "expires_at", "the command came too late"));
        }
        Ok(())
    }

    fn start_charge(
        &mut self,
        asker: &Asker,
        start: &Start,
        expiry: Expiry,
        now: Now,
    ) -> Result<Result<Step, Problem>, Fatal> {
        if start.is_by_fee() && self.clock_is_unset() {
            let why = "a start by fee needs the time of day, and the gateway's clock is not set";
            return Ok(Err(Problem::of(Code::ClockUnknown, "mode", why)));
        }
        if let Some(order_no) = &start.order_no
            && let Some(order) = self.find_order(order_no)?
        {
            let problem = Problem::of(Code::DuplicateOrderNo, "order_no", "an order of this number exists");
            let reply = Reply::rejected(Some(&asker.id), problem);
            let reply = reply.about(order.order_no.clone()).with(order_data(&order));
            return Ok(Ok(Step::Reply(reply, WhenFull::Give)));
        }
        let key = PortKey { device: start.device, socket: start.socket, port: start.port };
        if let Err(problem) = self.judge_place(key) {
            return Ok(Err(problem));
        }
        let may = self.at_port(key, now, |desk: &mut Desk<'_>| desk.may_start())?;
        if let Some(Err(refusal)) = may {
            return Ok(Err(refused_start(refusal)));
        }
        let plan = match start.plan() {
            Ok(plan) => plan,
            Err(problem) => return Ok(Err(problem)),
        };
        let order_no = match &start.order_no {
            Some(order_no) => order_no.clone(),
            None => self.new_order_no(),
        };
        let mut order = Order::new(order_no, key, asker.order_source(), (now.wall, now.up));
        order.plan = Some(plan);
        order.started_by = Some(asker.actor.clone());
        order.course.command_id = Some(asker.id.clone());
        self.load_history(key, &[], now)?;
        self.at_port(key, now, |desk: &mut Desk<'_>| desk.start(order, expiry))?;
        Ok(Ok(Step::UnderWay))
    }

    fn new_order_no(&mut self) -> OrderNo {
        use crate::port::Names;
        super::StoreNames { store: &mut self.store, site_id: &self.config.site.id }.order_no()
    }

    /// Device known, online, enabled; socket and port known (contract §5 *Start*).
    fn judge_place(&self, key: PortKey) -> Result<(), Problem> {
        let gateway = self.gateway(key.device).ok_or_else(|| unknown_device(key.device))?;
        if gateway.conn.is_none() {
            return Err(Problem::of(Code::DeviceOffline, "device", "the device is offline"));
        }
        if !gateway.is_enabled() {
            return Err(Problem::of(Code::DeviceDisabled, "device", "the device is disabled"));
        }
        let node = gateway.node(key.socket).ok_or_else(|| unknown_socket(key.socket))?;
        if node.record.lost.is_some() {
            return Err(Problem::of(Code::DeviceOffline, "socket", "the socket has lost its radio link to the device"));
        }
        if !node.is_enabled() {
            return Err(Problem::of(Code::DeviceDisabled, "socket", "the socket is disabled"));
        }
        if node.case(key.port).is_none() {
            let why = format!("socket {} never reported a port {}", key.socket, key.port);
            return Err(Problem::of(Code::UnknownPort, "port", why));
        }
        Ok(())
    }

    /// An order in memory, else in the store.
    pub(super) fn find_order(&self, order_no: &OrderNo) -> Result<Option<Order>, Fatal> {
        let kept = fatal(self.store.order(order_no))?;
        let in_memory = |key| self.case(key).and_then(|case| case.order(order_no)).cloned();
        match kept {
            Some(order) => Ok(Some(in_memory(order.port).unwrap_or(order))),
            // Not written yet: it can only be among those that this turn has touched.
            None => Ok(self.keeping.touched_ports().find_map(in_memory)),
        }
    }

    fn stop_charge(&mut self, id: &str, actor: &str, stop: Stop, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let field = if matches!(stop, Stop::Order(_)) { "order_no" } else { "expect_order_no" };
        let (key, order_no) = match stop {
            Stop::Order(order_no) => match self.find_order(&order_no)? {
                Some(order) => (order.port, Some(order_no)),
                None => return Ok(Err(Problem::of(Code::UnknownOrder, "order_no", "no order has this number"))),
            },
            Stop::Port { device, socket, port, expect } => {
                let key = PortKey { device, socket, port };
                if let Err(problem) = self.judge_port_known(key) {
                    return Ok(Err(problem));
                }
                (key, expect)
            }
        };
        if self.case(key).is_none() {
            return Ok(Err(Problem::of(Code::OrderNotOpen, field, "the order is over and its device was removed")));
        }
        self.load_history(key, &[], now)?;
        if let Some(order_no) = &order_no
            && let Err(problem) = self.judge_stoppable(key, order_no, field)
        {
            return Ok(Err(problem));
        }
        let (id, actor) = (id.to_owned(), actor.to_owned());
        self.at_port(key, now, |desk: &mut Desk<'_>| desk.stop(order_no.as_ref(), id, actor))?;
        Ok(Ok(Step::UnderWay))
    }

    fn judge_port_known(&self, key: PortKey) -> Result<(), Problem> {
        let gateway = self.gateway(key.device).ok_or_else(|| unknown_device(key.device))?;
        let node = gateway.node(key.socket).ok_or_else(|| unknown_socket(key.socket))?;
        match node.case(key.port) {
            Some(_) => Ok(()),
            None => Err(Problem::of(
                Code::UnknownPort,
                "port",
                format!("socket {} never reported a port {}", key.socket, key.port),
            )),
        }
    }

    /// Open, or the newest of its port and closed provisionally.
    fn judge_stoppable(&self, key: PortKey, order_no: &OrderNo, field: &str) -> Result<(), Problem> {
        let not_open = || Problem::of(Code::OrderNotOpen, field, "the order is over, or another one is on the port");
        let case = self.case(key).ok_or_else(not_open)?;
        let newest = case.orders.last().map(|entry| &entry.order.order_no) == Some(order_no);
        let stoppable = case.order(order_no).is_some_and(|order| {
            order.status.is_open() || (newest && order.settlement == Some(Settlement::Provisional))
        });
        if stoppable { Ok(()) } else { Err(not_open()) }
    }

    fn query_status(
        &mut self,
        id: &str,
        device: DeviceId,
        socket: SocketNo,
        now: Now,
    ) -> Result<Result<Step, Problem>, Fatal> {
        if let Err(problem) = self.judge_socket_reachable(device, socket) {
            return Ok(Err(problem));
        }
        let ask = self.asks.entry((device, socket)).or_default();
        ask.queries.push(Query { command_id: id.to_owned(), tries: 0 });
        if ask.question.is_none() {
            self.send_question(device, socket, now)?;
        }
        Ok(Ok(Step::UnderWay))
    }

    fn judge_socket_reachable(&self, device: DeviceId, socket: SocketNo) -> Result<(), Problem> {
        let gateway = self.gateway(device).ok_or_else(|| unknown_device(device))?;
        if gateway.conn.is_none() {
            return Err(Problem::of(Code::DeviceOffline, "device", "the device is offline"));
        }
        let node = gateway.node(socket).ok_or_else(|| unknown_socket(socket))?;
        if node.record.lost.is_some() {
            return Err(Problem::of(Code::DeviceOffline, "socket", "the socket has lost its radio link to the device"));
        }
        Ok(())
    }

    /// The socket has answered: so are the queries that waited for it.
    pub(super) fn answer_queries(&mut self, device: DeviceId, socket: SocketNo, now: Now) -> Result<(), Fatal> {
        let Some(ask) = self.asks.get_mut(&(device, socket)) else { return Ok(()) };
        let queries = std::mem::take(&mut ask.queries);
        if queries.is_empty() {
            return Ok(());
        }
        let data = self.socket_state(device, socket);
        for query in queries {
            let reply = Reply::done(&query.command_id).with(data.clone());
            self.finish_command(&query.command_id, &reply, WhenFull::Give, now)?;
        }
        Ok(())
    }

    fn socket_state(&self, device: DeviceId, socket: SocketNo) -> Value {
        let Some(node) = self.gateway(device).and_then(|gateway| gateway.node(socket)) else { return Value::Null };
        let ports: Vec<Value> = node.cases.iter().map(|case| port_data(&case.port)).collect();
        json!({ "socket": socket_data(&node.record, node.record.online, node.is_enabled()), "ports": ports })
    }

    /// Nobody will answer this command, a query or a stop.
    pub(super) fn query_failed(&mut self, id: &str, code: Code, now: Now) -> Result<(), Fatal> {
        let message = match code {
            Code::DeviceOffline => "the device went offline before it answered",
            _ => "the device gave no answer",
        };
        let reply = Reply::failed(id, Problem::new(code, message));
        self.finish_command(id, &reply, WhenFull::Give, now)
    }

    fn get_order(&self, id: &str, order_no: &OrderNo) -> Result<Result<Step, Problem>, Fatal> {
        Ok(match self.find_order(order_no)? {
            Some(order) => {
                let reply = Reply::done(id).about(order.order_no.clone()).with(order_data(&order));
                Ok(Step::Reply(reply, WhenFull::Give))
            }
            None => Err(Problem::of(Code::UnknownOrder, "order_no", "no order has this number")),
        })
    }

    fn set_device(&mut self, id: &str, set: SetDevice, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let device = set.device;
        if self.gateway(device).is_none() {
            self.register(device, now)?;
        }
        let Some(gateway) = self.devices.get_mut(&device) else { return Ok(Err(unknown_device(device))) };
        let before = Enabled::of(gateway);
        if let Some(enabled) = set.enabled {
            gateway.record.enabled = enabled;
        }
        if let Some(model) = set.device_model {
            gateway.record.model = model.map(String::into_boxed_str);
            let model = gateway.record.model.as_deref().or(self.config.devices.default_model.as_deref());
            gateway.quirks = Quirks::of(&self.config, model);
        }
        if let Some(note) = set.note {
            gateway.record.note = note.map(String::into_boxed_str);
        }
        self.device_touched(device, true, now);
        self.tell_enabled(device, &before, now)?;
        self.judge_policies(device, now)?;
        Ok(Ok(Step::Reply(Reply::done(id), WhenFull::Refuse)))
    }

    fn set_socket(&mut self, id: &str, set: SetSocket, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let (device, socket) = (set.device, set.socket);
        let Some(gateway) = self.devices.get_mut(&device) else { return Ok(Err(unknown_device(device))) };
        let before = Enabled::of(gateway);
        let node = gateway.node_or_new(socket);
        if let Some(enabled) = set.enabled {
            node.record.enabled = enabled;
        }
        if let Some(uid) = set.uid {
            node.record.uid = uid.map(String::into_boxed_str);
        }
        if let Some(mac) = set.mac {
            node.record.mac = mac.map(String::into_boxed_str);
        }
        self.socket_touched(device, socket, true, now);
        self.tell_enabled(device, &before, now)?;
        self.judge_policies(device, now)?;
        Ok(Ok(Step::Reply(Reply::done(id), WhenFull::Refuse)))
    }

    fn remove_device(&mut self, id: &str, device: DeviceId, now: Now) -> Result<Result<Step, Problem>, Fatal> {
        let Some(gateway) = self.gateway(device) else { return Ok(Err(unknown_device(device))) };
        let open = gateway.nodes.iter().flat_map(|node| &node.cases).find_map(|case| case.open_order());
        if let Some(open) = open {
            let why = format!("order {} is open on port {}; stop it first", open.order_no, open.port);
            return Ok(Err(Problem::of(Code::OrderOpen, "device", why)));
        }
        self.forget_device(device, now)?;
        Ok(Ok(Step::Reply(Reply::done(id), WhenFull::Refuse)))
    }

    fn forget_device(&mut self, device: DeviceId, now: Now) -> Result<(), Fatal> {
        for socket in self.sockets_of(device) {
            for key in self.ports_of(device, socket) {
                self.end_stop_of(key, now)?;
                self.write_closed_orders(key)?;
                self.dues.set(super::dues::Due::Port(key), None, now.up);
                // Nobody is left who could obey.
                self.dues.set(super::dues::Due::StopObeyed(key), None, now.up);
                self.clear_stop_ignored(key, now)?;
                self.dues.set(super::dues::Due::Inconsistency(key), None, now.up);
                self.counting.remove(&key);
            }
            self.dues.set(super::dues::Due::Ask(device, socket), None, now.up);
            let queries = self.asks.remove(&(device, socket)).map(|ask| ask.queries).unwrap_or_default();
            for query in queries {
                self.query_failed(&query.command_id, Code::DeviceOffline, now)?;
            }
        }
        if let Some(conn) = self.devices.remove(&device).and_then(|gateway| gateway.conn) {
            self.hang_up(conn);
        }
        self.unreturned.remove(&device);
        self.keeping.forget(device);
        self.watch.forget(device);
        let removed = self.store.remove_device(device);
        self.kept(removed).map(drop)
    }

    fn end_stop_of(&mut self, key: PortKey, now: Now) -> Result<(), Fatal> {
        let memory = self.case_mut(key).and_then(|case| case.port.memory.as_mut());
        let stop = memory.and_then(|memory| memory.stop.take());
        for id in stop.map_or_else(Vec::new, |stop| stop.commands) {
            self.query_failed(&id, Code::DeviceOffline, now)?;
        }
        Ok(())
    }

    /// Orders that this turn changed are written before their port is forgotten.
    fn write_closed_orders(&mut self, key: PortKey) -> Result<(), Fatal> {
        let written = self.write_case(key);
        self.kept(written).map(drop)
    }

    /// Commands of the last run that nobody will answer any more.
    pub(super) fn end_commands_of_the_last_run(&mut self, now: Now) -> Result<(), Fatal> {
        for id in fatal(self.store.commands_under_way())? {
            if !self.waits_on(&id) && !self.keeping.commands.contains_key(&id) {
                let problem = Problem::new(Code::NoAnswer, "the agent was restarted before the answer came");
                self.finish_command(&id, &Reply::failed(&id, problem), WhenFull::Give, now)?;
            }
        }
        Ok(())
    }

    /// Whether something is on its way that will answer this command.
    pub(super) fn waits_on(&self, id: &str) -> bool {
        let mut queries = self.asks.values().flat_map(|ask| &ask.queries);
        queries.any(|query| query.command_id == id) || self.is_under_way(id) || self.replays(id)
    }

    fn is_under_way(&self, id: &str) -> bool {
        let mut cases = self.devices.values().flat_map(|gateway| &gateway.nodes).flat_map(|node| &node.cases);
        cases.any(|case| {
            let of_order = case.orders.iter().any(|entry| entry.order.course.command_id.as_deref() == Some(id));
            let stop = case.port.memory.as_ref().and_then(|memory| memory.stop.as_ref());
            of_order || stop.is_some_and(|stop| stop.commands.iter().any(|command| command == id))
        })
    }
}

fn too_long() -> Problem {
    Problem::new(Code::InvalidJson, "a command is at most 64 KiB long")
}

pub(super) fn unknown_device(device: DeviceId) -> Problem {
    Problem::of(Code::UnknownDevice, "device", format!("device {device} is not known"))
}

fn unknown_socket(socket: SocketNo) -> Problem {
    Problem::of(Code::UnknownPort, "socket", format!("the device never reported a socket {socket}"))
}

fn refused_start(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::PortFault => Problem::of(Code::PortFault, "port", "the port reports a fault"),
        Refusal::DeviceOffline => Problem::of(Code::DeviceOffline, "socket", "the socket is offline"),
        _ => Problem::of(Code::PortBusy, "port", "the port is busy, held, or not known to be idle"),
    }
}
