//! A request from the cloud or the site as a typed command, and the reply to it (contract §6).
//!
//! Reading comes in two steps, as the contract wants: the `id` first, since a repetition is looked up before anything
//! else; then the rest. Ranges that have to wait until device and port were judged are checked by
//! [`Start::plan`]. Nothing is guessed past: an unknown field is refused by name.

mod reply;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::clock::WallTime;
use crate::event::Stream;
use crate::ids::{DeviceId, OrderNo, PortNo, SocketNo};
use crate::order::{FeeTier, Plan, PowerTier, ServiceFeeBy};
use crate::time_text::{minute_of_day, parse_rfc3339};

pub use reply::{Code, Problem, Reply, Verdict};

/// A command whose `id` is known; the rest is still to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// 1–64 characters.
    pub id: String,
    fields: Map<String, Value>,
}

impl Request {
    /// Reads a line as far as its `id`.
    ///
    /// # Errors
    /// `invalid_json`, or what is wrong with the `id`.
    pub fn read(line: &[u8]) -> Result<Self, Problem> {
        let invalid = |why: String| Problem::new(Code::InvalidJson, why);
        let text = std::str::from_utf8(line).map_err(|error| invalid(format!("not UTF-8: {error}")))?;
        let value: Value = serde_json::from_str(text).map_err(|error| invalid(format!("not JSON: {error}")))?;
        let Value::Object(fields) = value else { return Err(invalid("not a JSON object".to_owned())) };
        let id = match fields.get("id") {
            None => return Err(Problem::of(Code::MissingField, "id", "a command needs an id")),
            Some(Value::String(id)) if (1..=64).contains(&id.chars().count()) => id.clone(),
            Some(_) => return Err(Problem::of(Code::OutOfRange, "id", "an id is a text of 1 to 64 characters")),
        };
        Ok(Self { id, fields })
    }

    /// The content, the same for the same content: keys in order, no spaces.
    pub fn payload(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }

    /// The `type` as far as it is one, for the record.
    pub fn type_word(&self) -> &str {
        self.fields.get("type").and_then(Value::as_str).unwrap_or("")
    }

    /// The `actor` as far as it is one.
    pub fn actor(&self) -> Option<&str> {
        self.fields.get("actor").and_then(Value::as_str)
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// The first problem with its field: the type, a missing field, a wrong one, an unknown one.
    pub fn command(&self) -> Result<Command, Problem> {
        let mut fields = Fields::new(&self.fields);
        let kind = match fields.take("type") {
            None => return Err(Problem::of(Code::MissingField, "type", "a command needs a type")),
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(Problem::of(Code::OutOfRange, "type", "a type is a text")),
        };
        let expires_at = fields.optional("expires_at", time)?;
        fields.optional("actor", free_text)?;
        let action = match kind.as_str() {
            "start_charge" => Action::Start(Start::read(&mut fields)?),
            "stop_charge" => Action::Stop(read_stop(&mut fields)?),
            "query_status" => {
                Action::QueryStatus(fields.required("device", device)?, fields.required("socket", socket)?)
            }
            "get_order" => Action::GetOrder(fields.required("order_no", order_no)?),
            "set_device" => Action::SetDevice(SetDevice::read(&mut fields)?),
            "set_socket" => Action::SetSocket(SetSocket::read(&mut fields)?),
            "remove_device" => Action::RemoveDevice(fields.required("device", device)?),
            "claim_order" => Action::Claim(Claim::read(&mut fields)?),
            "flush" => Action::Flush,
            "redecode" => Action::Redecode(fields.required("frames", frames)?),
            "acknowledge" => Action::Acknowledge(Acknowledge::read(&mut fields)?),
            "get_snapshot" => Action::GetSnapshot(fields.optional("device", device)?),
            "replay" => Action::Replay(Replay::read(&mut fields)?),
            other => {
                return Err(Problem::of(Code::UnknownType, "type", format!("no command is called {other:?}")));
            }
        };
        fields.nothing_else()?;
        Ok(Command { expires_at, action })
    }
}

/// A command that is well formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Refused after this moment; a stop never expires.
    pub expires_at: Option<WallTime>,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// `start_charge`.
    Start(Start),
    /// `stop_charge`.
    Stop(Stop),
    /// `query_status`.
    QueryStatus(DeviceId, SocketNo),
    /// `get_order`.
    GetOrder(OrderNo),
    /// `get_snapshot`: of this device, else of the whole site.
    GetSnapshot(Option<DeviceId>),
    /// `replay`.
    Replay(Replay),
    /// `set_device`.
    SetDevice(SetDevice),
    /// `set_socket`.
    SetSocket(SetSocket),
    /// `remove_device`.
    RemoveDevice(DeviceId),
    /// `claim_order`.
    Claim(Claim),
    /// `acknowledge`.
    Acknowledge(Acknowledge),
    /// The control socket's own: these frames of the journal are read again, and booked.
    Redecode(BTreeSet<i64>),
    /// The control socket's own: figures that only move go to the store now.
    Flush,
}

