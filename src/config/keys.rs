//! Every section of the file with its keys: names, types, defaults, bounds and meaning (contract §3).
//!
//! The doc comments here are what `chargegate config` and the sample file print.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::address::{BrokerUrl, UtcOffset};
use super::kinds::{
    AGE, Count, FILE, Form, Kind, LONG_NAME, List, NAME, Optional, PerCent, SOCKET_FILE, SPAN, Size, Text, Word, Words,
    is_name,
};
use super::network::Network;
use super::table::{section, words};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

const fn hours(count: u64) -> Duration {
    minutes(count * 60)
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const ADDRESS: Form<SocketAddr> = Form::of("an IP address with its port, such as \"0.0.0.0:7065\" or \"[::]:7065\"");
const BROKER: Form<BrokerUrl> = Form::of("a broker's URL, such as \"mqtt://host:1883\" or \"mqtts://host:8883\"");
const OFFSET: Form<UtcOffset> = Form::of("an offset from UTC, such as \"+08:00\"");
const NETWORK: Form<Network> = Form::of("a network, such as \"10.1.0.0/16\"");

const SITE_ID: Text = Text {
    what: "1 to 64 of A-Z a-z 0-9 . _ -",
    fits: |text| is_name(text, 64) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
};
const TOPIC: Text = Text {
    what: "a topic of 1 to 256 characters without + # or empty levels",
    fits: |text| is_name(text, 256) && !text.contains(['+', '#']) && text.split('/').all(|level| !level.is_empty()),
};
const POSITIVE: Count = Count { least: 1, most: 1_000_000 };
/// Watts that one port can draw.
pub(super) const WATTS: Count = Count { least: 1, most: 100_000 };

section! {
    /// The site that this agent serves.
    "site" Site {
        /// In topics and order numbers: 1 to 64 of A-Z a-z 0-9 . _ -
        /// Must be set when mqtt.url is.
        id: String = "site-1".to_owned(), SITE_ID;
        /// Local time that devices are told.
        utc_offset: UtcOffset = UtcOffset::CHINA, OFFSET;
        /// Exists when the system calls its clock synchronised.
        clock_synchronized_file: PathBuf = PathBuf::from("/run/systemd/timesync/synchronized"), FILE;
    }
}

section! {
    /// What goes to stderr.
    "log" Log {
        /// error, warn, info, debug or trace
        level: LevelFilter = LevelFilter::Info, Word::<LevelFilter>::ANY, live;
    }
}

impl Words for LevelFilter {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

words! {
    /// Which devices are let in (`devices.admission`).
    Admission {
        /// Unknown devices are taken in and registered.
        Open = "open",
        /// Only known devices.
        Registered = "registered",
    }
}

section! {
    /// The devices that connect to this agent.
    "devices" Devices {
        /// Where devices connect.
        listen: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7065)), ADDRESS;
        /// "open": unknown devices are taken in and registered, max_known in all;
        /// "registered": only known ones, others are refused and reported.
        admission: Admission = Admission::Open, Word::<Admission>::ANY;
        /// Past them an unknown device is refused.
        max_known: u32 = 4096, POSITIVE;
        /// Networks that may connect, such as "10.1.0.0/16"; all when empty.
        allow_from: Vec<Network> = Vec::new(), List { of: NETWORK, most: 256 };
        /// Past them a new connection is closed at once and counted.
        max_connections: u32 = 1024, POSITIVE;
        /// The same for the connections of one address.
        max_connections_per_address: u32 = 256, POSITIVE;
        /// How often each device owes a heartbeat.
        heartbeat_interval: Duration = seconds(60), SPAN, live;
        /// A device is offline when its connection is gone, or silent for so long.
        offline_after: Duration = seconds(150), SPAN, live;
        /// How often each socket owes a status report.
        status_interval: Duration = minutes(5), SPAN, live;
        /// The model of devices that nobody has given one: the protocol does not tell it.
        default_model: Option<String> = None, Optional(NAME), example("\"DC-10\"");
    }
}

