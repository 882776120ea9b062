//! The code spaces of the protocol: one table each, both directions, unknown values kept.

use std::fmt::Write as _;

/// Builds an enum over a code space with its codes and its names from one table.
macro_rules! codes {
    (
        $(#[$doc:meta])*
        pub enum $space:ident: $int:ty {
            $($(#[$code_doc:meta])* $code:ident = $value:literal $name:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $space {
            $($(#[$code_doc])* $code,)+
            /// A code that this table does not know, kept as it came.
            Unknown($int),
        }

        impl $space {
            /// The meaning of a code.
            #[inline]
            pub const fn from_code(code: $int) -> Self {
                match code {
                    $($value => Self::$code,)+
                    other => Self::Unknown(other),
                }
            }

            /// The code on the wire.
            #[inline]
            pub const fn code(self) -> $int {
                match self {
                    $(Self::$code => $value,)+
                    Self::Unknown(other) => other,
                }
            }

            /// What it is called in errors and explanations.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                    Self::Unknown(_) => "unknown",
                }
            }
        }
    };
}

codes! {
    /// Commands of a frame (§3).
    pub enum Command: u16 {
        /// Heartbeat and its answer with the time.
        Heartbeat = 0x0000 "heartbeat",
        /// The list of sockets behind a gateway.
        Network = 0x0005 "network",
        /// Firmware upgrade.
        Ota = 0x0007 "ota",
        /// The control family.
        Control = 0x0015 "control",
        /// The wrapper of key-value items.
        Wrapper = 0x1000 "wrapper",
    }
}

codes! {
    /// Sub-commands of `0005` (§8); `07` and `17` may travel here as well.
    pub enum NetworkSub: u8 {
        /// Answer to a start that travelled under this command.
        Switch = 0x07 "start",
        /// Replace the list.
        Refresh = 0x08 "refresh network",
        /// Add a socket.
        Add = 0x09 "add socket",
        /// Delete a socket.
        Delete = 0x0a "delete socket",
        /// Start by power tiers.
        StartByTiers = 0x17 "start by tiers",
    }
}

codes! {
    /// Sub-commands of `0015` (§6).
    pub enum ControlSub: u8 {
        /// Charge end of an order by time or energy.
        ChargeEnd = 0x02 "charge end",
        /// Start and stop, and their answer.
        Switch = 0x07 "start/stop",
        /// A card was swiped, and the order for it.
        Card = 0x0b "card",
        /// Charge end of a card's order; the usual acknowledgement of every end.
        CardEnd = 0x0c "charge end (card)",
        /// The order for a card was accepted.
        CardAccepted = 0x0f "card order accepted",
        /// Start by power tiers, and its answer.
        StartByTiers = 0x17 "start by tiers",
        /// Charge end of an order by tiers.
        TiersEnd = 0x18 "charge end (tiers)",
        /// Balance of a card.
        Balance = 0x1a "card balance",
        /// Hours in which a socket speaks.
        Voice = 0x1b "voice hours",
        /// Answer to a status query.
        StatusAnswer = 0x1c "status answer",
        /// Status query; some firmware answers under it as well.
        StatusQuery = 0x1d "status query",
    }
}

codes! {
    /// Sub-commands of `1000` (§7).
    pub enum WrapperSub: u16 {
        /// Charge end of an order by fee.
        FeeEnd = 0x1004 "charge end (fee)",
        /// Start with electricity and service fee.
        StartByFee = 0x1007 "start by fee",
        /// Abnormal event.
        Abnormal = 0x1010 "abnormal event",
        /// Set parameters.
        SetParams = 0x1011 "set parameters",
        /// Query parameters.
        QueryParams = 0x1012 "query parameters",
        /// Sent by a device once after each reconnect.
        Reconnected = 0x1013 "reconnected",
        /// Status of sockets.
        Status = 0x1017 "status",
    }
}

/// Builds [`Key`] with the form of each key's value beside its name.
macro_rules! keys {
    ($($(#[$doc:meta])* $key:ident = $value:literal $name:literal $shape:ident,)+) => {
        codes! {
            /// Keys of the items in a `1000` message (§7).
            pub enum Key: u8 {
                $($(#[$doc])* $key = $value $name,)+
            }
        }

        impl Key {
            /// The form of its value.
            pub const fn shape(self) -> Shape {
                match self {
                    $(Self::$key => Shape::$shape,)+
                    Self::Unknown(_) => Shape::Bytes,
                }
            }
        }
    };
}

keys! {
    /// Sub-command.
    Sub = 0x01 "sub" Sub,
    /// Sequence: the message id, zero-extended.
    Sequence = 0x02 "sequence" U64,
    /// Gateway id.
    Gateway = 0x03 "gateway" Gateway,
    /// The device's clock.
    Clock = 0x06 "device_clock" BcdTime,
    /// Temperature.
    Temperature = 0x07 "temperature" Celsius,
    /// Port.
    Port = 0x08 "port" Port,
    /// Status byte of a port.
    Status = 0x09 "status" Status,
    /// Business number.
    BusinessNo = 0x0a "business_no" BusinessNo,
    /// Power.
    Power = 0x0b "power" DeciWatts,
    /// Current.
    Current = 0x0c "current" MilliAmperes,
    /// Energy in units of the device.
    Energy = 0x0d "energy" Energy,
    /// Minutes.
    Minutes = 0x0e "minutes" Minutes,
    /// 1 ok, 0 refused or error.
    Result = 0x0f "result" Result,
    /// Limit of the current.
    CurrentLimit = 0x10 "current_limit" MilliAmperes,
    /// Limit of the power.
    PowerLimit = 0x11 "power_limit" DeciWatts,
    /// Mode of an order.
    Mode = 0x12 "mode" Mode,
    /// On or off.
    Switch = 0x13 "switch" Switch,
    /// Trickle time after full.
    TrickleTime = 0x21 "trickle_time" Seconds,
    /// Delay until no load ends a session.
    NoLoadDelay = 0x22 "no_load_delay" Seconds,
    /// Power below which the battery counts as full.
    FullPower = 0x23 "full_power_threshold" DeciWatts,
    /// Power below which nothing draws.
    NoLoadPower = 0x24 "no_load_power_threshold" DeciWatts,
    /// Limit of the temperature.
    TemperatureLimit = 0x25 "temperature_limit" Celsius,
    /// End time by the device's clock.
    EndTime = 0x2e "end_time" BcdTime,
    /// End reason.
    Reason = 0x2f "reason" U8,
    /// Firmware of a socket.
    Firmware = 0x3e "firmware" Firmware,
    /// Kind of control.
    ControlKind = 0x47 "control_kind" U8,
    /// Socket.
    Socket = 0x4a "socket" Socket,
    /// State of the socket.
    SocketState = 0x4b "socket_state" U8,
    /// State of port A.
    PortAState = 0x4c "port_a_state" U8,
    /// State of port B.
    PortBState = 0x4d "port_b_state" U8,
    /// Over-voltage.
    OverVoltage = 0x4e "over_voltage" DeciVolts,
    /// Under-voltage.
    UnderVoltage = 0x4f "under_voltage" DeciVolts,
    /// Leakage at port A.
    PortALeakage = 0x50 "port_a_leakage" U16,
    /// Leakage at port B.
    PortBLeakage = 0x51 "port_b_leakage" U16,
    /// Over-temperature at port A.
    PortAOverTemperature = 0x52 "port_a_over_temperature" U8,
    /// Over-temperature at port B.
    PortBOverTemperature = 0x53 "port_b_over_temperature" U8,
    /// Reason given for the socket.
    SocketReason = 0x54 "socket_reason" U8,
    /// Reason given for port A.
    PortAReason = 0x55 "port_a_reason" U8,
    /// Reason given for port B.
    PortBReason = 0x56 "port_b_reason" U8,
    /// Charging status of port A.
    PortAStatus = 0x57 "port_a_status" Status,
    /// Charging status of port B.
    PortBStatus = 0x58 "port_b_status" Status,
    /// Longest charge.
    LongestCharge = 0x59 "longest_charge" Minutes,
    /// Two bytes in `1013` that nobody explains.
    Reconnect = 0x5a "reconnect_value" U16,
    /// Figures of a port.
    PortItem = 0x5b "port_item" Items,
    /// Trickle threshold.
    TrickleThreshold = 0x60 "trickle_threshold" Percent,
    /// Base amount.
    BaseAmount = 0x68 "base_amount" U32,
    /// Service fee by 0 time, 1 energy.
    ServiceFeeBy = 0x80 "service_fee_by" FeeBy,
    /// A tier of an order by fee.
    FeeTier = 0x83 "fee_tier" Bytes,
    /// What was used of the tiers.
    TierUse = 0x84 "tier_use" TierUse,
    /// Electricity fee.
    ElectricityFee = 0x85 "electricity_fee" Cents,
    /// Service fee.
    ServiceFee = 0x86 "service_fee" Cents,
    /// Amount.
    Amount = 0x88 "amount" Cents,
    /// Number of tiers.
    Tiers = 0x89 "tiers" U8,
    /// Anti-pulse time.
    AntiPulseTime = 0x93 "anti_pulse_time" U16,
    /// Status of a socket.
    SocketItem = 0x94 "socket_item" Items,
    /// Voltage.
    Voltage = 0x95 "voltage" DeciVolts,
    /// Strength of the radio signal.
    Rssi = 0x96 "rssi" U8,
    /// Setting without a published meaning.
    Setting98 = 0x98 "setting_98" U8,
    /// Setting without a published meaning.
    Setting99 = 0x99 "setting_99" U8,
    /// Setting without a published meaning.
    Setting9a = 0x9a "setting_9a" U8,
    /// Setting without a published meaning.
    Setting9b = 0x9b "setting_9b" U8,
    /// 2 in the only sample of a start by fee.
    StartFlag = 0xf4 "start_flag" U8,
}

/// The form of a field: how wide it is and what its bytes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any bytes, kept as they are.
    Bytes,
    /// Items in an item.
    Items,
    /// Text, NUL-padded.
    Text,
    /// A number of one byte.
    U8,
    /// A number of two bytes.
    U16,
    /// A number of four bytes.
    U32,
    /// A number of eight bytes.
    U64,
    /// A sub-command of `1000`.
    Sub,
    /// A sub-command of `0005`.
    NetworkSub,
    /// A sub-command of `0015`.
    ControlSub,
    /// A gateway id.
    Gateway,
    /// A socket number.
    Socket,
    /// A port number.
    Port,
    /// 1 ok, anything else not.
    Result,
    /// 1 on, 0 off.
    Switch,
    /// 1 time, 0 energy, 3 power, 4 fee.
    Mode,
    /// 1 time, 2 energy, 3 power.
    Billing,
    /// 0 time, 1 energy.
    FeeBy,
    /// Minutes and energy per tier.
    TierUse,
    /// The bits of §5.
    Status,
    /// Signed degrees.
    Celsius,
    /// Per cent.
    Percent,
    /// Firmware of a socket, `ffff` unknown.
    Firmware,
    /// Business number, 0 none.
    BusinessNo,
    /// 0.1 W.
    DeciWatts,
    /// 0.1 V.
    DeciVolts,
    /// 0.001 A.
    MilliAmperes,
    /// Units of the device.
    Energy,
    /// Wh.
    WattHours,
    /// Minutes.
    Minutes,
    /// Seconds.
    Seconds,
    /// 0.01 yuan, two bytes.
    Cents,
    /// 0.01 yuan, four bytes.
    LongCents,
    /// Calendar fields, BCD.
    BcdTime,
    /// Calendar fields, binary.
    BinaryTime,
    /// Bytes of a network address.
    Address,
}

impl Shape {
    /// How many bytes it has; `None` when it may have any number.
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::Bytes | Self::Items | Self::Text | Self::Address | Self::TierUse => None,
            Self::U8
            | Self::NetworkSub
            | Self::ControlSub
            | Self::Socket
            | Self::Switch
            | Self::Mode
            | Self::Billing
            | Self::FeeBy
            | Self::Port
            | Self::Result
            | Self::Status
            | Self::Celsius
            | Self::Percent => Some(1),
            Self::U16
            | Self::Sub
            | Self::Firmware
            | Self::BusinessNo
            | Self::DeciWatts
            | Self::DeciVolts
            | Self::MilliAmperes
            | Self::Energy
            | Self::WattHours
            | Self::Minutes
            | Self::Seconds
            | Self::Cents => Some(2),
            Self::U32 | Self::LongCents => Some(4),
            Self::Gateway | Self::BcdTime | Self::BinaryTime => Some(7),
            Self::U64 => Some(8),
        }
    }

    /// What the bytes of a field mean, for people: numbers in decimal, with their unit.
    pub fn describe(self, raw: &[u8]) -> String {
        let number = raw.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::Socket => number.to_string(),
            Self::Bytes => hex(raw),
            Self::Items => format!("{} bytes of items", raw.len()),
            Self::Text => text(raw),
            Self::Sub => WrapperSub::from_code(number as u16).name().to_owned(),
            Self::NetworkSub => NetworkSub::from_code(number as u8).name().to_owned(),
            Self::ControlSub => ControlSub::from_code(number as u8).name().to_owned(),
            Self::Gateway => hex(raw),
            Self::Port => named(number, &[(0, "A"), (1, "B")]),
            Self::Result if number == 1 => "1 (ok)".to_owned(),
            Self::Result => format!("{number} (not ok)"),
            Self::Switch => named(number, &[(0, "off"), (1, "on")]),
            Self::Mode => named(number, &[(0, "by energy"), (1, "by time"), (3, "by power"), (4, "by fee")]),
            Self::Billing => named(number, &[(1, "by time"), (2, "by energy"), (3, "by power")]),
            Self::FeeBy => named(number, &[(0, "by time"), (1, "by energy")]),
            Self::TierUse => super::message::FeeEnd::describe_tiers(raw).unwrap_or_else(|| hex(raw)),
            Self::Status => super::value::StatusByte(number as u8).to_string(),
            Self::Celsius => format!("{} C", number as u8 as i8),
            Self::Percent => format!("{number} %"),
            Self::Firmware if number == 0xffff => "unknown".to_owned(),
            Self::Firmware => number.to_string(),
            Self::BusinessNo if number == 0 => "0 (none)".to_owned(),
            Self::BusinessNo => number.to_string(),
            Self::DeciWatts => format!("{}.{} W", number / 10, number % 10),
            Self::DeciVolts => format!("{}.{} V", number / 10, number % 10),
            Self::MilliAmperes => format!("{}.{:03} A", number / 1000, number % 1000),
            Self::Energy => format!("{number} Wh (at 1 Wh per unit)"),
            Self::WattHours => format!("{number} Wh"),
            Self::Minutes => format!("{number} min"),
            Self::Seconds => format!("{number} s"),
            Self::Cents | Self::LongCents => format!("{}.{:02} yuan", number / 100, number % 100),
            Self::BcdTime => time(raw, super::value::DeviceTime::from_bcd),
            Self::BinaryTime => time(raw, super::value::DeviceTime::from_binary),
            Self::Address => raw.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        }
    }
}

fn named(number: u64, names: &[(u64, &str)]) -> String {
    match names.iter().find(|(code, _)| *code == number) {
        Some((_, name)) => format!("{number} ({name})"),
        None => number.to_string(),
    }
}

fn time(raw: &[u8], form: fn([u8; 7]) -> super::value::DeviceTime) -> String {
    <[u8; 7]>::try_from(raw).map_or_else(|_| hex(raw), |bytes| form(bytes).to_string())
}

fn text(raw: &[u8]) -> String {
    let end = raw.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    raw[..end].escape_ascii().to_string()
}

/// Lower-case hex without separators.
pub(crate) fn hex(raw: &[u8]) -> String {
    raw.iter().fold(String::with_capacity(raw.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_maps_to_itself_in_both_directions() {
        for code in 0..=u8::MAX {
            assert_eq!(Key::from_code(code).code(), code);
            assert_eq!(ControlSub::from_code(code).code(), code);
            assert_eq!(NetworkSub::from_code(code).code(), code);
        }
        for code in 0..=u16::MAX {
            assert_eq!(Command::from_code(code).code(), code);
            assert_eq!(WrapperSub::from_code(code).code(), code);
        }
    }

    #[test]
    fn a_shape_reads_as_a_person_would_say_it() {
        assert_eq!(Shape::DeciWatts.describe(&[0x00, 0x7b]), "12.3 W");
        assert_eq!(Shape::MilliAmperes.describe(&[0x00, 0x01]), "0.001 A");
        assert_eq!(Shape::Celsius.describe(&[0xfb]), "-5 C");
        assert_eq!(Shape::Cents.describe(&[0x01, 0x05]), "2.61 yuan");
        assert_eq!(Shape::BcdTime.describe(&[0x20, 0x24, 0x08, 0x23, 0x10, 0x17, 0x29]), "2024-08-23 10:17:29");
        assert_eq!(Shape::Text.describe(b"V.1r46\0\0"), "V.1r46");
    }
}
