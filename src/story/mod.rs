//! The story of one order, for people: what was asked, what was said, what was decided and by which rule, in the order
//! in which it happened. Told from what the store holds; decides nothing and reads no clock.
//!
//! - `pick`: which frames and events belong to it. `moment`: what came first. `rule`: which rule of contract §5 made a decision.

mod moment;
mod pick;
mod rule;

use serde_json::{Map, Value, json};

use crate::bkv::summary;
use crate::clock::{UpTime, WallTime};
use crate::config::Config;
use crate::order::{Order, Settlement, Verdict, words};
use crate::store::{CommandRow, Direction, Event, FrameVerdict, JournalEntry, Records};
use crate::time_text::rfc3339;

use moment::Stages;

words! {
    /// What a line tells of.
    Kind {
        /// A command and its reply.
        Asked = "asked",
        /// A frame from the device.
        Up = "up",
        /// A frame to the device.
        Down = "down",
        /// What was decided about the order.
        Decided = "decided",
        /// What happened to its device.
        Device = "device",
        /// A condition of its device, socket or port.
        Alert = "alert",
        /// The agent itself was away.
        Agent = "agent",
        /// The order as it stands.
        Record = "record",
        /// Why its verdict is what it is.
        Verdict = "verdict",
    }
}

/// One line of the story.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When; none where only the order of things is known.
    pub at: Option<WallTime>,
    /// What it tells of.
    pub kind: Kind,
    /// In one line.
    pub text: String,
    /// Which rule made it, or why it is so.
    pub why: Option<String>,
    /// How often the same thing happened in a row, this once included.
    pub times: u32,
    /// The rest of it, for programs.
    pub more: Map<String, Value>,
}

impl Line {
    /// As one object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("at".to_owned(), self.at.map_or(Value::Null, |at| rfc3339(at).into()));
        object.insert("kind".to_owned(), self.kind.word().into());
        object.insert("text".to_owned(), self.text.as_str().into());
        object.insert("why".to_owned(), self.why.as_deref().map_or(Value::Null, Value::from));
        object.extend(self.more.clone());
        Value::Object(object)
    }
}

/// A line, and where it stands.
struct Placed {
    up: UpTime,
    /// Within its moment.
    stage: u32,
    line: Line,
}

/// The whole story. With the present configuration, for the unit in which a device counts energy.
pub fn tell(config: &Config, records: &Records) -> Vec<Line> {
    let picked = pick::of(records);
    let model = records.model.as_deref().or(config.devices.default_model.as_deref());
    let unit_wh = config.model(model).energy_unit_wh;
    let stages = Stages::of(&picked.frames);
    let mut placed = vec![begun(&records.order, &stages)];
    placed.extend(picked.commands.iter().map(|command| asked(command)));
    placed.extend(picked.frames.iter().map(|entry| framed(entry, &picked, &stages, unit_wh)));
    let mut before = None;
    for event in &picked.events {
        placed.push(told(event, before, &picked, &stages));
        before = is_of(event, records).then_some(*event).or(before);
    }
    placed.extend(picked.restarts.iter().map(|(up, away)| restarted(*up, *away)));
    placed.sort_by_key(|placed| (placed.up, placed.line.at, placed.stage));
    date_the_undated(&mut placed);
    let mut lines: Vec<Line> = placed.into_iter().map(|placed| placed.line).collect();
    lines.push(record(&records.order));
    lines.push(verdict(records, &picked));
    lines
}

fn is_of(event: &Event, records: &Records) -> bool {
    event.order_no.as_ref().is_some_and(|no| records.numbers.contains(no))
}

fn line(at: WallTime, kind: Kind, text: String, why: Option<String>, more: Value) -> Line {
    let more = if let Value::Object(more) = more { more } else { Map::new() };
    Line { at: Some(at), kind, text, why, times: 1, more }
}

