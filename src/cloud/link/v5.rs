//! MQTT 5.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, Packet, PubAck,
    PubAckReason, Publish, PublishProperties, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as RumqttEvent, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing};

use super::access::{Access, Settings};
use super::failure::{Failure, Refusal};
use super::wire::{Begin, Event, Grant, Happening, Incoming, LARGEST_PACKET, PacketId};
use crate::cloud::{Message, ReplyTo, Settlement};
use crate::limits::{CLOUD_INCOMING_BYTES, CLOUD_QUEUE, CLOUD_SESSION_EXPIRY, CLOUD_WINDOW};

/// Packet ids that are used in turn: well above the window, so that acknowledgements never wait for a free one.
const IN_FLIGHT: u16 = 128;
const _: () = assert!(CLOUD_WINDOW * 2 < IN_FLIGHT as usize);

/// Commands that the broker may send before the first is acknowledged.
const RECEIVE_MAXIMUM: u16 = 64;

pub(super) fn open(settings: &Settings, access: Access, begin: Begin) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(settings.client_id.clone(), settings.url.host.clone(), settings.url.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_connection_timeout(settings.timings.connect.as_secs().max(1))
        .set_keep_alive(settings.keep_alive())
        .set_transport(access.transport)
        .set_manual_acks(true)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(CLOUD_SESSION_EXPIRY),
            receive_maximum: Some(RECEIVE_MAXIMUM),
            max_packet_size: Some(CLOUD_INCOMING_BYTES),
            ..ConnectProperties::new()
        });
    if let Some((user, password)) = access.credentials {
        options.set_credentials(user, password);
    }
    match begin {
        Begin::Keep { will } => {
            options.set_clean_start(false);
            options.set_last_will(LastWill::new(&settings.topics.state, will, QoS::AtLeastOnce, true, None));
        }
        Begin::Forget => {
            options.set_clean_start(true);
        }
    }
    AsyncClient::new(options, CLOUD_QUEUE)
}

/// The broker may ask for another interval, which rumqttc takes as it comes: with 0 ("none") it would ping without a
/// pause and give up.
pub(super) fn tame_keep_alive(settings: &Settings, wire: &mut EventLoop) {
    if wire.options.keep_alive().is_zero() {
        wire.options.set_keep_alive(settings.keep_alive());
    }
}

pub(super) fn try_publish(client: &AsyncClient, message: Message) -> bool {
    let qos = if message.confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let Message { topic, payload, retain, correlation, .. } = message;
    let published = match correlation {
        None => client.try_publish(topic, qos, retain, payload),
        Some(data) => {
            let properties = PublishProperties { correlation_data: Some(data.into()), ..PublishProperties::default() };
            client.try_publish_with_properties(topic, qos, retain, payload, properties)
        }
    };
    published.is_ok()
}

pub(super) fn try_acknowledge(client: &AsyncClient, packet: PacketId) -> bool {
    let publish = Publish { qos: QoS::AtLeastOnce, pkid: packet.get(), ..Publish::default() };
    client.try_ack(&publish).is_ok()
}

pub(super) fn try_subscribe(client: &AsyncClient, topics: [&str; 2]) -> bool {
    let filters = topics.map(|topic| {
        let mut filter = Filter::new(topic, QoS::AtLeastOnce);
        // A retained command is told as one, also while it comes live: it is ignored (contract §6).
        filter.preserve_retain = true;
        filter
    });
    client.try_subscribe_many(filters).is_ok()
}

