//! Holds what is said to the cloud, and what the cloud says, against `docs/asyncapi.yaml`.
//!
//! A message is judged by its topic: of the channel that has it, by the message of its type. What a schema cannot say
//! (the parts of an envelope agree with each other and with the topic) is judged here.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use chargegate::clock::WallTime;
use chargegate::time_text::rfc3339;
use jsonschema::Validator;
use serde_json::{Value, json};

/// The description, read once.
pub struct AsyncApi {
    document: Value,
    /// By the name of the message.
    messages: BTreeMap<String, Validator>,
}

/// The description of this project.
pub fn asyncapi() -> &'static AsyncApi {
    static READ: OnceLock<AsyncApi> = OnceLock::new();
    READ.get_or_init(|| AsyncApi::read(include_str!("../../docs/asyncapi.yaml")))
}

/// All events of a store, with what [`enveloped`] needs.
pub const EVENTS: &str =
    "SELECT events.*, (SELECT value FROM meta WHERE key = 'instance') AS instance FROM events ORDER BY rowid";

/// What the outbox would make of a row of [`EVENTS`]: topic and payload.
pub fn enveloped(row: &Value) -> (String, Value) {
    let (stream, instance) = (row["stream"].as_str().unwrap(), row["instance"].as_str().unwrap());
    let payload = json!({
        "v": 1,
        "id": format!("site-1/{instance}/{stream}/{}", row["seq"]),
        "instance": instance,
        "seq": row["seq"],
        "site": "site-1",
        "type": row["type"],
        "time": rfc3339(WallTime(row["at"].as_i64().unwrap())),
        "clock": row["clock"],
        "device": row["device_id"],
        "data": serde_json::from_str::<Value>(row["data"].as_str().unwrap()).unwrap(),
    });
    (format!("chargegate/site-1/event/{stream}"), payload)
}

impl AsyncApi {
    fn read(text: &str) -> Self {
        let document: Value = serde_saphyr::from_str(text).unwrap();
        let messages = document["components"]["messages"].as_object().unwrap();
        let compiled = |(name, message): (&String, &Value)| {
            let schema = json!({ "components": document["components"], "allOf": [message["payload"]] });
            let validator = jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), validator)
        };
        let messages = messages.iter().map(compiled).collect();
        Self { document, messages }
    }

    /// Whether this payload may be published on this topic.
    pub fn check(&self, topic: &str, payload: &Value) -> Result<(), String> {
        let (channel, site) = self.channel_of(topic).ok_or_else(|| format!("no channel has the topic {topic}"))?;
        let names = self.messages_at(&format!("/channels/{channel}/messages"));
        self.check_one_of(&names, payload)?;
        match topic.rsplit_once("/event/") {
            Some((_, stream)) => agree(site, stream, payload),
            None => Ok(()),
        }
    }

    /// Whether this is a reply to a command of this type.
    pub fn check_reply(&self, command: &str, reply: &Value) -> Result<(), String> {
        self.check_one_of(&self.messages_at(&format!("/operations/{command}/reply/messages")), reply)
    }

    /// The names of all messages of a channel.
    pub fn messages_of(&self, channel: &str) -> Vec<String> {
        self.messages_at(&format!("/channels/{channel}/messages"))
    }

    /// The channels by name, with their topics at the site `site-1`.
    pub fn topics(&self) -> BTreeMap<String, String> {
        let channels = self.document["channels"].as_object().unwrap();
        let topic = |channel: &Value| {
            channel["address"].as_str().unwrap().replace("{topic_prefix}/{site}", "chargegate/site-1")
        };
        channels.iter().map(|(name, channel)| (name.clone(), topic(channel))).collect()
    }

    /// The examples of a message.
    pub fn examples(&self, message: &str) -> Vec<Value> {
        let examples = self.document["components"]["messages"][message]["examples"].as_array();
        examples.into_iter().flatten().map(|example| example["payload"].clone()).collect()
    }

    /// What stands at this place of the document.
    pub fn at(&self, pointer: &str) -> &Value {
        self.document.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
    }

    /// The channel that has a topic, and the site in it; the prefix may have levels of its own.
    fn channel_of<'a>(&'a self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let channels = self.document["channels"].as_object()?;
        channels.iter().find_map(|(name, channel)| {
            let tail = channel["address"].as_str()?.strip_prefix("{topic_prefix}/{site}")?;
            let (prefix, site) = topic.strip_suffix(tail)?.rsplit_once('/')?;
            (!prefix.is_empty() && !site.is_empty()).then_some((name.as_str(), site))
        })
    }

    /// The names of the messages that a list or map of references leads to.
    fn messages_at(&self, pointer: &str) -> Vec<String> {
        let references: Vec<&Value> = match self.document.pointer(pointer) {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(Value::Object(map)) => map.values().collect(),
            _ => panic!("nothing at {pointer}"),
        };
        references.into_iter().map(|reference| self.message_of(reference)).collect()
    }

    fn message_of(&self, reference: &Value) -> String {
        let pointer = reference["$ref"].as_str().unwrap().trim_start_matches('#');
        match pointer.strip_prefix("/components/messages/") {
            Some(name) => name.to_owned(),
            None => self.message_of(self.at(pointer)),
        }
    }

    fn check_one_of(&self, names: &[String], payload: &Value) -> Result<(), String> {
        let kind = payload["type"].as_str();
        let of_its_type = names.iter().filter(|name| Some(name.as_str()) == kind);
        let names: Vec<&String> = if kind.is_some() { of_its_type.collect() } else { names.iter().collect() };
        let results: Vec<Vec<String>> = names.iter().map(|name| self.errors(name, payload)).collect();
        // What it is nearest to tells most.
        match names.iter().zip(results).min_by_key(|(_, errors)| errors.len()) {
            Some((_, errors)) if errors.is_empty() => Ok(()),
            Some((name, errors)) => Err(format!("no {name}: {}", errors.join("; "))),
            None => Err(format!("no message of type {kind:?}")),
        }
    }

    fn errors(&self, message: &str, payload: &Value) -> Vec<String> {
        let errors = self.messages[message].iter_errors(payload);
        errors.map(|error| format!("{} {error}", error.instance_path())).collect()
    }
}

/// The parts of an envelope agree with each other and with its topic.
fn agree(site: &str, stream: &str, event: &Value) -> Result<(), String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let id = format!("{}/{}/{stream}/{}", text("site"), text("instance"), event["seq"]);
    if text("id") != id || text("site") != site {
        return Err(format!("the id {} is not {id} of {site}", text("id")));
    }
    let data = &event["data"];
    for device in [data.get("device"), data.get("device_id")].into_iter().flatten() {
        if *device != event["device"] {
            return Err(format!("the device {} is not {device} of the data", event["device"]));
        }
    }
    Ok(())
}
