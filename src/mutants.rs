//! Single rules of the program, each of which a test can switch off: who claims to watch over a rule has to notice.
//!
//! Only with the cargo feature `mutants`, which no shipped binary has; without it every rule is always on and nothing
//! of this is left in the program.

/// A rule (contract §5) that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A port with something on its way is held: no start goes to it.
    Hold,
    /// A start without an answer is sent again only after the socket was asked.
    AskBeforeRepeating,
    /// An end report is acknowledged after its commit.
    AnswerAfterCommit,
    /// A duplicate end report changes nothing.
    Duplicates,
    /// No stop for an order while a later one is open at its port or owns the session.
    NoStopOverLaterOrder,
    /// After a later order, a stop goes out only while the port shows the order's own number.
    StopOwnNumber,
    /// An order without news is closed only after its socket was asked.
    AskBeforeSilentClose,
    /// A stop that did not work stays owed.
    OwedStops,
    /// A close without a report bounds what can have been charged.
    Bounds,
    /// What charges belongs to the order that owns its port, whatever number is shown.
    WhoseSession,
    /// Idle leaves the end report some time to come.
    EndReportGrace,
    /// An order closed by time opens again when it is shown charging.
    Resume,
    /// A session without an order is asked about and stopped.
    UnknownSession,
    /// An end report before the answer to its start waits for it.
    KeptReports,
    /// After a restart a pending start is asked about, not sent again.
    RestartAsks,
    /// An end report after a close without one corrects it.
    LaterReport,
}

/// Whether this rule is switched off.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn off(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{off, switch_off};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static OFF: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this rule is switched off, in this thread.
    pub fn off(mutant: Mutant) -> bool {
        OFF.get() == Some(mutant)
    }

    /// Switches off this rule and no other, in this thread; `None` switches all of them on.
    pub fn switch_off(mutant: Option<Mutant>) {
        OFF.set(mutant);
    }

    impl Mutant {
        /// All of them, in the order of the contract's rules.
        pub const ALL: &'static [Mutant] = &[
            Mutant::Hold,
            Mutant::AskBeforeRepeating,
            Mutant::AnswerAfterCommit,
            Mutant::Duplicates,
            Mutant::NoStopOverLaterOrder,
            Mutant::StopOwnNumber,
            Mutant::AskBeforeSilentClose,
            Mutant::OwedStops,
            Mutant::Bounds,
            Mutant::WhoseSession,
            Mutant::EndReportGrace,
            Mutant::Resume,
            Mutant::UnknownSession,
            Mutant::KeptReports,
            Mutant::RestartAsks,
            Mutant::LaterReport,
        ];

        /// Its name on a command line and in a report.
        pub fn word(self) -> &'static str {
            match self {
                Mutant::Hold => "hold",
                Mutant::AskBeforeRepeating => "ask-before-repeating",
                Mutant::AnswerAfterCommit => "answer-after-commit",
                Mutant::Duplicates => "duplicates",
                Mutant::NoStopOverLaterOrder => "no-stop-over-later-order",
                Mutant::StopOwnNumber => "stop-own-number",
                Mutant::AskBeforeSilentClose => "ask-before-silent-close",
                Mutant::OwedStops => "owed-stops",
                Mutant::Bounds => "bounds",
                Mutant::WhoseSession => "whose-session",
                Mutant::EndReportGrace => "end-report-grace",
                Mutant::Resume => "resume",
                Mutant::UnknownSession => "unknown-session",
                Mutant::KeptReports => "kept-reports",
                Mutant::RestartAsks => "restart-asks",
                Mutant::LaterReport => "later-report",
            }
        }
    }
}
