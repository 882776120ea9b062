//! The commit and the flush (contract §5).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Now, UpTime, WallTime};
use crate::event::{ClockQuality, Stream};
use crate::ids::{DeviceId, OrderNo, PortKey, SocketNo};
use crate::limits::{NOTE_UP_TIME_MS, RETENTION_MS};
use crate::port::{Dirty, Entry};
use crate::store::{CommandRow, Direction, FrameVerdict, JournalRow, NewEvent, Severity, StoreError, Subject};
use crate::turn::Fatal;

use super::dues::Due;
use super::{Site, fatal};

/// The rule whose alert a full disk raises (contract §7).
pub(super) const STORE_FAILING: &str = "store_failing";
/// The rule whose alert tells that the store had to be started anew.
const STORE_DAMAGED: &str = "store_damaged";

/// What has to be written, and whether the disk takes it.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// More than figures changed.
    pub(super) ports: BTreeSet<PortKey>,
    pub(super) sockets: BTreeSet<(DeviceId, SocketNo)>,
    pub(super) devices: BTreeSet<DeviceId>,
    /// Only figures moved.
    pub(super) port_figures: BTreeSet<PortKey>,
    sockets_seen: BTreeSet<(DeviceId, SocketNo)>,
    devices_seen: BTreeSet<DeviceId>,
    flush: bool,
    pub(super) up_time: bool,
    /// The disk was full at the last commit: when that began.
    pub(super) full_since: Option<WallTime>,
    /// Making room in the file did not work: not tried again before.
    pub(super) no_room_until: Option<UpTime>,
    /// Not tried again before the retry.
    pub(super) rests: bool,
    /// Forgotten since the last commit.
    pub(super) removed: BTreeSet<DeviceId>,
    /// Commands that were noted since the last commit.
    pub(super) commands: BTreeMap<String, CommandRow>,
    /// Of these, the ones that a full disk took back and that hold all the same: to be noted again.
    pub(super) commands_again: BTreeSet<String>,
    /// Sockets whose statuses were answered and then taken back: asked as soon as there is room.
    pub(super) to_ask: BTreeSet<(DeviceId, SocketNo)>,
    /// Keys that were strange for the first time since the last commit.
    pub(super) strange_keys: Vec<(DeviceId, u8)>,
    /// When the agent was down, which is still to be kept.
    downtime: bool,
    /// Up-time that was last noted.
    noted: UpTime,
    /// The store was started anew, which is still to be told.
    damage: Option<Value>,
}

impl Keeping {
    pub(super) fn touched(&mut self, key: PortKey, dirty: Dirty) {
        match dirty {
            Dirty::Clean => {}
            Dirty::Figures => {
                self.port_figures.insert(key);
            }
            Dirty::Whole => {
                self.ports.insert(key);
            }
        }
    }

    /// Figures go with the next commit, which is wanted now.
    pub(super) const fn flush(&mut self) {
        self.flush = true;
    }

    pub(super) const fn note_up_time(&mut self) {
        self.up_time = true;
    }

    pub(super) const fn retry(&mut self) {
        self.rests = false;
    }

    /// Whether the disk was full at the last commit.
    pub(super) const fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// What is told anew with each try of a full disk is no news in the log.
    pub(super) const fn level(&self, level: log::Level) -> log::Level {
        if self.is_full() { log::Level::Debug } else { level }
    }

    /// Ports with more than figures to write.
    pub(super) fn touched_ports(&self) -> impl Iterator<Item = PortKey> {
        self.ports.iter().copied()
    }

    /// A device is removed: nothing of it is written any more.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.removed.insert(device);
        self.devices.remove(&device);
        self.devices_seen.remove(&device);
        self.sockets.retain(|(id, _)| *id != device);
        self.sockets_seen.retain(|(id, _)| *id != device);
        self.ports.retain(|key| key.device != device);
        self.port_figures.retain(|key| key.device != device);
    }

    /// When the agent was down goes with the next commit.
    pub(super) const fn note_downtime(&mut self) {
        self.downtime = true;
    }

    /// What the store has to tell of itself goes with the next commit.
    pub(super) fn tell_damage(&mut self, damage: Option<Value>) {
        self.damage = damage;
    }

    fn has_changes(&self) -> bool {
        !(self.ports.is_empty() && self.sockets.is_empty() && self.devices.is_empty())
    }
}

