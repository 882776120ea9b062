//! Which rule of contract §5 made a decision, in a sentence.

use serde_json::Value;

use crate::bkv::{Downlink, Frame, SalvagedKind, StatusByte, SwitchOrder, Uplink, salvage};
use crate::clock::UpTime;
use crate::order::{EndReason, Order, OrderStatus, Settlement, Verdict};
use crate::store::{Direction, Event, FrameVerdict, JournalEntry};
use crate::time_text::rfc3339;

use super::pick::Picked;

/// Of an event.
pub(super) fn of_event(event: &Event, data: &Value, before: Option<&Value>, picked: &Picked<'_>) -> Option<String> {
    let why: String = match event.kind.as_str() {
        "order.started" => started(event.up, picked).to_owned(),
        "order.adopted" => "it charged already when its port was first seen by this store: it is let run".to_owned(),
        "order.claimed" => {
            format!(
                "the cloud gave its own number to an adopted order; until then it was {}",
                plain(&data["was_order_no"])
            )
        }
        "order.completed" => format!("{}; {}", ended(before, picked), reported_reason(data)),
        "order.closed" => closed(data).to_owned(),
        "order.failed" => failed(data).to_owned(),
        "order.cancelled" => "it was stopped before the device had accepted its start".to_owned(),
        "order.corrected" => corrected(event, data, before, picked),
        "order.resumed" => "its session was shown charging again, within its paid time and with nothing since the \
                            close that spoke for an end"
            .to_owned(),
        "order.finalized" => "orders.final_after has passed since the close, and no report came".to_owned(),
        "order.unknown_end" => "an end report that belongs to no order: acknowledged, kept, told once".to_owned(),
        "consistency.repaired" if !data["order_no"].is_null() => {
            "the order was open and its port did not exist: it has one again, and the rules go on".to_owned()
        }
        "consistency.repaired" => "what charged without an order still did after orders.end_report_grace: it is \
                                   stopped, or only told with orders.unknown_session = \"watch\""
            .to_owned(),
        "device.offline" => {
            "its connection is gone, or it was silent for devices.offline_after: its ports are not known".to_owned()
        }
        "device.online" => "it is back: its ports are asked what they do".to_owned(),
        _ => return None,
    };
    Some(why)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// What the device said in the same turn.
fn heard<'a>(up: UpTime, picked: &'a Picked<'_>) -> impl Iterator<Item = Uplink> + use<'a> {
    let of_turn = picked.frames.iter().filter(move |entry| entry.up == up && entry.direction == Direction::Up);
    of_turn.filter_map(|entry| Uplink::decode(&Frame::parse(&entry.frame).ok()?).ok())
}

fn started(up: UpTime, picked: &Picked<'_>) -> &'static str {
    let messages: Vec<Uplink> = heard(up, picked).collect();
    if messages.iter().any(|message| message.start_answer().is_some()) {
        "the device accepted the start"
    } else if messages.iter().any(|message| message.socket_statuses().next().is_some()) {
        "asked after the start was sent, the socket shows its port charging: that is the ok"
    } else {
        "the device has accepted the start"
    }
}

fn ended(before: Option<&Value>, picked: &Picked<'_>) -> &'static str {
    let accepted = before.is_some_and(|before| !before["start_time"].is_null());
    if accepted || picked.frames.is_empty() {
        "the device's own end report came"
    } else {
        "asked after the start was sent, the port was idle and an end report was kept: ok and end in one"
    }
}

/// The first reason that fits a report (contract §4 `end_reason`).
fn reported_reason(data: &Value) -> String {
    let number = |name: &str| data[name].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let plan = |name: &str| data["plan"][name].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let status = StatusByte(data["raw_status"].as_u64().and_then(|raw| u8::try_from(raw).ok()).unwrap_or(0));
    let reason = data["end_reason"].as_str().and_then(EndReason::from_word);
    match reason {
        Some(EndReason::MeteringFault | EndReason::OverTemperature | EndReason::OverCurrent | EndReason::OverPower)
            if status.has_fault() =>
        {
            "its status has a fault bit, which goes before any other reason".to_owned()
        }
        Some(EndReason::RemoteStop) if !data["stopped_by"].is_null() => {
            "a stop by command was accepted or not answered".to_owned()
        }
        Some(EndReason::Overrun) => "a stop of the agent's own was accepted or not answered".to_owned(),
        Some(EndReason::NoLoad) if status.no_load() => "its status says that nothing draws power".to_owned(),
        Some(EndReason::TimeReached) if !data["plan"]["minutes"].is_null() => {
            format!(
                "{} of the {} minutes that were ordered are reached (less than one may lack)",
                number("minutes"),
                plan("minutes")
            )
        }
        Some(EndReason::EnergyReached) if !data["plan"]["energy_wh"].is_null() => {
            format!("{} of the {} Wh that were ordered are reached", number("energy_wh"), plan("energy_wh"))
        }
        Some(EndReason::AmountReached) if !data["plan"]["amount_cents"].is_null() => {
            format!("{} of the {} cents that were paid are spent", number("spent_cents"), plan("amount_cents"))
        }
        Some(EndReason::Unknown) | None => "nothing in it says why it ended".to_owned(),
        Some(_) => format!("[[reasons]] gives its reason {} this meaning", number("raw_reason")),
    }
}

fn closed(data: &Value) -> &'static str {
    let shown_idle = data["settlement"] == Settlement::Estimated.word();
    match data["end_reason"].as_str().and_then(EndReason::from_word) {
        Some(EndReason::EndReportMissing) => {
            "the port was shown idle and no end report came within orders.end_report_grace, the socket having been \
             asked meanwhile"
        }
        Some(EndReason::RemoteStop) if shown_idle => {
            "a stop was accepted, the port was shown idle, and no end report came within orders.end_report_grace"
        }
        Some(EndReason::RemoteStop) => {
            "a stop was accepted, and within orders.end_report_grace came neither an end report nor a status that \
             shows it charging; nor was it shown idle"
        }
        Some(EndReason::Overrun) if shown_idle => {
            "past what was paid the agent stopped it, the port was shown idle, and no end report came within \
             orders.end_report_grace"
        }
        Some(EndReason::Overrun) => {
            "past the paid time by orders.overrun_grace, or the ordered energy by more than 5 % and 50 Wh, the agent \
             stopped it; the stop was refused, not answered, or no end was shown within orders.end_report_grace"
        }
        Some(EndReason::Timeout) => {
            "no status of the port came for orders.silent_timeout (doubled by each return after one) though its device \
             is online, and the socket was asked in vain"
        }
        Some(EndReason::Offline) => "its device or socket was last heard orders.offline_timeout ago",
        _ => "closed without a report",
    }
}

fn failed(data: &Value) -> &'static str {
    match data["end_reason"].as_str().and_then(EndReason::from_word) {
        Some(EndReason::StartRefused) => "the device refused the start, and nothing was shown charging",
        _ => {
            "the start was not answered within orders.answer_timeout, nor were orders.answer_retries more tries (none \
             after expires_at, none after a restart of the agent), and nothing was shown charging: given up, and \
             stopped unless it was shown idle"
        }
    }
}

fn corrected(event: &Event, data: &Value, before: Option<&Value>, picked: &Picked<'_>) -> String {
    let had_report = before.and_then(|before| before["settlement"].as_str()).is_some_and(|settlement| {
        matches!(Settlement::from_word(settlement), Some(Settlement::Reported | Settlement::Corrected))
    });
    let read_again = picked.commands.iter().any(|command| command.kind == "redecode" && command.created_up == event.up);
    if data["settlement"] == Settlement::Estimated.word() {
        return "closed by a time limit only, its port was then shown idle and no end report came within \
                orders.end_report_grace: its end is an estimate now"
            .to_owned();
    }
    let what = match (read_again, had_report) {
        (true, true) => "its end report says something else with the present decoder and configuration (redecode)",
        (true, false) => "an end report that was misread when it came could be read (redecode)",
        (false, _) => "an end report came after the close: its figures count",
    };
    let completed = data["status"] == OrderStatus::Completed.word();
    if completed { format!("{what}; {}", reported_reason(data)) } else { format!("{what}; it stays as it ended") }
}

/// Of a frame that the agent sent.
pub(super) fn of_sending(entry: &JournalEntry, picked: &Picked<'_>) -> Option<String> {
    if entry.direction != Direction::Down {
        return None;
    }
    let message = Downlink::decode(&Frame::parse(&entry.frame).ok()?).ok()?;
    let earlier = |is: fn(&Downlink) -> bool| {
        let before = picked.frames.iter().filter(|other| other.id < entry.id && other.direction == Direction::Down);
        let mut sent = before.filter_map(|other| Downlink::decode(&Frame::parse(&other.frame).ok()?).ok());
        sent.any(|message| is(&message))
    };
    let why = match message {
        Downlink::QueryStatus(_) => "the socket is asked what its ports do",
        Downlink::Switch(switch) if switch.order == SwitchOrder::Off => {
            let asked = |kind: &str| {
                picked.commands.iter().any(|command| command.kind == kind && command.created_up == entry.up)
            };
            if asked("stop_charge") {
                "a command wants it stopped"
            } else if earlier(is_stop) {
                "a stop is owed until the port is idle: once more"
            } else if picked.closed.is_some_and(|closed| entry.up >= closed) {
                "it may charge, or does, although it is over"
            } else {
                "it is past what was paid, or is to be stopped on its return"
            }
        }
        ref start if is_start(start) && earlier(is_start) => "no answer came, and asked the port was idle: once more",
        _ => return None,
    };
    Some(why.to_owned())
}

const fn is_stop(message: &Downlink) -> bool {
    matches!(message, Downlink::Switch(switch) if matches!(switch.order, SwitchOrder::Off))
}

const fn is_start(message: &Downlink) -> bool {
    match message {
        Downlink::Switch(switch) => !matches!(switch.order, SwitchOrder::Off),
        Downlink::StartByTiers(_) | Downlink::StartByFee(_) => true,
        _ => false,
    }
}

/// What its settlement means.
pub(super) const fn of_settlement(order: &Order) -> &'static str {
    match order.settlement {
        None => "it is open: nothing is settled",
        Some(_) if matches!(order.end_reason, Some(EndReason::StartRefused)) => "refused: nothing was drawn",
        Some(Settlement::Reported) => "settled by the device's own end report: both bounds are its figures",
        Some(Settlement::Corrected) => "settled by an end report that came, or was read, after the close",
        Some(Settlement::Estimated) => {
            "the device has shown that it ended: its figures, and the most that it can have \
                                        drawn since"
        }
        Some(Settlement::Provisional) => {
            "closed by a time limit only: it may still charge, so the most is what was paid"
        }
    }
}

