//! Uplink and downlink: one struct a message, reading beside writing, both for both directions.
//!
//! A message is typed as far as the protocol is: it cannot hold port 7. What the protocol leaves to the device (a
//! clock, a reason, a key of tomorrow) is kept as it came. Unknown commands and sub-commands are messages too.

mod card;
mod end;
mod gateway;
mod network;
mod settings;
mod start;
mod status;

pub use card::{BalanceAnswer, BalanceQuery, CardAccepted, CardOrder, CardPlan, CardSwipe};
pub use end::{
    CardEnd, ChargeEnd, EndAck, EndAckForm, EndFigures, EndKind, EndReport, FeeEnd, FeeEndAck, Salvaged, SalvagedKind,
    TiersEnd, salvage,
};
pub use gateway::{Heartbeat, HeartbeatReply, Ota, OtaProgress, OtaTarget};
pub use network::{ListedSocket, NetworkAnswer, NetworkChange, NetworkEntry, NetworkList, NetworkRefresh};
pub use settings::{
    Abnormal, AbnormalAck, Params, QueryParams, Reconnected, SetParams, SetParamsAnswer, Setting, SettingValue,
    VoiceAnswer, VoiceHours, VoicePeriod,
};
pub use start::{
    FeeStartAnswer, FeeTier, PowerTier, ServiceFeeBy, StartAnswer, StartByFee, StartByTiers, Switch, SwitchAnswer,
    SwitchOrder,
};
pub use status::{PortReading, QueryAnswer, QueryStatus, SocketStatus, StatusAck, StatusReport};

use super::code::{Command, ControlSub, Key, NetworkSub, Shape, WrapperSub};
use super::error::{Cause, DecodeError, Fault};
use super::field::{Header, Item, Reader, Trace};
use super::frame::{DATA, Direction, Frame, write_frame};
use super::value::{Carrier, Sequence};
use crate::ids::{DeviceId, MessageId};

/// What a device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// `0000`.
    Heartbeat(Heartbeat),
    /// `0005` with a result.
    NetworkAnswer(NetworkAnswer),
    /// `0005/08` with the device's list.
    NetworkList(NetworkList),
    /// `0007`.
    OtaProgress(OtaProgress),
    /// `0015/07`, `0015/17`, `0005/07`, `0005/17`.
    SwitchAnswer(SwitchAnswer),
    /// `0015/02`.
    ChargeEnd(ChargeEnd),
    /// `0015/18`.
    TiersEnd(TiersEnd),
    /// `0015/0c`.
    CardEnd(CardEnd),
    /// `1000/1004`.
    FeeEnd(FeeEnd),
    /// `0015/0b`.
    CardSwipe(CardSwipe),
    /// `0015/0f`.
    CardAccepted(CardAccepted),
    /// `0015/1a`.
    BalanceQuery(BalanceQuery),
    /// `0015/1b`.
    VoiceAnswer(VoiceAnswer),
    /// `0015/1c`, `0015/1d`.
    QueryAnswer(QueryAnswer),
    /// `1000/1017`.
    Status(StatusReport),
    /// `1000/1007`.
    FeeStartAnswer(FeeStartAnswer),
    /// `1000/1010`.
    Abnormal(Abnormal),
    /// `1000/1011`.
    SetParamsAnswer(SetParamsAnswer),
    /// `1000/1012`.
    Params(Params),
    /// `1000/1013`.
    Reconnected(Reconnected),
    /// A command or sub-command that nobody knows.
    Unknown(Unknown),
}

/// What the platform says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downlink {
    /// `0000`.
    HeartbeatReply(HeartbeatReply),
    /// `0005/08`.
    NetworkRefresh(NetworkRefresh),
    /// `0005/09`, `0005/0a`.
    NetworkChange(NetworkChange),
    /// `0007`.
    Ota(Ota),
    /// `0015/07`.
    Switch(Switch),
    /// `0015/17`, `0005/17`.
    StartByTiers(StartByTiers),
    /// `1000/1007`.
    StartByFee(StartByFee),
    /// `0015/0c`, or the sub-command of the end echoed.
    EndAck(EndAck),
    /// `1000/1004`.
    FeeEndAck(FeeEndAck),
    /// `0015/0b`.
    CardOrder(CardOrder),
    /// `0015/1a`.
    BalanceAnswer(BalanceAnswer),
    /// `0015/1b`.
    VoiceHours(VoiceHours),
    /// `0015/1d`.
    QueryStatus(QueryStatus),
    /// `1000/1017`.
    StatusAck(StatusAck),
    /// `1000/1010`.
    AbnormalAck(AbnormalAck),
    /// `1000/1011`.
    SetParams(SetParams),
    /// `1000/1012`.
    QueryParams(QueryParams),
    /// A command or sub-command that nobody knows.
    Unknown(Unknown),
}