/// `start_charge`, its form right, its ranges not yet judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Where.
    pub device: DeviceId,
    /// Where.
    pub socket: SocketNo,
    /// Where.
    pub port: PortNo,
    /// The order's, made up when absent.
    pub order_no: Option<OrderNo>,
    mode: RawMode,
}

#[derive(Debug, Clone, PartialEq)]
enum RawMode {
    Time(i64),
    Energy(i64),
    Tiers(i64, Vec<RawTier>),
    Fee(i64, ServiceFeeBy, Vec<RawFeeTier>),
}

#[derive(Debug, Clone, PartialEq)]
struct RawTier {
    power_w: f64,
    price_cents: i64,
    minutes: i64,
}

#[derive(Debug, Clone, PartialEq)]
struct RawFeeTier {
    until: String,
    electricity_cents: i64,
    service_cents: i64,
}

impl Start {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let device = fields.required("device", device)?;
        let socket = fields.required("socket", socket)?;
        let port = fields.required("port", port)?;
        let order_no = fields.optional("order_no", order_no)?;
        let mode = RawMode::read(fields)?;
        Ok(Self { device, socket, port, order_no, mode })
    }

    /// Whether it is a start by fee, which needs a clock that can be believed.
    pub const fn is_by_fee(&self) -> bool {
        matches!(self.mode, RawMode::Fee(..))
    }

    /// What is ordered, once its ranges were judged.
    ///
    /// # Errors
    /// `out_of_range` with the field.
    pub fn plan(&self) -> Result<Plan, Problem> {
        self.mode.plan()
    }
}

impl RawMode {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(match fields.required("mode", text)?.as_str() {
            "time" => Self::Time(fields.required("minutes", integer)?),
            "energy" => Self::Energy(fields.required("energy_wh", integer)?),
            "tiers" => Self::Tiers(
                fields.required("amount_cents", integer)?,
                fields.required("tiers", |value| list(value, raw_tier))?,
            ),
            "fee" => Self::Fee(
                fields.required("amount_cents", integer)?,
                fields.required("service_fee_by", service_fee_by)?,
                fields.required("tiers", |value| list(value, raw_fee_tier))?,
            ),
            _ => return Err(Problem::of(Code::OutOfRange, "mode", "a mode is time, energy, tiers or fee")),
        })
    }

    fn plan(&self) -> Result<Plan, Problem> {
        Ok(match self {
            Self::Time(minutes) => Plan::Time { minutes: within("minutes", *minutes, 1, 900)? },
            Self::Energy(energy) => Plan::Energy { energy_wh: within("energy_wh", *energy, 1, 65535)? },
            Self::Tiers(amount, tiers) => {
                Plan::Tiers { amount_cents: within("amount_cents", *amount, 1, 65535)?, tiers: power_tiers(tiers)? }
            }
            Self::Fee(amount, by, tiers) => Plan::Fee {
                amount_cents: within("amount_cents", *amount, 1, 65535)?,
                service_fee_by: *by,
                tiers: fee_tiers(tiers)?,
            },
        })
    }
}

