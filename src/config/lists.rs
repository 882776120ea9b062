//! What the file says of device models, end reasons and firmware: `[[models]]`, `[[reasons]]`, `[[policies]]`
//! (contract §3).

use super::kinds::{Count, Kind, NAME, Optional, Text, Word, is_name};
use super::table::{table, words};
use super::version::Version;

words! {
    /// How an end report is acknowledged (protocol §6).
    EndAck {
        /// With the form of sub-command `0c`, whatever was reported.
        Card = "0c",
        /// With the sub-command of the report.
        Echo = "echo",
    }
}

words! {
    /// The command that carries a start by power tiers (protocol §6).
    TiersCommand {
        /// `0015`, as software in the field has it.
        Control = "0015",
        /// `0005`, as the guide's sample has it.
        Network = "0005",
    }
}

table! {
    /// Quirks of a device model, one table a model.
    "models" Model {
        /// The model, as devices.default_model or set_device names it.
        device_model: String = String::new(), NAME, required, example("\"DC-10\"");
        /// What a unit of the energy that its devices report is, Wh.
        energy_unit_wh: u32 = 1, Count { least: 1, most: 1000 };
        /// "0c": end reports are acknowledged with that form; "echo": with the sub-command of the report.
        end_ack: EndAck = EndAck::Card, Word::<EndAck>::ANY;
        /// "0015" or "0005": the command that carries a start by tiers.
        tiers_command: TiersCommand = TiersCommand::Control, Word::<TiersCommand>::ANY;
        /// The most that a port can draw, W; orders.power_ceiling_w without it.
        power_ceiling_w: Option<u32> = None, Optional(super::keys::WATTS), example("1000");
    }
}

/// The end reasons that a device's report can mean (contract §4); the others are the agent's own.
pub const REPORTED_END_REASONS: [&str; 12] = [
    "time_reached",
    "energy_reached",
    "amount_reached",
    "full",
    "no_load",
    "user_stop",
    "remote_stop",
    "over_current",
    "over_temperature",
    "over_power",
    "metering_fault",
    "unknown",
];

const END_REASON: Text = Text {
    what: "a reason of a device's report, such as \"full\" or \"user_stop\"",
    fits: |text| REPORTED_END_REASONS.contains(&text),
};

table! {
    /// Meaning of the raw end reasons of devices, one table a code.
    "reasons" Reason {
        /// The code in the end report.
        code: u32 = 0, Count { least: 0, most: 255 }, required, example("8");
        /// What it means: one of the end reasons of an order.
        end_reason: String = String::new(), END_REASON, required, example("\"full\"");
        /// The model that uses it so; all models without it.
        device_model: Option<String> = None, Optional(NAME), example("\"DC-10\"");
    }
}

words! {
    /// What a policy does.
    PolicyAction {
        /// Devices (sockets) that match are disabled.
        Disable = "disable",
    }
}

const VERSION: Text = Text {
    what: "a version with a number in it, such as \"v1.10\"",
    fits: |text| is_name(text, 64) && Version::of(text).is_some(),
};

const SOCKET_VERSION: Text = Text {
    what: "a socket's version with a number in it, such as \"0110\"",
    fits: |text| is_name(text, 64) && Version::of_socket(text).is_some(),
};

table! {
    /// Devices (sockets) that match all that a policy gives are disabled.
    "policies" Policy {
        /// Devices of this model.
        device_model: Option<String> = None, Optional(NAME), example("\"DC-10\"");
        /// Devices with a firmware below this one.
        firmware_below: Option<String> = None, Optional(VERSION), example("\"v1.10\"");
        /// Sockets with a firmware below this one; ffff is unknown and never matches.
        socket_firmware_below: Option<String> = None, Optional(SOCKET_VERSION), example("\"0110\"");
        /// "disable" is the only one.
        action: PolicyAction = PolicyAction::Disable, Word::<PolicyAction>::ANY;
    }
}

impl Policy {
    /// Whether it disables the whole device. A policy on socket firmware never does.
    pub fn matches_device(&self, device_model: Option<&str>, firmware: Option<&str>) -> bool {
        self.socket_firmware_below.is_none() && self.fits(device_model, firmware)
    }

    /// Whether it disables the socket by itself; firmware that is unknown never matches.
    pub fn matches_socket(&self, device_model: Option<&str>, firmware: Option<&str>, socket_firmware: &str) -> bool {
        let below = self.socket_firmware_below.as_deref().and_then(Version::of_socket);
        let old = match (Version::of_socket(socket_firmware), below) {
            (Some(version), Some(below)) => version < below,
            (None, _) | (_, None) => false,
        };
        old && self.fits(device_model, firmware)
    }

    fn fits(&self, device_model: Option<&str>, firmware: Option<&str>) -> bool {
        let model_fits = self.device_model.is_none() || self.device_model.as_deref() == device_model;
        let firmware_fits = match self.firmware_below.as_deref() {
            Some(below) => firmware.and_then(Version::of).is_some_and(|version| Some(version) < Version::of(below)),
            None => true,
        };
        model_fits && firmware_fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(model: Option<&str>, firmware: Option<&str>, socket: Option<&str>) -> Policy {
        Policy {
            device_model: model.map(str::to_owned),
            firmware_below: firmware.map(str::to_owned),
            socket_firmware_below: socket.map(str::to_owned),
            ..Policy::default()
        }
    }

    #[test]
    fn a_policy_disables_the_devices_that_match_all_it_gives() {
        let both = policy(Some("A"), Some("v1.10"), None);
        assert!(both.matches_device(Some("A"), Some("v1.9")));
        assert!(!both.matches_device(Some("A"), Some("v1.10")));
        assert!(!both.matches_device(Some("B"), Some("v1.9")));
        assert!(!both.matches_device(None, Some("v1.9")));
        assert!(policy(Some("A"), None, None).matches_device(Some("A"), None));
    }

    #[test]
    fn unknown_firmware_never_matches() {
        let device = policy(None, Some("v9"), None);
        assert!(!device.matches_device(None, None));
        assert!(!device.matches_device(None, Some("")));
        let socket = policy(None, None, Some("0110"));
        assert!(!socket.matches_socket(None, None, "ffff"));
        assert!(socket.matches_socket(None, None, "010f"));
    }

    #[test]
    fn a_policy_on_socket_firmware_leaves_the_device_itself_alone() {
        let socket = policy(Some("A"), None, Some("0110"));
        assert!(!socket.matches_device(Some("A"), Some("v1")));
        assert!(socket.matches_socket(Some("A"), Some("v1"), "0100"));
        assert!(!socket.matches_socket(Some("B"), Some("v1"), "0100"));
        assert!(!policy(Some("A"), None, None).matches_socket(Some("A"), None, "0100"));
    }
}
