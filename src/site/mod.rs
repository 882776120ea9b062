//! Routes frames, commands and deadlines to device and port, carries out what they decide, and keeps it.
//!
//! The four questions of a pure core ([`crate::turn::Core`]): what came, what is due, what is to be sent, when next.
//! Decides nothing about orders: `port` does. Reads no clock and opens no socket; the one thing that it does to the
//! world is the store, synchronously.
//!
//! - `frames`: what devices say. `sending`: what is said to them. `commands`: what is asked for. `effects`: carrying decisions out.
//! - `persist`: the commit and the flush. `taken_back`: a full disk took a commit back.
//! - `acknowledge`: a person took note. `claim`: an adopted order gets its number. `redecode`: old end reports are read once more.
//! - `cloud`: the session with the broker, the outbox, what comes in by MQTT.
//! - `snapshot`: everything as of one moment. `replay`: events are sent again. `condition`: how the agent itself is.
//! - `consistency`: how long order and port disagree. `presence`: devices and sockets that come and go. `dues`: everything that is due.

mod acknowledge;
mod claim;
mod cloud;
mod commands;
mod condition;
mod consistency;
mod dues;
mod effects;
mod frames;
mod held;
mod persist;
mod presence;
pub mod redecode;
mod refusals;
mod replay;
mod sending;
mod snapshot;
mod taken_back;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::ask::Ask;
use crate::bkv::Frame;
use crate::clock::{Now, UpTime};
use crate::config::{Config, EndAck, TiersCommand};
use crate::device::{Device, Socket};
use crate::ids::{BusinessNo, DeviceId, MessageId, OrderNo, PortKey, PortNo, SocketNo};
use crate::order::EndReason;
use crate::port::{Case, Desk, Dirty, Downtime, Effect, Names, Reach, Terms};
use crate::store::{Store, StoreError};
use crate::trust::Trust;
use crate::turn::{ClientId, ConnId, Core, Fatal, Outputs, Refused};

use cloud::Feed;
use dues::{Due, Dues};
use held::{Caller, Held};
use refusals::Refusals;

/// A device in memory.
#[derive(Debug)]
struct Gateway {
    record: Device,
    conn: Option<ConnId>,
    quirks: Quirks,
    /// It stands among those whose last sign of life is to be written.
    seen: bool,
    /// By number. A vector, as most devices have one socket or few.
    nodes: Vec<Node>,
}

/// A socket in memory.
#[derive(Debug)]
struct Node {
    record: Socket,
    /// As [`Gateway::seen`].
    seen: bool,
    cases: Vec<Case>,
}

/// What the configuration says of a device's model.
#[derive(Debug, Clone, Copy)]
struct Quirks {
    energy_unit_wh: u32,
    end_ack: EndAck,
    tiers_command: TiersCommand,
    power_ceiling_w: u32,
}

impl Quirks {
    fn of_record(config: &Config, record: &Device) -> Self {
        Self::of(config, record.model.as_deref().or(config.devices.default_model.as_deref()))
    }

    fn of(config: &Config, model: Option<&str>) -> Self {
        let power_ceiling_w = config.power_ceiling_w(model);
        let model = config.model(model);
        Self {
            energy_unit_wh: model.energy_unit_wh,
            end_ack: model.end_ack,
            tiers_command: model.tiers_command,
            power_ceiling_w,
        }
    }
}

impl Gateway {
    fn new(record: Device, config: &Config) -> Self {
        let quirks = Quirks::of_record(config, &record);
        Self { record, conn: None, quirks, seen: false, nodes: Vec::new() }
    }

    fn node(&self, no: SocketNo) -> Option<&Node> {
        self.nodes.binary_search_by_key(&no, |node| node.record.no).ok().map(|place| &self.nodes[place])
    }

    fn node_mut(&mut self, no: SocketNo) -> Option<&mut Node> {
        self.nodes.binary_search_by_key(&no, |node| node.record.no).ok().map(|place| &mut self.nodes[place])
    }