fn within(field: &str, value: i64, least: u16, most: u16) -> Result<u16, Problem> {
    u16::try_from(value)
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| Problem::of(Code::OutOfRange, field, format!("{field} is {least} to {most}, not {value}")))
}

fn tier_count<T>(tiers: &[T]) -> Result<(), Problem> {
    if (1..=5).contains(&tiers.len()) {
        return Ok(());
    }
    Err(Problem::of(Code::OutOfRange, "tiers", format!("1 to 5 tiers, not {}", tiers.len())))
}

fn in_tier(number: usize, problem: &Problem) -> Problem {
    Problem::of(Code::OutOfRange, "tiers", format!("tier {}: {}", number + 1, problem.message))
}

fn power_tiers(raw: &[RawTier]) -> Result<Vec<PowerTier>, Problem> {
    tier_count(raw)?;
    let mut tiers: Vec<PowerTier> = Vec::new();
    for (number, tier) in raw.iter().enumerate() {
        let wrong = |problem: Problem| in_tier(number, &problem);
        let tenths = tier.power_w * 10.0;
        // Steps of 0.1 W on the wire; a finer limit would be another one than was ordered.
        if !(1.0..=65535.0).contains(&tenths) || (tenths - tenths.round()).abs() > 1e-6 {
            let why = format!("power_w is 0.1 to 6553.5 in steps of 0.1, not {}", tier.power_w);
            return Err(wrong(Problem::new(Code::OutOfRange, why)));
        }
        if tiers.last().is_some_and(|before| before.power_w >= tier.power_w) {
            return Err(wrong(Problem::new(Code::OutOfRange, "its limit does not rise")));
        }
        tiers.push(PowerTier {
            power_w: tier.power_w,
            price_cents: within("price_cents", tier.price_cents, 0, 65535).map_err(wrong)?,
            minutes: within("minutes", tier.minutes, 1, 65535).map_err(wrong)?,
        });
    }
    Ok(tiers)
}

fn fee_tiers(raw: &[RawFeeTier]) -> Result<Vec<FeeTier>, Problem> {
    tier_count(raw)?;
    let mut tiers: Vec<FeeTier> = Vec::new();
    let mut before = None;
    for (number, tier) in raw.iter().enumerate() {
        let wrong = |problem: Problem| in_tier(number, &problem);
        let until = minute_of_day(&tier.until)
            .ok_or_else(|| wrong(Problem::new(Code::OutOfRange, "until is a time of day, \"hh:mm\"")))?;
        if before.is_some_and(|before| before >= until) {
            return Err(wrong(Problem::new(Code::OutOfRange, "its end does not rise")));
        }
        before = Some(until);
        tiers.push(FeeTier {
            until: tier.until.clone(),
            electricity_cents: within("electricity_cents", tier.electricity_cents, 0, 65535).map_err(wrong)?,
            service_cents: within("service_cents", tier.service_cents, 0, 65535).map_err(wrong)?,
        });
    }
    if before != Some(23 * 60 + 59) {
        return Err(Problem::of(Code::OutOfRange, "tiers", "the last tier ends at \"23:59\""));
    }
    Ok(tiers)
}

/// `stop_charge`: an order, or whatever runs on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// This order.
    Order(OrderNo),
    /// This port, if that order is the one on it.
    Port {
        /// Where.
        device: DeviceId,
        /// Where.
        socket: SocketNo,
        /// Where.
        port: PortNo,
        /// The order that has to be the one; may be left out at the control socket.
        expect: Option<OrderNo>,
    },
}

