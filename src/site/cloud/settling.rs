//! What came of a message: confirmed, refused, heard by nobody; and the receiver's own `ack`.

use serde_json::{Value, json};

use crate::clock::Now;
use crate::cloud::envelope::unsendable_data;
use crate::cloud::{Session, Settlement, Ticket};
use crate::event::Stream;
use crate::limits::{CLOUD_PARKED_MS, WARN_EVERY};
use crate::store::{OutboxRow, Severity, Subject};
use crate::turn::Fatal;

use super::super::dues::Due;
use super::super::{Site, fatal};
use super::CloudDue;
use super::feeding::{Own, Sent, lane_of};

/// The rule whose alert tells that events reach nobody (contract §6, §7).
pub(super) const CLOUD_NOT_LISTENING: &str = "cloud_not_listening";
/// The rule whose alert tells that something could not be sent as it was.
pub(super) const MESSAGE_REFUSED: &str = "message_refused";

impl Site {
    pub(super) fn settle(
        &mut self,
        session: Session,
        ticket: Ticket,
        settlement: Settlement,
        now: Now,
    ) -> Result<(), Fatal> {
        let Some(feed) = self.feed.as_mut().filter(|feed| feed.phase.can_settle(session)) else { return Ok(()) };
        let Some(sent) = feed.window.in_flight.remove(&ticket) else { return Ok(()) };
        feed.window.progressed = now.up;
        feed.rate.count(now.up);
        match (sent, settlement) {
            (Sent::Row { stream, .. }, Settlement::Confirmed) => self.row_confirmed(ticket.0, stream, true, now),
            (Sent::Row { stream, .. }, Settlement::NobodyListens) => self.row_confirmed(ticket.0, stream, false, now),
            (Sent::Row { .. }, Settlement::Refused(why)) => self.row_refused(ticket.0, &why, now),
            (Sent::Own(Own::Reply(message)), Settlement::Refused(why)) if message.topic != feed.topics.reply() => {
                // Whoever asked for it there has it on `reply` as well.
                log::warn!("reply refused topic={:?}: {why:?}", message.topic);
                Ok(())
            }
            (Sent::Own(own), Settlement::Refused(why)) => {
                let (Own::State(message) | Own::Summary(message) | Own::Reply(message)) = own;
                self.raise_refused(&message.topic, None, &why, now)
            }
            (Sent::Own(_), _) => Ok(()),
        }
    }

