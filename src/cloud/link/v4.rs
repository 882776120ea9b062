//! MQTT 3.1.1. It has no reasons: a message that the broker does not let through is confirmed like any other.

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event as RumqttEvent, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Outgoing, Packet, Publish, QoS, StateError, SubAck, SubscribeFilter, SubscribeReasonCode,
};

use super::access::{Access, Settings};
use super::failure::{Failure, Refusal};
use super::wire::{Begin, Event, Grant, Happening, Incoming, LARGEST_PACKET, PacketId};
use crate::cloud::{Message, Settlement};
use crate::limits::{CLOUD_INCOMING_BYTES, CLOUD_QUEUE, CLOUD_WINDOW};

/// Packet ids that are used in turn: well above the window, so that acknowledgements never wait for a free one.
const IN_FLIGHT: u16 = 1024;
const _: () = assert!(CLOUD_WINDOW * 2 < IN_FLIGHT as usize);

pub(super) fn open(settings: &Settings, access: Access, begin: Begin) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(settings.client_id.clone(), settings.url.host.clone(), settings.url.port);
    options
        .set_keep_alive(settings.keep_alive())
        .set_transport(access.transport)
        .set_manual_acks(true)
        .set_inflight(IN_FLIGHT)
        .set_max_packet_size(CLOUD_INCOMING_BYTES as usize, LARGEST_PACKET);
    if let Some((user, password)) = access.credentials {
        options.set_credentials(user, password);
    }
    match begin {
        Begin::Keep { will } => {
            options.set_clean_session(false);
            options.set_last_will(LastWill::new(&settings.topics.state, will, QoS::AtLeastOnce, true));
        }
        Begin::Forget => {
            options.set_clean_session(true);
        }
    }
    let (client, mut wire) = AsyncClient::new(options, CLOUD_QUEUE);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(settings.timings.connect.as_secs().max(1));
    wire.set_network_options(network);
    (client, wire)
}

pub(super) fn try_publish(client: &AsyncClient, message: Message) -> bool {
    let qos = if message.confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client.try_publish(message.topic, qos, message.retain, message.payload).is_ok()
}

pub(super) fn try_acknowledge(client: &AsyncClient, packet: PacketId) -> bool {
    let mut publish = Publish::new("", QoS::AtLeastOnce, "");
    publish.pkid = packet.get();
    client.try_ack(&publish).is_ok()
}

pub(super) fn try_subscribe(client: &AsyncClient, topics: [&str; 2]) -> bool {
    client.try_subscribe_many(topics.map(|topic| SubscribeFilter::new(topic.to_owned(), QoS::AtLeastOnce))).is_ok()
}

pub(super) fn event(settings: &Settings, event: RumqttEvent) -> Result<Event, Failure> {
    Ok(match event {
        RumqttEvent::Incoming(Packet::ConnAck(_)) => {
            Event::Connected(Grant { receive_maximum: usize::from(u16::MAX), largest: LARGEST_PACKET })
        }
        RumqttEvent::Incoming(Packet::SubAck(ack)) => Event::Subscribed(subscribed(&ack)),
        RumqttEvent::Incoming(Packet::PubAck(ack)) => PacketId::new(ack.pkid)
            .map_or(Event::Nothing, |id| Event::Happened(Happening::Settled(id, Settlement::Confirmed))),
        RumqttEvent::Incoming(Packet::Publish(publish)) => received(settings, &publish),
        RumqttEvent::Outgoing(Outgoing::Publish(id)) => Event::Happened(Happening::Sent(PacketId::new(id))),
        RumqttEvent::Outgoing(Outgoing::PubAck(_)) => Event::Happened(Happening::AcknowledgementSent),
        RumqttEvent::Outgoing(Outgoing::Disconnect) => Event::SaidGoodbye,
        RumqttEvent::Incoming(_) | RumqttEvent::Outgoing(_) => Event::Nothing,
    })
}

fn subscribed(ack: &SubAck) -> Result<(), String> {
    let refused = ack.return_codes.iter().any(|code| matches!(code, SubscribeReasonCode::Failure));
    if refused { Err("not authorized, or another reason that MQTT 3.1.1 does not tell".to_owned()) } else { Ok(()) }
}

fn received(settings: &Settings, publish: &Publish) -> Event {
    let packet = PacketId::new(publish.pkid);
    let Some(subject) = settings.topics.subject(&publish.topic) else { return Event::Foreign(packet) };
    Event::Happened(Happening::Received(Incoming {
        subject,
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        expires_in: None,
        reply_to: None,
        packet,
    }))
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::NetworkTimeout => Self::NoAnswer,
            ConnectionError::FlushTimeout => Self::NoPong,
            ConnectionError::Io(error) => Self::Io(error),
            ConnectionError::Tls(error) => Self::Tls(error),
            ConnectionError::ConnectionRefused(code) => Self::Refused(refusal(code)),
            ConnectionError::NotConnAck(_) => Self::Gibberish("not the answer to a connection".to_owned()),
            ConnectionError::MqttState(error) => error.into(),
            ConnectionError::RequestsDone => Self::Closed,
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) => Self::Io(error),
            StateError::ConnectionAborted => Self::Closed,
            StateError::AwaitPingResp | StateError::CollisionTimeout => Self::NoPong,
            StateError::Deserialization(error) => broken_packet(error),
            other => Self::Gibberish(other.to_string()),
        }
    }
}

fn broken_packet(error: rumqttc::mqttbytes::Error) -> Failure {
    use rumqttc::mqttbytes::Error;
    match error {
        Error::Io(error) => Failure::Io(error),
        Error::PayloadSizeLimitExceeded(size) => Failure::TooLarge(size),
        other => Failure::Gibberish(other.to_string()),
    }
}

fn refusal(code: ConnectReturnCode) -> Refusal {
    match code {
        ConnectReturnCode::BadUserNamePassword => Refusal::Credentials,
        ConnectReturnCode::NotAuthorized => Refusal::NotAuthorized,
        ConnectReturnCode::BadClientId => Refusal::ClientId,
        ConnectReturnCode::RefusedProtocolVersion => Refusal::Protocol,
        ConnectReturnCode::ServiceUnavailable => Refusal::Busy("not available"),
        ConnectReturnCode::Success => Refusal::Other("no reason given".to_owned()),
    }
}