/// A command or sub-command that nobody knows, kept raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The command.
    pub command: u16,
    /// The sub-command, when the command has one.
    pub sub: Option<u16>,
    /// The data, whole.
    pub data: Box<[u8]>,
}

impl Uplink {
    /// The message of a frame.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        Self::decode_traced(frame, None)
    }

    pub(crate) fn decode_traced(frame: &Frame<'_>, trace: Option<&Trace>) -> Result<Self, DecodeError> {
        Self::read(frame, trace).map_err(|fault| DecodeError::new(frame, fault))
    }

    fn read(frame: &Frame<'_>, trace: Option<&Trace>) -> Result<Self, Fault> {
        check_header(frame, Direction::Up)?;
        let mut r = Reader::new(frame.data(), DATA, trace);
        let message = match Command::from_code(frame.command()) {
            Command::Wrapper => Self::read_wrapper(&mut r, frame)?,
            Command::Heartbeat => Self::Heartbeat(Heartbeat::read(&mut r)?),
            Command::Network => Self::read_network(&mut r, frame)?,
            Command::Ota => Self::OtaProgress(OtaProgress::read(&mut r)),
            Command::Control => Self::read_control(&mut r, frame)?,
            Command::Unknown(_) => Self::Unknown(Unknown::read(&mut r, frame)),
        };
        r.finish()?;
        Ok(message)
    }

    fn read_network(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let sub = counted_sub(r, Shape::NetworkSub)?;
        Ok(match NetworkSub::from_code(sub) {
            NetworkSub::Refresh if r.left() != 1 => Self::NetworkList(NetworkList::read(r)?),
            NetworkSub::Refresh | NetworkSub::Add | NetworkSub::Delete => {
                Self::NetworkAnswer(NetworkAnswer::read(r, sub)?)
            }
            NetworkSub::Switch | NetworkSub::StartByTiers => {
                Self::SwitchAnswer(SwitchAnswer::read(r, Carrier::Network, sub)?)
            }
            NetworkSub::Unknown(_) => Self::Unknown(Unknown::read(r, frame)),
        })
    }

    fn read_control(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let sub = counted_sub(r, Shape::ControlSub)?;
        Ok(match ControlSub::from_code(sub) {
            ControlSub::ChargeEnd => Self::ChargeEnd(ChargeEnd::read(r)?),
            ControlSub::TiersEnd => Self::TiersEnd(TiersEnd::read(r)?),
            ControlSub::CardEnd => Self::CardEnd(CardEnd::read(r)?),
            ControlSub::Switch | ControlSub::StartByTiers => {
                Self::SwitchAnswer(SwitchAnswer::read(r, Carrier::Control, sub)?)
            }
            ControlSub::Card => Self::CardSwipe(CardSwipe::read(r)?),
            ControlSub::CardAccepted => Self::CardAccepted(CardAccepted::read(r)?),
            ControlSub::Balance => Self::BalanceQuery(BalanceQuery::read(r)?),
            ControlSub::Voice => Self::VoiceAnswer(VoiceAnswer::read(r)?),
            ControlSub::StatusAnswer | ControlSub::StatusQuery => Self::QueryAnswer(QueryAnswer::read(r, sub)?),
            ControlSub::Unknown(_) => Self::Unknown(Unknown::read(r, frame)),
        })
    }

    fn read_wrapper(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let (sub, sequence) = wrapper_head(r, frame)?;
        Ok(match WrapperSub::from_code(sub) {
            WrapperSub::Status => Self::Status(StatusReport::read(r, sequence)?),
            WrapperSub::FeeEnd => Self::FeeEnd(FeeEnd::read(r, sequence)?),
            WrapperSub::StartByFee => Self::FeeStartAnswer(FeeStartAnswer::read(r, sequence)?),
            WrapperSub::Abnormal => Self::Abnormal(Abnormal::read(r, sequence)?),
            WrapperSub::SetParams => Self::SetParamsAnswer(SetParamsAnswer::read(r, sequence)?),
            WrapperSub::QueryParams => Self::Params(Params::read(r, sequence)?),
            WrapperSub::Reconnected => Self::Reconnected(Reconnected::read(r, sequence)?),
            WrapperSub::Unknown(_) => Self::Unknown(Unknown::read(r, frame)),
        })
    }

    /// The frame of this message.
    pub fn encode(&self, device: DeviceId, message_id: MessageId) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(device, message_id, &mut out);
        out
    }

    /// Appends the frame of this message.
    pub fn encode_into(&self, device: DeviceId, message_id: MessageId, out: &mut Vec<u8>) {
        let header = Header { message_id, gateway: device.bcd() };
        write_frame(out, Direction::Up, self.command().code(), message_id, header.gateway, |out| {
            self.write(out, &header);
        });
    }

    /// The command that it travels under.
    pub fn command(&self) -> Command {
        match self {
            Self::Heartbeat(_) => Command::Heartbeat,
            Self::NetworkAnswer(_) | Self::NetworkList(_) => Command::Network,
            Self::OtaProgress(_) => Command::Ota,
            Self::SwitchAnswer(m) => carrier_command(m.carrier),
            Self::ChargeEnd(_)
            | Self::TiersEnd(_)
            | Self::CardEnd(_)
            | Self::CardSwipe(_)
            | Self::CardAccepted(_)
            | Self::BalanceQuery(_)
            | Self::VoiceAnswer(_)
            | Self::QueryAnswer(_) => Command::Control,
            Self::FeeEnd(_)
            | Self::Status(_)
            | Self::FeeStartAnswer(_)
            | Self::Abnormal(_)
            | Self::SetParamsAnswer(_)
            | Self::Params(_)
            | Self::Reconnected(_) => Command::Wrapper,
            Self::Unknown(m) => Command::from_code(m.command),
        }
    }

    fn write(&self, out: &mut Vec<u8>, header: &Header) {
        match self {
            Self::Heartbeat(m) => m.write(out),
            Self::NetworkAnswer(m) => counted(out, m.sub.code(), |out| m.write(out)),
            Self::NetworkList(m) => counted(out, NetworkSub::Refresh.code(), |out| m.write(out)),
            Self::OtaProgress(m) => out.extend_from_slice(&m.data),
            Self::SwitchAnswer(m) => counted(out, m.sub(), |out| m.write(out)),
            Self::ChargeEnd(m) => counted(out, ControlSub::ChargeEnd.code(), |out| m.write(out)),
            Self::TiersEnd(m) => counted(out, ControlSub::TiersEnd.code(), |out| m.write(out)),
            Self::CardEnd(m) => counted(out, ControlSub::CardEnd.code(), |out| m.write(out)),
            Self::CardSwipe(m) => counted(out, ControlSub::Card.code(), |out| m.write(out)),
            Self::CardAccepted(m) => counted(out, ControlSub::CardAccepted.code(), |out| m.write(out)),
            Self::BalanceQuery(m) => counted(out, ControlSub::Balance.code(), |out| m.write(out)),
            Self::VoiceAnswer(m) => counted(out, ControlSub::Voice.code(), |out| m.write(out)),
            Self::QueryAnswer(m) => counted(out, m.sub(), |out| m.write(out)),
            Self::Status(m) => m.write(out, header),
            Self::FeeEnd(m) => m.write(out, header),
            Self::FeeStartAnswer(m) => m.write(out, header),
            Self::Abnormal(m) => m.write(out, header),
            Self::SetParamsAnswer(m) => m.write(out, header),
            Self::Params(m) => m.write(out, header),
            Self::Reconnected(m) => m.write(out, header),
            Self::Unknown(m) => out.extend_from_slice(&m.data),
        }
    }

    /// The common view of the four end reports.
    pub fn end_report(&self) -> Option<EndReport> {
        match self {
            Self::ChargeEnd(m) => Some(m.into()),
            Self::TiersEnd(m) => Some(m.into()),
            Self::CardEnd(m) => Some(m.into()),
            Self::FeeEnd(m) => Some(m.into()),
            _ => None,
        }
    }

    /// The common view of the answers to a start or stop, under our message id.
    pub fn start_answer(&self) -> Option<StartAnswer> {
        match self {
            Self::SwitchAnswer(m) => Some(m.into()),
            Self::FeeStartAnswer(m) => Some(m.into()),
            _ => None,
        }
    }

    /// The sockets of a status report or of the answer to a status query.
    pub fn socket_statuses(&self) -> impl Iterator<Item = &SocketStatus> {
        let (first, more) = match self {
            Self::Status(m) => (Some(&m.first), &m.more[..]),
            Self::QueryAnswer(m) => (Some(&m.status), &[][..]),
            _ => (None, &[][..]),
        };
        first.into_iter().chain(more)
    }
}

