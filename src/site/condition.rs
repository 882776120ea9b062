//! How the agent itself is: what no table tells, for `chargegate status`.

use serde_json::{Value, json};

use crate::clock::Now;

use super::Site;

impl Site {
    /// The data of the reply to `flush`, with which each reading command begins.
    ///
    /// - `clock`: how good its wall clock is, as in contract §6.
    /// - `cloud`: null without `mqtt.url`, else as in [`Site::cloud_connection`].
    pub(super) fn condition(&self, now: Now) -> Value {
        json!({ "clock": self.trust.quality().word(), "cloud": self.cloud_connection(now) })
    }
}
