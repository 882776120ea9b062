//! What must hold: after every step, every simulated minute, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use chargegate::bkv::EndReport;
use chargegate::ids::MessageId;
use chargegate::sim::{Fault, Witness, Witnessed};
use chargegate::store::PortTime;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::shadow::{At, Charging};
use crate::world::{MINUTE, Samples, World, for_each_downlink, switched_off};

/// An order whose session is over on a good line is closed within this: the report's repetitions, the grace, a question.
const GOOD_ORDER_CLOSES: u64 = 3 * MINUTE;
/// Any other: silence, doubled once, and a question.
const ANY_ORDER_CLOSES: u64 = 65 * MINUTE;
/// Port and order agree again within this: the grace, a question, a stop and its repetitions.
const ISSUE_PASSES: u64 = 4 * MINUTE;
/// What is not paid is switched off within this.
const UNPAID_ENDS: u64 = 8 * MINUTE;

/// What is committed, as any other program sees it.
pub struct Reader(Connection);

impl Reader {
    pub fn open(store: &Path) -> Self {
        let db = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        // Its end must not do what a kill does not.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        Self(db)
    }

    fn count(&self, sql: &str) -> i64 {
        self.0.prepare_cached(sql).unwrap().query_row([], |row| row.get(0)).unwrap()
    }

    fn status(&self, order_no: &str) -> Option<i64> {
        let mut found = self.0.prepare_cached("SELECT status FROM orders WHERE order_no = ?1").unwrap();
        found.query_row([order_no], |row| row.get(0)).ok()
    }

    /// Closed by a time limit only.
    fn is_provisional(&self, order_no: &str) -> bool {
        let sql = "SELECT status = 7 AND settlement = 'provisional' AND end_reason IN ('timeout', 'offline')
                     FROM orders WHERE order_no = ?1";
        self.0.prepare_cached(sql).unwrap().query_row([order_no], |row| row.get(0)).unwrap_or(false)
    }

    /// Whether a report stands: with an order, as nobody's, or kept for the fate of a start.
    fn has(&self, device: &str, report: &EndReport) -> bool {
        let (port, number) = (report.port.get(), report.business_no.map_or(0, |number| number.get()));
        let (energy, minutes) = (report.energy_units.0, report.minutes.0);
        let sql = "SELECT EXISTS (SELECT 1 FROM orders
                     WHERE device_id = ?1 AND port_no = ?2 AND settlement IN ('reported', 'corrected')
                       AND json_extract(course, '$.reported.number') = ?3 AND energy_wh = ?4 AND minutes = ?5)
                OR EXISTS (SELECT 1 FROM events
                     WHERE type = 'order.unknown_end' AND device_id = ?1 AND json_extract(data, '$.port') = ?2
                       AND json_extract(data, '$.business_no') = ?3 AND json_extract(data, '$.energy_wh') = ?4
                       AND json_extract(data, '$.minutes') = ?5)
                OR EXISTS (SELECT 1 FROM ports, json_each(ports.memory, '$.kept') AS kept
                     WHERE device_id = ?1 AND port_no = ?2 AND json_extract(kept.value, '$.report.number') = ?3)";
        let mut statement = self.0.prepare_cached(sql).unwrap();
        statement.query_row((device, port, number, energy, minutes), |row| row.get(0)).unwrap()
    }
}

/// Device, port, number, energy and minutes of a report.
type Key = (String, i64, i64, i64, i64);

fn counted(reports: &BTreeMap<Key, usize>, key: &Key) -> usize {
    reports.get(key).copied().unwrap_or(0)
}

/// An order as it is kept.
struct Row {
    order_no: String,
    device: String,
    port: i64,
    status: i64,
    settlement: Option<String>,
    is_final: bool,
    energy: Option<i64>,
    energy_max: Option<i64>,
    minutes: Option<i64>,
    minutes_max: Option<i64>,
    end_reason: Option<String>,
    flags: String,
    business_no: Option<i64>,
    course: String,
}

