//! What MQTT 5 and 3.1.1 have in common, seen from the link: one client, one event loop, what happens on it.

use std::num::NonZeroU16;
use std::time::Duration;

use super::access::{Access, Settings};
use super::failure::Failure;
use super::{v4, v5};
use crate::cloud::{Message, ReplyTo, Settlement, Subject};
use crate::config::MqttProtocol;

/// What the broker knows a message by until it is confirmed; 0 is none.
pub(super) type PacketId = NonZeroU16;

/// The largest packet that MQTT knows, bytes.
pub(super) const LARGEST_PACKET: usize = 268_435_455;

/// To hand requests to the event loop, from any thread, without waiting.
#[derive(Clone)]
pub(super) enum Client {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// One connection, once polled: it must be dropped at its first failure, since rumqttc would connect again.
pub(super) enum Wire {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// What the event loop tells.
pub(super) enum Event {
    /// The broker let us in.
    Connected(Grant),
    /// It answered our subscription; `Err` with the reason in words.
    Subscribed(Result<(), String>),
    /// Our goodbye was sent.
    SaidGoodbye,
    /// A message came on a topic that is none of ours, such as of a subscription under an older `mqtt.topic_prefix`.
    Foreign(Option<PacketId>),
    /// For the main thread.
    Happened(Happening),
    /// Pings and the like.
    Nothing,
}

/// What the main thread is told of a session that is up.
pub(super) enum Happening {
    /// A message was sent, under this id when it is to be confirmed.
    Sent(Option<PacketId>),
    /// An acknowledgement was sent.
    AcknowledgementSent,
    /// The broker confirmed or refused a message.
    Settled(PacketId, Settlement),
    /// A message came.
    Received(Incoming),
}

/// A message that came on a topic of ours.
pub(super) struct Incoming {
    pub(super) subject: Subject,
    pub(super) payload: Vec<u8>,
    pub(super) retained: bool,
    pub(super) expires_in: Option<Duration>,
    pub(super) reply_to: Option<ReplyTo>,
    /// To acknowledge it; none at QoS 0.
    pub(super) packet: Option<PacketId>,
}

/// What the broker allows.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    /// Messages that it takes before it has confirmed them.
    pub(super) receive_maximum: usize,
    /// The largest packet that it takes, bytes.
    pub(super) largest: usize,
}

/// How a session is begun.
pub(super) enum Begin {
    /// As the one that the broker may have kept, with this will.
    Keep { will: Vec<u8> },
    /// Anew: what the broker has kept for us goes.
    Forget,
}

/// A client whose event loop has not connected yet.
pub(super) fn open(settings: &Settings, access: Access, begin: Begin) -> (Client, Wire) {
    match settings.protocol {
        MqttProtocol::V4 => {
            let (client, wire) = v4::open(settings, access, begin);
            (Client::V4(client), Wire::V4(Box::new(wire)))
        }
        MqttProtocol::V5 => {
            let (client, wire) = v5::open(settings, access, begin);
            (Client::V5(client), Wire::V5(Box::new(wire)))
        }
    }
}

impl Client {
    /// Whether there was room.
    pub(super) fn try_publish(&self, message: Message) -> bool {
        match self {
            Self::V4(client) => v4::try_publish(client, message),
            Self::V5(client) => v5::try_publish(client, message),
        }
    }

    /// Whether there was room.
    pub(super) fn try_acknowledge(&self, packet: PacketId) -> bool {
        match self {
            Self::V4(client) => v4::try_acknowledge(client, packet),
            Self::V5(client) => v5::try_acknowledge(client, packet),
        }
    }

    /// Whether there was room.
    pub(super) fn try_subscribe(&self, topics: [&str; 2]) -> bool {
        match self {
            Self::V4(client) => v4::try_subscribe(client, topics),
            Self::V5(client) => v5::try_subscribe(client, topics),
        }
    }

    /// Whether there was room.
    pub(super) fn try_say_goodbye(&self) -> bool {
        match self {
            Self::V4(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Wire {
    /// Waits for the next event, connecting first. When it is not waited for to its end, the connection is of no use
    /// any more: what was about to be sent or read is lost.
    pub(super) async fn poll(&mut self, settings: &Settings) -> Result<Event, Failure> {
        match self {
            Self::V4(wire) => v4::event(settings, wire.poll().await?),
            Self::V5(wire) => {
                let event = wire.poll().await?;
                v5::tame_keep_alive(settings, wire);
                v5::event(settings, event)
            }
        }
    }

    /// What had come before the failure.
    pub(super) fn late(&mut self, settings: &Settings) -> Vec<Event> {
        match self {
            Self::V4(wire) => wire.state.events.drain(..).filter_map(|event| v4::event(settings, event).ok()).collect(),
            Self::V5(wire) => wire.state.events.drain(..).filter_map(|event| v5::event(settings, event).ok()).collect(),
        }
    }
}

/// Why a message can never be sent, in words. rumqttc would take it, then break the connection over it.
pub(super) fn check(message: &Message, largest: usize) -> Result<(), String> {
    if message.topic.is_empty() || message.topic.contains(['+', '#', '\0']) || message.topic.len() > LONGEST_FIELD {
        return Err("its topic is not one that can be published to".to_owned());
    }
    let correlation = message.correlation.as_ref().map_or(0, Vec::len);
    if correlation > LONGEST_FIELD {
        return Err("its correlation data are too long".to_owned());
    }
    let size = PACKET_OVERHEAD + message.topic.len() + correlation + message.payload.len();
    if size > largest {
        return Err(format!("it is {size} bytes, and the broker takes {largest}"));
    }
    Ok(())
}

/// Text and binary fields have a length of two bytes.
const LONGEST_FIELD: usize = u16::MAX as usize;

/// The most that a published packet has beside topic, correlation data and payload: type and length 5, length of the
/// topic 2, packet id 2, length of the properties 3, type and length of the correlation data 3.
const PACKET_OVERHEAD: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: usize) -> Message {
        let payload = vec![b' '; payload];
        Message { topic: topic.to_owned(), payload, retain: false, confirmed: true, correlation: None }
    }

    #[test]
    fn what_would_break_the_connection_is_refused_beforehand() {
        assert_eq!(check(&message("a/b", 82), 100), Ok(()));
        assert_eq!(check(&message("a/b", 83), 100).unwrap_err(), "it is 101 bytes, and the broker takes 100");
        for topic in ["", "a/#", "a/+/b", "a\0", &"x".repeat(65_536)] {
            assert!(check(&message(topic, 0), LARGEST_PACKET).unwrap_err().contains("topic"), "{topic:.10}");
        }
        let correlation = Some(vec![0; 65_536]);
        assert!(check(&Message { correlation, ..message("a", 0) }, LARGEST_PACKET).is_err());
    }
}
