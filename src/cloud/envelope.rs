//! What goes to the cloud, as JSON (contract §6): the envelope of an event, `state`, `progress`, `summary`.

use serde_json::{Map, Value, json};

use super::Session;
use crate::clock::{Now, UpTime, WallTime};
use crate::event::{ClockQuality, Stream};
use crate::order::Order;
use crate::port::Figures;
use crate::store::{Event, StreamRange};
use crate::time_text::rfc3339;
use std::collections::BTreeMap;

/// The version of everything that is sent.
const VERSION: u8 = 1;
/// What stands under a number whose own content can never be sent.
pub const UNSENDABLE: &str = "event.unsendable";
/// The metrics of contract §7, by name.
pub const METRICS: [&str; 16] = [
    "status_report_missing_rate",
    "end_report_rate",
    "protocol_error_rate",
    "heartbeat_missing_rate",
    "compliance_rate",
    "timeliness_rate",
    "charging_success_rate",
    "order_completion_rate",
    "process_complete_rate",
    "data_accuracy_rate",
    "stuck_order_rate",
    "state_consistency_rate",
    "device_online_rate",
    "average_charging_minutes",
    "abnormal_handling_minutes",
    "store_commit_ms_p99",
];

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender<'a> {
    /// `site.id`.
    pub site: &'a str,
    /// The store's instance.
    pub instance: &'a str,
}

/// What is known of the clock at sending time: an event from before a synchronisation gets its true time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendingTime {
    /// Both clocks.
    pub now: Now,
    /// How good the wall clock is.
    pub clock: ClockQuality,
    /// When the present run began: what was noted before it has an up-time from which no time follows.
    pub started: UpTime,
}

impl SendingTime {
    /// The time of an event and how good it is. Up-time runs evenly within a run, so from the moment that the clock is
    /// believed it tells when the event happened.
    pub fn of(&self, event: &Event) -> (WallTime, ClockQuality) {
        let can_be_told = event.clock == ClockQuality::Unset && self.clock != ClockQuality::Unset;
        if !can_be_told || event.up < self.started {
            return (event.at, event.clock);
        }
        let ago = i64::try_from(self.now.up.since(event.up).as_millis()).unwrap_or(0);
        (WallTime(self.now.wall.0.saturating_sub(ago)), self.clock)
    }
}

/// The envelope of an event. Its data goes in as it was written; a row whose sum is wrong says nothing that can be
/// believed, so it is unsendable.
pub fn envelope(sender: Sender<'_>, event: &Event, time: &SendingTime) -> Vec<u8> {
    if !event.intact {
        let data = unsendable_data(None, "the stored event is damaged").to_string();
        return written(sender, event.stream, event.seq, UNSENDABLE, (event.at, ClockQuality::Unset), None, &data);
    }
    let device = event.device.map(|device| device.to_string());
    written(sender, event.stream, event.seq, &event.kind, time.of(event), device.as_deref(), &event.data)
}

/// What stands in an event's place: `data` tells the type of what it replaces and why.
pub fn unsendable(
    sender: Sender<'_>,
    stream: Stream,
    seq: u64,
    (at, clock): (WallTime, ClockQuality),
    device: Option<&str>,
    data: &str,
) -> Vec<u8> {
    written(sender, stream, seq, UNSENDABLE, (at, clock), device, data)
}

/// The data of an [`UNSENDABLE`]; no type when it cannot be read any more.
pub fn unsendable_data(kind: Option<&str>, why: &str) -> Value {
    json!({ "type": kind, "why": why })
}

fn written(
    sender: Sender<'_>,
    stream: Stream,
    seq: u64,
    kind: &str,
    (at, clock): (WallTime, ClockQuality),
    device: Option<&str>,
    data: &str,
) -> Vec<u8> {
    let Sender { site, instance } = sender;
    let text = |text: &str| Value::from(text).to_string();
    let id = text(&format!("{site}/{instance}/{}/{seq}", stream.word()));
    let device = device.map_or_else(|| "null".to_owned(), text);
    format!(
        r#"{{"v":{VERSION},"id":{id},"instance":{},"seq":{seq},"site":{},"type":{},"time":"{}","clock":"{}","device":{device},"data":{data}}}"#,
        text(instance),
        text(site),
        text(kind),
        rfc3339(at),
        clock.word(),
    )
    .into_bytes()
}

