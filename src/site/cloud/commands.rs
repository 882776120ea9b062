//! Commands that come by MQTT: as at the control socket, but for what an outage on the way could make of them.

use std::time::Duration;

use crate::clock::Now;
use crate::cloud::ReplyTo;
use crate::cloud::topics::can_be_published;
use crate::command::{Action, Code, Command, Problem, Stop};
use crate::limits::CLOUD_COMMAND_BYTES;
use crate::turn::Fatal;

use super::super::Site;
use super::super::commands::Incoming;
use super::super::held::Caller;

/// The user that a command is of when it names none.
const ACTOR: &str = "cloud";

impl Site {
    /// Taken in, carried out, answered in the same transaction.
    pub(super) fn take_cloud_command(
        &mut self,
        payload: &Result<Vec<u8>, usize>,
        expires_in: Option<Duration>,
        reply_to: Option<ReplyTo>,
        now: Now,
    ) -> Result<(), Fatal> {
        let caller = Caller::Cloud(reply_to.filter(is_usable));
        match payload {
            Ok(line) if line.len() <= CLOUD_COMMAND_BYTES => {
                let incoming = Incoming { line, caller, actor: ACTOR.to_owned(), expires_in };
                self.take_command(incoming, now)
            }
            _ => self.answer_too_long(caller, now),
        }
    }
}

fn is_usable(to: &ReplyTo) -> bool {
    let usable = can_be_published(&to.topic);
    if !usable {
        log::warn!("response topic ignored topic={:?}: nothing can be published there", to.topic);
    }
    usable
}

/// What a command has to have when it may have waited on the way, and what is not for the cloud.
///
/// # Errors
/// The field that is missing.
pub(in crate::site) fn judge(command: Command, expires: bool) -> Result<Command, Problem> {
    match &command.action {
        Action::Start(_) if !(expires || command.expires_at.is_some()) => {
            let why = "a start that comes by MQTT has expires_at, or its message an expiry";
            Err(Problem::of(Code::MissingField, "expires_at", why))
        }
        Action::Stop(Stop::Port { expect: None, .. }) => {
            let why = "a stop that comes by MQTT names the order that it expects on the port";
            Err(Problem::of(Code::MissingField, "expect_order_no", why))
        }
        Action::Flush | Action::Redecode(_) => {
            Err(Problem::of(Code::UnknownType, "type", "a command of the control socket only"))
        }
        _ => Ok(command),
    }
}
