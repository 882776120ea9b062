//! A frame in one line, for people: what matters of it, in the words of the site.

use std::fmt::Write as _;

use super::code::{Command, ControlSub, NetworkSub, WrapperSub};
use super::frame::{Direction, Frame};
use super::message::{CardPlan, Downlink, EndReport, PortReading, SocketStatus, StartAnswer, SwitchOrder, Uplink};
use super::value::{EnergyUnits, ResultByte, StatusByte};
use crate::ids::{BusinessNo, PortNo, SocketNo};

/// The reading of a frame, or why there is none. Energy that a device tells counts in units of `unit_wh`.
pub fn summary(bytes: &[u8], unit_wh: u32) -> String {
    let frame = match Frame::parse(bytes) {
        Ok(frame) => frame,
        Err(error) => return format!("no frame: {error}"),
    };
    let read = match frame.direction() {
        Direction::Up => Uplink::decode(&frame).map(|message| up(&frame, &message, unit_wh)),
        Direction::Down => Downlink::decode(&frame).map(|message| down(&frame, &message)),
    };
    match read {
        Ok(text) if frame.message_id().0 != 0 => format!("{text} (message {})", frame.message_id().0),
        Ok(text) => text,
        Err(error) => format!("unreadable {error}"),
    }
}

/// Its name and the code that it travels under.
fn name(frame: &Frame<'_>) -> String {
    let command = Command::from_code(frame.command());
    let sub = frame.sub().unwrap_or_default();
    match command {
        Command::Network => format!("{} {sub:02x}", NetworkSub::from_code(sub as u8).name()),
        Command::Control => format!("{} {sub:02x}", ControlSub::from_code(sub as u8).name()),
        Command::Wrapper => format!("{} {sub:04x}", WrapperSub::from_code(sub).name()),
        Command::Heartbeat | Command::Ota | Command::Unknown(_) => {
            format!("{} {:04x}", command.name(), frame.command())
        }
    }
}

fn up(frame: &Frame<'_>, message: &Uplink, unit_wh: u32) -> String {
    let mut text = name(frame);
    if let Some(end) = message.end_report() {
        end_report(&mut text, &end, unit_wh);
        return text;
    }
    if let Some(answer) = message.start_answer() {
        answered(&mut text, &answer);
        return text;
    }
    match message {
        Uplink::Heartbeat(heartbeat) => add(&mut text, format_args!("firmware {}", heartbeat.firmware)),
        Uplink::Status(_) | Uplink::QueryAnswer(_) => {
            for (place, status) in message.socket_statuses().enumerate() {
                text.push_str(if place == 0 { " " } else { "; " });
                socket(&mut text, status, unit_wh);
            }
        }
        Uplink::CardSwipe(swipe) => {
            port(&mut text, swipe.socket, swipe.port);
            number(&mut text, swipe.business_no);
            add(&mut text, format_args!("card {}", swipe.card_no));
        }
        Uplink::CardAccepted(accepted) => {
            port(&mut text, accepted.socket, accepted.port);
            result(&mut text, accepted.result);
        }
        Uplink::BalanceQuery(query) => {
            port(&mut text, query.socket, query.port);
            add(&mut text, format_args!("card {}", query.card_no));
        }
        Uplink::Abnormal(event) => {
            add(&mut text, format_args!("socket {}", event.socket));
            for setting in &event.settings {
                if let Some(number) = setting.as_number() {
                    add(&mut text, format_args!("{} {number}", setting.key.name()));
                }
            }
        }
        Uplink::NetworkAnswer(answer) => result(&mut text, answer.result),
        Uplink::VoiceAnswer(answer) => result(&mut text, answer.result),
        Uplink::SetParamsAnswer(answer) => result(&mut text, answer.result),
        Uplink::Params(params) => result(&mut text, params.result),
        Uplink::NetworkList(list) => add(&mut text, format_args!("{} sockets", list.sockets.len())),
        Uplink::Reconnected(_) | Uplink::OtaProgress(_) | Uplink::Unknown(_) => {}
        // Told above.
        Uplink::SwitchAnswer(_)
        | Uplink::FeeStartAnswer(_)
        | Uplink::ChargeEnd(_)
        | Uplink::TiersEnd(_)
        | Uplink::CardEnd(_)
        | Uplink::FeeEnd(_) => {}
    }
    text
}