impl Site {
    pub(super) fn commit_is_wanted(&self) -> bool {
        let wanted = self.store.in_transaction()
            || !self.held.is_empty()
            || self.keeping.has_changes()
            || self.watch.has_rows()
            || self.keeping.flush
            || self.keeping.up_time
            || self.keeping.damage.is_some()
            || self.keeping.downtime
            || self.keeping.full_since.is_some()
            || self.feed_wants_commit();
        wanted && !self.keeping.rests
    }

    /// A device was heard; `changed` tells whether more than that.
    pub(super) fn device_touched(&mut self, id: DeviceId, changed: bool, now: Now) {
        if changed {
            self.keeping.devices.insert(id);
        } else {
            self.keeping.devices_seen.insert(id);
            self.figures_moved(now);
        }
    }

    /// A socket was heard; `changed` tells whether more than that.
    pub(super) fn socket_touched(&mut self, id: DeviceId, socket: SocketNo, changed: bool, now: Now) {
        if changed {
            self.keeping.sockets.insert((id, socket));
        } else {
            self.keeping.sockets_seen.insert((id, socket));
            self.figures_moved(now);
        }
    }

    /// Figures moved: they reach the store within `store.flush_interval`.
    pub(super) fn figures_moved(&mut self, now: Now) {
        if !self.dues.is_set(Due::Flush) {
            let at = now.up.after(self.config.store.flush_interval);
            self.dues.set(Due::Flush, Some(at), now.up);
        }
    }

    /// Commits everything that waits; then, and only then, what waited for it leaves.
    pub(super) fn commit_all(&mut self, now: Now) -> Result<(), Fatal> {
        let written = self.write_changes(now).and_then(|()| self.store.commit());
        match written {
            Ok(_) => {
                self.committed(now);
                self.ask_what_was_taken_back(now)?;
                self.feed_committed(now)
            }
            Err(error) if error.passes() => self.take_back(&error, now),
            Err(error) => Err(Fatal(format!("store: {error}"))),
        }
    }

    fn write_changes(&mut self, now: Now) -> Result<(), StoreError> {
        if let Some(since) = self.keeping.full_since {
            self.raise(
                STORE_FAILING,
                Severity::Critical,
                Subject::default(),
                since,
                &json!({ "what": "a commit failed: the disk is full" }),
                now,
            )?;
        }
        if let Some(details) = self.keeping.damage.clone() {
            // One that lasts is of an earlier file.
            self.clear(STORE_DAMAGED, Subject::default(), now)?;
            self.raise(STORE_DAMAGED, Severity::Critical, Subject::default(), now.wall, &details, now)?;
            self.store.damage_told()?;
        }
        if self.keeping.downtime {
            self.store.set_downtime(&self.downtime)?;
        }
        for id in &self.keeping.commands_again {
            if let Some(row) = self.keeping.commands.get(id) {
                self.store.put_command(row)?;
            }
        }
        for id in &self.keeping.devices {
            if let Some(gateway) = self.devices.get(id) {
                self.store.put_device(&gateway.record)?;
            }
        }
        for (id, socket) in &self.keeping.sockets {
            if let Some(node) = self.devices.get(id).and_then(|gateway| gateway.node(*socket)) {
                self.store.put_socket(&node.record)?;
            }
        }
        let ports: Vec<PortKey> = self.keeping.ports.iter().copied().collect();
        for key in ports {
            self.write_case(key)?;
        }
        self.write_inconsistencies()?;
        if self.keeping.flush {
            self.write_figures()?;
        }
        // A page of its own in every commit would be dear on flash: once a minute is what is promised.
        let noted = now.up.since(self.keeping.noted) >= Duration::from_millis(NOTE_UP_TIME_MS);
        if self.keeping.up_time || (noted && self.store.in_transaction()) {
            self.keeping.up_time = true;
            self.store.set_up(now.up)?;
            if let Some((wall, up)) = self.trust.newest() {
                self.store.set_believed(wall, up)?;
            }
        }
        self.write_feed()
    }