    fn node_or_new(&mut self, no: SocketNo) -> &mut Node {
        let place = match self.nodes.binary_search_by_key(&no, |node| node.record.no) {
            Ok(place) => place,
            Err(place) => {
                self.nodes.reserve_exact(1);
                let record = Socket::new(self.record.id, no);
                self.nodes.insert(place, Node { record, seen: false, cases: Vec::new() });
                place
            }
        };
        &mut self.nodes[place]
    }

    fn is_enabled(&self) -> bool {
        self.record.enabled && !self.record.policy_disabled
    }

    /// Whether a port of this socket can be spoken to.
    fn reach(&self, node: &Node, started: UpTime) -> Reach {
        if self.conn.is_none() {
            Reach::Away(self.record.heard.unwrap_or(started))
        } else if let Some(lost) = node.record.lost {
            Reach::Away(lost)
        } else {
            Reach::Online
        }
    }
}

impl Node {
    fn case(&self, port: PortNo) -> Option<&Case> {
        self.cases.iter().find(|case| case.port.key.port == port)
    }

    fn case_mut(&mut self, port: PortNo) -> Option<&mut Case> {
        self.cases.iter_mut().find(|case| case.port.key.port == port)
    }

    fn is_enabled(&self) -> bool {
        self.record.enabled && !self.record.policy_disabled
    }
}

/// One device connection: whose it is, once a frame has told.
#[derive(Debug)]
struct Session {
    peer: IpAddr,
    device: Option<DeviceId>,
}

/// Everything that one agent serves.
#[derive(Debug)]
pub struct Site {
    config: Config,
    store: Store,
    devices: BTreeMap<DeviceId, Box<Gateway>>,
    sessions: BTreeMap<ConnId, Session>,
    asks: BTreeMap<(DeviceId, SocketNo), Ask>,
    dues: Dues,
    trust: Trust,
    downtime: Downtime,
    started: UpTime,
    /// Devices that were online when the agent ended and have not come back.
    unreturned: BTreeSet<DeviceId>,
    refusals: Refusals,
    held: Held,
    ready: Outputs,
    /// Replays under way, one after the other.
    replays: VecDeque<replay::Replay>,
    /// Who waits for the reply to a command under way.
    waiting: BTreeMap<String, Vec<Caller>>,
    keeping: persist::Keeping,
    watch: consistency::Watch,
    /// The cloud's end; none without `mqtt.url`.
    feed: Option<Box<Feed>>,
    /// Ports where an order, a hold or an owed stop counts on up-time.
    counting: BTreeSet<PortKey>,
    effects: Vec<Effect>,
    /// What ports had to say of the frame in hand.
    notes: Vec<&'static str>,
    /// The report in hand came before and was nobody's.
    told_before: bool,
    /// Keys in statuses that nobody knows, and whose they were: kept in the journal once.
    strange_keys: BTreeSet<(DeviceId, u8)>,
}

/// Names from the store's counters.
struct StoreNames<'a> {
    store: &'a mut Store,
    site_id: &'a str,
}

impl Names for StoreNames<'_> {
    fn message_id(&mut self) -> MessageId {
        self.store.next_message_id()
    }

    fn order_no(&mut self) -> OrderNo {
        // The instance tells store files apart, the counter orders: unique for ever. A long site id is cut, as
        // the whole has to fit 64 characters.
        let site: String = self.site_id.chars().take(32).collect();
        let count = self.store.next_message_id().0;
        OrderNo::made_up(&site, self.store.instance(), count)
    }
}

