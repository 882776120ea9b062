//! Carries out what the site wants of the broker (contract §6), with rumqttc on a thread of its own.
//!
//! ```text
//! main thread   carry(Connect) --order--> session thread: one rumqttc client for one session, polled until it fails
//!               next() <------ news ----- connected and subscribed, sent, confirmed, received, down; then the waker
//!               carry(Publish) --------> that client's own queue, never waited on
//! ```
//!
//! rumqttc keeps what was not confirmed over a reconnection, drops some of it without a word, and hands confirmations
//! of the old connection to the new one. So nothing here outlives a session: at the first error the client goes, what
//! was confirmed by then is told, and the site feeds the next client from its outbox. Which confirmation belongs to
//! which message only this file knows: packet ids are given in the order in which messages were handed over.

mod access;
mod correlation;
mod failure;
mod session;
mod v4;
mod v5;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::{CloudInput, CloudOutput, Message, Receipt, Session, Settlement, Ticket, Trouble};
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::limits::{CLOUD_COMMAND_BYTES, CLOUD_QUEUE_UNCONFIRMED};
use access::Settings;
use correlation::Correlation;
use session::{News, Order};
use wire::{Client, Happening, Incoming, PacketId};

/// How long the link waits. The defaults suit a gateway on a cellular network; tests are less patient.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// A ping after so long without one, and a connection that leaves one unanswered is down. At least 5 s.
    pub keep_alive: Duration,
    /// From the look-up of the host's name to the broker's answer, in whole seconds.
    pub connect: Duration,
    /// The longest that a goodbye takes.
    pub leave: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(30),
            connect: Duration::from_secs(30),
            leave: Duration::from_millis(2500),
        }
    }
}

/// Called after something was put where [`Link::next`] finds it.
type Waker = Arc<dyn Fn() + Send + Sync>;

/// The main thread's end. It never waits for the other one; when it is dropped, the session ends without a goodbye.
pub struct Link {
    orders: UnboundedSender<Order>,
    news: Receiver<(Session, News)>,
    waker: Waker,
    ready: VecDeque<CloudInput>,
    current: Option<Current>,
}

/// The session that was connected last and is not down.
struct Current {
    session: Session,
    up: Option<Feed>,
}

