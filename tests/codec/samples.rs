//! One sample of each message, in one list for all tests.

use std::net::Ipv4Addr;

use chargegate::bkv::*;
use chargegate::ids::*;

/// A message of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Up(Uplink),
    Down(Downlink),
}

impl Message {
    pub fn encode(&self, message_id: MessageId) -> Vec<u8> {
        match self {
            Self::Up(m) => m.encode(device(), message_id),
            Self::Down(m) => m.encode(device(), message_id),
        }
    }

    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        match frame.direction() {
            Direction::Up => Uplink::decode(frame).map(Self::Up),
            Direction::Down => Downlink::decode(frame).map(Self::Down),
        }
    }
}

pub fn device() -> DeviceId {
    "82241218000382".parse().unwrap()
}

pub fn socket(no: u8) -> SocketNo {
    SocketNo::new(no).unwrap()
}

pub fn reading(port: PortNo) -> PortReading {
    PortReading {
        port,
        status: StatusByte::CHARGING,
        business_no: BusinessNo::new(0x1234),
        voltage: DeciVolts(2275),
        power: DeciWatts(1234),
        current: MilliAmperes(567),
        energy_units: EnergyUnits(89),
        minutes: Minutes(61),
    }
}

pub fn status(no: u8) -> SocketStatus {
    SocketStatus {
        socket: socket(no),
        firmware: 0xffff,
        temperature_c: -7,
        rssi: 31,
        ports: UpTo::from_slice(&[reading(PortNo::A), reading(PortNo::B)]).unwrap(),
        extras: Extras::default(),
    }
}

fn figures() -> EndFigures {
    EndFigures {
        socket: socket(9),
        firmware: 0x5136,
        temperature_c: -2,
        rssi: 20,
        port: PortNo::B,
        status: StatusByte::NO_LOAD,
        business_no: BusinessNo::new(77),
        power: DeciWatts(3),
        current: MilliAmperes(4),
        energy_units: EnergyUnits(5),
        minutes: Minutes(6),
    }
}

fn fee_end() -> FeeEnd {
    let used = [TierUse { minutes: Minutes(7), energy_units: Some(80_000) }, TierUse::default()];
    FeeEnd {
        sequence: Sequence::MessageId,
        temperature_c: Some(42),
        socket: socket(1),
        port: PortNo::A,
        status: StatusByte::NO_LOAD,
        business_no: BusinessNo::new(51),
        power: DeciWatts(1),
        current: Some(MilliAmperes(2)),
        energy_units: EnergyUnits(3),
        minutes: Minutes(4),
        end_time: Some(DeviceTime::bcd(moment())),
        reason: Some(8),
        mode: Some(4),
        electricity_fee: Some(Cents(12)),
        service_fee: Some(Cents(34)),
        tiers: Some(2),
        tier_items: vec![FeeEnd::tier_item(&used)],
        extras: Extras::default(),
    }
}

fn moment() -> CalendarTime {
    CalendarTime { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 58 }
}

fn tiers() -> UpTo<PowerTier, 5> {
    let tier = |n: u32| PowerTier { limit: DeciWatts(n * 1000), price: Cents(n * 25), minutes: Minutes(60) };
    UpTo::from_slice(&[tier(2), tier(4), tier(6)]).unwrap()
}

fn settings() -> Vec<Setting> {
    let known = [(Key::TrickleTime, 7200), (Key::TemperatureLimit, 85), (Key::BaseAmount, 70_000)];
    let mut list: Vec<_> = known.iter().map(|(key, n)| Setting::number(*key, *n).unwrap()).collect();
    list.push(Setting { key: Key::Unknown(0xee), value: SettingValue::Raw([1, 2, 3].into()) });
    list
}

