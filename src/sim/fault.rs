//! What a simulated device does wrong (contract §2 `simulate`).

use crate::order::words;

words! {
    /// One fault a device; otherwise it is honest.
    Fault {
        /// Never sends an end report.
        NoEnd = "no-end",
        /// Sends no status report while it charges.
        NoStatus = "no-status",
        /// Refuses every start.
        Refuse = "refuse",
        /// Ignores starts: it neither answers them nor charges.
        NoAnswer = "no-answer",
        /// Charges at once and answers the start 40 s later.
        LateAnswer = "late-answer",
        /// No acknowledgement of an end report ever reaches it: the reconnect loop of protocol §10.
        LostAck = "lost-ack",
        /// Noise and broken frames between its good ones.
        Garbage = "garbage",
        /// Now and then the rest of a frame comes seconds late, or never.
        HalfFrame = "half-frame",
        /// Goes silent while its connection stays.
        Silent = "silent",
        /// Loses its link while it charges, and is back minutes later.
        Drop = "drop",
        /// Ignores stops.
        Deaf = "deaf",
        /// Shows an older business number than that of its newest order.
        OldNumber = "old-number",
    }
}

impl Fault {
    /// What it does wrong, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NoEnd => "never sends an end report",
            Self::NoStatus => "sends no status while it charges",
            Self::Refuse => "refuses every start",
            Self::NoAnswer => "ignores starts",
            Self::LateAnswer => "answers starts after 40 s",
            Self::LostAck => "hears no acknowledgement of its end reports",
            Self::Garbage => "sends noise and broken frames between good ones",
            Self::HalfFrame => "sends half of a frame now and then",
            Self::Silent => "goes silent while it stays connected",
            Self::Drop => "loses its link while it charges",
            Self::Deaf => "ignores stops",
            Self::OldNumber => "shows the number of an earlier order",
        }
    }
}