impl Downlink {
    /// The message of a frame.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        Self::decode_traced(frame, None)
    }

    pub(crate) fn decode_traced(frame: &Frame<'_>, trace: Option<&Trace>) -> Result<Self, DecodeError> {
        Self::read(frame, trace).map_err(|fault| DecodeError::new(frame, fault))
    }

    fn read(frame: &Frame<'_>, trace: Option<&Trace>) -> Result<Self, Fault> {
        check_header(frame, Direction::Down)?;
        let mut r = Reader::new(frame.data(), DATA, trace);
        let message = match Command::from_code(frame.command()) {
            Command::Heartbeat => Self::HeartbeatReply(HeartbeatReply::read(&mut r)?),
            Command::Network => Self::read_network(&mut r, frame)?,
            Command::Ota => Self::Ota(Ota::read(&mut r)?),
            Command::Control => Self::read_control(&mut r, frame)?,
            Command::Wrapper => Self::read_wrapper(&mut r, frame)?,
            Command::Unknown(_) => Self::Unknown(Unknown::read(&mut r, frame)),
        };
        r.finish()?;
        Ok(message)
    }

    fn read_network(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let sub = counted_sub(r, Shape::NetworkSub)?;
        Ok(match NetworkSub::from_code(sub) {
            NetworkSub::Refresh => Self::NetworkRefresh(NetworkRefresh::read(r)?),
            NetworkSub::Add => Self::NetworkChange(NetworkChange::read_add(r)?),
            NetworkSub::Delete => Self::NetworkChange(NetworkChange::read_delete(r)?),
            NetworkSub::StartByTiers => Self::StartByTiers(StartByTiers::read(r, Carrier::Network)?),
            NetworkSub::Switch | NetworkSub::Unknown(_) => Self::Unknown(Unknown::read(r, frame)),
        })
    }

    fn read_control(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let sub = counted_sub(r, Shape::ControlSub)?;
        Ok(match ControlSub::from_code(sub) {
            ControlSub::Switch => Self::Switch(Switch::read(r)?),
            ControlSub::StartByTiers => Self::StartByTiers(StartByTiers::read(r, Carrier::Control)?),
            ControlSub::ChargeEnd => Self::EndAck(EndAck::read(r, EndAckForm::Echo(EndKind::Charge))?),
            ControlSub::TiersEnd => Self::EndAck(EndAck::read(r, EndAckForm::Echo(EndKind::Tiers))?),
            ControlSub::CardEnd => Self::EndAck(EndAck::read(r, EndAckForm::Usual)?),
            ControlSub::Card => Self::CardOrder(CardOrder::read(r)?),
            ControlSub::Balance => Self::BalanceAnswer(BalanceAnswer::read(r)?),
            ControlSub::Voice => Self::VoiceHours(VoiceHours::read(r)?),
            ControlSub::StatusQuery => Self::QueryStatus(QueryStatus::read(r)?),
            ControlSub::CardAccepted | ControlSub::StatusAnswer | ControlSub::Unknown(_) => {
                Self::Unknown(Unknown::read(r, frame))
            }
        })
    }

    fn read_wrapper(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<Self, Fault> {
        let (sub, sequence) = wrapper_head(r, frame)?;
        Ok(match WrapperSub::from_code(sub) {
            WrapperSub::Status => Self::StatusAck(StatusAck::read(r, sequence)?),
            WrapperSub::StartByFee => Self::StartByFee(StartByFee::read(r, sequence)?),
            WrapperSub::FeeEnd => Self::FeeEndAck(FeeEndAck::read(r, sequence)?),
            WrapperSub::Abnormal => Self::AbnormalAck(AbnormalAck::read(r, sequence)?),
            WrapperSub::SetParams => Self::SetParams(SetParams::read(r, sequence)?),
            WrapperSub::QueryParams => Self::QueryParams(QueryParams::read(r, sequence)?),
            WrapperSub::Reconnected | WrapperSub::Unknown(_) => Self::Unknown(Unknown::read(r, frame)),
        })
    }

    /// The frame of this message.
    pub fn encode(&self, device: DeviceId, message_id: MessageId) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(device, message_id, &mut out);
        out
    }

    /// Appends the frame of this message.
    pub fn encode_into(&self, device: DeviceId, message_id: MessageId, out: &mut Vec<u8>) {
        let header = Header { message_id, gateway: device.bcd() };
        write_frame(out, Direction::Down, self.command().code(), message_id, header.gateway, |out| {
            self.write(out, &header);
        });
    }

    /// The command that it travels under.
    pub fn command(&self) -> Command {
        match self {
            Self::HeartbeatReply(_) => Command::Heartbeat,
            Self::NetworkRefresh(_) | Self::NetworkChange(_) => Command::Network,
            Self::Ota(_) => Command::Ota,
            Self::StartByTiers(m) => carrier_command(m.carrier),
            Self::Switch(_)
            | Self::EndAck(_)
            | Self::CardOrder(_)
            | Self::BalanceAnswer(_)
            | Self::VoiceHours(_)
            | Self::QueryStatus(_) => Command::Control,
            Self::StartByFee(_)
            | Self::FeeEndAck(_)
            | Self::StatusAck(_)
            | Self::AbnormalAck(_)
            | Self::SetParams(_)
            | Self::QueryParams(_) => Command::Wrapper,
            Self::Unknown(m) => Command::from_code(m.command),
        }
    }

    fn write(&self, out: &mut Vec<u8>, header: &Header) {
        match self {
            Self::HeartbeatReply(m) => m.write(out),
            Self::NetworkRefresh(m) => counted(out, NetworkSub::Refresh.code(), |out| m.write(out)),
            Self::NetworkChange(m) => counted(out, m.sub().code(), |out| m.write(out)),
            Self::Ota(m) => m.write(out),
            Self::Switch(m) => counted(out, ControlSub::Switch.code(), |out| m.write(out)),
            Self::StartByTiers(m) => counted(out, ControlSub::StartByTiers.code(), |out| m.write(out)),
            Self::EndAck(m) => counted(out, m.sub().code(), |out| m.write(out)),
            Self::CardOrder(m) => counted(out, ControlSub::Card.code(), |out| m.write(out)),
            Self::BalanceAnswer(m) => counted(out, ControlSub::Balance.code(), |out| m.write(out)),
            Self::VoiceHours(m) => counted(out, ControlSub::Voice.code(), |out| m.write(out)),
            Self::QueryStatus(m) => counted(out, ControlSub::StatusQuery.code(), |out| m.write(out)),
            Self::StartByFee(m) => m.write(out, header),
            Self::FeeEndAck(m) => m.write(out, header),
            Self::StatusAck(m) => m.write(out, header),
            Self::AbnormalAck(m) => m.write(out, header),
            Self::SetParams(m) => m.write(out, header),
            Self::QueryParams(m) => m.write(out, header),
            Self::Unknown(m) => out.extend_from_slice(&m.data),
        }
    }
}