words! {
    /// What becomes of a running order when its device returns (`orders.on_return`).
    OnReturn {
        /// It opens again.
        Resume = "resume",
        /// It is stopped.
        Stop = "stop",
    }
}

words! {
    /// What becomes of a session that belongs to no order (`orders.unknown_session`).
    UnknownSession {
        /// It is stopped and told.
        Stop = "stop",
        /// It is only told.
        Watch = "watch",
    }
}

section! {
    /// How orders are started, watched and closed.
    "orders" Orders {
        /// How long a command to a device may stay unanswered before it is repeated.
        answer_timeout: Duration = seconds(15), SPAN, live;
        /// How often it is repeated before it has failed.
        answer_retries: u32 = 2, Count { least: 0, most: 100 }, live;
        /// How long after the port went idle the end report may take.
        end_report_grace: Duration = seconds(60), SPAN, live;
        /// An open order without any news of its port for so long is closed.
        silent_timeout: Duration = minutes(30), SPAN, live;
        /// An open order is closed when its offline device or socket was last heard so long ago.
        offline_timeout: Duration = minutes(5), SPAN, live;
        /// An order past its paid time by so much is stopped and closed.
        overrun_grace: Duration = minutes(5), SPAN, live;
        /// The paid time of an order whose plan gives none.
        longest: Duration = hours(15), SPAN, live;
        /// "resume": a closed order whose device returns charging opens again; "stop": it is stopped.
        on_return: OnReturn = OnReturn::Resume, Word::<OnReturn>::ANY, live;
        /// "stop": a session without an order is stopped and told; "watch": it is only told.
        unknown_session: UnknownSession = UnknownSession::Stop, Word::<UnknownSession>::ANY, live;
        /// When an order that was closed without a report counts as final.
        final_after: Duration = hours(24), SPAN, live;
        /// The most that a port can draw, W: bounds what an order without a report can have used.
        power_ceiling_w: u32 = 1000, WATTS, live;
    }
}

section! {
    /// The SQLite file that keeps everything.
    "store" Store {
        /// The file; a relative path starts at the working directory.
        path: PathBuf = PathBuf::from("chargegate.db"), FILE;
        /// How long figures that only move may stay in memory.
        flush_interval: Duration = minutes(5), SPAN, live;
        /// The most that the file may take.
        max_size: u64 = 256 * MIB, Size { least: MIB / 4, most: 16 * TIB };
        /// The most that the kept frames may take in it.
        journal_max: u64 = 16 * MIB, Size { least: 1024, most: 16 * TIB };
        /// Closed orders, events and cleared alerts older than this are dropped,
        /// never one that the cloud has not confirmed.
        retention: Duration = hours(90 * 24), AGE;
    }
}

section! {
    /// The Unix socket of the site's own programs.
    "control" Control {
        /// For `chargegate command`, mode 0660.
        socket: PathBuf = PathBuf::from("chargegate.sock"), SOCKET_FILE;
    }
}

/// The version of MQTT that is spoken (`mqtt.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttProtocol {
    /// MQTT 3.1.1, for a broker that only has that.
    V4,
    /// MQTT 5.
    V5,
}

/// `mqtt.protocol` is a number.
struct ProtocolNumber;

impl Kind for ProtocolNumber {
    type Value = MqttProtocol;

    fn read(&self, value: &toml::de::DeValue<'_>) -> Result<MqttProtocol, super::kinds::Wrong> {
        let number = Count { least: 4, most: 5 }.read(value)?;
        Ok(if number == 4 { MqttProtocol::V4 } else { MqttProtocol::V5 })
    }

    fn write(&self, value: &MqttProtocol) -> Option<String> {
        match value {
            MqttProtocol::V4 => Some("4".to_owned()),
            MqttProtocol::V5 => Some("5".to_owned()),
        }
    }
}

words! {
    /// Who confirms that the cloud has a message (`mqtt.confirm`).
    Confirm {
        /// The broker.
        Broker = "broker",
        /// The receiver, by its `ack`.
        Application = "application",
    }
}

