//! The sockets and ports of a simulated device: what is true about them, and what a status says of them.

use crate::bkv::{EnergyUnits, PortReading, StatusByte};
use crate::ids::{BusinessNo, DeciVolts, DeciWatts, MilliAmperes, Minutes, PortNo, SocketNo, WattHours};
use crate::sim::session::Session;

const SECOND: u64 = 1000;
/// The load is on so long after the switch.
pub(super) const JUST_ON: u64 = 2 * SECOND;

/// What is true about a port, whatever the device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Truth {
    /// Power flows, by a start that was accepted.
    pub charges: bool,
    /// The number of the session, or of the last one.
    pub number: Option<BusinessNo>,
    /// Delivered in that session.
    pub energy: WattHours,
    /// Minutes of that session.
    pub minutes: Minutes,
    /// End reports that were made, and those that were acknowledged.
    pub ends: u32,
    /// Acknowledged.
    pub acknowledged: u32,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) no: PortNo,
    pub(super) session: Option<Session>,
    pub(super) truth: Truth,
    /// The number of the session before.
    pub(super) older: Option<BusinessNo>,
    pub(super) ended: Option<u64>,
}

impl Port {
    pub(super) fn new(no: PortNo) -> Self {
        Self { no, session: None, truth: Truth::default(), older: None, ended: None }
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) no: SocketNo,
    pub(super) ports: Vec<Port>,
    pub(super) status_due: u64,
    /// Without radio until then: its gateway speaks for it, and it hears nothing.
    pub(super) lost_until: Option<u64>,
    /// Acknowledgements that are still to come for a report that was sent more than once and is acknowledged.
    pub(super) spare_acks: u32,
}

impl Socket {
    pub(super) fn new(no: SocketNo, now: u64) -> Self {
        let ports = vec![Port::new(PortNo::A), Port::new(PortNo::B)];
        Self { no, ports, status_due: now, lost_until: None, spare_acks: 0 }
    }

    pub(super) fn is_lost(&self, now: u64) -> bool {
        self.lost_until.is_some_and(|until| now < until)
    }
}

/// How a device shows its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shows {
    /// While it charges: the number of the session before.
    pub(super) older_number: bool,
    /// While it is idle: the number of the last session.
    pub(super) last_number: bool,
    /// Its socket has no radio.
    pub(super) lost: bool,
}

/// What a status says of a port.
pub(super) fn reading(port: &Port, volts: u32, shows: Shows, now: u64) -> PortReading {
    if shows.lost {
        // Bit 7 clear: the rest says nothing (protocol §5).
        return PortReading { port: port.no, ..PortReading::default() };
    }
    let idle =
        PortReading { port: port.no, status: StatusByte(0x80), voltage: DeciVolts(volts), ..PortReading::default() };
    let Some(session) = &port.session else {
        // Residual power for a second after the end (protocol §10).
        let lingers = port.ended.is_some_and(|ended| now < ended + SECOND);
        let idle = PortReading { business_no: port.older.filter(|_| shows.last_number), ..idle };
        return if lingers { PortReading { power: DeciWatts(12), current: MilliAmperes(5), ..idle } } else { idle };
    };
    let just_on = is_just_on(session, now);
    let power = if just_on { DeciWatts(5) } else { session.power() };
    let number = if shows.older_number { port.older.unwrap_or(session.number) } else { session.number };
    PortReading {
        status: StatusByte(if just_on { 0x90 } else { 0xb0 }),
        business_no: Some(number),
        power,
        current: MilliAmperes(power.0 * 1000 / volts.max(1)),
        energy_units: EnergyUnits(u16::try_from(session.energy().0).unwrap_or(u16::MAX)),
        minutes: session.minutes(),
        ..idle
    }
}

/// The load is not on yet.
pub(super) const fn is_just_on(session: &Session, now: u64) -> bool {
    now < session.begun() + JUST_ON
}
