//! The link alone, against a real mosquitto, and against a broker that misbehaves.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod broker;
mod cuts;
mod fake;
mod messages;
mod sessions;
mod troubles;

use std::sync::mpsc::channel;
use std::time::Duration;

use chargegate::clock::Stopwatch;
use chargegate::cloud::link::{Link, Timings};
use chargegate::cloud::{CloudInput, CloudOutput, Message, Session, Settlement, Ticket, Trouble};
use chargegate::config::Config;

/// What only a failure waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the condition gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    let (_sender, tick) = channel::<()>();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(watch.elapsed() < DEADLINE, "{what} does not come");
        // Nobody sends: the time-out is the pause.
        let _ = tick.recv_timeout(Duration::from_millis(5));
    }
}

/// The site's side of the link, which does as the test says.
pub(crate) struct Hand {
    pub(crate) link: Link,
    session: u64,
}

impl Hand {
    /// With this configuration.
    pub(crate) fn with(config: &str) -> Self {
        Self::waiting(config, 10)
    }

    /// It waits a second where others wait longer.
    pub(crate) fn impatient(config: &str) -> Self {
        Self::waiting(config, 1)
    }

    fn waiting(config: &str, seconds: u64) -> Self {
        let connect = Duration::from_secs(seconds);
        let timings = Timings { keep_alive: Duration::from_secs(5), connect, ..Timings::default() };
        let config = Config::parse(&format!("site.id = \"s\"\n{config}")).unwrap();
        let link = Link::with_timings(&config, timings, || {}).unwrap().unwrap();
        Self { link, session: 0 }
    }

    pub(crate) fn session(&self) -> Session {
        Session(self.session)
    }

    /// The next thing that the link tells.
    pub(crate) fn hear(&mut self) -> CloudInput {
        self.link.next_within(DEADLINE).expect("the link tells something")
    }

    pub(crate) fn connect(&mut self) {
        self.session += 1;
        let will = format!("gone {}", self.session).into_bytes();
        self.link.carry(CloudOutput::Connect { session: self.session(), will });
    }

    /// Connects until it is up: the window and the largest packet.
    pub(crate) fn come_up(&mut self) -> (usize, usize) {
        self.connect();
        match self.hear() {
            CloudInput::Up { session, window, largest } if session == self.session() => (window, largest),
            other => panic!("{other:?}"),
        }
    }

    /// Connects in vain.
    pub(crate) fn fail(&mut self) -> Trouble {
        self.connect();
        self.go_down()
    }

    /// Why the session ends; what comes before is left out.
    pub(crate) fn go_down(&mut self) -> Trouble {
        loop {
            if let CloudInput::Down { session, why } = self.hear() {
                assert_eq!(session, self.session());
                return why;
            }
        }
    }

    pub(crate) fn publish(&mut self, ticket: u64, message: Message) {
        self.link.carry(CloudOutput::Publish { session: self.session(), ticket: Ticket(ticket), message });
    }

    pub(crate) fn settled(&mut self) -> (u64, Settlement) {
        match self.hear() {
            CloudInput::Settled { session, ticket, settlement } => {
                assert_eq!(session, self.session());
                (ticket.0, settlement)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(&mut self) {
        self.link.carry(CloudOutput::Leave { session: self.session() });
    }

    pub(crate) fn drop_session(&mut self) {
        self.link.carry(CloudOutput::Drop { session: self.session() });
    }

    /// The next message that comes.
    pub(crate) fn receive(&mut self) -> CloudInput {
        loop {
            let input = self.hear();
            if matches!(input, CloudInput::Received { .. }) {
                return input;
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, received: &CloudInput) {
        let CloudInput::Received { session, receipt, .. } = *received else { panic!("{received:?}") };
        self.link.carry(CloudOutput::Acknowledge { session, receipt });
    }
}

/// A message to be confirmed.
pub(crate) fn message(topic: &str, payload: &str) -> Message {
    let payload = payload.as_bytes().to_vec();
    Message { topic: topic.to_owned(), payload, retain: false, confirmed: true, correlation: None }
}

/// The text of what came.
pub(crate) fn text(received: &CloudInput) -> String {
    match received {
        CloudInput::Received { payload: Ok(payload), .. } => String::from_utf8(payload.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A line about a wrong setting, and what kind it is.
pub(crate) fn line(trouble: &Trouble) -> (&'static str, String) {
    let kind = match trouble {
        Trouble::Unreachable(_) => "unreachable",
        Trouble::NotABroker(_) => "not a broker",
        Trouble::Refused(_) => "refused",
        Trouble::Certificate(_) => "certificate",
        Trouble::NotYetValid(_) => "not yet valid",
        Trouble::File(_) => "file",
        Trouble::Lost(_) => "lost",
        Trouble::Ended => "ended",
    };
    (kind, trouble.to_string())
}