fn rows(reader: &Reader, condition: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT order_no, device_id, port_no, status, settlement, final, energy_wh, energy_max_wh, minutes, minutes_max,
                end_reason, flags, business_no, coalesce(course, '') FROM orders WHERE {condition} ORDER BY serial"
    );
    let mut statement = reader.0.prepare_cached(&sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Row {
            order_no: row.get(0)?,
            device: row.get(1)?,
            port: row.get(2)?,
            status: row.get(3)?,
            settlement: row.get(4)?,
            is_final: row.get(5)?,
            energy: row.get(6)?,
            energy_max: row.get(7)?,
            minutes: row.get(8)?,
            minutes_max: row.get(9)?,
            end_reason: row.get(10)?,
            flags: row.get(11)?,
            business_no: row.get(12)?,
            course: row.get(13)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

impl Row {
    fn told(&self) -> String {
        let Self { order_no, device, port, status, .. } = self;
        format!(
            "{order_no} at {device} port {port}: status {status}, {} {}, final {}, {:?}..{:?} Wh, {:?}..{:?} min, number {:?}, {} {}",
            self.end_reason.as_deref().unwrap_or("-"),
            self.settlement.as_deref().unwrap_or("-"),
            self.is_final,
            self.energy,
            self.energy_max,
            self.minutes,
            self.minutes_max,
            self.business_no,
            self.flags,
            self.course
        )
    }
}

impl World {
    fn db(&self) -> &Reader {
        self.reader.as_ref().unwrap()
    }

    fn place_of(&self, device: &str) -> usize {
        self.lines.iter().position(|line| line.device.id().to_string() == device).unwrap()
    }

    fn fail(&self, place: usize, what: &str) -> ! {
        // To look into it: the store as it is.
        if let Some(folder) = std::env::var_os("CHARGEGATE_SIMULATION_KEEP") {
            let copied = self.db().0.execute("VACUUM INTO ?1", [Path::new(&folder).join("store.db").to_str()]);
            eprintln!("store kept: {copied:?}");
        }
        panic!("{what}\n  {}\n  {}", self.replay(), self.describe(place));
    }

    /// A device was told that its report is received: it is durable at that moment.
    pub fn acknowledged(&mut self, place: usize, report: EndReport) {
        let id = self.lines[place].device.id().to_string();
        if self.reader.as_ref().is_some_and(|reader| !reader.has(&id, &report)) {
            self.fail(place, &format!("acknowledged before it was durable: {report:?}"));
        }
        self.shadow.ledger.push((place, report));
    }

    /// What a reply says is durable, too.
    pub fn check_reply(&self, reply: &Value) {
        let done = reply["result"] == "done";
        if let Some(order_no) = reply["order_no"].as_str().filter(|_| done)
            && self.db().status(order_no).is_none()
        {
            panic!("{order_no} is told as done and not kept\n  {}", self.replay());
        }
    }

    /// A good device on a good line is never hung up on.
    pub fn check_close(&self, place: usize) {
        if self.lines[place].is_good() && !self.lines[place].device.is_silent(self.now) {
            self.fail(place, "the agent hung up on it for nothing");
        }
    }

    /// No start goes to a port that charges for somebody else.
    pub fn check_start(&self, at: At, message_id: MessageId) {
        let order_no = self.shadow.order_of(at.0, message_id);
        let Some(session) = self.shadow.current(at) else { return };
        if session.order.as_deref() != order_no {
            self.fail(at.0, &format!("a start for {order_no:?} goes to port {} that charges: {session:?}", at.1));
        }
    }

    /// A start is repeated only where it did not work: nobody's time begins anew.
    pub fn check_witnessed(&self, place: usize, what: Witnessed) {
        if what.what == Witness::BeganAnew {
            let session = self.shadow.current((place, what.port.get()));
            self.fail(place, &format!("a repeated start began anew what charges: {session:?}"));
        }
    }

    /// No stop reaches a session that somebody paid for and nobody wants stopped.
    pub fn check_stop(&mut self, place: usize, bytes: &[u8]) {
        let mut off = Vec::new();
        for_each_downlink(bytes, |message, _| off.extend(switched_off(&message)));
        for (_, port) in off {
            let at = (place, port.get());
            let charges = self.lines[place].device.truth().any(|(_, no, truth)| no == port && truth.charges);
            let Some(session) = self.shadow.current(at).filter(|_| charges).cloned() else { continue };
            self.check_stopped(&session);
        }
    }

    fn check_stopped(&mut self, session: &Charging) {
        let Some(order_no) = &session.order else { return };
        let Some(ordered) = self.shadow.orders.get(order_no) else { return };
        let paid = self.now < session.began + ordered.paid;
        let resumes = self.config().orders.on_return == chargegate::config::OnReturn::Resume;
        if ordered.stop_asked || !paid || !resumes {
            return;
        }
        if self.full {
            return;
        }
        self.shadow.doubtful_stops.push((order_no.clone(), self.now));
    }

    /// The order of a session that was stopped has failed, as far as its customer was told: else it was paid and wanted.
    pub fn check_doubtful_stops(&mut self) {
        if self.full {
            self.shadow.doubtful_stops.clear();
        }
        for (order_no, at) in std::mem::take(&mut self.shadow.doubtful_stops) {
            if matches!(self.db().status(&order_no), Some(5 | 6)) {
                continue;
            }
            let place = self.shadow.orders[&order_no].at.0;
            let row = rows(self.db(), &format!("order_no = '{order_no}'")).pop();
            // Whose session it is cannot always be told where numbers are used again; a person has to look.
            if row.as_ref().is_some_and(|row| row.flags.contains("reused_number")) {
                continue;
            }
            let sessions = self.shadow.sessions_of(&order_no);
            let told = format!(
                "a stop reached what is paid and wanted, at {} min {} s: {}\n  {sessions:?}",
                at / MINUTE,
                at % MINUTE / 1000,
                row.map_or(order_no.clone(), |row| row.told())
            );
            self.fail(place, &told);
        }
    }

    /// Once a minute: nothing lasts that has to pass.
    pub fn check_the_minute(&mut self) {
        self.samples.port_minutes += 2 * self.lines.len() as u64;
        if !self.is_up() {
            self.shadow.since.clear();
            return;
        }
        self.check_open_orders();
        self.check_issues();
        self.check_unpaid();
        self.check_silent_closes();
    }

    /// Since when nothing was in the way between agent and device.
    fn undisturbed_since(&self, place: usize) -> u64 {
        self.lines[place].troubled.max(self.troubled)
    }

    fn is_disturbed(&self, place: usize) -> bool {
        let line = &self.lines[place];
        let away = line.away_since.is_some() || line.device.has_lost_radio(self.now) || line.device.is_mute(self.now);
        away || self.undisturbed_since(place) + 2 * MINUTE > self.now
    }

    fn check_open_orders(&self) {
        for row in rows(self.db(), "status IN (0, 2, 9)") {
            let place = self.place_of(&row.device);
            let Some(ordered) = self.shadow.orders.get(&row.order_no) else { continue };
            let session = self.shadow.sessions_of(&row.order_no).last().copied();
            let over = match session {
                Some(session) => session.ended,
                None => Some(ordered.asked),
            };
            let Some(over) = over else { continue };
            let since = over.max(self.undisturbed_since(place));
            let good = self.lines[place].is_good() && !self.lines[place].device.has_lost_radio(self.now);
            let limit = if good && session.is_some() { GOOD_ORDER_CLOSES } else { ANY_ORDER_CLOSES };
            if self.now > since + limit {
                self.fail(place, &format!("stuck: {}\n  {session:?}", row.told()));
            }
        }
    }

    fn check_issues(&mut self) {
        let sql = "SELECT issue_type, device_id, port_no, coalesce(order_no, ''), details FROM consistency_issues
                    WHERE issue_type <> 'duplicate_business_no'";
        let issues: Vec<(String, String, u8, String, String)> = {
            let mut statement = self.db().0.prepare_cached(sql).unwrap();
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
            rows.unwrap().map(Result::unwrap).collect()
        };
        let mut there = BTreeSet::new();
        for (kind, device, port, order_no, details) in issues {
            let place = self.place_of(&device);
            let what = format!("issue {kind} {device} {port} {order_no}");
            let excused = self.is_disturbed(place) || self.lines[place].device.fault() == Some(Fault::Deaf);
            let lasts = self.shadow.lasts(&what, !excused, self.now);
            there.insert(what.clone());
            if lasts > 2 * MINUTE {
                self.samples.inconsistent += 1;
            }
            if lasts > ISSUE_PASSES {
                let session = self.shadow.current((place, port));
                self.fail(place, &format!("{what} lasts: {details}\n  {session:?}"));
            }
        }
        self.shadow.since.retain(|what, _| !what.starts_with("issue ") || there.contains(what));
    }

    fn check_unpaid(&mut self) {
        for place in 0..self.lines.len() {
            for port in 0..2u8 {
                let session = self.shadow.current((place, port)).cloned();
                let what = format!("unpaid {place} {port}");
                let unpaid = session.as_ref().is_some_and(|session| self.is_unpaid(session));
                let deaf = self.lines[place].device.fault() == Some(Fault::Deaf);
                let lasts = self.shadow.lasts(&what, unpaid && !deaf && !self.is_disturbed(place), self.now);
                if lasts > UNPAID_ENDS {
                    let order_no = session.as_ref().and_then(|session| session.order.clone()).unwrap_or_default();
                    let row = rows(self.db(), &format!("order_no = '{order_no}'")).pop();
                    let row = row.map_or(String::new(), |row| row.told());
                    self.fail(place, &format!("port {port} charges on unpaid: {session:?}\n  {row}"));
                }
            }
        }
    }

    /// Nobody pays for it: its order failed, or is over for good. One that was closed by time alone may go on as long as
    /// it is paid for.
    fn is_unpaid(&self, session: &Charging) -> bool {
        let Some(order_no) = session.order.as_deref() else { return true };
        let paid = self.shadow.orders[order_no].paid;
        let by_time = self.now < session.began + paid && self.db().is_provisional(order_no);
        !by_time && !matches!(self.db().status(order_no), Some(0 | 2 | 9))
    }

    /// Whoever answers is asked before an order is closed for want of news.
    fn check_silent_closes(&mut self) {
        for row in rows(self.db(), "status = 7 AND end_reason = 'timeout' AND settlement = 'provisional'") {
            let place = self.place_of(&row.device);
            let charges = self.shadow.sessions_of(&row.order_no).last().is_some_and(|session| session.ended.is_none());
            // Judged when it is seen for the first time. One that is mute gives no answer either.
            let answers = !self.lines[place].device.habits.goes_mute;
            let first = self.shadow.silent_closes.insert(row.order_no.clone());
            if first && charges && answers && self.undisturbed_since(place) + 35 * MINUTE < self.now {
                self.fail(place, &format!("closed without a question: {}", row.told()));
            }
        }
    }

    /// Everything is over. Tells what was seen.
    pub fn check_the_end(&self) -> String {
        let replay = self.replay();
        let open = rows(self.db(), "status IN (0, 2, 9)");
        // Who paid for many hours may still charge.
        let is_stuck =
            |row: &&Row| self.shadow.sessions_of(&row.order_no).last().is_none_or(|last| last.ended.is_some());
        let stuck: Vec<String> = open.iter().filter(is_stuck).map(Row::told).collect();
        assert!(stuck.is_empty(), "stuck in the end: {}\n  {replay}", stuck.join("\n  "));
        // Who charged until now may have ended a moment ago.
        let lately = |session: &&Charging| session.ended.is_some_and(|ended| ended + ISSUE_PASSES > self.now);
        let ended_lately = self.shadow.sessions.values().flatten().filter(lately).count();
        let issues = self.db().count("SELECT count(*) FROM consistency_issues");
        let told: Option<String> = (self.db().0)
            .query_row("SELECT group_concat(issue_type || ' ' || device_id || ' ' || port_no || ' ' || ifnull(order_no, '')) FROM consistency_issues", [], |row| row.get(0))
            .unwrap();
        assert!(usize::try_from(issues).unwrap() <= ended_lately, "port and order disagree: {told:?}\n  {replay}");
        self.check_inconsistencies();
        let gaps = "SELECT count(*) FROM (SELECT stream, max(seq) - count(*) AS gap FROM events GROUP BY stream) WHERE gap <> 0";
        assert_eq!(self.db().count(gaps), 0, "gaps in a stream; {replay}");
        for place in 0..self.lines.len() {
            let deaf = self.lines[place].device.fault() == Some(Fault::Deaf);
            let sessions = [0, 1].map(|port| self.shadow.current((place, port)));
            if sessions.into_iter().flatten().any(|session| self.is_unpaid(session)) && !deaf {
                self.fail(place, "charges on unpaid in the end");
            }
        }
        let rate = self.consistency();
        assert!(self.setting.trouble || rate > 0.999, "state_consistency_rate {rate}\n  {replay}");
        self.check_told_once();
        let reports = self.check_ledger();
        let closed = self.check_figures();
        let integrity: String = self.db().0.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok", "{replay}");
        let Samples { port_minutes, inconsistent } = self.samples;
        format!(
            "{closed} orders closed, {reports} acknowledged reports, {inconsistent} of {port_minutes} port minutes \
             inconsistent, state_consistency_rate {rate}"
        )
    }

    /// As the store has it (`state_consistency_rate`).
    fn consistency(&self) -> f64 {
        let window = Duration::from_secs(30 * 24 * 3600);
        let time = PortTime::read(&self.db().0, window).unwrap().unwrap();
        1.0 - time.inconsistent.as_secs_f64() / time.known.as_secs_f64()
    }

    /// A report is told with its order once, however often it came.
    fn check_told_once(&self) {
        let sql = "SELECT device_id, order_no, count(*) FROM events
                    WHERE type IN ('order.completed', 'order.corrected')
                      AND json_extract(data, '$.settlement') IN ('reported', 'corrected')
                    GROUP BY order_no HAVING count(*) > 1";
        let mut statement = self.db().0.prepare(sql).unwrap();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let place = self.place_of(&row.get::<_, String>(0).unwrap());
            if self.lines[place].device.habits.numbers == 0 {
                self.fail(place, &format!("a report is told more than once: {row:?}"));
            }
        }
    }

    /// What the agent itself noted as inconsistent for longer than its grace: nothing where all went well.
    fn check_inconsistencies(&self) {
        let sql = "SELECT device_id, port_no, issue_type, began_at, ended_at FROM inconsistencies";
        let mut statement = self.db().0.prepare(sql).unwrap();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let place = self.place_of(&row.get::<_, String>(0).unwrap());
            if self.lines[place].is_good() {
                self.fail(place, &format!("noted as inconsistent: {row:?}"));
            }
        }
    }

    /// Each report that a device was told is received stands once: with an order, or told as nobody's.
    fn check_ledger(&self) -> usize {
        let take = |sql: &str| {
            let mut booked: BTreeMap<Key, usize> = BTreeMap::new();
            let mut statement = self.db().0.prepare(sql).unwrap();
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
            rows.unwrap().for_each(|row| *booked.entry(row.unwrap()).or_default() += 1);
            booked
        };
        let orders = take(
            "SELECT device_id, port_no, json_extract(course, '$.reported.number'), energy_wh, minutes
               FROM orders WHERE settlement IN ('reported', 'corrected')",
        );
        let nobodys = take(
            "SELECT device_id, json_extract(data, '$.port'), json_extract(data, '$.business_no'),
                    json_extract(data, '$.energy_wh'), json_extract(data, '$.minutes')
               FROM events WHERE type = 'order.unknown_end'",
        );
        let mut acknowledged: BTreeMap<Key, usize> = BTreeMap::new();
        for (place, report) in &self.shadow.ledger {
            let key = (
                self.lines[*place].device.id().to_string(),
                i64::from(report.port.get()),
                i64::from(report.business_no.map_or(0, |number| number.get())),
                i64::from(report.energy_units.0),
                i64::from(report.minutes.0),
            );
            *acknowledged.entry(key).or_default() += 1;
        }
        for (key, made) in &acknowledged {
            // The same number with the same figures is a duplicate as far as anybody can tell. One whose
            // acknowledgement was lost stands, too.
            let place = self.place_of(&key.0);
            let at = (place, u8::try_from(key.1).unwrap());
            let same = |session: &&Charging| {
                (i64::from(session.number), session.energy, session.minutes) == (key.2, key.3, key.4)
            };
            let ended = self.shadow.sessions.get(&at).into_iter().flatten().filter(same).count();
            let (orders, nobodys) = (counted(&orders, key), counted(&nobodys, key));
            // One that was told as nobody's may find its order when it is repeated: after a late answer, say.
            let times = orders + nobodys;
            // A device whose sessions all have one number, and that repeats a report for ever: contract §5 has it count
            // for the next one, too, when that one's grace ends without another report.
            let for_ever = self.lines[place].loses_acknowledgements() && self.lines[place].device.habits.numbers == 1;
            if times == 0 || ((orders > ended || nobodys > ended) && !for_ever) {
                self.fail(place, &format!("{key:?}: {made} reports acknowledged, {times} stand"));
            }
        }
        self.shadow.ledger.len()
    }

    /// Energy and minutes are right where they were reported, and within the bounds where not.
    fn check_figures(&self) -> usize {
        let all = rows(self.db(), "1");
        for row in &all {
            if let Some(session) = self.shadow.sessions_of(&row.order_no).last() {
                self.check_order(row, session);
            }
        }
        all.len()
    }

    fn check_order(&self, row: &Row, session: &Charging) {
        if session.ended.is_none() {
            return;
        }
        let place = self.place_of(&row.device);
        let ambiguous = !matches!(self.lines[place].device.habits.numbers, 0) || session.anew > 0;
        let (energy, minutes) = (session.energy, session.minutes);
        let right = match row.settlement.as_deref() {
            Some("reported" | "corrected") => (row.energy, row.minutes) == (Some(energy), Some(minutes)) || ambiguous,
            _ => {
                // What a slow network tells is seconds old.
                let (more_wh, more_minutes) = if self.lines[place].is_slow_at_times() { (4, 1) } else { (0, 0) };
                row.energy_max.is_none_or(|bound| energy <= bound + more_wh)
                    && row.minutes_max.is_none_or(|bound| minutes <= bound + more_minutes)
            }
        };
        if !right {
            self.fail(place, &format!("wrong figures: {}\n  {session:?}", row.told()));
        }
        let reported = matches!(row.settlement.as_deref(), Some("reported" | "corrected"));
        let told = self.shadow.ledger.iter().any(|(at, report)| {
            *at == place
                && i64::from(report.port.get()) == row.port
                && report.business_no.map(|number| number.get()) == Some(session.number)
                && (i64::from(report.energy_units.0), i64::from(report.minutes.0)) == (energy, minutes)
        });
        if told && !reported && row.status == 7 && !ambiguous {
            self.fail(place, &format!("its report was acknowledged: {}\n  {session:?}", row.told()));
        }
    }
}