/// Why the verdict is what it is.
pub(super) fn of_verdict(order: &Order, journal_since: Option<UpTime>, picked: &Picked<'_>) -> String {
    let frame = |verdict| {
        let ends = picked.frames.iter().filter(|entry| entry.verdict == verdict && entry.up >= picked.began);
        ends.rev().find(|entry| is_end(entry)).map(|entry| {
            let reason = entry.reason.as_deref().unwrap_or("-");
            format!("one came at {} and was {}: {reason}", rfc3339(entry.at), entry.verdict.word())
        })
    };
    let or_lost = |found: Option<String>| found.unwrap_or_else(|| "its frame is no longer in the journal".to_owned());
    let at_close = match order.verdict {
        Some(Verdict::NeverReceived) => {
            format!("no end report of {} is among the frames that came while the order lived", place(picked))
        }
        Some(Verdict::ReceivedMalformed) => or_lost(frame(FrameVerdict::Malformed)),
        Some(Verdict::ReceivedUnmatched) => or_lost(frame(FrameVerdict::Unmatched)),
        Some(Verdict::Unknown) => match journal_since {
            Some(since) if since <= order.created_up => {
                "the journal did not reach back to its begin when it was closed"
            }
            _ => "the journal no longer reaches back to its begin",
        }
        .to_owned(),
        None if order.status.is_open() => return "it is open: no report is missing yet".to_owned(),
        None if order.settlement == Some(Settlement::Reported) => {
            return "the device's own end report stands".to_owned();
        }
        None if !order.was_accepted() => return "it never charged: no end report was due".to_owned(),
        None => return "no report was missing when it was closed".to_owned(),
    };
    if order.settlement == Some(Settlement::Corrected) {
        return format!("{at_close}; that is what was so at the close, since then a report was booked");
    }
    at_close
}

fn place(picked: &Picked<'_>) -> String {
    let port = if picked.port.port.get() == 0 { 'A' } else { 'B' };
    format!("socket {} port {port}", picked.port.socket)
}

fn is_end(entry: &JournalEntry) -> bool {
    let frame = Frame::parse(&entry.frame).ok();
    let salvaged = frame.as_ref().and_then(salvage);
    salvaged.is_some_and(|salvaged| matches!(salvaged.kind, SalvagedKind::End(_)))
}
