//! Every bound of the agent, and how they relate: asserted when it is compiled.

/// How long after its close an order can still get an end report, in up-time (contract §5 *Whose end report?*).
pub const REPORT_MATCHES_FOR_MS: u64 = 7 * 86_400_000;
/// The same bytes from a device within this time are a repetition of a card or an abnormal event, not a second one.
pub const REPETITION_MS: u64 = 120_000;
/// Up-time is noted so often while something counts on it (contract §5 *Time*).
pub const NOTE_UP_TIME_MS: u64 = 60_000;
/// A full disk is tried again so often.
pub const FULL_RETRY_MS: u64 = 500;
/// Old rows are dropped so often.
pub const RETENTION_MS: u64 = 3_600_000;
/// A refusal of the same reason and subject is told so often.
pub const REFUSAL_TOLD_MS: u64 = 60_000;
/// Subjects whose refusals are counted at the same time.
pub const REFUSALS_COUNTED: usize = 256;
