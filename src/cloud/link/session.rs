//! The thread of the broker: one session after another, each with a client of its own.

use std::future::pending;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::Waker;
use super::access::{Access, Settings};
use super::failure::Failure;
use super::wire::{self, Begin, Client, Event, Grant, Happening, Wire};
use crate::cloud::{Session, Trouble};
use crate::limits::{CLOUD_NEWS, CLOUD_WINDOW};

/// What the main thread wants of this one.
pub(super) enum Order {
    Connect { session: Session, will: Vec<u8> },
    Leave(Session),
    Drop(Session),
}

/// What it is told.
pub(super) enum News {
    Up { client: Client, window: usize, largest: usize },
    Happened(Happening),
    Down(Trouble),
}

/// The main thread's ends of the two channels.
type Ends = (UnboundedSender<Order>, Receiver<(Session, News)>);

/// Starts the thread. It ends when the sender goes.
pub(super) fn start(settings: Settings, waker: Waker) -> io::Result<Ends> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (orders, ordered) = unbounded_channel();
    let (teller, news) = sync_channel(CLOUD_NEWS);
    let courier = Courier { settings, orders: ordered, news: teller, waker, forget: false };
    thread::Builder::new().name("broker".to_owned()).spawn(move || run(runtime, courier))?;
    Ok((orders, news))
}

fn run(runtime: Runtime, mut courier: Courier) {
    runtime.block_on(courier.serve());
    // A look-up of a name cannot be ended; it is not waited for either.
    runtime.shutdown_background();
}

/// What lasts from session to session.
struct Courier {
    settings: Settings,
    orders: UnboundedReceiver<Order>,
    news: SyncSender<(Session, News)>,
    waker: Waker,
    /// The broker keeps a message for us that is too large to be taken: it would come again in each session.
    forget: bool,
}

/// How far a session is.
struct Progress {
    session: Session,
    client: Client,
    grant: Option<Grant>,
    /// Whether the main thread was told that it is up.
    up: bool,
    /// What came before that.
    early: Vec<Happening>,
    /// The goodbye was asked for.
    leaving: bool,
    /// When what is waited for has to have come: the answer to the subscription, the end after the goodbye.
    until: Option<Instant>,
}

impl Progress {
    fn begin(session: Session, client: Client) -> Self {
        Self { session, client, grant: None, up: false, early: Vec::new(), leaving: false, until: None }
    }
}

impl Courier {
    async fn serve(&mut self) {
        while let Some(order) = self.orders.recv().await {
            // Orders to end a session that has ended by itself are for nobody.
            if let Order::Connect { session, will } = order {
                let why = self.session(session, will).await;
                log::debug!("cloud: down session={} why={why}", session.0);
                self.tell(session, News::Down(why));
            }
        }
    }

    /// One session, from the files that it needs to its end.
    async fn session(&mut self, session: Session, will: Vec<u8>) -> Trouble {
        if self.forget {
            if let Err(why) = self.run_client(session, Begin::Forget).await {
                return why;
            }
            self.forget = false;
        }
        match self.run_client(session, Begin::Keep { will }).await {
            Ok(()) => Trouble::Ended,
            Err(why) => why,
        }
    }

    /// One client until it fails, or until what it was for is done.
    async fn run_client(&mut self, session: Session, begin: Begin) -> Result<(), Trouble> {
        let to_forget = matches!(begin, Begin::Forget);
        let access = Access::read(&self.settings)?;
        let (client, mut wire) = wire::open(&self.settings, access, begin);
        let mut progress = Progress::begin(session, client);
        loop {
            let Some(event) = self.next_event(&mut wire, &mut progress).await else { return Err(Trouble::Ended) };
            match event {
                Ok(Event::Connected(_)) if to_forget => {
                    log::warn!("cloud: had the broker forget what it kept for us, as it was too large to be taken");
                    return Ok(());
                }
                Ok(event) => self.handle(event, &mut progress)?,
                Err(failure) => return Err(self.end(failure, &mut wire, &mut progress)),
            }
        }
    }