    pub(super) fn write_case(&mut self, key: PortKey) -> Result<(), StoreError> {
        let case = self.devices.get_mut(&key.device).and_then(|gateway| gateway.node_mut(key.socket));
        let Some(case) = case.and_then(|node| node.case_mut(key.port)) else { return Ok(()) };
        self.store.put_port(&case.port)?;
        for Entry { order, dirty } in &mut case.orders {
            match dirty {
                Dirty::Clean => {}
                Dirty::Figures => self.store.put_order_figures(order)?,
                Dirty::Whole => self.store.put_order(order)?,
            }
        }
        Ok(())
    }

    fn write_figures(&mut self) -> Result<(), StoreError> {
        for id in &self.keeping.devices_seen {
            if let Some(gateway) = self.devices.get(id) {
                self.store.put_device_seen(&gateway.record)?;
            }
        }
        for (id, socket) in &self.keeping.sockets_seen {
            if let Some(node) = self.devices.get(id).and_then(|gateway| gateway.node(*socket)) {
                self.store.put_socket_seen(&node.record)?;
            }
        }
        for key in &self.keeping.port_figures {
            let node = self.devices.get(&key.device).and_then(|gateway| gateway.node(key.socket));
            let Some(case) = node.and_then(|node| node.case(key.port)) else { continue };
            self.store.put_port_figures(&case.port)?;
            for entry in case.orders.iter().filter(|entry| entry.dirty != Dirty::Clean) {
                self.store.put_order_figures(&entry.order)?;
            }
        }
        Ok(())
    }

    fn committed(&mut self, now: Now) {
        self.held.release(&mut self.ready, self.feed.as_deref_mut());
        self.watch.committed();
        let mut written = std::mem::take(&mut self.keeping.ports);
        self.keeping.sockets.clear();
        self.keeping.devices.clear();
        self.keeping.damage = None;
        self.keeping.downtime = false;
        self.keeping.removed.clear();
        self.keeping.commands.clear();
        self.keeping.commands_again.clear();
        self.keeping.strange_keys.clear();
        self.refusals.are_kept();
        if std::mem::take(&mut self.keeping.flush) {
            written.append(&mut self.keeping.port_figures);
            self.last_seen_is_written();
            self.dues.set(Due::Flush, None, now.up);
        }
        if std::mem::take(&mut self.keeping.up_time) {
            self.keeping.noted = now.up;
        }
        for key in written {
            self.keeping.port_figures.remove(&key);
            if let Some(case) = self.case_mut(key) {
                case.dirty = Dirty::Clean;
                case.orders.iter_mut().for_each(|entry| entry.dirty = Dirty::Clean);
                case.let_go();
            }
        }
        self.keeping.no_room_until = None;
        if self.keeping.full_since.take().is_some() {
            log::warn!("store takes commits again");
            let clear_at = now.up.after(self.config.alerts.clear_after);
            self.dues.set(Due::AlertClear, Some(clear_at), now.up);
        }
        self.keep_time_noted(now);
    }

    fn last_seen_is_written(&mut self) {
        for id in std::mem::take(&mut self.keeping.devices_seen) {
            if let Some(gateway) = self.devices.get_mut(&id) {
                gateway.seen = false;
            }
        }
        for (id, socket) in std::mem::take(&mut self.keeping.sockets_seen) {
            if let Some(node) = self.devices.get_mut(&id).and_then(|gateway| gateway.node_mut(socket)) {
                node.seen = false;
            }
        }
    }

    /// Up-time is noted every minute while an order, a hold or an owed stop counts on it.
    fn keep_time_noted(&mut self, now: Now) {
        let noted = self.keeping.noted.after(Duration::from_millis(NOTE_UP_TIME_MS));
        let at = (!self.counting.is_empty()).then(|| noted.max(now.up));
        self.dues.set(Due::NoteUpTime, at, now.up);
    }

    /// Tells the cloud: the event stands in the transaction of what it tells.
    pub(super) fn tell(
        &mut self,
        stream: Stream,
        kind: &str,
        device: Option<DeviceId>,
        order_no: Option<&OrderNo>,
        data: &Value,
        now: Now,
    ) -> Result<(), Fatal> {
        let clock = self.trust.quality();
        let event = NewEvent { stream, kind, device, order_no, at: now.wall, up: now.up, clock, data };
        let added = self.keep_event(&event);
        self.kept(added).map(drop)
    }