pub(super) fn event(settings: &Settings, event: RumqttEvent) -> Result<Event, Failure> {
    Ok(match event {
        RumqttEvent::Incoming(Packet::ConnAck(ack)) => Event::Connected(grant(&ack)?),
        RumqttEvent::Incoming(Packet::SubAck(ack)) => Event::Subscribed(subscribed(&ack)),
        RumqttEvent::Incoming(Packet::PubAck(ack)) => settled(&ack)?,
        RumqttEvent::Incoming(Packet::Publish(publish)) => received(settings, publish),
        RumqttEvent::Outgoing(Outgoing::Publish(id)) => Event::Happened(Happening::Sent(PacketId::new(id))),
        RumqttEvent::Outgoing(Outgoing::PubAck(_)) => Event::Happened(Happening::AcknowledgementSent),
        RumqttEvent::Outgoing(Outgoing::Disconnect) => Event::SaidGoodbye,
        RumqttEvent::Incoming(_) | RumqttEvent::Outgoing(_) => Event::Nothing,
    })
}

fn grant(ack: &ConnAck) -> Result<Grant, Failure> {
    let Some(properties) = &ack.properties else {
        return Ok(Grant { receive_maximum: usize::from(u16::MAX), largest: LARGEST_PACKET });
    };
    if properties.max_qos == Some(0) {
        return Err(Failure::Refused(Refusal::Other("it takes no messages at QoS 1".to_owned())));
    }
    let largest = properties.max_packet_size.and_then(|size| usize::try_from(size).ok());
    Ok(Grant {
        receive_maximum: usize::from(properties.receive_max.unwrap_or(u16::MAX)),
        largest: largest.map_or(LARGEST_PACKET, |size| size.min(LARGEST_PACKET)),
    })
}

fn subscribed(ack: &SubAck) -> Result<(), String> {
    let refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
    let Some(code) = ack.return_codes.iter().find(|code| refused(code)) else { return Ok(()) };
    let code = match code {
        SubscribeReasonCode::NotAuthorized => "not authorized".to_owned(),
        SubscribeReasonCode::QuotaExceeded => "quota exceeded".to_owned(),
        other => format!("{other:?}"),
    };
    let said = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    Err(with_reason(code, said))
}

/// What the broker says of a message. A quota is no fault of the message: it is to be sent again later.
fn settled(ack: &PubAck) -> Result<Event, Failure> {
    let said = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    let refused = |why: &str| Settlement::Refused(with_reason(why.to_owned(), said));
    let settlement = match ack.reason {
        PubAckReason::Success => Settlement::Confirmed,
        PubAckReason::NoMatchingSubscribers => Settlement::NobodyListens,
        PubAckReason::QuotaExceeded => {
            return Err(Failure::PutOff(with_reason("its quota is used up".to_owned(), said)));
        }
        PubAckReason::PacketIdentifierInUse => {
            return Err(Failure::PutOff(with_reason("it still knows a packet id".to_owned(), said)));
        }
        PubAckReason::NotAuthorized => refused("not authorized to publish on its topic"),
        PubAckReason::TopicNameInvalid => refused("its topic is not accepted"),
        PubAckReason::PayloadFormatInvalid => refused("its payload is not accepted"),
        PubAckReason::UnspecifiedError => refused("refused without a reason"),
        PubAckReason::ImplementationSpecificError => refused("refused for a reason of the broker's own"),
    };
    Ok(PacketId::new(ack.pkid).map_or(Event::Nothing, |id| Event::Happened(Happening::Settled(id, settlement))))
}

fn received(settings: &Settings, publish: Publish) -> Event {
    let topic = String::from_utf8_lossy(&publish.topic);
    let packet = PacketId::new(publish.pkid);
    let Some(subject) = settings.topics.subject(&topic) else { return Event::Foreign(packet) };
    let properties = publish.properties.unwrap_or_default();
    let reply_to = properties.response_topic.map(|topic| {
        let correlation = properties.correlation_data.map(|data| data.to_vec());
        ReplyTo { topic, correlation }
    });
    Event::Happened(Happening::Received(Incoming {
        subject,
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        expires_in: properties.message_expiry_interval.map(|seconds| Duration::from_secs(seconds.into())),
        reply_to,
        packet,
    }))
}

