//! `redecode`: old end reports read with the present decoder and configuration, and what would be booked otherwise.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use chargegate::config::Config;
use chargegate::site::redecode::{corrections, port_of_report};
use chargegate::store::Material;
use serde_json::{Value, json};

use super::agent::{self, Agent};
use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};
use super::store_file;

/// How long the agent may take to let us in, and to book what it is handed at a time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames that the agent is handed at a time: its turn stays short, and so do both lines.
const AT_A_TIME: usize = 200;

/// What the arguments say.
pub struct RedecodeOptions {
    apply: bool,
    json: bool,
}

pub fn parse(arguments: &mut Arguments) -> Result<RedecodeOptions, Failure> {
    let mut options = RedecodeOptions { apply: false, json: false };
    while let Some(argument) = arguments.next()? {
        match &argument {
            Argument::Option(name) if name == "apply" => options.apply = true,
            Argument::Option(name) if name == "json" => options.json = true,
            unknown => return Err(arguments.unexpected(unknown)),
        }
    }
    Ok(options)
}

pub fn run(config: &Config, options: &RedecodeOptions) -> Outcome {
    let running = if options.apply { Some(connect(config)?) } else { None };
    let found = find(config)?;
    let Some(mut agent) = running else {
        show(&found.shown, options.json)?;
        return if found.shown.is_empty() { Ok(()) } else { Err(Failure::answer_is_no()) };
    };
    let mut booked = Vec::new();
    let done = found.frames.chunks(AT_A_TIME).try_for_each(|frames| {
        booked.append(&mut book(&mut agent, frames)?);
        Ok::<(), Failure>(())
    });
    show(&booked, options.json)?;
    done?;
    let left = still_found(&found.shown, &booked);
    match left.first() {
        None => Ok(()),
        Some(order_no) => {
            let why = format!(
                "the agent reads {} of {} otherwise, {order_no} among them: has it the same configuration? SIGHUP",
                left.len(),
                found.shown.len()
            );
            Err(Failure::failed("redecode", why))
        }
    }
}

/// What would be booked otherwise: the frames that say so, and how it is shown.
struct Found {
    frames: Vec<i64>,
    shown: Vec<Value>,
}

fn find(config: &Config) -> Result<Found, Failure> {
    let path = &config.store.path;
    if path.exists() {
        let _ = agent::ask_to_flush(&config.control.socket);
    }
    let connection = store_file::open("redecode", path)?;
    let material = Material::read(&connection, port_of_report)
        .map_err(|error| store_file::unreadable("redecode", path, &error))?;
    let corrections = corrections(config, &material);
    Ok(Found {
        frames: corrections.iter().map(|correction| correction.frame).collect(),
        shown: corrections.iter().map(|correction| correction.to_json()).collect(),
    })
}

fn connect(config: &Config) -> Result<Agent, Failure> {
    let socket = &config.control.socket;
    let agent = Agent::connect(socket, PATIENCE).and_then(|agent| agent.hurry(PATIENCE).map(|()| agent));
    agent.map_err(|error| {
        let why = format!("only a running agent can book, and none answers at {}: {error}", socket.display());
        Failure::failed("redecode", why)
    })
}

/// Has the agent book what these frames say, and tells what it booked.
fn book(agent: &mut Agent, frames: &[i64]) -> Result<Vec<Value>, Failure> {
    let id = format!("{}-{}", agent::made_up_id(), frames.first().copied().unwrap_or(0));
    let request = json!({ "id": id, "type": "redecode", "frames": frames });
    let failed = |why: &str| Failure::failed("redecode", why);
    let reply = agent.send(&request.to_string()).and_then(|()| agent.receive());
    let reply = reply.map_err(|error| failed(&format!("the agent does not answer: {error}")))?;
    let reply = reply.ok_or_else(|| failed("the agent closed the connection without a reply"))?;
    let mut reply: Value = serde_json::from_str(&reply).unwrap_or_default();
    match reply["data"]["booked"].take() {
        Value::Array(booked) if reply["result"] == "done" => Ok(booked),
        _ => Err(failed(reply["error"]["message"].as_str().unwrap_or("the agent did not do it"))),
    }
}

/// Orders that we found and the agent did not.
fn still_found(found: &[Value], booked: &[Value]) -> Vec<String> {
    let numbers = |values: &[Value]| -> BTreeSet<String> {
        values.iter().filter_map(|value| value["order_no"].as_str()).map(str::to_owned).collect()
    };
    numbers(found).difference(&numbers(booked)).cloned().collect()
}

fn show(corrections: &[Value], as_json: bool) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        let lines: Vec<String> = corrections.iter().map(Value::to_string).collect();
        writeln!(out, "[{}]", lines.join(",\n"))?;
    } else {
        for correction in corrections {
            writeln!(out, "{}", chargegate::logging::one_line(&line(correction)))?;
        }
    }
    out.flush()
}

/// The order, what stands, what would be booked.
fn line(correction: &Value) -> String {
    let text = |name: &str| correction[name].as_str().unwrap_or_default();
    let (stands, would) = (&correction["stands"], &correction["would_book"]);
    let changed = would.as_object().into_iter().flatten().filter(|(name, value)| stands[name.as_str()] != **value);
    // What every correction changes is not worth a word.
    let changed = changed.filter(|(name, _)| !matches!(name.as_str(), "revision" | "settlement"));
    let changed: Vec<String> =
        changed.map(|(name, value)| format!("{name} {} -> {}", plain(&stands[name.as_str()]), plain(value))).collect();
    format!(
        "{}  stands {}  would book {}  by the {} report of {}",
        text("order_no"),
        summary(stands),
        if changed.is_empty() { "its report, with the same figures".to_owned() } else { changed.join(", ") },
        text("journal_verdict"),
        text("reported_at"),
    )
}

fn summary(order: &Value) -> String {
    let (reason, settlement) = (plain(&order["end_reason"]), plain(&order["settlement"]));
    format!("{reason} {settlement} {} Wh {} min", plain(&order["energy_wh"]), plain(&order["minutes"]))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
