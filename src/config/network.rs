//! A network that may connect (`devices.allow_from`), IPv4 or IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network such as `10.1.0.0/16`, or a single address. IPv4 written as IPv6 (`::ffff:10.1.2.3`) counts as IPv4,
/// since that is how a listener on `[::]` sees an IPv4 peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of `address` with so many leading bits; `None` when the address does not have that many.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        match address {
            IpAddr::V4(v4) if prefix <= 32 => Some(Self { base: mask_v4(v4, prefix).into(), prefix }),
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if (96..=128).contains(&prefix) => Self::new(v4.into(), prefix - 96),
                _ if prefix <= 128 => Some(Self { base: mask_v6(v6, prefix).into(), prefix }),
                _ => None,
            },
        }
    }

    /// Whether the peer's address lies in this network.
    pub fn contains(&self, peer: IpAddr) -> bool {
        match (self.base, peer.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(peer)) => mask_v4(peer, self.prefix) == base,
            (IpAddr::V6(base), IpAddr::V6(peer)) => mask_v6(peer, self.prefix) == base,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn mask_v4(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn mask_v6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Why a text is no [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address with its number of leading bits, such as 10.1.0.0/16")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // "+8" would parse as a number, but nobody means it.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| BadNetwork)?,
            Some(_) => return Err(BadNetwork),
            None => all,
        };
        Self::new(address, prefix).ok_or(BadNetwork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_follows_the_prefix() {
        for (network, peer, inside) in [
            ("10.1.0.0/16", "10.1.255.3", true),
            ("10.1.0.0/16", "10.2.0.1", false),
            ("10.1.2.3/16", "10.1.9.9", true),
            ("10.1.0.7", "10.1.0.7", true),
            ("10.1.0.7", "10.1.0.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("::ffff:10.1.0.0/112", "10.1.2.3", true),
            ("::ffff:10.1.2.3", "10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(peer.parse().unwrap()), inside, "{network} {peer}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.1.0.0/33", "10.1/16", "::/129", "10.1.0.0/", "10.1.0.0/+8", "example.org", "10.1.0.0/16/2"]
        {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork), "{text}");
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["10.1.0.0/16", "10.1.0.7/32", "2001:db8::/32"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }
}