fn read_stop(fields: &mut Fields<'_>) -> Result<Stop, Problem> {
    if let Some(order_no) = fields.optional("order_no", order_no)? {
        return Ok(Stop::Order(order_no));
    }
    if !fields.has("device") {
        return Err(Problem::of(Code::MissingField, "order_no", "a stop names an order, or device, socket and port"));
    }
    Ok(Stop::Port {
        device: fields.required("device", device)?,
        socket: fields.required("socket", socket)?,
        port: fields.required("port", port)?,
        expect: fields.optional("expect_order_no", order_no)?,
    })
}

/// `acknowledge`: what a person took note of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledge {
    /// This alert.
    Alert(i64),
    /// All abnormal events of this device.
    AbnormalOf(DeviceId),
}

impl Acknowledge {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        if fields.has("device") && !fields.has("alert_id") {
            return Ok(Self::AbnormalOf(fields.required("device", device)?));
        }
        Ok(Self::Alert(fields.required("alert_id", integer)?))
    }
}

/// `claim_order`: an adopted order gets the cloud's number, and what was paid when that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The adopted one's.
    pub order_no: OrderNo,
    /// The cloud's.
    pub new_order_no: OrderNo,
    mode: Option<RawMode>,
}

impl Claim {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let was = fields.required("order_no", order_no)?;
        let new_order_no = fields.required("new_order_no", order_no)?;
        // Without a mode the other fields of a plan are none of this command's.
        let mode = fields.has("mode").then(|| RawMode::read(fields)).transpose()?;
        Ok(Self { order_no: was, new_order_no, mode })
    }

    /// What was paid, if it tells, once its ranges were judged.
    ///
    /// # Errors
    /// `out_of_range` with the field.
    pub fn plan(&self) -> Result<Option<Plan>, Problem> {
        self.mode.as_ref().map(RawMode::plan).transpose()
    }
}

/// `replay`: events that are to be sent again, as far as they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Of which stream.
    pub stream: Stream,
    /// The first, from 1 on.
    pub from: u64,
    /// The last, at or after the first.
    pub to: u64,
}

impl Replay {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let stream = fields.required("stream", stream)?;
        let from = fields.required("from_seq", seq)?;
        let to = fields.required("to_seq", seq)?;
        if to < from {
            return Err(Problem::of(Code::OutOfRange, "to_seq", format!("to_seq: {to} is before from_seq, {from}")));
        }
        Ok(Self { stream, from, to })
    }
}

/// `set_device`: only what is given changes; a null clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDevice {
    /// Which; registered when unknown.
    pub device: DeviceId,
    /// The operator's word.
    pub enabled: Option<bool>,
    /// Its model.
    pub device_model: Option<Option<String>>,
    /// Free text.
    pub note: Option<Option<String>>,
}

impl SetDevice {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            device: fields.required("device", device)?,
            enabled: fields.optional("enabled", boolean)?,
            device_model: fields.optional("device_model", |value| nullable(value, model_name))?,
            note: fields.optional("note", |value| nullable(value, free_text))?,
        })
    }
}

/// `set_socket`: only what is given changes; a null clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSocket {
    /// Which device.
    pub device: DeviceId,
    /// Which socket; registered when unknown.
    pub socket: SocketNo,
    /// The operator's word.
    pub enabled: Option<bool>,
    /// Printed on it.
    pub uid: Option<Option<String>>,
    /// 12 hex digits, with or without colons.
    pub mac: Option<Option<String>>,
}

impl SetSocket {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Ok(Self {
            device: fields.required("device", device)?,
            socket: fields.required("socket", socket)?,
            enabled: fields.optional("enabled", boolean)?,
            uid: fields.optional("uid", |value| nullable(value, model_name))?,
            mac: fields.optional("mac", |value| nullable(value, mac))?,
        })
    }
}