/// `state`: whether the site is connected, since when, and what is kept of each stream.
pub fn state(
    instance: &str,
    online: bool,
    session: Session,
    since: WallTime,
    streams: &BTreeMap<Stream, StreamRange>,
) -> Vec<u8> {
    json!({
        "v": VERSION,
        "online": online,
        "session": session,
        "since": rfc3339(since),
        "version": env!("CARGO_PKG_VERSION"),
        "instance": instance,
        "streams": streams_data(streams),
    })
    .to_string()
    .into_bytes()
}

/// `streams` as in `state`: the oldest event that is kept and the number of the next.
pub fn streams_data(streams: &BTreeMap<Stream, StreamRange>) -> Value {
    streams.iter().map(|(stream, range)| (stream.word().to_owned(), json!(range))).collect::<Map<_, _>>().into()
}

/// `progress`: the latest figures of a running order.
pub fn progress(order: &Order, figures: &Figures, at: WallTime) -> Vec<u8> {
    json!({
        "v": VERSION,
        "time": rfc3339(at),
        "order_no": order.order_no,
        "device": order.port.device,
        "socket": order.port.socket,
        "port": order.port.port,
        "energy_wh": order.energy_wh,
        "minutes": order.minutes,
        "power_w": figures.power.watts(),
        "voltage_v": figures.voltage.volts(),
        "current_a": figures.current.amperes(),
    })
    .to_string()
    .into_bytes()
}

/// `summary`: counts, and the metrics of the last hour and day, null where there is none.
pub fn summary(at: WallTime, counts: &Value) -> Vec<u8> {
    let metrics: Map<String, Value> = METRICS.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    json!({
        "v": VERSION,
        "time": rfc3339(at),
        "counts": counts,
        "hour": metrics,
        "day": metrics,
        "devices": [],
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            stream: Stream::Order,
            seq: 7,
            at: WallTime(1000),
            up: UpTime(50_000),
            clock: ClockQuality::Synced,
            kind: "order.completed".to_owned(),
            device: Some("82241218000382".parse().unwrap()),
            order_no: None,
            data: r#"{"b":1,"a":[]}"#.to_owned(),
            intact: true,
        }
    }

    fn time(clock: ClockQuality, started: u64) -> SendingTime {
        let now = Now { up: UpTime(60_000), wall: WallTime(1_800_000_000_000), synchronized: true };
        SendingTime { now, clock, started: UpTime(started) }
    }

    const SENDER: Sender<'static> = Sender { site: "yard\"7", instance: "0a1b" };

    #[test]
    fn an_envelope_has_the_fields_of_the_contract_in_their_order() {
        let text = String::from_utf8(envelope(SENDER, &event(), &time(ClockQuality::Synced, 0))).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"id":"yard\"7/0a1b/order/7","instance":"0a1b","seq":7,"site":"yard\"7","type":"order.completed","time":"1970-01-01T00:00:01.000Z","clock":"synced","device":"82241218000382","data":{"b":1,"a":[]}}"#
        );
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn a_time_from_before_the_clock_was_set_is_corrected_when_it_is_sent() {
        let early = Event { clock: ClockQuality::Unset, ..event() };
        let told = (WallTime(1_800_000_000_000 - 10_000), ClockQuality::Synced);
        assert_eq!(time(ClockQuality::Synced, 0).of(&early), told);
        assert_eq!(time(ClockQuality::Unset, 0).of(&early), (WallTime(1000), ClockQuality::Unset));
        let of_an_earlier_run = time(ClockQuality::Synced, 55_000);
        assert_eq!(of_an_earlier_run.of(&early), (WallTime(1000), ClockQuality::Unset));
        assert_eq!(of_an_earlier_run.of(&event()), (WallTime(1000), ClockQuality::Synced));
    }

    #[test]
    fn a_rotten_event_says_nothing_but_that() {
        let rotten = Event { intact: false, ..event() };
        let value: Value = serde_json::from_slice(&envelope(SENDER, &rotten, &time(ClockQuality::Synced, 0))).unwrap();
        assert_eq!((&value["type"], &value["seq"], &value["device"]), (&json!(UNSENDABLE), &json!(7), &Value::Null));
        assert_eq!(value["data"]["type"], Value::Null);
    }
}