impl Site {
    /// Takes the store's word for everything, and goes on from there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(config: Config, store: Store, now: Now) -> Result<Self, Fatal> {
        let newest = fatal(store.believed())?;
        let mut site = Self {
            trust: Trust::new(newest, now),
            downtime: fatal(store.downtime())?,
            started: now.up,
            devices: BTreeMap::new(),
            sessions: BTreeMap::new(),
            asks: BTreeMap::new(),
            dues: Dues::default(),
            unreturned: BTreeSet::new(),
            refusals: Refusals::default(),
            held: Held::default(),
            ready: Outputs::default(),
            replays: VecDeque::new(),
            waiting: BTreeMap::new(),
            keeping: persist::Keeping::default(),
            watch: consistency::Watch::default(),
            feed: Feed::new(&config, fatal(store.outbox_sent())?, now),
            counting: BTreeSet::new(),
            effects: Vec::new(),
            notes: Vec::new(),
            told_before: false,
            strange_keys: BTreeSet::new(),
            config,
            store,
        };
        site.restore(newest, now)?;
        // From the first commit on the store knows when this run was: a kill within its first minute is a down time, too.
        site.keeping.note_up_time();
        Ok(site)
    }

    /// Takes over what a new configuration may change while running (contract §2 SIGHUP).
    ///
    /// # Errors
    /// When the store fails for good.
    pub fn reconfigure(&mut self, new: &Config, now: Now) -> Result<(), Fatal> {
        self.config.take_over(new);
        for gateway in self.devices.values_mut() {
            let model = gateway.record.model.as_deref().or(self.config.devices.default_model.as_deref());
            gateway.quirks = Quirks::of(&self.config, model);
        }
        let ids: Vec<DeviceId> = self.devices.keys().copied().collect();
        for id in ids {
            self.judge_policies(id, now)?;
            self.refresh_device(id, now);
        }
        self.plan_unreachable(now);
        Ok(())
    }

    /// The configuration that holds.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn gateway(&self, id: DeviceId) -> Option<&Gateway> {
        self.devices.get(&id).map(|gateway| &**gateway)
    }

    fn case(&self, key: PortKey) -> Option<&Case> {
        self.gateway(key.device)?.node(key.socket)?.case(key.port)
    }

    fn case_mut(&mut self, key: PortKey) -> Option<&mut Case> {
        self.devices.get_mut(&key.device)?.node_mut(key.socket)?.case_mut(key.port)
    }

    fn ports_of(&self, device: DeviceId, socket: SocketNo) -> Vec<PortKey> {
        let node = self.gateway(device).and_then(|gateway| gateway.node(socket));
        node.map_or_else(Vec::new, |node| node.cases.iter().map(|case| case.port.key).collect())
    }

    fn sockets_of(&self, device: DeviceId) -> Vec<SocketNo> {
        self.gateway(device).map_or_else(Vec::new, |gateway| gateway.nodes.iter().map(|node| node.record.no).collect())
    }

    /// Lets the decisions of one port be made, carries them out, and sets its next deadline.
    fn at_port<R>(
        &mut self,
        key: PortKey,
        now: Now,
        decide: impl FnOnce(&mut Desk<'_>) -> R,
    ) -> Result<Option<R>, Fatal> {
        let mut effects = std::mem::take(&mut self.effects);
        let started = self.started;
        let Some(gateway) = self.devices.get_mut(&key.device) else { return Ok(None) };
        let Some(reach) = gateway.node(key.socket).map(|node| gateway.reach(node, started)) else { return Ok(None) };
        let Gateway { record, quirks, nodes, .. } = &mut **gateway;
        let Some(case) = case_among(nodes, key) else { return Ok(None) };
        let was = case.whole_dirty();
        let config = &self.config;
        let model = record.model.as_deref().or(config.devices.default_model.as_deref());
        let reason = |code| config.end_reason(code, model).and_then(EndReason::from_word);
        let terms = terms(config, *quirks, &self.downtime, started, &reason);
        let mut names = StoreNames { store: &mut self.store, site_id: &config.site.id };
        let mut desk = Desk { case, now, terms: &terms, reach, names: &mut names, effects: &mut effects };
        let result = decide(&mut desk);
        let next = desk.due();
        let wants = desk.wants_question();
        let urgent = desk.is_urgent();
        let issue = desk.issue();
        let grace = issue.as_ref().map_or(Duration::ZERO, |issue| terms.repaired_within(issue.kind));
        let found = consistency::Found { issue, grace, status: desk.case.port.status };
        let (is, counts) = (case.whole_dirty(), case.counts_time());
        if is > was {
            self.keeping.touched(key, is);
            if is == Dirty::Figures {
                self.figures_moved(now);
            }
        }
        if counts != self.counting.contains(&key) {
            let _ = if counts { self.counting.insert(key) } else { self.counting.remove(&key) };
        }
        self.carry_out(key, &mut effects, now)?;
        effects.clear();
        self.effects = effects;
        self.watch_consistency(key, found, now);
        self.set_port_due(key, next, wants, urgent, now)?;
        Ok(Some(result))
    }

    /// The port's next deadline; a question that is wanted now and can go, goes.
    fn set_port_due(
        &mut self,
        key: PortKey,
        next: Option<UpTime>,
        wants: Option<UpTime>,
        urgent: bool,
        now: Now,
    ) -> Result<(), Fatal> {
        let mut at = next;
        if let Some(wanted) = wants {
            let ask = self.asks.entry((key.device, key.socket)).or_default();
            match ask.can_go(wanted, urgent) {
                Some(go) if go <= now.up => self.send_question(key.device, key.socket, now)?,
                Some(go) => at = Some(at.map_or(go, |at| at.min(go))),
                None => {}
            }
        }
        self.dues.set(Due::Port(key), at, now.up);
        Ok(())
    }

    /// Sets the deadlines of all ports of a device anew.
    fn refresh_device(&mut self, device: DeviceId, now: Now) {
        for socket in self.sockets_of(device) {
            for key in self.ports_of(device, socket) {
                self.dues.set(Due::Port(key), Some(now.up), now.up);
            }
        }
    }

    /// Brings the orders into memory that a decision about this port may need.
    fn load_history(&mut self, key: PortKey, numbers: &[BusinessNo], now: Now) -> Result<(), Fatal> {
        let since = UpTime(now.up.0.saturating_sub(crate::limits::REPORT_MATCHES_FOR_MS));
        let Some(case) = self
            .devices
            .get_mut(&key.device)
            .and_then(|gateway| gateway.node_mut(key.socket))
            .and_then(|node| node.case_mut(key.port))
        else {
            return Ok(());
        };
        let found = fatal(self.store.orders_of_port(key, numbers, since))?;
        case.take_in(found);
        Ok(())
    }
}

