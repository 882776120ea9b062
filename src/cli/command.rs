//! `command`: one command to the running agent through its control socket, and its reply.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use chargegate::config::Config;
use serde_json::Value;

use super::agent::{self, Agent};
use super::arguments::{Argument, Arguments};
use super::failure::{Failure, Outcome};

/// How long the agent may take to let us in; a reply takes as long as the device does.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The agent takes no longer line (contract §6); some more is read so that it is the one to say so.
const MOST_INPUT: u64 = 1 << 20;

/// What the arguments say.
pub struct CommandOptions {
    /// The command; from stdin, if none.
    json: Option<String>,
}

pub fn parse(arguments: &mut Arguments) -> Result<CommandOptions, Failure> {
    let mut given = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Value(value) if given.is_none() => given = Some(value.to_string_lossy().into_owned()),
            unknown => return Err(arguments.unexpected(&unknown)),
        }
    }
    match given {
        Some(json) => Ok(CommandOptions { json: Some(json).filter(|json| json != "-") }),
        None if arguments.help => Ok(CommandOptions { json: None }),
        None => Err(arguments.wrong("the command is missing: a JSON object, or - to read it from stdin")),
    }
}

pub fn run(config: &Config, options: &CommandOptions) -> Outcome {
    let text = match &options.json {
        Some(json) => json.clone(),
        None => from_stdin()?,
    };
    send("command", config, &text)
}

/// Sends the command on behalf of `what`, and shows its reply.
pub fn send(what: &str, config: &Config, text: &str) -> Outcome {
    let request = Request::of(text);
    if request.line.is_empty() {
        return Err(Failure::usage(what, "there is nothing to send"));
    }
    let socket = &config.control.socket;
    let no_agent = |error| Failure::failed(what, format!("no agent answers at {}: {error}", socket.display()));
    let mut agent = Agent::connect(socket, CONNECT_PATIENCE).map_err(no_agent)?;
    // Even when not all of it went out there can be a reply that says why.
    let sent = agent.send(&request.line);
    let reply = await_reply(&mut agent, &request);
    match (reply, sent) {
        (Ok(Some(reply)), _) => show(&reply),
        (Ok(None), Ok(())) => Err(no_agent(io::Error::other("it closed the connection without a reply"))),
        (Err(error), _) | (Ok(None), Err(error)) => Err(no_agent(error)),
    }
}

fn from_stdin() -> Result<String, Failure> {
    let failed = |error| Failure::failed("command", format!("stdin: {error}"));
    let mut bytes = Vec::new();
    io::stdin().lock().take(MOST_INPUT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn await_reply(agent: &mut Agent, request: &Request) -> io::Result<Option<String>> {
    while let Some(line) = agent.receive()? {
        if request.is_answered_by(&line) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

fn show(reply: &str) -> Outcome {
    writeln!(io::stdout(), "{reply}")?;
    let reply: Value = serde_json::from_str(reply).unwrap_or_default();
    if reply["result"] == "done" { Ok(()) } else { Err(Failure::answer_is_no()) }
}

/// What goes out: one line, which is otherwise as it was given. What is no JSON goes out as well, so that the
/// agent's reply says so.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    line: String,
    id: Option<String>,
}

impl Request {
    fn of(text: &str) -> Self {
        let Ok(json) = serde_json::from_str::<Value>(text) else {
            return Self { line: text.trim().replace(['\n', '\r'], " "), id: None };
        };
        let line = compact(text);
        match (&json, json.get("id")) {
            (_, Some(id)) => Self { line, id: id.as_str().map(str::to_owned) },
            (Value::Object(members), None) => {
                let id = agent::made_up_id();
                let comma = if members.is_empty() { "" } else { "," };
                let line = format!("{{\"id\":\"{id}\"{comma}{}", &line[1..]);
                Self { line, id: Some(id) }
            }
            (_, None) => Self { line, id: None },
        }
    }

    /// Whether the line is our reply. One without an id is: ours could not be read.
    fn is_answered_by(&self, line: &str) -> bool {
        let reply: Value = serde_json::from_str(line).unwrap_or_default();
        match &reply["id"] {
            Value::String(id) => self.id.as_ref().is_none_or(|ours| ours == id),
            _ => true,
        }
    }
}

/// The same JSON without the white space between its parts; numbers and texts stay as they were written.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let mut kept = String::with_capacity(json.len());
    for c in json.chars() {
        if in_text || !c.is_ascii_whitespace() {
            kept.push(c);
        }
        match c {
            '"' if !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = in_text && c == '\\' && !escaped;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_sent_on_one_line_and_otherwise_as_it_was_given() {
        let request = Request::of("{\n \"id\": \"a b\",\t\"type\" : \"x\\\" y\", \"n\": 1.50e3 }\n");
        assert_eq!(request.line, r#"{"id":"a b","type":"x\" y","n":1.50e3}"#);
        assert_eq!(request.id.as_deref(), Some("a b"));
    }

    #[test]
    fn an_id_is_made_up_only_when_there_is_none() {
        let request = Request::of(r#"{"type":"get_snapshot"}"#);
        let id = request.id.unwrap();
        assert!((1..=64).contains(&id.len()));
        assert_eq!(request.line, format!("{{\"id\":\"{id}\",\"type\":\"get_snapshot\"}}"));
        let empty = Request::of(" { } ");
        assert_eq!(empty.line, format!("{{\"id\":\"{}\"}}", empty.id.as_deref().unwrap()));
        assert_eq!(Request::of(r#"{"id":7}"#), Request { line: r#"{"id":7}"#.to_owned(), id: None });
    }

    #[test]
    fn what_is_no_object_goes_out_as_it_is_on_one_line() {
        for (text, line) in [("{\"a\":\n1,}\n", "{\"a\": 1,}"), ("[1, 2]", "[1,2]"), ("stop", "stop"), (" \n", "")] {
            assert_eq!(Request::of(text), Request { line: line.to_owned(), id: None });
        }
    }

    #[test]
    fn only_the_reply_with_our_id_or_without_one_is_ours() {
        let request = Request::of(r#"{"id":"a"}"#);
        assert!(request.is_answered_by(r#"{"v":1,"id":"a","result":"done"}"#));
        assert!(request.is_answered_by(r#"{"v":1,"id":null,"result":"rejected"}"#));
        assert!(!request.is_answered_by(r#"{"v":1,"id":"b","result":"done"}"#));
    }
}
