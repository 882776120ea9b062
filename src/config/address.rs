//! Small types of the configuration: the broker's URL and the offset of local time.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Where the broker is (`mqtt.url`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// `mqtts`: the connection is encrypted.
    pub tls: bool,
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// 1883, or 8883 when encrypted, where the URL gives none.
    pub port: u16,
}

/// Why a text is no [`BrokerUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a broker's URL is mqtt://HOST:PORT or mqtts://HOST:PORT")]
pub struct BadBrokerUrl;

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = BadBrokerUrl;

    fn from_str(text: &str) -> Result<Self, BadBrokerUrl> {
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(_) | None => return Err(BadBrokerUrl),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest)?;
        let port = match port {
            Some(digits) => port_number(digits)?,
            None if tls => 8883,
            None => 1883,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), BadBrokerUrl> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(BadBrokerUrl)?;
        host.parse::<Ipv6Addr>().map_err(|_| BadBrokerUrl)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(BadBrokerUrl),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if (1..=253).contains(&host.len()) && is_name(host) { Ok((host, port)) } else { Err(BadBrokerUrl) }
}

fn port_number(digits: &str) -> Result<u16, BadBrokerUrl> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadBrokerUrl);
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or(BadBrokerUrl)
}

/// Local time minus UTC (`site.utc_offset`), in whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcOffset {
    minutes: i16,
}

impl UtcOffset {
    /// `+08:00`, where the devices come from.
    pub const CHINA: Self = Self { minutes: 8 * 60 };

    /// Local time minus UTC, in seconds.
    pub const fn seconds(self) -> i32 {
        self.minutes as i32 * 60
    }
}

/// Why a text is no [`UtcOffset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an offset from UTC is +HH:MM or -HH:MM, up to 14 hours")]
pub struct BadUtcOffset;

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minutes < 0 { '-' } else { '+' };
        let minutes = self.minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl FromStr for UtcOffset {
    type Err = BadUtcOffset;

    fn from_str(text: &str) -> Result<Self, BadUtcOffset> {
        let &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = text.as_bytes() else {
            return Err(BadUtcOffset);
        };
        let number = |tens: u8, ones: u8| match (tens, ones) {
            (b'0'..=b'9', b'0'..=b'9') => Ok(i16::from(tens - b'0') * 10 + i16::from(ones - b'0')),
            _ => Err(BadUtcOffset),
        };
        let (hours, minutes) = (number(h1, h2)?, number(m1, m2)?);
        let total = hours * 60 + minutes;
        if minutes > 59 || total > 14 * 60 {
            return Err(BadUtcOffset);
        }
        Ok(Self { minutes: if sign == b'-' { -total } else { total } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_urls_are_read_with_their_usual_ports() {
        for (text, tls, host, port) in [
            ("mqtt://host:1883", false, "host", 1883),
            ("mqtts://host:8883", true, "host", 8883),
            ("mqtt://broker.example.org", false, "broker.example.org", 1883),
            ("mqtts://10.0.0.1/", true, "10.0.0.1", 8883),
            ("mqtt://[::1]:1884", false, "::1", 1884),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!(url, BrokerUrl { tls, host: host.to_owned(), port }, "{text}");
            assert_eq!(url.to_string().parse::<BrokerUrl>(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_broker_url_is_refused() {
        for text in [
            "",
            "host:1883",
            "http://host:80",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://host:",
            "mqtt://host:0",
            "mqtt://host:70000",
            "mqtt://host:+1",
            "mqtt://user:secret@host:1883",
            "mqtt://host:1883/path",
            "mqtt://a b",
            "mqtt://[::1",
            "mqtt://[x]:1",
        ] {
            assert_eq!(text.parse::<BrokerUrl>(), Err(BadBrokerUrl), "{text}");
        }
    }

    #[test]
    fn offsets_are_read_and_written_back() {
        for (text, seconds) in [("+08:00", 28_800), ("-03:30", -12_600), ("+00:00", 0), ("+14:00", 50_400)] {
            let offset: UtcOffset = text.parse().unwrap();
            assert_eq!(offset.seconds(), seconds);
            assert_eq!(offset.to_string(), text);
        }
        assert_eq!(UtcOffset::CHINA.to_string(), "+08:00");
    }

    #[test]
    fn what_is_no_offset_is_refused() {
        for text in ["", "8", "+8", "08:00", "+08", "+0800", "+08:60", "+14:01", "-15:00", "Z", "+0a:00"] {
            assert_eq!(text.parse::<UtcOffset>(), Err(BadUtcOffset), "{text}");
        }
    }
}