/// A session that is up.
struct Feed {
    client: Client,
    /// The largest packet that the broker takes, bytes.
    largest: usize,
    correlation: Correlation,
    /// Requests that the other thread has not taken from the client's queue, as far as it is known.
    queued: usize,
    /// What came in and is to be acknowledged.
    receipts: BTreeMap<Receipt, PacketId>,
    next_receipt: u64,
    /// Acknowledgements that found the queue full.
    waiting: VecDeque<PacketId>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.current.as_ref().map(|current| current.session);
        f.debug_struct("Link").field("session", &session).field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl Link {
    /// Starts the thread; `None` without `mqtt.url`. `waker` is called from either thread when [`Link::next`] has
    /// something. Files of `mqtt.*` are read at each connection, so that a wrong one is a [`Trouble`], not an error.
    ///
    /// # Errors
    /// When the system gives no thread or no poll.
    pub fn open(config: &Config, waker: impl Fn() + Send + Sync + 'static) -> io::Result<Option<Self>> {
        Self::with_timings(config, Timings::default(), waker)
    }

    /// As [`Link::open`].
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn with_timings(
        config: &Config,
        timings: Timings,
        waker: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Option<Self>> {
        let Some(settings) = Settings::of(config, timings) else { return Ok(None) };
        let waker: Waker = Arc::new(waker);
        let (orders, news) = session::start(settings, Arc::clone(&waker))?;
        Ok(Some(Self { orders, news, waker, ready: VecDeque::new(), current: None }))
    }

    /// Carries out what the site wants, without ever waiting.
    pub fn carry(&mut self, output: CloudOutput) {
        self.hear();
        match output {
            CloudOutput::Connect { session, will } => {
                self.current = Some(Current { session, up: None });
                self.order(Order::Connect { session, will });
            }
            CloudOutput::Publish { session, ticket, message } => self.publish(session, ticket, message),
            CloudOutput::Acknowledge { session, receipt } => {
                if let Some(feed) = self.feed(session) {
                    feed.acknowledge(receipt);
                }
            }
            CloudOutput::Leave { session } => self.order(Order::Leave(session)),
            CloudOutput::Drop { session } => {
                if self.current.take_if(|current| current.session == session).is_some() {
                    self.order(Order::Drop(session));
                    self.say(CloudInput::Down { session, why: Trouble::Ended });
                }
            }
        }
    }

    /// What came of it; `None`: nothing until the waker is called again.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends is done; this one goes on after a wake")]
    pub fn next(&mut self) -> Option<CloudInput> {
        self.hear();
        self.ready.pop_front()
    }

    /// As [`Link::next`], but waits: for the end, when there is no loop any more.
    pub fn next_within(&mut self, at_most: Duration) -> Option<CloudInput> {
        let watch = Stopwatch::start();
        loop {
            if let Some(input) = self.next() {
                return Some(input);
            }
            let (session, news) = self.news.recv_timeout(at_most.saturating_sub(watch.elapsed())).ok()?;
            self.take(session, news);
        }
    }

    fn order(&self, order: Order) {
        // The thread lives as long as this end of the channel.
        let _ = self.orders.send(order);
    }

    /// Something that the other thread does not know of.
    fn say(&mut self, input: CloudInput) {
        self.ready.push_back(input);
        (self.waker)();
    }

    fn feed(&mut self, session: Session) -> Option<&mut Feed> {
        self.current.as_mut().filter(|current| current.session == session)?.up.as_mut()
    }

    fn publish(&mut self, session: Session, ticket: Ticket, message: Message) {
        let confirmed = message.confirmed;
        let Some(feed) = self.feed(session) else { return };
        match feed.publish(ticket, message) {
            Ok(()) => {}
            Err(why) if confirmed => {
                self.say(CloudInput::Settled { session, ticket, settlement: Settlement::Refused(why) });
            }
            Err(why) => log::debug!("cloud: message not sent why={why}"),
        }
    }

    /// Takes what the other thread has told.
    fn hear(&mut self) {
        while let Ok((session, news)) = self.news.try_recv() {
            self.take(session, news);
        }
        if let Some(feed) = self.current.as_mut().and_then(|current| current.up.as_mut()) {
            feed.send_waiting();
        }
    }

    fn take(&mut self, session: Session, news: News) {
        // Whatever an older session still tells came too late: the site has forgotten what it waited for.
        let Some(current) = self.current.as_mut().filter(|current| current.session == session) else { return };
        match news {
            News::Up { client, window, largest } => {
                current.up = Some(Feed::new(client, largest));
                self.ready.push_back(CloudInput::Up { session, window, largest });
            }
            News::Happened(happening) => {
                let input = current.up.as_mut().and_then(|feed| feed.take(session, happening));
                self.ready.extend(input);
            }
            News::Down(why) => {
                self.current = None;
                self.ready.push_back(CloudInput::Down { session, why });
            }
        }
    }
}

impl Feed {
    fn new(client: Client, largest: usize) -> Self {
        Self {
            client,
            largest,
            correlation: Correlation::default(),
            queued: 0,
            receipts: BTreeMap::new(),
            next_receipt: 1,
            waiting: VecDeque::new(),
        }
    }

    /// Hands a message to the client; `Err` says why it can never be sent.
    fn publish(&mut self, ticket: Ticket, message: Message) -> Result<(), String> {
        let confirmed = message.confirmed;
        // What needs no confirmation must not fill the queue: what does always finds room.
        if !confirmed && self.queued >= CLOUD_QUEUE_UNCONFIRMED {
            return Err("too many messages wait to be sent".to_owned());
        }
        wire::check(&message, self.largest)?;
        if self.client.try_publish(message) {
            self.queued += 1;
            if confirmed {
                self.correlation.submitted(ticket);
            }
        } else {
            // Only when the site goes far beyond its window. The message stays in the outbox.
            log::warn!("cloud: the queue to the broker is full");
        }
        Ok(())
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        if let Some(packet) = self.receipts.remove(&receipt) {
            self.waiting.push_back(packet);
            self.send_waiting();
        }
    }

    fn send_waiting(&mut self) {
        while let Some(packet) = self.waiting.front() {
            if !self.client.try_acknowledge(*packet) {
                return;
            }
            self.waiting.pop_front();
            self.queued += 1;
        }
    }

    fn take(&mut self, session: Session, happening: Happening) -> Option<CloudInput> {
        match happening {
            Happening::Sent(packet) => {
                self.queued = self.queued.saturating_sub(1);
                self.correlation.sent(packet?);
                None
            }
            Happening::AcknowledgementSent => {
                self.queued = self.queued.saturating_sub(1);
                None
            }
            Happening::Settled(packet, settlement) => {
                let ticket = self.correlation.settled(packet)?;
                Some(CloudInput::Settled { session, ticket, settlement })
            }
            Happening::Received(incoming) => Some(self.received(session, incoming)),
        }
    }

    fn received(&mut self, session: Session, incoming: Incoming) -> CloudInput {
        let receipt = Receipt(self.next_receipt);
        self.next_receipt += 1;
        self.receipts.extend(incoming.packet.map(|packet| (receipt, packet)));
        let size = incoming.payload.len();
        CloudInput::Received {
            session,
            receipt,
            subject: incoming.subject,
            payload: if size > CLOUD_COMMAND_BYTES { Err(size) } else { Ok(incoming.payload) },
            retained: incoming.retained,
            expires_in: incoming.expires_in,
            reply_to: incoming.reply_to,
        }
    }
}