/// The fields of a command, each taken once; what is left over is unknown.
struct Fields<'a> {
    all: &'a Map<String, Value>,
    taken: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn new(all: &'a Map<String, Value>) -> Self {
        Self { all, taken: vec!["id"] }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.taken.push(name);
        self.all.get(name).cloned()
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        self.taken.push(name);
        let Some(value) = self.all.get(name) else { return Ok(None) };
        read(value).map(Some).map_err(|why| Problem::of(Code::OutOfRange, name, format!("{name}: {why}")))
    }

    fn required<T>(&mut self, name: &'static str, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, Problem> {
        self.optional(name, read)?.ok_or_else(|| Problem::of(Code::MissingField, name, format!("{name} is missing")))
    }

    fn nothing_else(&self) -> Result<(), Problem> {
        match self.all.keys().find(|name| !self.taken.contains(&name.as_str())) {
            Some(name) => Err(Problem::of(Code::OutOfRange, name, format!("{name:?} is no field of this command"))),
            None => Ok(()),
        }
    }
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "has to be a text".to_owned())
}

fn free_text(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    if text.chars().count() <= 256 { Ok(text) } else { Err("at most 256 characters".to_owned()) }
}

fn model_name(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text) } else { Err("1 to 64 printable characters".to_owned()) }
}

fn mac(value: &Value) -> Result<String, String> {
    let digits: String = text(value)?.chars().filter(|c| *c != ':').collect();
    let fits = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(digits.to_ascii_lowercase()) } else { Err("12 hex digits".to_owned()) }
}

fn nullable<T>(value: &Value, read: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "has to be true or false".to_owned())
}

fn integer(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| "has to be a whole number".to_owned())
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| "has to be a number".to_owned())
}

fn device(value: &Value) -> Result<DeviceId, String> {
    text(value)?.parse().map_err(|error: crate::ids::BadDeviceId| error.to_string())
}

fn socket(value: &Value) -> Result<SocketNo, String> {
    let no = integer(value)?;
    u8::try_from(no).ok().and_then(SocketNo::new).ok_or_else(|| format!("a socket is 0 to 250, not {no}"))
}

fn port(value: &Value) -> Result<PortNo, String> {
    let no = integer(value)?;
    u8::try_from(no).ok().and_then(PortNo::new).ok_or_else(|| format!("a port is 0 or 1, not {no}"))
}

fn stream(value: &Value) -> Result<Stream, String> {
    Stream::from_word(&text(value)?).ok_or_else(|| "order, device, alert or abnormal".to_owned())
}

fn seq(value: &Value) -> Result<u64, String> {
    let seq = integer(value)?;
    u64::try_from(seq).ok().filter(|seq| *seq > 0).ok_or_else(|| format!("events are numbered from 1, not {seq}"))
}

fn frames(value: &Value) -> Result<BTreeSet<i64>, String> {
    let ids = value.as_array().ok_or("has to be a list")?;
    ids.iter().map(integer).collect()
}

fn order_no(value: &Value) -> Result<OrderNo, String> {
    OrderNo::new(&text(value)?).ok_or_else(|| "an order number is 1 to 64 printable characters".to_owned())
}

fn time(value: &Value) -> Result<WallTime, String> {
    parse_rfc3339(&text(value)?).ok_or_else(|| "a time is written as in 2026-01-31T12:00:00Z".to_owned())
}

fn service_fee_by(value: &Value) -> Result<ServiceFeeBy, String> {
    match text(value)?.as_str() {
        "time" => Ok(ServiceFeeBy::Time),
        "energy" => Ok(ServiceFeeBy::Energy),
        _ => Err("\"time\" or \"energy\"".to_owned()),
    }
}

fn list<T>(value: &Value, read: impl Fn(&TierFields<'_>) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or("has to be a list")?;
    let each = items.iter().enumerate().map(|(number, item)| {
        let object = item.as_object().ok_or("has to be an object")?;
        read(&TierFields(object)).map_err(|why| format!("tier {}: {why}", number + 1))
    });
    each.collect()
}

/// The three fields of a tier, no more.
struct TierFields<'a>(&'a Map<String, Value>);

