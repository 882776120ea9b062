//! At least once, in order, complete, whatever is cut or killed; and what goes first.

use chargegate::sim::Random;

use super::*;

/// A broker that loses connections, and a site that is killed.
struct Chaos {
    seed: u64,
    /// The receiver's own word counts.
    by_application: bool,
    yard: Yard,
    random: Random,
    receiver: Receiver,
    session: Option<Session>,
    /// Published, not yet with the broker; with it, not yet confirmed.
    wire: VecDeque<(Ticket, Message)>,
    unconfirmed: VecDeque<Ticket>,
    newest_session: Session,
    kills: u32,
    cuts: u32,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let by_application = seed % 3 == 2;
        let confirm = if by_application { "application" } else { "broker" };
        Self {
            seed,
            by_application,
            yard: Yard::with(&format!("mqtt.drain_rate = 5000\nmqtt.confirm = {confirm:?}\n")),
            random: Random::new(seed),
            receiver: Receiver::default(),
            session: None,
            wire: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            newest_session: Session(0),
            kills: 0,
            cuts: 0,
        }
    }

    fn step(&mut self) {
        match self.random.within(0, 99) {
            0..30 => self.happens(),
            30..32 => self.cut(),
            32..34 => self.kill(),
            34..45 => self.yard.pass(self.random.within(1, 3000)),
            45..73 => self.carry(),
            73..75 => self.acknowledge(),
            _ => self.confirm(),
        }
        self.take_outputs();
    }

    /// Something is to be told; sometimes the kill comes before the commit.
    fn happens(&mut self) {
        let now = self.yard.at();
        self.yard.next_id += 1;
        let id = self.yard.next_id;
        let command = if self.random.once_in(4) {
            json!({ "id": id.to_string(), "type": "get_order", "order_no": "none" })
        } else {
            let device = format!("8224121800{:04}", self.random.within(0, 3));
            json!({ "id": id.to_string(), "type": "set_device", "device": device, "enabled": self.random.once_in(2) })
        };
        self.yard.site().command(ClientId(1), command.to_string().as_bytes(), None, now).unwrap();
        if self.random.once_in(8) {
            // Meanwhile the loop goes on: what the broker gets now must be durable.
            self.confirm();
            self.yard.take_outputs();
            self.hand_over();
            self.carry();
            self.kill();
        } else if self.random.once_in(3) {
            self.yard.turn();
        }
    }

    fn take_outputs(&mut self) {
        self.yard.turn();
        self.hand_over();
    }

    /// What the site wants reaches the link.
    fn hand_over(&mut self) {
        while let Some(output) = self.yard.outputs.pop_front() {
            match output {
                CloudOutput::Connect { session, .. } => {
                    assert!(session > self.newest_session, "seed {}: {session:?} came before", self.seed);
                    self.newest_session = session;
                    self.lose();
                    if self.random.once_in(5) {
                        self.yard.down(session);
                    } else {
                        self.session = Some(session);
                        let window = usize::try_from(self.random.within(1, 40)).unwrap();
                        self.yard.cloud(CloudInput::Up { session, window, largest: BIG });
                    }
                }
                CloudOutput::Publish { session, ticket, message } if Some(session) == self.session => {
                    if message.confirmed {
                        self.wire.push_back((ticket, message));
                    }
                    let under_way = self.wire.len() + self.unconfirmed.len();
                    assert!(under_way <= 32, "seed {}: {under_way} under way", self.seed);
                }
                CloudOutput::Drop { session } => self.yard.down(session),
                _ => {}
            }
        }
    }

    fn carry(&mut self) {
        for _ in 0..self.random.within(1, 10) {
            let Some((ticket, message)) = self.wire.pop_front() else { return };
            self.receiver.take(&message, &format!("seed {}", self.seed));
            self.unconfirmed.push_back(ticket);
        }
    }

    fn confirm(&mut self) {
        for _ in 0..self.random.within(1, 10) {
            let (Some(ticket), Some(session)) = (self.unconfirmed.pop_front(), self.session) else { return };
            let (now, settlement) = (self.yard.at(), Settlement::Confirmed);
            self.yard.site().cloud(CloudInput::Settled { session, ticket, settlement }, now).unwrap();
        }
    }

    /// The receiver says how far it is.
    fn acknowledge(&mut self) {
        let Some(session) = self.session.filter(|_| self.by_application) else { return };
        let instance = self.yard.instance();
        for stream in ["order", "device", "alert", "abnormal"] {
            let newest = self.receiver.streams.get(stream).and_then(|has| has.last_key_value()).map(|(seq, _)| *seq);
            if let Some(newest) = newest {
                self.yard.ack(session, stream, &instance, newest);
            }
        }
    }

    fn lose(&mut self) {
        self.session = None;
        self.wire.clear();
        self.unconfirmed.clear();
    }

    fn cut(&mut self) {
        if let Some(session) = self.session {
            self.cuts += 1;
            self.lose();
            self.yard.down(session);
        }
    }

    fn kill(&mut self) {
        self.kills += 1;
        self.lose();
        self.yard.crash();
        self.yard.now += self.random.within(1, 5000);
        self.yard.open();
    }

    fn end(mut self) -> (u32, u32, u64) {
        for _ in 0..100_000 {
            if self.yard.waiting() == 0 && self.session.is_some() && self.unconfirmed.is_empty() {
                break;
            }
            self.yard.pass(100);
            self.take_outputs();
            self.carry();
            self.confirm();
            self.acknowledge();
        }
        assert_eq!(self.yard.waiting(), 0, "seed {}", self.seed);
        self.check();
        (self.kills, self.cuts, self.receiver.messages)
    }

    /// The receiver has exactly what the site has told.
    fn check(&self) {
        let db = self.yard.db();
        let mut statement = db.prepare("SELECT stream, seq, type, data FROM events ORDER BY stream, seq").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut told = 0;
        while let Some(row) = rows.next().unwrap() {
            let (stream, seq): (String, u64) = (row.get(0).unwrap(), row.get::<_, i64>(1).unwrap().unsigned_abs());
            let (kind, data): (String, String) = (row.get(2).unwrap(), row.get(3).unwrap());
            let got = self.receiver.streams.get(&stream).and_then(|has| has.get(&seq));
            let got = got.unwrap_or_else(|| panic!("seed {}: {stream} {seq} is lost", self.seed));
            let data: Value = serde_json::from_str(&data).unwrap();
            assert_eq!((&got["type"], &got["data"]), (&Value::from(kind), &data), "seed {}", self.seed);
            told += 1;
        }
        let received: usize = self.receiver.streams.values().map(BTreeMap::len).sum();
        assert_eq!(received, told, "seed {}: something was told that a kill took back", self.seed);
    }
}