pub fn uplinks() -> Vec<Uplink> {
    let sequence = Sequence::MessageId;
    let answer = SwitchAnswer {
        carrier: Carrier::Control,
        to_tiers: false,
        result: ResultByte::OK,
        socket: socket(2),
        port: PortNo::A,
        business_no: BusinessNo::new(104),
    };
    let bare = FeeEnd {
        temperature_c: None,
        current: None,
        end_time: None,
        reason: None,
        mode: None,
        electricity_fee: None,
        service_fee: None,
        tiers: None,
        tier_items: Vec::new(),
        ..fee_end()
    };
    let tiers_end = TiersEnd {
        figures: figures(),
        end_time: DeviceTime::binary(CalendarTime { month: 13, ..moment() }),
        reason: 2,
        amount: Cents(15),
        settlement_power: DeciWatts(1200),
        tiers: 3,
        tier_minutes: [1, 2, 3, 4, 5].map(Minutes),
    };
    let listed = ListedSocket {
        socket: socket(3),
        mac: Mac([1, 2, 3, 4, 5, 6]),
        uid: [7, 8, 9, 10],
        channel: 4,
        rssi: 25,
        online: true,
    };
    let card_end = CardEnd {
        figures: figures(),
        card_no: CardNo([0, 0, 0x29, 0x83, 0x52, 1]),
        card_kind: 0,
        billing: 3,
        amount: Cents(200),
        settlement_power: DeciWatts(900),
        tier_minutes: UpTo::from_slice(&[Minutes(8), Minutes(9)]).unwrap(),
    };
    vec![
        Uplink::Heartbeat(Heartbeat {
            iccid: AsciiText::new("89860463112070319417").unwrap(),
            firmware: AsciiText::new("V.1r46").unwrap(),
            rssi: 31,
        }),
        Uplink::NetworkAnswer(NetworkAnswer { sub: NetworkSub::Delete, result: ResultByte::OK }),
        Uplink::NetworkList(NetworkList { sockets: vec![listed, ListedSocket { online: false, ..listed }] }),
        Uplink::OtaProgress(OtaProgress { data: [1, 50].into() }),
        Uplink::SwitchAnswer(answer),
        Uplink::SwitchAnswer(SwitchAnswer { result: ResultByte(7), business_no: None, ..answer }),
        Uplink::SwitchAnswer(SwitchAnswer { carrier: Carrier::Network, ..answer }),
        Uplink::SwitchAnswer(SwitchAnswer { to_tiers: true, ..answer }),
        Uplink::SwitchAnswer(SwitchAnswer { carrier: Carrier::Network, to_tiers: true, ..answer }),
        Uplink::ChargeEnd(ChargeEnd { figures: figures() }),
        Uplink::TiersEnd(tiers_end),
        Uplink::CardEnd(card_end),
        Uplink::CardEnd(CardEnd { tier_minutes: UpTo::default(), ..card_end }),
        Uplink::FeeEnd(fee_end()),
        Uplink::FeeEnd(bare),
        Uplink::CardSwipe(CardSwipe {
            socket: socket(1),
            port: PortNo::B,
            business_no: BusinessNo::new(26),
            status: StatusByte::STARTED,
            card_no: CardNo([0, 0, 0, 0, 0, 2]),
            reserved: [0; 20],
        }),
        Uplink::CardAccepted(CardAccepted { socket: socket(1), port: PortNo::A, result: ResultByte::OK }),
        Uplink::BalanceQuery(BalanceQuery { socket: socket(2), port: PortNo::A, card_no: CardNo([9; 6]) }),
        Uplink::VoiceAnswer(VoiceAnswer { target: VoiceTarget::All, port: PortNo::B, result: ResultByte::OK }),
        Uplink::QueryAnswer(QueryAnswer { status: status(1), under_1d: false }),
        Uplink::QueryAnswer(QueryAnswer { status: status(250), under_1d: true }),
        Uplink::Status(StatusReport::of(status(1))),
        Uplink::Status(StatusReport { more: vec![status(2), status(3)], ..StatusReport::of(status(1)) }),
        Uplink::FeeStartAnswer(FeeStartAnswer {
            sequence,
            result: ResultByte::OK,
            socket: Some(socket(1)),
            port: Some(PortNo::A),
            business_no: BusinessNo::new(9),
            extras: Extras::default(),
        }),
        Uplink::FeeStartAnswer(FeeStartAnswer {
            sequence: Sequence::Other(u64::MAX),
            result: ResultByte::REFUSED,
            socket: None,
            port: None,
            business_no: None,
            extras: Extras::default(),
        }),
        Uplink::Abnormal(Abnormal { sequence, socket: socket(2), settings: settings() }),
        Uplink::SetParamsAnswer(SetParamsAnswer {
            sequence,
            socket: socket(2),
            result: ResultByte::OK,
            settings: Vec::new(),
        }),
        Uplink::Params(Params { sequence, socket: socket(2), result: ResultByte::OK, settings: settings() }),
        Uplink::Reconnected(Reconnected {
            sequence,
            items: vec![
                (Key::Socket, [1].into()),
                (Key::Port, [0x7f].into()),
                (Key::Clock, DeviceTime::bcd(moment()).raw().into()),
                (Key::Reconnect, [0, 1].into()),
            ],
        }),
        Uplink::Unknown(Unknown { command: 0x0042, sub: None, data: [1, 2, 3].into() }),
        Uplink::Unknown(Unknown { command: 0x0015, sub: Some(0x99), data: [0, 1, 0x99, 7].into() }),
    ]
}