/// What is meant by a code, and what the broker says beside it.
fn with_reason(code: String, said: Option<&str>) -> String {
    match said {
        Some(said) if !said.is_empty() => format!("{code} ({said})"),
        _ => code,
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Timeout(_) => Self::NoAnswer,
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
            StateError::ServerDisconnect { reason_code, reason_string } => {
                disconnected(reason_code, reason_string.as_deref())
            }
            StateError::ConnFail { reason } => Self::Refused(refusal(reason)),
            StateError::IncomingPacketTooLarge { pkt_size, .. } => Self::TooLarge(pkt_size),
            StateError::Deserialization(error) => broken_packet(error),
            other => Self::Gibberish(other.to_string()),
        }
    }
}

fn broken_packet(error: rumqttc::v5::mqttbytes::Error) -> Failure {
    use rumqttc::v5::mqttbytes::Error;
    match error {
        Error::Io(error) => Failure::Io(error),
        Error::PayloadSizeLimitExceeded { pkt_size, .. } => Failure::TooLarge(pkt_size),
        // A goodbye without anything to it, which rumqttc takes for a broken packet.
        Error::PayloadRequired => Failure::Closed,
        other => Failure::Gibberish(other.to_string()),
    }
}

fn refusal(code: ConnectReturnCode) -> Refusal {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::BadAuthenticationMethod => Refusal::Credentials,
        ConnectReturnCode::NotAuthorized => Refusal::NotAuthorized,
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => Refusal::ClientId,
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => Refusal::Protocol,
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => Refusal::Busy("not available"),
        ConnectReturnCode::ServerBusy => Refusal::Busy("busy"),
        ConnectReturnCode::ConnectionRateExceeded => Refusal::Busy("getting too many connections"),
        ConnectReturnCode::QuotaExceeded => Refusal::Busy("past its quota"),
        ConnectReturnCode::Banned => Refusal::Banned,
        ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => Refusal::Moved,
        ConnectReturnCode::RetainNotSupported => Refusal::Other("it keeps no retained messages".to_owned()),
        ConnectReturnCode::QoSNotSupported => Refusal::Other("it takes no messages at QoS 1".to_owned()),
        ConnectReturnCode::TopicNameInvalid => {
            Refusal::Other("it does not accept the topic of the last will: see mqtt.topic_prefix".to_owned())
        }
        other => Refusal::Other(format!("{other:?}")),
    }
}

fn disconnected(code: DisconnectReasonCode, said: Option<&str>) -> Failure {
    let with = |text: &str| with_reason(text.to_owned(), said);
    match code {
        DisconnectReasonCode::SessionTakenOver => Failure::TakenOver,
        DisconnectReasonCode::NotAuthorized => Failure::Refused(Refusal::NotAuthorized),
        DisconnectReasonCode::UseAnotherServer | DisconnectReasonCode::ServerMoved => Failure::Refused(Refusal::Moved),
        DisconnectReasonCode::NormalDisconnection => Failure::Closed,
        DisconnectReasonCode::ServerShuttingDown => Failure::Dismissed(with("it is shutting down")),
        DisconnectReasonCode::ServerBusy => Failure::Dismissed(with("it is busy")),
        DisconnectReasonCode::KeepAliveTimeout => Failure::Dismissed(with("it heard nothing for too long")),
        DisconnectReasonCode::AdministrativeAction => Failure::Dismissed(with("an administrator ended it")),
        DisconnectReasonCode::MaximumConnectTime => Failure::Dismissed(with("it lasted as long as it may")),
        DisconnectReasonCode::PacketTooLarge => Failure::Dismissed(with("a message was too large for it")),
        DisconnectReasonCode::MessageRateTooHigh => {
            Failure::Dismissed(with("it gets messages too fast: lower mqtt.drain_rate"))
        }
        DisconnectReasonCode::QuotaExceeded => Failure::Dismissed(with("its quota is used up")),
        DisconnectReasonCode::ConnectionRateExceeded => Failure::Dismissed(with("it gets too many connections")),
        other => Failure::Dismissed(with(&format!("{other:?}"))),
    }
}