impl Unknown {
    /// Keeps the data whole; what was not read of them is explained as far as that can be done.
    fn read(r: &mut Reader<'_>, frame: &Frame<'_>) -> Self {
        if Command::from_code(frame.command()) == Command::Wrapper {
            let mut items = *r;
            while let Ok(Some(item)) = items.item() {
                item.raw();
            }
            *r = Reader::new(&[], r.offset(), None);
        } else {
            r.rest("data");
        }
        Self { command: frame.command(), sub: frame.sub(), data: frame.data().into() }
    }
}

/// What the deframer leaves open: that the header makes sense.
#[inline]
fn check_header(frame: &Frame<'_>, direction: Direction) -> Result<(), Fault> {
    if frame.direction() != direction {
        return Err(Fault { field: "head", offset: 0, cause: Cause::WrongDirection });
    }
    if frame.direction_byte() != direction.byte() {
        return Err(Fault { field: "direction", offset: 10, cause: Cause::WrongDirection });
    }
    if frame.device().is_none() {
        return Err(Fault { field: "gateway", offset: 11, cause: Cause::NotDecimal });
    }
    Ok(())
}

/// `n` and the sub-command of `0005` and `0015`; `n` counts the bytes behind the sub-command.
fn counted_sub(r: &mut Reader<'_>, shape: Shape) -> Result<u8, Fault> {
    let offset = r.offset();
    let declared = usize::from(r.word("n", Shape::U16)?);
    let sub = r.byte("sub", shape)?;
    if declared != r.left() {
        return Err(Fault { field: "n", offset, cause: Cause::Length { declared, found: r.left() } });
    }
    Ok(sub)
}