fn case_among(nodes: &mut [Node], key: PortKey) -> Option<&mut Case> {
    let place = nodes.binary_search_by_key(&key.socket, |node| node.record.no).ok()?;
    nodes[place].case_mut(key.port)
}

fn terms<'a>(
    config: &'a Config,
    quirks: Quirks,
    downtime: &'a Downtime,
    started: UpTime,
    reason: &'a dyn Fn(u8) -> Option<EndReason>,
) -> Terms<'a> {
    let orders = &config.orders;
    Terms {
        answer_timeout: orders.answer_timeout,
        answer_retries: orders.answer_retries,
        end_report_grace: orders.end_report_grace,
        silent_timeout: orders.silent_timeout,
        offline_timeout: orders.offline_timeout,
        overrun_grace: orders.overrun_grace,
        longest: orders.longest,
        resumes: orders.on_return == crate::config::OnReturn::Resume,
        stops_strays: orders.unknown_session == crate::config::UnknownSession::Stop,
        offline_after: config.devices.offline_after,
        power_ceiling_w: quirks.power_ceiling_w,
        stops_ignored: config.alerts.stop_ignored,
        reason,
        downtime,
        started,
    }
}

/// A store that fails for good ends the process; one that is full does not.
fn fatal<T>(result: Result<T, StoreError>) -> Result<T, Fatal> {
    result.map_err(|error| Fatal(format!("store: {error}")))
}