impl TierFields<'_> {
    fn get<T>(&self, name: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, String> {
        let value = self.0.get(name).ok_or_else(|| format!("{name} is missing"))?;
        read(value).map_err(|why| format!("{name}: {why}"))
    }

    fn only(&self, names: [&str; 3]) -> Result<(), String> {
        match self.0.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(format!("{name:?} is no field of a tier")),
            None => Ok(()),
        }
    }
}

fn raw_tier(fields: &TierFields<'_>) -> Result<RawTier, String> {
    fields.only(["power_w", "price_cents", "minutes"])?;
    Ok(RawTier {
        power_w: fields.get("power_w", number)?,
        price_cents: fields.get("price_cents", integer)?,
        minutes: fields.get("minutes", integer)?,
    })
}

fn raw_fee_tier(fields: &TierFields<'_>) -> Result<RawFeeTier, String> {
    fields.only(["until", "electricity_cents", "service_cents"])?;
    Ok(RawFeeTier {
        until: fields.get("until", text)?,
        electricity_cents: fields.get("electricity_cents", integer)?,
        service_cents: fields.get("service_cents", integer)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(line: &str) -> (Code, Option<String>) {
        let problem = Request::read(line.as_bytes()).and_then(|request| request.command()).unwrap_err();
        (problem.code, problem.field)
    }

    fn replay(rest: &str) -> String {
        format!(r#"{{"id":"1","type":"replay","stream":"order",{rest}}}"#)
    }

    #[test]
    fn data_that_is_text_already_stands_in_the_reply_as_other_data_does() {
        let data = json!({ "a": [1, null] });
        let line = Reply::done("x").with_text(data.to_string()).to_line();
        assert_eq!(line, Reply::done("x").with(data).to_line());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let start = r#""id":"1","type":"start_charge","device":"82241218000382","socket":1,"port":0"#;
        let rows = [
            ("nonsense".to_owned(), Code::InvalidJson, None),
            ("[1]".to_owned(), Code::InvalidJson, None),
            (r#"{"type":"get_order"}"#.to_owned(), Code::MissingField, Some("id")),
            (r#"{"id":""}"#.to_owned(), Code::OutOfRange, Some("id")),
            (r#"{"id":7}"#.to_owned(), Code::OutOfRange, Some("id")),
            (r#"{"id":"1"}"#.to_owned(), Code::MissingField, Some("type")),
            (r#"{"id":"1","type":"dance"}"#.to_owned(), Code::UnknownType, Some("type")),
            (r#"{"id":"1","type":"get_order"}"#.to_owned(), Code::MissingField, Some("order_no")),
            (r#"{"id":"1","type":"get_order","order_no":""}"#.to_owned(), Code::OutOfRange, Some("order_no")),
            (r#"{"id":"1","type":"stop_charge"}"#.to_owned(), Code::MissingField, Some("order_no")),
            (format!("{{{start}}}"), Code::MissingField, Some("mode")),
            (format!(r#"{{{start},"mode":"time"}}"#), Code::MissingField, Some("minutes")),
            (format!(r#"{{{start},"mode":"time","minutes":"7"}}"#), Code::OutOfRange, Some("minutes")),
            (format!(r#"{{{start},"mode":"time","minutes":7,"energy_wh":1}}"#), Code::OutOfRange, Some("energy_wh")),
            (
                format!(r#"{{{start},"mode":"time","minutes":7,"expires_at":"soon"}}"#),
                Code::OutOfRange,
                Some("expires_at"),
            ),
            (r#"{"id":"1","type":"get_snapshot","device":7}"#.to_owned(), Code::OutOfRange, Some("device")),
            (r#"{"id":"1","type":"get_snapshot","socket":7}"#.to_owned(), Code::OutOfRange, Some("socket")),
            (r#"{"id":"1","type":"replay"}"#.to_owned(), Code::MissingField, Some("stream")),
            (r#"{"id":"1","type":"replay","stream":"orders"}"#.to_owned(), Code::OutOfRange, Some("stream")),
            (r#"{"id":"1","type":"replay","stream":"order"}"#.to_owned(), Code::MissingField, Some("from_seq")),
            (replay(r#""from_seq":0,"to_seq":1"#), Code::OutOfRange, Some("from_seq")),
            (replay(r#""from_seq":1"#), Code::MissingField, Some("to_seq")),
            (replay(r#""from_seq":1,"to_seq":-1"#), Code::OutOfRange, Some("to_seq")),
            (replay(r#""from_seq":3,"to_seq":2"#), Code::OutOfRange, Some("to_seq")),
            (replay(r#""from_seq":1,"to_seq":2,"limit":9"#), Code::OutOfRange, Some("limit")),
            (
                r#"{"id":"1","type":"query_status","device":"8224","socket":1}"#.to_owned(),
                Code::OutOfRange,
                Some("device"),
            ),
            (
                r#"{"id":"1","type":"query_status","device":"82241218000382","socket":251}"#.to_owned(),
                Code::OutOfRange,
                Some("socket"),
            ),
        ];
        for (line, code, field) in rows {
            assert_eq!(problem(&line), (code, field.map(str::to_owned)), "{line}");
        }
    }

    fn plan(rest: &str) -> Result<Plan, Option<String>> {
        let line =
            format!(r#"{{"id":"1","type":"start_charge","device":"82241218000382","socket":1,"port":0,{rest}}}"#);
        let command = Request::read(line.as_bytes()).and_then(|request| request.command()).unwrap();
        let Action::Start(start) = command.action else { panic!("a start") };
        start.plan().map_err(|problem| problem.field)
    }

    #[test]
    fn ranges_are_judged_field_by_field() {
        assert_eq!(plan(r#""mode":"time","minutes":900"#), Ok(Plan::Time { minutes: 900 }));
        let rows = [
            (r#""mode":"time","minutes":0"#, "minutes"),
            (r#""mode":"time","minutes":901"#, "minutes"),
            (r#""mode":"energy","energy_wh":0"#, "energy_wh"),
            (r#""mode":"energy","energy_wh":65536"#, "energy_wh"),
            (
                r#""mode":"tiers","amount_cents":0,"tiers":[{"power_w":200,"price_cents":25,"minutes":60}]"#,
                "amount_cents",
            ),
            (r#""mode":"tiers","amount_cents":9,"tiers":[]"#, "tiers"),
            (
                r#""mode":"tiers","amount_cents":9,"tiers":[{"power_w":200,"price_cents":25,"minutes":60},{"power_w":200,"price_cents":25,"minutes":60}]"#,
                "tiers",
            ),
            (r#""mode":"tiers","amount_cents":9,"tiers":[{"power_w":200.05,"price_cents":25,"minutes":60}]"#, "tiers"),
            (
                r#""mode":"fee","amount_cents":9,"service_fee_by":"time","tiers":[{"until":"23:58","electricity_cents":1,"service_cents":1}]"#,
                "tiers",
            ),
            (
                r#""mode":"fee","amount_cents":9,"service_fee_by":"time","tiers":[{"until":"8:00","electricity_cents":1,"service_cents":1}]"#,
                "tiers",
            ),
        ];
        for (rest, field) in rows {
            assert_eq!(plan(rest), Err(Some(field.to_owned())), "{rest}");
        }
    }

    #[test]
    fn the_same_content_has_the_same_payload() {
        let one = Request::read(br#"{"id":"1","type":"x","b":1,"a":2}"#).unwrap();
        let two = Request::read(br#"{ "a":2, "b":1, "type":"x", "id":"1" }"#).unwrap();
        assert_eq!(one.payload(), two.payload());
    }

    #[test]
    fn deep_nesting_is_invalid_json_and_no_crash() {
        let deep = format!(r#"{{"id":"1","type":"x","a":{}"#, "[".repeat(10_000));
        assert_eq!(problem(&deep).0, Code::InvalidJson);
    }
}