fn begun(order: &Order, stages: &Stages) -> Placed {
    let plan = order.plan.as_ref().map_or(Value::Null, |plan| json!(plan));
    let (text, why, stage) = if order.course.start.is_some() {
        let text = format!("order taken in: {}", compact(&plan));
        (text, "a start is committed before it is sent", Stages::UNHEARD)
    } else {
        let stage = stages.of_decision(order.created_up, order.created_at);
        ("order taken in without a plan".to_owned(), "what charges without an order is kept as one", stage)
    };
    let more = json!({ "plan": plan, "source": order.source.word() });
    let line = line(order.created_at, Kind::Decided, text, Some(why.to_owned()), more);
    Placed { up: order.created_up, stage, line }
}

fn asked(command: &CommandRow) -> Placed {
    let payload: Value = serde_json::from_str(&command.payload).unwrap_or(Value::Null);
    let reply: Value = command.reply.as_deref().and_then(|reply| serde_json::from_str(reply).ok()).unwrap_or_default();
    let fields = payload.as_object().into_iter().flatten();
    let of_type = fields.filter(|(name, _)| !matches!(name.as_str(), "id" | "type" | "actor" | "frames"));
    let asked: Map<String, Value> = of_type.map(|(name, value)| (name.clone(), value.clone())).collect();
    let text = format!("{} by {}: {} -> {}", command.kind, command.actor, compact(&asked.into()), outcome(&reply));
    let more = json!({
        "id": command.id,
        "type": command.kind,
        "actor": command.actor,
        "source": command.source.word(),
        "payload": payload,
        "reply": reply,
    });
    Placed { up: command.created_up, stage: Stages::ASKED, line: line(command.at, Kind::Asked, text, None, more) }
}

fn outcome(reply: &Value) -> String {
    let Some(result) = reply["result"].as_str() else { return "no reply yet".to_owned() };
    match reply["error"]["code"].as_str() {
        Some(code) if reply["data"]["stop_owed"] == true => format!("{result} {code}, the stop is owed"),
        Some(code) => format!("{result} {code}"),
        None => result.to_owned(),
    }
}

fn framed(entry: &JournalEntry, picked: &pick::Picked<'_>, stages: &Stages, unit_wh: u32) -> Placed {
    let kind = match entry.direction {
        Direction::Up => Kind::Up,
        Direction::Down => Kind::Down,
    };
    let mut text = summary(&entry.frame, unit_wh);
    match (entry.verdict, &entry.reason) {
        (FrameVerdict::Sent, _) | (FrameVerdict::Accepted, None) => {}
        (FrameVerdict::Accepted, Some(reason)) => text = format!("{text} [{reason}]"),
        (verdict, None) => text = format!("{text} [{}]", verdict.word()),
        (verdict, Some(reason)) => text = format!("{text} [{}: {reason}]", verdict.word()),
    }
    if !entry.intact {
        text.push_str(" [its row is damaged]");
    }
    let more = json!({
        "frame": entry.frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "verdict": entry.verdict.word(),
        "reason": entry.reason,
        "order_no": entry.order_no,
    });
    let why = rule::of_sending(entry, picked);
    Placed { up: entry.up, stage: stages.of_frame(entry), line: line(entry.at, kind, text, why, more) }
}

fn told(event: &Event, before: Option<&Event>, picked: &pick::Picked<'_>, stages: &Stages) -> Placed {
    let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    let kind = match event.stream {
        crate::event::Stream::Order => Kind::Decided,
        crate::event::Stream::Device => Kind::Device,
        crate::event::Stream::Alert | crate::event::Stream::Abnormal => Kind::Alert,
    };
    let before: Option<Value> = before.and_then(|before| serde_json::from_str(&before.data).ok());
    let why = rule::of_event(event, &data, before.as_ref(), picked);
    let text = format!("{}{}", event.kind, said(&data, kind));
    let more = json!({ "type": event.kind, "stream": event.stream.word(), "seq": event.seq, "data": data });
    let stage = stages.of_decision(event.up, event.at);
    Placed { up: event.up, stage, line: line(event.at, kind, text, why, more) }
}

/// What of an event stands in its line.
fn said(data: &Value, kind: Kind) -> String {
    let fields: &[&str] = match kind {
        Kind::Decided => &["end_reason", "settlement", "issue_type"],
        Kind::Alert => &["rule", "severity"],
        _ => &["reason"],
    };
    fields.iter().filter_map(|field| data[*field].as_str()).map(|word| format!(" {word}")).collect()
}