section! {
    /// The cloud.
    "mqtt" Mqtt {
        /// The broker, mqtt://host:1883 or mqtts://host:8883; no cloud without it.
        url: Option<BrokerUrl> = None, Optional(BROKER), example("\"mqtts://broker.example.org:8883\"");
        /// The name at the broker; site.id without it.
        client_id: Option<String> = None, Optional(LONG_NAME), example("\"site-1\"");
        /// The user at the broker.
        username: Option<String> = None, Optional(LONG_NAME), example("\"site-1\"");
        /// A file that holds the user's password.
        password_file: Option<PathBuf> = None, Optional(FILE), example("\"/etc/chargegate/mqtt-password\"");
        /// The authorities that the broker's certificate is checked against (PEM).
        ca_file: Option<PathBuf> = None, Optional(FILE), example("\"/etc/chargegate/ca.pem\"");
        /// Our own certificate, where the broker asks for one (PEM); goes with key_file.
        cert_file: Option<PathBuf> = None, Optional(FILE), example("\"/etc/chargegate/site.pem\"");
        /// The key of our own certificate (PEM).
        key_file: Option<PathBuf> = None, Optional(FILE), example("\"/etc/chargegate/site.key\"");
        /// 5, or 4 for a broker that only has MQTT 3.1.1.
        protocol: MqttProtocol = MqttProtocol::V5, ProtocolNumber;
        /// Every topic begins with this, then the site's id.
        topic_prefix: String = "chargegate".to_owned(), TOPIC;
        /// How often the summary is published.
        summary_interval: Duration = minutes(5), SPAN, live;
        /// Messages a second while a backlog drains.
        drain_rate: u32 = 100, Count { least: 1, most: 100_000 };
        /// "broker": a message is delivered when the broker confirms it;
        /// "application": rows wait for the receiver's ack.
        confirm: Confirm = Confirm::Broker, Word::<Confirm>::ANY;
    }
}

section! {
    /// Figures for a monitoring system.
    "metrics" Metrics {
        /// Address of /metrics and /healthz; off without it.
        listen: Option<SocketAddr> = None, Optional(ADDRESS), example("\"127.0.0.1:9465\"");
    }
}

section! {
    /// Thresholds of the alerts: per cent and counts as numbers, times as durations.
    "alerts" Alerts {
        /// Rates of fewer samples than this are not judged.
        min_samples: u32 = 20, POSITIVE, live;
        /// An alert clears when its condition has been gone for so long.
        clear_after: Duration = seconds(60), SPAN, live;
        /// Raised when the compliance rate of the site or a device is below so many per cent.
        compliance_low: f64 = 95.0, PerCent, live;
        /// Raised when fewer per cent of the starts than this began charging.
        charging_success_low: f64 = 98.0, PerCent, live;
        /// Raised when the agent had to close more per cent of the orders than this itself.
        stuck_orders_high: f64 = 2.0, PerCent, live;
        /// Raised when a port charges on after so many stops.
        stop_ignored: u32 = 3, POSITIVE, live;
        /// Raised when a commit failed, or less per cent of the disk than this are free.
        store_failing: f64 = 5.0, PerCent, live;
        /// Raised when a socket's last status is older, while its device is online.
        status_report_late: Duration = minutes(10), SPAN, live;
        /// Raised when a device is offline for longer.
        device_offline: Duration = minutes(5), SPAN, live;
        /// Raised when an abnormal event is not acknowledged for longer.
        abnormal_unhandled: Duration = minutes(30), SPAN, live;
        /// Raised when more per cent of the frames than this are protocol errors.
        protocol_errors_high: f64 = 1.0, PerCent, live;
        /// Raised when so many orders of a device in a row were closed without an end report while it was online.
        end_reports_missing: u32 = 3, POSITIVE, live;
        /// Raised when the cloud is out of reach for longer.
        cloud_unreachable: Duration = minutes(5), SPAN, live;
    }
}