    fn row_confirmed(&mut self, id: u64, stream: Option<Stream>, heard: bool, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &self.feed else { return Ok(()) };
        let unheard = feed.unheard;
        if stream.is_none() || !feed.by_application {
            self.row_goes(id, now);
        }
        match (stream, heard) {
            (Some(stream), false) => self.raise_not_listening(stream, now),
            (Some(_), true) if unheard && !self.dues.is_set(Due::Cloud(CloudDue::Listens)) => {
                let at = now.up.after(self.config.alerts.clear_after);
                self.set_cloud_due(CloudDue::Listens, Some(at), now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn raise_not_listening(&mut self, stream: Stream, now: Now) -> Result<(), Fatal> {
        self.set_cloud_due(CloudDue::Listens, None, now);
        let Some(feed) = self.feed.as_mut().filter(|feed| !feed.unheard) else { return Ok(()) };
        feed.unheard = true;
        let details = json!({ "topic": feed.topics.event(stream) });
        let raised = self.raise(CLOUD_NOT_LISTENING, Severity::Warning, Subject::default(), now.wall, &details, now);
        self.kept(raised).map(drop)
    }

    pub(super) fn clear_not_listening(&mut self, now: Now) -> Result<(), Fatal> {
        if let Some(feed) = &mut self.feed {
            feed.unheard = false;
        }
        self.clear_cloud_alert(CLOUD_NOT_LISTENING, now)
    }

    /// Its content is replaced and goes again; when that is refused as well it waits, and the rest flows.
    fn row_refused(&mut self, id: u64, why: &str, now: Now) -> Result<(), Fatal> {
        let Some(row) = fatal(self.store.outbox_row(id))? else { return Ok(()) };
        let replaced = self.replace(&row, &format!("the broker refused it: {why}"), now)?;
        if let (Some(row), Some(feed)) = (replaced, &mut self.feed) {
            feed.lanes.send_again(row.id);
        }
        Ok(())
    }

    /// Puts something in the place of what can never be sent; `None` when that is of no use.
    pub(super) fn replace(&mut self, row: &OutboxRow, why: &str, now: Now) -> Result<Option<OutboxRow>, Fatal> {
        let kind = match (row.stream, row.seq) {
            (Some(stream), Some(seq)) => self.event(stream, seq)?.filter(|event| event.intact).map(|event| event.kind),
            _ => None,
        };
        let topic = self.feed.as_ref().map_or_else(String::new, |feed| feed.topics.under(&row.topic));
        self.raise_refused(&topic, kind.as_deref(), why, now)?;
        let payload = match (row.stream, &row.payload) {
            (Some(_), None) => unsendable_data(kind.as_deref(), why).to_string(),
            (Some(stream), Some(_)) => {
                self.park(row.id, stream, now);
                return Ok(None);
            }
            (None, reply) => match reply.as_deref().and_then(|reply| without_data(reply, why)) {
                Some(reply) => reply,
                None => {
                    log::error!("reply dropped topic={topic:?}: {why}");
                    self.row_goes(row.id, now);
                    return Ok(None);
                }
            },
        };
        let replaced = self.store.replace_in_outbox(row.id, &payload);
        self.kept(replaced)?;
        Ok(Some(OutboxRow { payload: Some(payload), intact: true, ..row.clone() }))
    }

    fn park(&mut self, id: u64, stream: Stream, now: Now) {
        let Some(feed) = &mut self.feed else { return };
        feed.lanes.park(lane_of(Some(stream)), id);
        if !self.dues.is_set(Due::Cloud(CloudDue::Parked)) {
            let at = now.up.after(std::time::Duration::from_millis(CLOUD_PARKED_MS));
            self.set_cloud_due(CloudDue::Parked, Some(at), now);
        }
    }

    pub(super) fn try_parked_again(&mut self, now: Now) -> Result<(), Fatal> {
        self.feed.iter_mut().for_each(|feed| feed.lanes.unpark());
        self.feed_cloud(now)
    }

    fn raise_refused(&mut self, topic: &str, kind: Option<&str>, why: &str, now: Now) -> Result<(), Fatal> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        // A broker that refuses everything would fill the log.
        let is_due = feed.refusal_logged.is_none_or(|at| now.up >= at.after(WARN_EVERY));
        let level = if is_due { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "message refused topic={topic:?} type={kind:?}: {why:?}");
        if is_due {
            feed.refusal_logged = Some(now.up);
        }
        let at = now.up.after(self.config.alerts.clear_after);
        self.set_cloud_due(CloudDue::Accepted, Some(at), now);
        let details = json!({ "topic": topic, "type": kind, "why": why });
        let raised = self.raise(MESSAGE_REFUSED, Severity::Warning, Subject::default(), now.wall, &details, now);
        self.kept(raised).map(drop)
    }

    /// Nothing was refused for a while, and nothing that was still waits.
    pub(super) fn clear_message_refused(&mut self, now: Now) -> Result<(), Fatal> {
        if self.feed.as_ref().is_some_and(|feed| feed.lanes.has_parked()) {
            let at = now.up.after(self.config.alerts.clear_after);
            self.set_cloud_due(CloudDue::Accepted, Some(at), now);
            return Ok(());
        }
        self.clear_cloud_alert(MESSAGE_REFUSED, now)
    }

    /// The receiver has a stream up to a number. Only what was sent can be meant.
    pub(super) fn take_ack(&mut self, payload: &Result<Vec<u8>, usize>, now: Now) {
        let instance = self.store.instance();
        let ack = payload.as_ref().ok().and_then(|payload| read_ack(payload));
        let Some((stream, of, upto)) = ack else {
            log::warn!("ack ignored: it is not {{\"stream\":…,\"instance\":…,\"upto\":…}}");
            return;
        };
        if of != instance {
            log::info!("ack ignored instance={of:?}: this store is {instance}");
            return;
        }
        if let Some(feed) = self.feed.as_mut().filter(|feed| feed.by_application) {
            let known = feed.acks.entry(stream).or_insert(upto);
            *known = upto.max(*known);
            self.settle_soon(now);
        }
    }
}

fn read_ack(payload: &[u8]) -> Option<(Stream, String, u64)> {
    let ack: Value = serde_json::from_slice(payload).ok()?;
    let stream = Stream::from_word(ack.get("stream")?.as_str()?)?;
    Some((stream, ack.get("instance")?.as_str()?.to_owned(), ack.get("upto")?.as_u64()?))
}

/// A reply whose data is more than can be sent, as one that says so; `None` when it has none.
fn without_data(reply: &str, why: &str) -> Option<String> {
    let mut reply: Value = serde_json::from_str(reply).ok()?;
    let fields = reply.as_object_mut()?;
    fields.remove("data")?;
    let message = format!("the reply cannot be sent ({why}): ask for less");
    fields.insert("result".to_owned(), "failed".into());
    fields.insert("error".to_owned(), json!({ "code": "not_supported", "message": message }));
    Some(reply.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_names_stream_instance_and_number() {
        let read = |text: &str| read_ack(text.as_bytes());
        let ack = read(r#"{"stream":"order","instance":"0a1b","upto":7}"#);
        assert_eq!(ack, Some((Stream::Order, "0a1b".to_owned(), 7)));
        for wrong in [
            "",
            "7",
            r#"{"stream":"orders","instance":"a","upto":7}"#,
            r#"{"stream":"order","upto":7}"#,
            r#"{"stream":"order","instance":"a","upto":-1}"#,
            r#"{"stream":"order","instance":"a","upto":"7"}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_reply_that_is_too_large_says_so_instead() {
        let reply = without_data(r#"{"v":1,"id":"7","result":"done","data":{"a":1}}"#, "too large").unwrap();
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!((&reply["id"], &reply["result"], &reply["data"]), (&json!("7"), &json!("failed"), &Value::Null));
        assert_eq!(without_data(&reply.to_string(), "refused"), None);
    }
}