/// Writes `n`, the sub-command and the bytes that `n` counts.
fn counted(out: &mut Vec<u8>, sub: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, sub]);
    write(out);
    let n = u16::try_from(out.len() - start - 3).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&n.to_be_bytes());
}

/// The three items that every `1000` message begins with; right ones are known by sight.
#[inline]
fn wrapper_head(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<(u16, Sequence), Fault> {
    if let Some([4, 1, 1, s0, s1, 10, 1, 2, sequence @ .., 9, 1, 3, g0, g1, g2, g3, g4, g5, g6]) = r.peek::<26>()
        && [*g0, *g1, *g2, *g3, *g4, *g5, *g6] == frame.gateway()
    {
        r.skip(26);
        let sequence = Sequence::of(u64::from_be_bytes(*sequence), frame.message_id());
        return Ok((u16::from_be_bytes([*s0, *s1]), sequence));
    }
    wrapper_head_by_item(r, frame)
}

#[cold]
fn wrapper_head_by_item(r: &mut Reader<'_>, frame: &Frame<'_>) -> Result<(u16, Sequence), Fault> {
    let sub = leading(r, Key::Sub)?.word()?;
    let item = leading(r, Key::Sequence)?;
    let sequence = Sequence::of(item.long()?, frame.message_id());
    let item = leading(r, Key::Gateway)?;
    if item.gateway()? != frame.gateway() {
        return Err(item.fault(Cause::Foreign));
    }
    Ok((sub, sequence))
}

fn leading<'a>(r: &mut Reader<'a>, key: Key) -> Result<Item<'a>, Fault> {
    let offset = r.offset();
    let item = r.item()?.filter(|item| item.key == key);
    item.ok_or(Fault { field: key.name(), offset, cause: Cause::Missing })
}

fn carrier_command(carrier: Carrier) -> Command {
    match carrier {
        Carrier::Control => Command::Control,
        Carrier::Network => Command::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guide's `1017` frame and nearly every way to bend it: what is known by sight reads as item by item.
    #[test]
    fn usual_items_read_the_same_by_sight_and_one_by_one() {
        let guide = include_str!("../../../tests/vectors/guide.tsv");
        let hex = guide.lines().find_map(|row| row.strip_prefix("status_1017\tok\t")).unwrap();
        let good: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect();
        for at in 18..good.len() - 3 {
            for bend in 0..=u8::MAX {
                let mut data = good[18..good.len() - 3].to_vec();
                data[at - 18] ^= bend;
                let mut bytes = Vec::new();
                let gateway = [0x82, 0x23, 0x12, 0x14, 0, 0x27, 0];
                write_frame(&mut bytes, Direction::Up, 0x1000, MessageId::DEVICE, gateway, |out| out.extend(&data));
                let frame = Frame::parse(&bytes).unwrap();
                let one_by_one = Uplink::decode_traced(&frame, Some(&Trace::default()));
                assert_eq!(Uplink::decode(&frame), one_by_one, "byte {at} by {bend:02x}");
            }
        }
    }
}
