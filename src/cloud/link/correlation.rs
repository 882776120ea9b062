//! Which message a confirmation is for. rumqttc tells the packet id of a message only when it is sent: in the order
//! in which messages were handed over, which holds for one connection of one client (and for no reconnection).

use std::collections::{BTreeMap, VecDeque};

use super::wire::PacketId;
use crate::cloud::Ticket;

/// The messages of one session that wait for their confirmation.
#[derive(Debug, Default)]
pub(super) struct Correlation {
    submitted: VecDeque<Ticket>,
    sent: BTreeMap<PacketId, Ticket>,
}

impl Correlation {
    /// It was handed over.
    pub(super) fn submitted(&mut self, ticket: Ticket) {
        self.submitted.push_back(ticket);
    }

    /// The next of those handed over was sent, under this id.
    pub(super) fn sent(&mut self, packet: PacketId) {
        if let Some(ticket) = self.submitted.pop_front() {
            self.sent.insert(packet, ticket);
        }
    }

    /// The broker confirmed or refused what was sent under this id; `None` when nothing was.
    pub(super) fn settled(&mut self, packet: PacketId) -> Option<Ticket> {
        self.sent.remove(&packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    #[test]
    fn confirmations_find_their_messages_in_any_order_and_over_reused_ids() {
        let mut correlation = Correlation::default();
        for ticket in 10..13 {
            correlation.submitted(Ticket(ticket));
        }
        correlation.sent(packet(1));
        correlation.sent(packet(2));
        assert_eq!(correlation.settled(packet(2)), Some(Ticket(11)));
        correlation.sent(packet(2));
        assert_eq!(correlation.settled(packet(2)), Some(Ticket(12)));
        assert_eq!(correlation.settled(packet(1)), Some(Ticket(10)));
    }

    #[test]
    fn a_confirmation_that_nothing_waits_for_settles_nothing() {
        let mut correlation = Correlation::default();
        correlation.submitted(Ticket(1));
        assert_eq!(correlation.settled(packet(1)), None);
        correlation.sent(packet(1));
        assert_eq!(correlation.settled(packet(1)), Some(Ticket(1)));
        assert_eq!(correlation.settled(packet(1)), None);
    }
}
