//! Refused connections and devices: told at once, then at most once a minute per reason and subject, with a count
//! (contract §6 `device.refused`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::clock::{Now, UpTime};
use crate::event::{Stream, device_event};
use crate::ids::DeviceId;
use crate::limits::{REFUSAL_TOLD_MS, REFUSALS_COUNTED};
use crate::order::words;
use crate::turn::Fatal;

use super::Site;
use super::dues::Due;

words! {
    /// Why (contract §6).
    Reason {
        /// Not registered, and admission is by registration.
        Unknown = "unknown",
        /// A frame under another device's id.
        ForeignId = "foreign_id",
        /// The address is in no allowed network.
        NotAllowed = "not_allowed",
        /// Too many connections or devices.
        Limit = "limit",
    }
}

/// An id, or an address where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Device(DeviceId),
    Address(IpAddr),
}

#[derive(Debug)]
struct Counted {
    device: Option<DeviceId>,
    address: IpAddr,
    told: UpTime,
    since: u64,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counted: BTreeMap<(Reason, Subject), Counted>,
    /// Told since the last commit.
    told: Vec<Told>,
}

impl Refusals {
    /// What was told is kept.
    pub(super) fn are_kept(&mut self) {
        self.told.clear();
    }
}

/// As [`Site::tell_refusal`] takes it.
#[derive(Debug)]
struct Told {
    reason: Reason,
    device: Option<DeviceId>,
    address: IpAddr,
    count: u64,
}

impl Site {
    /// Counts a refusal and tells it, unless the same was told within the minute.
    pub(super) fn tell_refused(
        &mut self,
        reason: Reason,
        device: Option<DeviceId>,
        address: IpAddr,
        now: Now,
    ) -> Result<(), Fatal> {
        let subject = device.map_or(Subject::Address(address), Subject::Device);
        if let Some(counted) = self.refusals.counted.get_mut(&(reason, subject)) {
            counted.since += 1;
            return Ok(());
        }
        if self.refusals.counted.len() >= REFUSALS_COUNTED {
            // Somebody tries many ids: one line tells as much as thousands.
            return Ok(());
        }
        self.refusals.counted.insert((reason, subject), Counted { device, address, told: now.up, since: 0 });
        if !self.dues.is_set(Due::Refusals) {
            self.dues.set(Due::Refusals, Some(next_round(now)), now.up);
        }
        self.tell_refusal(reason, device, address, 1, now)
    }

    /// A minute is over: what was counted meanwhile is told, the rest forgotten.
    pub(super) fn tell_counted_refusals(&mut self, now: Now) -> Result<(), Fatal> {
        let over = |counted: &Counted| now.up.since(counted.told) >= Duration::from_millis(REFUSAL_TOLD_MS);
        let mut due = Vec::new();
        self.refusals.counted.retain(|(reason, _), counted| {
            if !over(counted) {
                return true;
            }
            let again = counted.since > 0;
            if again {
                due.push((*reason, counted.device, counted.address, counted.since));
                counted.since = 0;
                counted.told = now.up;
            }
            again
        });
        for (reason, device, address, count) in due {
            self.tell_refusal(reason, device, address, count, now)?;
        }
        let next = self.refusals.counted.values().map(|counted| counted.told).min();
        let next = next.map(|told| told.after(Duration::from_millis(REFUSAL_TOLD_MS)));
        self.dues.set(Due::Refusals, next, now.up);
        Ok(())
    }

    /// What was told was taken back.
    pub(super) fn tell_refusals_again(&mut self, now: Now) -> Result<(), Fatal> {
        for Told { reason, device, address, count } in std::mem::take(&mut self.refusals.told) {
            self.tell_refusal(reason, device, address, count, now)?;
        }
        Ok(())
    }

    fn tell_refusal(
        &mut self,
        reason: Reason,
        device: Option<DeviceId>,
        address: IpAddr,
        count: u64,
        now: Now,
    ) -> Result<(), Fatal> {
        log::log!(
            self.keeping.level(log::Level::Warn),
            "device refused reason={} device={device:?} address={address} count={count}",
            reason.word()
        );
        self.refusals.told.push(Told { reason, device, address, count });
        let more = json!({ "reason": reason.word(), "count": count, "address": address.to_string() });
        self.tell(Stream::Device, "device.refused", device, None, &device_event(device, more), now)
    }
}

fn next_round(now: Now) -> UpTime {
    now.up.after(Duration::from_millis(REFUSAL_TOLD_MS))
}