pub fn downlinks() -> Vec<Downlink> {
    let sequence = Sequence::Other(0x0102_0304_0506_0708);
    let entry = NetworkEntry { socket: socket(4), mac: Mac([0x45, 0, 0x30, 0x70, 2, 0x47]) };
    let (ok, file) = (ResultByte::OK, AsciiText::new("GV.8r12.OTA").unwrap());
    let ota = Ota { target: OtaTarget::Gateway, server: Ipv4Addr::new(101, 37, 145, 162), port: 21, file };
    let switch = |order| Downlink::Switch(Switch { socket: socket(2), port: PortNo::B, order });
    let card = |plan| {
        let business_no = BusinessNo::new(26);
        Downlink::CardOrder(CardOrder { socket: socket(1), port: PortNo::A, business_no, plan })
    };
    let by_tiers = StartByTiers {
        carrier: Carrier::Control,
        socket: socket(1),
        port: PortNo::A,
        amount: Cents(100),
        tiers: tiers(),
    };
    let fee =
        |until_hour, until_minute| FeeTier { until_hour, until_minute, electricity: Cents(50), service: Cents(20) };
    let period = VoicePeriod { from: (8, 30), to: (21, 45) };
    vec![
        Downlink::HeartbeatReply(HeartbeatReply { time: moment() }),
        Downlink::NetworkRefresh(NetworkRefresh { channel: 4, sockets: vec![entry; 3] }),
        Downlink::NetworkChange(NetworkChange::Add(entry)),
        Downlink::NetworkChange(NetworkChange::Delete(socket(4))),
        Downlink::Ota(ota),
        Downlink::Ota(Ota { target: OtaTarget::Socket(socket(17)), ..ota }),
        switch(SwitchOrder::Time(Minutes(240))),
        switch(SwitchOrder::Energy(WattHours(1500))),
        switch(SwitchOrder::Off),
        Downlink::StartByTiers(by_tiers),
        Downlink::StartByTiers(StartByTiers { carrier: Carrier::Network, ..by_tiers }),
        Downlink::StartByFee(StartByFee {
            sequence: Sequence::MessageId,
            socket: socket(1),
            port: PortNo::A,
            amount: Cents(100),
            service_fee_by: ServiceFeeBy::Energy,
            tiers: UpTo::from_slice(&[fee(8, 0), fee(23, 59)]).unwrap(),
            extras: Extras::default(),
        }),
        Downlink::EndAck(EndAck::ok(socket(1))),
        Downlink::EndAck(EndAck { form: EndAckForm::Echo(EndKind::Charge), socket: 255, result: ok }),
        Downlink::EndAck(EndAck { form: EndAckForm::Echo(EndKind::Tiers), socket: 1, result: ok }),
        Downlink::FeeEndAck(FeeEndAck::new(sequence, ok, 251, 9)),
        card(CardPlan::Off),
        card(CardPlan::Time(Minutes(48_000))),
        card(CardPlan::Energy(WattHours(900))),
        card(CardPlan::Power { amount: Cents(200), tiers: tiers() }),
        Downlink::BalanceAnswer(BalanceAnswer {
            socket: socket(2),
            port: PortNo::B,
            card_no: CardNo([9; 6]),
            balance: Cents(70_000),
        }),
        Downlink::VoiceHours(VoiceHours {
            target: VoiceTarget::All,
            port: PortNo::B,
            buzzer: 1,
            voice: 0,
            periods: UpTo::from_slice(&[period, period]).unwrap(),
        }),
        Downlink::QueryStatus(QueryStatus { socket: socket(250) }),
        Downlink::StatusAck(StatusAck::new(sequence, ok)),
        Downlink::AbnormalAck(AbnormalAck::new(Sequence::MessageId, 2, ResultByte::REFUSED)),
        Downlink::SetParams(SetParams { sequence: Sequence::MessageId, socket: socket(2), settings: settings() }),
        Downlink::QueryParams(QueryParams { sequence: Sequence::MessageId, socket: socket(2), settings: Vec::new() }),
        Downlink::Unknown(Unknown { command: 0xffff, sub: None, data: [].into() }),
    ]
}

