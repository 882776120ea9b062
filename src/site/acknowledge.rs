//! `acknowledge`: a person took note of an alert, or of all that a device reported by itself (contract §6).

use crate::clock::Now;
use crate::command::{Acknowledge, Code, Problem, Reply};
use crate::ids::DeviceId;
use crate::store::Alert;
use crate::turn::Fatal;

use super::commands::Step;
use super::held::WhenFull;
use super::{Site, fatal};

/// Raised by each abnormal event of a device; it clears when somebody takes note.
const ABNORMAL_REPORTED: &str = "abnormal_reported";
/// Raised when nobody did for too long.
const ABNORMAL_UNHANDLED: &str = "abnormal_unhandled";

impl Site {
    pub(super) fn acknowledge(
        &mut self,
        id: &str,
        what: &Acknowledge,
        now: Now,
    ) -> Result<Result<Step, Problem>, Fatal> {
        let alerts = match what {
            Acknowledge::Alert(alert_id) => match fatal(self.store.alert(*alert_id))? {
                Some(alert) => vec![alert],
                None => return Ok(Err(Problem::of(Code::OutOfRange, "alert_id", "no alert has this id"))),
            },
            Acknowledge::AbnormalOf(device) => match self.gateway(*device) {
                Some(_) => self.abnormal_of(*device)?,
                None => return Ok(Err(Problem::of(Code::UnknownDevice, "device", "no device has this id"))),
            },
        };
        for alert in alerts {
            self.take_note(&alert, now)?;
        }
        Ok(Ok(Step::Reply(Reply::done(id), WhenFull::Refuse)))
    }

    fn abnormal_of(&self, device: DeviceId) -> Result<Vec<Alert>, Fatal> {
        let mut alerts = fatal(self.store.open_alerts())?;
        alerts.retain(|alert| {
            alert.subject.device == Some(device)
                && matches!(alert.rule.as_str(), ABNORMAL_REPORTED | ABNORMAL_UNHANDLED)
        });
        Ok(alerts)
    }

    /// Told the first time only.
    fn take_note(&mut self, alert: &Alert, now: Now) -> Result<(), Fatal> {
        if alert.acknowledged_at.is_some() {
            return Ok(());
        }
        let acknowledged = self.store.acknowledge_alert(alert.id, now.wall);
        let told = acknowledged.and_then(|alert| self.tell_alert("alert.acknowledged", alert, now));
        self.kept(told)?;
        if alert.rule == ABNORMAL_REPORTED && alert.cleared_at.is_none() {
            let cleared = self.clear(ABNORMAL_REPORTED, alert.subject, now);
            self.kept(cleared)?;
        }
        Ok(())
    }
}
