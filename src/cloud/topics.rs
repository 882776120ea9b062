//! The topics of one site (contract §6).

use crate::config::Config;
use crate::event::Stream;

/// Builds topics under `{topic_prefix}/{site.id}/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// Those of the configured site.
    pub fn of(config: &Config) -> Self {
        Self { base: format!("{}/{}", config.mqtt.topic_prefix, config.site.id) }
    }

    /// A topic by what stands behind the prefix and the site's id, as an outbox row names it.
    pub fn under(&self, rest: &str) -> String {
        format!("{}/{rest}", self.base)
    }

    /// Retained, also the last will.
    pub fn state(&self) -> String {
        self.under("state")
    }

    /// One of the four streams.
    pub fn event(&self, stream: Stream) -> String {
        self.under(&format!("event/{}", stream.word()))
    }

    /// Figures of running orders.
    pub fn progress(&self) -> String {
        self.under("progress")
    }

    /// Retained: counts and metrics.
    pub fn summary(&self) -> String {
        self.under("summary")
    }

    /// Where commands come in.
    pub fn command(&self) -> String {
        self.under("command")
    }

    /// Where replies go out.
    pub fn reply(&self) -> String {
        self.under(REPLY)
    }

    /// Where the receiver confirms.
    pub fn ack(&self) -> String {
        self.under("ack")
    }
}

/// The topic of replies as an outbox row names it.
pub const REPLY: &str = "reply";

/// Whether a message can be published there: a sender of commands names the topic for its reply.
pub fn can_be_published(topic: &str) -> bool {
    (1..=1024).contains(&topic.len()) && !topic.contains(['+', '#', '\0']) && !topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_stand_under_the_prefix_and_the_site() {
        let mut config = Config::default();
        config.site.id = "yard.7".to_owned();
        config.mqtt.topic_prefix = "fleet/charging".to_owned();
        let topics = Topics::of(&config);
        assert_eq!(topics.state(), "fleet/charging/yard.7/state");
        assert_eq!(topics.event(Stream::Abnormal), "fleet/charging/yard.7/event/abnormal");
        assert_eq!(topics.reply(), "fleet/charging/yard.7/reply");
    }

    #[test]
    fn a_reply_goes_to_no_pattern_and_to_no_topic_of_the_broker() {
        assert!(can_be_published("answers/client-1"));
        for topic in ["", "a/+/b", "a/#", "$SYS/x", "a\0b", &"x".repeat(1025)] {
            assert!(!can_be_published(topic), "{topic}");
        }
    }
}