pub fn all() -> Vec<Message> {
    uplinks().into_iter().map(Message::Up).chain(downlinks().into_iter().map(Message::Down)).collect()
}

#[test]
fn the_list_holds_every_message() {
    // A new variant fails to compile here until it is counted, and the count fails until it has a sample.
    let up = |m: &Uplink| match m {
        Uplink::Heartbeat(_) => 0,
        Uplink::NetworkAnswer(_) => 1,
        Uplink::NetworkList(_) => 2,
        Uplink::OtaProgress(_) => 3,
        Uplink::SwitchAnswer(_) => 4,
        Uplink::ChargeEnd(_) => 5,
        Uplink::TiersEnd(_) => 6,
        Uplink::CardEnd(_) => 7,
        Uplink::FeeEnd(_) => 8,
        Uplink::CardSwipe(_) => 9,
        Uplink::CardAccepted(_) => 10,
        Uplink::BalanceQuery(_) => 11,
        Uplink::VoiceAnswer(_) => 12,
        Uplink::QueryAnswer(_) => 13,
        Uplink::Status(_) => 14,
        Uplink::FeeStartAnswer(_) => 15,
        Uplink::Abnormal(_) => 16,
        Uplink::SetParamsAnswer(_) => 17,
        Uplink::Params(_) => 18,
        Uplink::Reconnected(_) => 19,
        Uplink::Unknown(_) => 20,
    };
    let down = |m: &Downlink| match m {
        Downlink::HeartbeatReply(_) => 0,
        Downlink::NetworkRefresh(_) => 1,
        Downlink::NetworkChange(_) => 2,
        Downlink::Ota(_) => 3,
        Downlink::Switch(_) => 4,
        Downlink::StartByTiers(_) => 5,
        Downlink::StartByFee(_) => 6,
        Downlink::EndAck(_) => 7,
        Downlink::FeeEndAck(_) => 8,
        Downlink::CardOrder(_) => 9,
        Downlink::BalanceAnswer(_) => 10,
        Downlink::VoiceHours(_) => 11,
        Downlink::QueryStatus(_) => 12,
        Downlink::StatusAck(_) => 13,
        Downlink::AbnormalAck(_) => 14,
        Downlink::SetParams(_) => 15,
        Downlink::QueryParams(_) => 16,
        Downlink::Unknown(_) => 17,
    };
    let ups: std::collections::BTreeSet<_> = uplinks().iter().map(up).collect();
    let downs: std::collections::BTreeSet<_> = downlinks().iter().map(down).collect();
    assert_eq!(ups.len(), 21);
    assert_eq!(downs.len(), 18);
}