fn down(frame: &Frame<'_>, message: &Downlink) -> String {
    let mut text = name(frame);
    match message {
        Downlink::Switch(switch) => {
            let (what, ordered) = match switch.order {
                SwitchOrder::Time(minutes) => ("start", format!("{minutes} min")),
                SwitchOrder::Energy(energy) => ("start", format!("{energy} Wh")),
                SwitchOrder::Off => ("stop", String::new()),
            };
            text = format!("{what} {:02x}", frame.sub().unwrap_or_default());
            port(&mut text, switch.socket, switch.port);
            if !ordered.is_empty() {
                add(&mut text, format_args!("{ordered}"));
            }
        }
        Downlink::StartByTiers(start) => {
            port(&mut text, start.socket, start.port);
            add(&mut text, format_args!("{} cents in {} tiers", start.amount, start.tiers.len()));
        }
        Downlink::StartByFee(start) => {
            port(&mut text, start.socket, start.port);
            add(&mut text, format_args!("{} cents in {} tiers", start.amount, start.tiers.len()));
        }
        Downlink::QueryStatus(query) => add(&mut text, format_args!("socket {}", query.socket)),
        Downlink::CardOrder(order) => {
            port(&mut text, order.socket, order.port);
            if order.plan == CardPlan::Off {
                text.push_str(" off");
            }
        }
        Downlink::EndAck(ack) => result(&mut text, ack.result),
        Downlink::FeeEndAck(ack) => result(&mut text, ack.result),
        Downlink::StatusAck(ack) => result(&mut text, ack.result),
        Downlink::AbnormalAck(ack) => result(&mut text, ack.result),
        Downlink::HeartbeatReply(reply) => add(&mut text, format_args!("{}", reply.time)),
        Downlink::NetworkRefresh(_)
        | Downlink::NetworkChange(_)
        | Downlink::Ota(_)
        | Downlink::BalanceAnswer(_)
        | Downlink::VoiceHours(_)
        | Downlink::SetParams(_)
        | Downlink::QueryParams(_)
        | Downlink::Unknown(_) => {}
    }
    text
}

fn socket(text: &mut String, status: &SocketStatus, unit_wh: u32) {
    let _ = write!(text, "socket {}", status.socket);
    for (place, shown) in status.ports.iter().enumerate() {
        text.push_str(if place == 0 { " " } else { ", " });
        reading(text, shown, unit_wh);
    }
}

fn reading(text: &mut String, shown: &PortReading, unit_wh: u32) {
    let _ = write!(text, "port {} {}", letter(shown.port), state(shown.status));
    number(text, shown.business_no);
    if shown.status.charging() || shown.business_no.is_some() {
        let energy = energy(shown.energy_units, unit_wh);
        add(text, format_args!("{:.1} W {energy} Wh {} min", shown.power.watts(), shown.minutes));
    }
}

fn end_report(text: &mut String, end: &EndReport, unit_wh: u32) {
    port(text, end.socket, end.port);
    number(text, end.business_no);
    add(text, format_args!("{} Wh {} min", energy(end.energy_units, unit_wh), end.minutes));
    let fees = end.electricity_fee.zip(end.service_fee).map(|(electricity, service)| electricity + service);
    if let Some(amount) = end.amount.or(fees) {
        add(text, format_args!("{amount} cents"));
    }
    add(text, format_args!("status {}", state(end.status)));
    if let Some(reason) = end.raw_reason {
        add(text, format_args!("reason {reason}"));
    }
}

fn answered(text: &mut String, answer: &StartAnswer) {
    text.push_str(" answer");
    result(text, answer.result);
    if let Some(socket) = answer.socket {
        add(text, format_args!("socket {socket}"));
    }
    if let Some(port) = answer.port {
        add(text, format_args!("port {}", letter(port)));
    }
    number(text, answer.business_no);
}

fn state(status: StatusByte) -> String {
    if !status.online() {
        return "socket offline".to_owned();
    }
    let mut text = if status.charging() { "charging" } else { "idle" }.to_owned();
    for (set, name) in [
        (status.no_load(), "no load"),
        (status.metering_fault(), "metering fault"),
        (status.over_temperature(), "over-temperature"),
        (status.over_current(), "over-current"),
        (status.over_power(), "over-power"),
    ] {
        if set {
            let _ = write!(text, ", {name}");
        }
    }
    text
}

fn energy(units: EnergyUnits, unit_wh: u32) -> u32 {
    u32::from(units.0).saturating_mul(unit_wh)
}

const fn letter(port: PortNo) -> char {
    if port.get() == 0 { 'A' } else { 'B' }
}

fn port(text: &mut String, socket: SocketNo, port: PortNo) {
    add(text, format_args!("socket {socket} port {}", letter(port)));
}

fn number(text: &mut String, number: Option<BusinessNo>) {
    if let Some(number) = number {
        add(text, format_args!("number {number}"));
    }
}

fn result(text: &mut String, result: ResultByte) {
    text.push_str(if result.ok() { " ok" } else { " refused" });
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Into a text nothing can fail.
    let _ = write!(text, " {more}");
}