impl Core for Site {
    fn connected(&mut self, conn: ConnId, peer: IpAddr, _now: Now) {
        self.sessions.insert(conn, Session { peer, device: None });
    }

    fn refused(&mut self, peer: IpAddr, why: Refused, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        let reason = match why {
            Refused::NotAllowed => refusals::Reason::NotAllowed,
            Refused::Limit => refusals::Reason::Limit,
        };
        self.tell_refused(reason, None, peer, now)
    }

    fn frame(&mut self, conn: ConnId, frame: &Frame<'_>, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        self.handle_frame(conn, frame, now)
    }

    fn noise(&mut self, conn: ConnId, _now: Now) {
        let device = self.device_of(conn);
        log::debug!("protocol error conn={} device={device:?}", conn.0);
    }

    fn disconnected(&mut self, conn: ConnId, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        let Some(session) = self.sessions.remove(&conn) else { return Ok(()) };
        match session.device {
            Some(device) if self.gateway(device).is_some_and(|gateway| gateway.conn == Some(conn)) => {
                self.device_left(device, now)
            }
            _ => Ok(()),
        }
    }

    fn command(&mut self, client: ClientId, line: &[u8], user: Option<u32>, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        self.handle_command(client, line, user, now)
    }

    fn command_too_long(&mut self, client: ClientId, _now: Now) {
        self.answer_client_too_long(client);
    }

    fn client_gone(&mut self, client: ClientId) {
        self.waiting.retain(|_, clients| {
            clients.retain(|waiting| *waiting != Caller::Client(client));
            !clients.is_empty()
        });
    }

    fn timeout(&mut self, now: Now) -> Result<(), Fatal> {
        self.judge_clock(now);
        while let Some(due) = self.dues.take(now.up) {
            self.handle_due(due, now)?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<UpTime> {
        self.dues.next()
    }

    fn wants_commit(&self) -> bool {
        self.commit_is_wanted()
    }

    fn commit(&mut self, now: Now) -> Result<(), Fatal> {
        self.commit_all(now)
    }

    fn outputs(&mut self) -> &mut Outputs {
        &mut self.ready
    }

    fn device_of(&self, conn: ConnId) -> Option<DeviceId> {
        self.sessions.get(&conn).and_then(|session| session.device)
    }
}

impl Site {
    fn judge_clock(&mut self, now: Now) {
        let (newest, believed) = (self.trust.newest(), self.trust.is_believed());
        if let Some(step) = self.trust.judge(now) {
            log::info!("wall clock stepped by_ms={step} clock={}", self.trust.quality().word());
        }
        if !believed && self.trust.is_believed() {
            self.clock_is_believed(newest, now);
        }
    }

    fn handle_due(&mut self, due: Due, now: Now) -> Result<(), Fatal> {
        match due {
            Due::Port(key) => self.at_port(key, now, |desk| desk.timeout()).map(drop),
            Due::Ask(device, socket) => self.question_unanswered(device, socket, now),
            Due::StopObeyed(key) => self.clear_stop_ignored(key, now),
            Due::Inconsistency(key) => {
                self.inconsistency_due(key, now);
                Ok(())
            }
            Due::Flush => {
                self.keeping.flush();
                Ok(())
            }
            Due::NoteUpTime => {
                self.keeping.note_up_time();
                Ok(())
            }
            Due::Unreturned => self.tell_unreturned(now),
            Due::Finalize => self.finalize_oldest(now),
            Due::Retention => self.drop_old(now),
            Due::FullRetry => {
                self.keeping.retry();
                Ok(())
            }
            Due::Replay => self.go_on_replaying(now),
            Due::Refusals => self.tell_counted_refusals(now),
            Due::AlertClear => self.clear_store_failing(now),
            Due::Cloud(due) => self.handle_cloud_due(due, now),
        }
    }
}