fn restarted(up: UpTime, away: std::time::Duration) -> Placed {
    let text = format!("started again after {} s away", away.as_secs());
    let line = Line { at: None, kind: Kind::Agent, text, why: None, times: 1, more: Map::new() };
    Placed { up, stage: Stages::ASKED, line }
}

/// What is known by up-time alone happened as long before, or after, what stands beside it.
fn date_the_undated(placed: &mut [Placed]) {
    for index in 0..placed.len() {
        if placed[index].line.at.is_some() {
            continue;
        }
        let up = placed[index].up;
        let beside = placed[index + 1..].iter().chain(placed[..index].iter().rev());
        let at = beside.filter_map(|other| Some((other.line.at?, other.up))).next().map(|(at, other)| {
            let apart = i64::try_from(up.0).unwrap_or(0) - i64::try_from(other.0).unwrap_or(0);
            WallTime(at.0.saturating_add(apart))
        });
        placed[index].line.at = at;
    }
}

fn record(order: &Order) -> Line {
    let word = |word: Option<&'static str>| word.unwrap_or("-");
    let figure = |figure: Option<u32>, most: Option<u32>, unit: &str| match (figure, most) {
        (None, None) => format!("- {unit}"),
        (figure, Some(most)) if figure != Some(most) => {
            format!("{} {unit} (at most {most})", figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string()))
        }
        (figure, _) => format!("{} {unit}", figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())),
    };
    let mut text = format!(
        "{} {} {}, {}, revision {}; {}, {}",
        order.status.word(),
        word(order.end_reason.map(crate::order::EndReason::word)),
        word(order.settlement.map(Settlement::word)),
        if order.is_final { "final" } else { "not final" },
        order.revision,
        figure(order.energy_wh.map(|wh| wh.0), order.energy_max_wh.map(|wh| wh.0), "Wh"),
        figure(order.minutes.map(|minutes| minutes.0), order.minutes_max.map(|minutes| minutes.0), "min"),
    );
    if let Some(cents) = order.spent_cents {
        text.push_str(&format!(", {cents} cents"));
    }
    for (what, who) in [("started", &order.started_by), ("stopped", &order.stopped_by)] {
        if let Some(who) = who {
            text.push_str(&format!("; {what} by {who}"));
        }
    }
    for flag in &order.flags {
        text.push_str(&format!("; {}", flag.word()));
    }
    let why = Some(rule::of_settlement(order).to_owned());
    let more = json!({ "data": crate::event::order_data(order) });
    Line { at: None, kind: Kind::Record, text, why, times: 1, more: more.as_object().cloned().unwrap_or_default() }
}

fn verdict(records: &Records, picked: &pick::Picked<'_>) -> Line {
    let order = &records.order;
    let text = order.verdict.map_or("none", Verdict::word).to_owned();
    let why = Some(rule::of_verdict(order, records.journal_since, picked));
    Line { at: None, kind: Kind::Verdict, text, why, times: 1, more: Map::new() }
}

/// The same thing said again and again by one side is one line, with its count.
pub fn without_repetitions(lines: Vec<Line>) -> Vec<Line> {
    let mut kept: Vec<Line> = Vec::new();
    for line in lines {
        match kept.last_mut() {
            Some(last) if matches!(line.kind, Kind::Up | Kind::Down) && is_same(last, &line) => last.times += 1,
            _ => kept.push(line),
        }
    }
    kept
}

fn is_same(one: &Line, other: &Line) -> bool {
    one.kind == other.kind && one.text == other.text
}

/// JSON without its braces and quotes, as far as people need none.
fn compact(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(fields) => {
            let mode = fields.get("mode").and_then(Value::as_str).map(str::to_owned);
            let rest = fields.iter().filter(|(name, _)| *name != "mode");
            let rest = rest.map(|(name, value)| format!("{name} {}", plain(value)));
            mode.into_iter().chain(rest).collect::<Vec<_>>().join(" ")
        }
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