    /// The next event; `None` when the session is to end now. Whatever ends the wait early also ends the client,
    /// since what is half sent or half read is lost then: a goodbye only sets the deadline, and the wait goes on.
    async fn next_event(&mut self, wire: &mut Wire, progress: &mut Progress) -> Option<Result<Event, Failure>> {
        let mut poll = pin!(wire.poll(&self.settings));
        loop {
            let until = progress.until;
            let deadline = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    None => return None,
                    Some(Order::Drop(session)) if session == progress.session => return None,
                    Some(Order::Leave(session)) if session == progress.session => {
                        // Before it is up there is nothing to take leave of; and a queue without room is one that
                        // the broker does not take from.
                        if !progress.up || !progress.client.try_say_goodbye() {
                            return None;
                        }
                        progress.leaving = true;
                        progress.until = Some(Instant::now() + self.settings.timings.leave);
                    }
                    Some(_) => {}
                },
                event = &mut poll => return Some(event),
                () = deadline => return (!progress.leaving).then_some(Err(Failure::NoSubscription)),
            }
        }
    }

    fn handle(&mut self, event: Event, progress: &mut Progress) -> Result<(), Trouble> {
        match event {
            Event::Connected(grant) => {
                progress.grant = Some(grant);
                progress.until = Some(Instant::now() + self.settings.timings.connect);
                let topics = &self.settings.topics;
                progress.client.try_subscribe([&topics.command, &topics.ack]);
            }
            Event::Subscribed(Ok(())) => self.tell_up(progress),
            Event::Subscribed(Err(why)) => return Err(Failure::Subscription(why).trouble(&self.settings, true)),
            Event::Foreign(packet) => {
                log::debug!("cloud: a message on a topic that is not listened to");
                packet.map(|packet| progress.client.try_acknowledge(packet));
            }
            Event::SaidGoodbye => {
                // The broker closes the connection now, or never.
                let soon = Instant::now() + self.settings.timings.leave / 3;
                progress.until = progress.until.map(|until| until.min(soon));
            }
            Event::Happened(happening) if progress.up => self.tell(progress.session, News::Happened(happening)),
            Event::Happened(happening) => progress.early.push(happening),
            Event::Nothing => {}
        }
        Ok(())
    }

    fn tell_up(&self, progress: &mut Progress) {
        let Some(grant) = progress.grant.filter(|_| !progress.up) else { return };
        progress.up = true;
        progress.until = None;
        // One less than the broker takes: at its limit rumqttc would hold back acknowledgements as well.
        let window = grant.receive_maximum.saturating_sub(1).clamp(1, CLOUD_WINDOW);
        let news = News::Up { client: progress.client.clone(), window, largest: grant.largest };
        self.tell(progress.session, news);
        for happening in mem::take(&mut progress.early) {
            self.tell(progress.session, News::Happened(happening));
        }
    }

    /// Tells what had come before the failure, then what the failure means.
    fn end(&mut self, failure: Failure, wire: &mut Wire, progress: &mut Progress) -> Trouble {
        for event in wire.late(&self.settings) {
            if let Event::Happened(happening) = event
                && progress.up
            {
                self.tell(progress.session, News::Happened(happening));
            }
        }
        if progress.leaving {
            return Trouble::Ended;
        }
        self.forget |= matches!(failure, Failure::TooLarge(_));
        failure.trouble(&self.settings, progress.grant.is_some())
    }

    fn tell(&self, session: Session, news: News) {
        // That a message was sent is of interest once it is confirmed.
        let urgent = !matches!(news, News::Happened(Happening::Sent(_)));
        if let Err(TrySendError::Full(item)) = self.news.try_send((session, news)) {
            (self.waker)();
            // The main thread takes what there is whenever it was woken. When it has ended, so does this.
            let _ = self.news.send(item);
        }
        if urgent {
            (self.waker)();
        }
    }
}
