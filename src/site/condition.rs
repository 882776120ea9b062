//! How the agent itself is: what no table tells, for `chargegate status`.

use serde_json::{Value, json};

use super::Site;

impl Site {
    /// The data of the reply to `flush`, with which each reading command begins.
    ///
    /// - `clock`: how good its wall clock is, as in contract §6.
    /// - `cloud`: null while it is not known, else `connected` and the last `trouble` in words, null when there was none.
    pub(super) fn condition(&self) -> Value {
        json!({ "clock": self.trust.quality().word(), "cloud": self.cloud_condition() })
    }

    /// To be told once the site knows of its sessions with the broker.
    #[expect(clippy::unused_self, reason = "the link is not joined to the site yet")]
    const fn cloud_condition(&self) -> Value {
        Value::Null
    }
}