    /// What a write gave, `None` when the disk is full: the commit will tell and take everything back.
    #[expect(clippy::unused_self, reason = "reads as what the store does for the site")]
    pub(super) fn kept<T>(&self, result: Result<T, StoreError>) -> Result<Option<T>, Fatal> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.passes() => Ok(None),
            Err(error) => Err(Fatal(format!("store: {error}"))),
        }
    }

    /// Keeps a frame in the journal.
    pub(super) fn note_frame(&mut self, frame: Kept<'_>, now: Now) -> Result<(), Fatal> {
        let row = JournalRow {
            at: now.wall,
            up: now.up,
            device: frame.device,
            socket: frame.socket,
            port: frame.port.map(|key| key.port),
            direction: frame.direction,
            frame: frame.bytes,
            verdict: frame.verdict,
            reason: frame.reason,
            order_no: frame.order_no,
        };
        let added = self.store.add_journal(&row);
        self.kept(added).map(drop)
    }

    /// Raises an alert, once, and tells it.
    pub(super) fn raise(
        &mut self,
        rule: &str,
        severity: Severity,
        subject: Subject,
        at: WallTime,
        details: &Value,
        now: Now,
    ) -> Result<(), StoreError> {
        let raised = self.store.raise_alert(rule, severity, subject, at, details)?;
        let Some(id) = raised else { return Ok(()) };
        let level = self.keeping.level(log::Level::Warn);
        log::log!(level, "alert raised rule={rule} id={id} device={:?}", subject.device);
        let alert = self.store.alert(id)?;
        self.tell_alert("alert.raised", alert, now)
    }

    /// Clears an alert, once, and tells it.
    pub(super) fn clear(&mut self, rule: &str, subject: Subject, now: Now) -> Result<(), StoreError> {
        let cleared = self.store.clear_alert(rule, subject, now)?;
        if cleared.is_some() {
            let level = self.keeping.level(log::Level::Info);
            log::log!(level, "alert cleared rule={rule} device={:?}", subject.device);
        }
        self.tell_alert("alert.cleared", cleared, now)
    }

    pub(super) fn tell_alert(
        &mut self,
        kind: &str,
        alert: Option<crate::store::Alert>,
        now: Now,
    ) -> Result<(), StoreError> {
        let Some(alert) = alert else { return Ok(()) };
        let device = alert.subject.device;
        let data = crate::event::alert_data(&alert);
        let clock = self.trust.quality();
        let event = NewEvent {
            stream: Stream::Alert,
            kind,
            device,
            order_no: None,
            at: now.wall,
            up: now.up,
            clock,
            data: &data,
        };
        self.keep_event(&event)
    }

    pub(super) fn clear_store_failing(&mut self, now: Now) -> Result<(), Fatal> {
        if self.keeping.full_since.is_some() {
            return Ok(());
        }
        let cleared = self.clear(STORE_FAILING, Subject::default(), now);
        self.kept(cleared).map(drop)
    }

    /// Drops what is older than the retention; again soon when there is more.
    pub(super) fn drop_old(&mut self, now: Now) -> Result<(), Fatal> {
        let dropped = self.store.drop_old(now.up);
        let more = self.kept(dropped)?.is_some_and(|dropped| dropped.more);
        let next = if more { Duration::from_secs(1) } else { Duration::from_millis(RETENTION_MS) };
        self.dues.set(Due::Retention, Some(now.up.after(next)), now.up);
        Ok(())
    }

    /// Writes everything and marks the store as cleanly closed. Nothing is said afterwards.
    ///
    /// # Errors
    /// When the store fails.
    pub fn close(mut self, now: Now) -> Result<(), Fatal> {
        self.keeping.flush();
        self.keeping.note_up_time();
        self.keeping.retry();
        self.commit_all(now)?;
        fatal(self.store.close())
    }

    /// Whether times are marked as not to be believed.
    pub(super) fn clock_is_unset(&self) -> bool {
        self.trust.quality() == ClockQuality::Unset
    }
}

/// A frame for the journal.
pub(super) struct Kept<'a> {
    pub(super) device: Option<DeviceId>,
    pub(super) socket: Option<SocketNo>,
    pub(super) port: Option<PortKey>,
    pub(super) direction: Direction,
    pub(super) bytes: &'a [u8],
    pub(super) verdict: FrameVerdict,
    pub(super) reason: Option<&'a str>,
    pub(super) order_no: Option<&'a OrderNo>,
}