#[test]
fn nothing_is_lost_reordered_or_told_before_it_is_durable_whatever_is_cut_or_killed() {
    let seeds = std::env::var("CHARGEGATE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let (mut kills, mut cuts, mut messages) = (0, 0, 0);
    for seed in 0..seeds {
        let mut chaos = Chaos::new(seed);
        for _ in 0..1500 {
            chaos.step();
        }
        let (k, c, m) = chaos.end();
        (kills, cuts, messages) = (kills + k, cuts + c, messages + m);
    }
    assert!(kills > 100 && cuts > 100 && messages > 1000, "{kills} kills, {cuts} cuts, {messages} messages");
}

#[test]
fn alerts_and_replies_go_first_and_each_stream_in_its_order() {
    let mut yard = Yard::closed("");
    let mut store = yard.open_store();
    fill(&mut store, Stream::Order, 3);
    store.enqueue("reply", r#"{"v":1,"id":"r","result":"done"}"#, BUILT).unwrap();
    fill(&mut store, Stream::Alert, 2);
    fill(&mut store, Stream::Device, 1);
    drop(store);
    yard.open();
    yard.connect();
    let mut got = Vec::new();
    for _ in 0..20 {
        got.extend(yard.received());
        yard.pass(10);
    }
    assert_eq!(
        names(&got),
        [
            "state",
            "summary",
            "reply",
            "event/alert 1",
            "event/alert 2",
            "event/order 1",
            "event/order 2",
            "event/order 3",
            "event/device 1"
        ]
    );
    assert_eq!(yard.waiting(), 0);
}

#[test]
fn never_more_than_the_window_is_under_way() {
    for (of_broker, window) in [(1000, 32), (7, 7), (0, 1)] {
        let mut yard = Yard::closed("mqtt.drain_rate = 100000\n");
        fill(&mut yard.open_store(), Stream::Order, 100);
        yard.open();
        let session = yard.connect_to(of_broker, BIG);
        yard.pass(100);
        let published = yard.published();
        assert_eq!(published.len(), window);
        yard.settled(session, published[0].0, Settlement::Confirmed);
        yard.pass(100);
        assert_eq!(yard.published().len(), 1);
    }
}

#[test]
fn a_backlog_drains_at_its_rate_and_a_new_alert_and_a_new_reply_pass_it() {
    let mut yard = Yard::closed("mqtt.drain_rate = 50\n");
    fill(&mut yard.open_store(), Stream::Order, 1000);
    yard.open();
    let session = yard.connect();
    let mut by_second = Vec::new();
    for second in 0..10 {
        let mut got = Vec::new();
        for _ in 0..100 {
            got.extend(yard.received());
            yard.pass(10);
        }
        by_second.push(numbers(&got, "order").len());
        if second == 3 {
            yard.pass(15);
            yard.cloud_command(session, &json!({ "id": "c-1", "type": "get_order", "order_no": "none" }));
            let got = yard.published();
            let reply = got.iter().find(|(_, message)| message.topic.ends_with("/reply"));
            yard.settled(session, reply.expect("it passes the backlog").0, Settlement::NobodyListens);
            assert_eq!(yard.alert("cloud_not_listening"), None, "a reply that nobody hears is no reason");
            let order = got.iter().find(|(_, message)| message.topic.ends_with("/order"));
            yard.settled(session, order.expect("they go on").0, Settlement::NobodyListens);
            let got = yard.received();
            assert_eq!(numbers(&got, "alert"), [1], "it passes the backlog");
        }
    }
    assert!(by_second.iter().all(|count| (48..=51).contains(count)), "{by_second:?}");
}

#[test]
fn a_backlog_of_a_hundred_thousand_leaves_in_order_with_flat_memory() {
    const EVENTS: u32 = 100_000;
    let mut yard = Yard::closed("mqtt.drain_rate = 100000\n");
    fill(&mut yard.open_store(), Stream::Order, EVENTS);
    let mut next = 1;
    let measured = allocation_counter::measure(|| {
        yard.open();
        yard.connect();
        while next <= u64::from(EVENTS) {
            yard.pass(1);
            for (ticket, message) in yard.published() {
                if message.topic.ends_with("/order") {
                    assert_eq!(body(&message)["seq"], next);
                    next += 1;
                }
                let (now, session, settlement) = (yard.at(), Session(1), Settlement::Confirmed);
                yard.site().cloud(CloudInput::Settled { session, ticket, settlement }, now).unwrap();
            }
        }
        yard.turn();
    });
    assert_eq!(yard.waiting(), 0);
    assert!(measured.bytes_max < 1 << 20, "{} bytes", measured.bytes_max);
}

#[test]
fn without_a_cloud_nothing_is_put_out_and_events_are_kept_all_the_same() {
    let mut yard = Yard::closed("");
    yard.config.mqtt.url = None;
    yard.open();
    yard.make_event();
    yard.pass(10 * MINUTE);
    assert_eq!((yard.waiting(), yard.outputs.len()), (0, 0));
    assert!(yard.count("SELECT count(*) FROM events") > 0);
    assert!(yard.site().has_left_cloud());
}

#[test]
fn a_site_that_has_no_cloud_any_more_keeps_nothing_for_it() {
    let mut yard = Yard::new();
    yard.make_event();
    assert!(yard.waiting() > 0);
    yard.crash();
    yard.config.mqtt.url = None;
    yard.open();
    assert_eq!(yard.waiting(), 0);
    let (events, oldest) = (yard.count("SELECT count(*) FROM events"), yard.count("SELECT min(seq) FROM events"));
    assert!(events > 0 && oldest == 1, "what was told can still be replayed");
}

#[test]
fn many_events_at_once_leave_as_a_backlog_does() {
    let mut yard = Yard::with("mqtt.drain_rate = 50\n");
    yard.connect();
    yard.received();
    let now = yard.at();
    for n in 0..200 {
        let command = json!({ "id": n.to_string(), "type": "set_device", "device": format!("82241218{n:06}") });
        yard.site().command(ClientId(1), command.to_string().as_bytes(), None, now).unwrap();
    }
    yard.turn();
    let mut got = yard.received();
    for _ in 0..200 {
        yard.pass(5);
        got.extend(yard.received());
    }
    let count = numbers(&got, "device").len();
    assert!((48..=52).contains(&count), "{count} in a second");
}

#[test]
fn retention_drops_no_event_and_no_alert_that_waits() {
    let mut yard = Yard::new();
    let session = yard.connect();
    yard.make_event();
    for _ in 0..5 {
        for (ticket, _) in yard.published() {
            yard.settled(session, ticket, Settlement::NobodyListens);
        }
    }
    yard.make_event();
    let device = yard.published();
    yard.settled(session, device[0].0, Settlement::Confirmed);
    yard.pass(2 * MINUTE);
    yard.down(session);
    assert_eq!((yard.alert("cloud_not_listening"), yard.waiting()), (Some(false), 1));
    let (events, alerts) = ("SELECT count(*) FROM events", "SELECT count(*) FROM alerts WHERE cleared_at IS NOT NULL");
    let (told, cleared) = (yard.count(events), yard.count(alerts));
    yard.pass(100 * 24 * 60 * MINUTE);
    let lost = "SELECT count(*) FROM outbox LEFT JOIN events USING (stream, seq) WHERE data IS NULL";
    assert_eq!((yard.count(lost), yard.count(alerts)), (0, cleared), "{told} events");
}

#[test]
fn confirmed_rows_go_with_another_commit_or_together_within_a_second() {
    let mut yard = Yard::new();
    yard.connect();
    yard.received();
    yard.pass(2 * SECOND);
    yard.make_event();
    yard.received();
    let rows = "SELECT count(*) FROM outbox";
    assert!(yard.count(rows) > 0, "a commit of its own for each would wear the flash");
    yard.pass(SECOND);
    assert_eq!(yard.count(rows), 0);
    yard.make_event();
    yard.received();
    assert!(yard.count(rows) > 0);
    yard.make_event();
    assert_eq!(yard.count(rows), 1, "the first went with the commit of the second");
}

#[test]
fn draining_a_backlog_costs_few_commits() {
    let mut yard = Yard::closed("");
    fill(&mut yard.open_store(), Stream::Order, 1000);
    yard.open();
    yard.connect();
    let (mut commits, now) = (0, yard.now);
    while yard.count("SELECT count(*) FROM outbox") > 0 {
        yard.now += 10;
        let at = yard.at();
        yard.site().timeout(at).unwrap();
        yard.take_outputs();
        while let Some(output) = yard.outputs.pop_front() {
            if let CloudOutput::Publish { session, ticket, .. } = output {
                let settlement = Settlement::Confirmed;
                yard.site().cloud(CloudInput::Settled { session, ticket, settlement }, at).unwrap();
            }
        }
        if yard.site().wants_commit() {
            commits += 1;
            yard.site().commit(at).unwrap();
        }
    }
    let seconds = (yard.now - now) / SECOND;
    assert!((9..=12).contains(&seconds) && commits <= seconds + 2, "{commits} commits in {seconds} s");
}
