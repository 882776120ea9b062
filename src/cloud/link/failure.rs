//! What a failure means, in one line for whoever has to mend it: what, and what to do.

use std::io::{Error, ErrorKind};

use rumqttc::TlsError;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as RustlsError};

use super::access::Settings;
use crate::clock::WallTime;
use crate::cloud::Trouble;
use crate::time_text::rfc3339;

/// Why a connection ended or did not come about, the same for both versions of MQTT.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing came within the time for a connection.
    NoAnswer,
    /// From the system, or from TLS once it stands.
    Io(Error),
    /// While TLS was set up.
    Tls(TlsError),
    /// The broker refuses us.
    Refused(Refusal),
    /// The broker refuses our subscription.
    Subscription(String),
    /// The broker let us in, but says nothing to our subscription.
    NoSubscription,
    /// What came is not MQTT, or not what it should be.
    Gibberish(String),
    /// A message came that is larger than we take, bytes.
    TooLarge(usize),
    /// The other side closed the connection without a word.
    Closed,
    /// A ping was not answered, or nothing is taken from us.
    NoPong,
    /// Another client with our id connected.
    TakenOver,
    /// The broker said goodbye: why.
    Dismissed(String),
    /// The broker does not take a message now, but may later: why.
    PutOff(String),
}

/// Why the broker refuses a connection.
#[derive(Debug)]
pub(super) enum Refusal {
    Credentials,
    NotAuthorized,
    ClientId,
    Protocol,
    /// For now: what it is.
    Busy(&'static str),
    Banned,
    Moved,
    Other(String),
}

impl Failure {
    /// What it means. `connected`: the broker had let us in.
    pub(super) fn trouble(self, settings: &Settings, connected: bool) -> Trouble {
        let broker = settings.url.to_string();
        match self {
            Self::NoAnswer => Trouble::Unreachable(format!(
                "no answer of a broker from {broker} within {} s: is it the right host and port, and does a firewall let us through?",
                settings.timings.connect.as_secs().max(1)
            )),
            Self::Io(error) => of_io(&error, settings, connected),
            Self::Tls(error) => of_tls(&error, settings),
            Self::Refused(refusal) => refusal.trouble(settings),
            Self::Subscription(why) => Trouble::Refused(format!(
                "{broker} refuses the subscription to {} and {}: {why}; allow both there for this user",
                settings.topics.command, settings.topics.ack
            )),
            Self::NoSubscription => Trouble::Lost(format!(
                "{broker} let us in, but does not answer the subscription to {} and {}: ask who runs it",
                settings.topics.command, settings.topics.ack
            )),
            Self::Gibberish(what) if connected => {
                Trouble::Lost(format!("{broker} sent what is not to be expected of a broker: {what}"))
            }
            Self::Gibberish(what) => {
                Trouble::NotABroker(format!("{broker} answers, but not as a broker ({what}); {}", hint(settings)))
            }
            Self::TooLarge(size) => Trouble::Lost(format!(
                "{broker} sent a message of {size} bytes, more than is taken: it is told to forget what it has kept for us"
            )),
            Self::Closed if connected => Trouble::Lost(format!(
                "{broker} closed the connection; if it does so again and again, another client may be called {:?} too \
                 (mqtt.client_id)",
                settings.client_id
            )),
            Self::Closed => Trouble::NotABroker(format!(
                "{broker} closed the connection instead of answering; {}, or mqtt.protocol = 4 for one without MQTT 5",
                hint(settings)
            )),
            Self::NoPong => Trouble::Lost(format!("{broker} does not answer any more")),
            Self::TakenOver => Trouble::Lost(format!(
                "{broker} gave the connection to another client called {:?}: each agent needs a site.id or \
                 mqtt.client_id of its own",
                settings.client_id
            )),
            Self::Dismissed(why) => Trouble::Lost(format!("{broker} ended the connection: {why}")),
            Self::PutOff(why) => {
                Trouble::Refused(format!("{broker} takes no message for now: {why}; it is sent again later"))
            }
        }
    }
}

impl Refusal {
    fn trouble(self, settings: &Settings) -> Trouble {
        let broker = &settings.url;
        match self {
            Self::Credentials => Trouble::Refused(format!(
                "{broker} refuses user or password: check mqtt.username and mqtt.password_file"
            )),
            Self::NotAuthorized => Trouble::Refused(format!(
                "{broker} does not let us in: check mqtt.username and mqtt.password_file, and what that user may do there"
            )),
            Self::ClientId => {
                Trouble::Refused(format!("{broker} refuses the client id {:?}: set mqtt.client_id", settings.client_id))
            }
            Self::Protocol => Trouble::Refused(format!(
                "{broker} does not speak this version of MQTT: set mqtt.protocol to 4 (it is 5 without)"
            )),
            Self::Busy(how) => {
                Trouble::Unreachable(format!("{broker} is {how}: nothing to do here, it is tried again"))
            }
            Self::Banned => Trouble::Refused(format!("{broker} has banned us: ask who runs it")),
            Self::Moved => Trouble::Refused(format!("{broker} has moved: ask who runs it, and set mqtt.url")),
            Self::Other(why) => Trouble::Refused(format!("{broker} refuses the connection: {why}")),
        }
    }
}

/// What is usually wrong when something else than a broker answers.
fn hint(settings: &Settings) -> &'static str {
    if settings.url.tls {
        "is it the port for TLS (8883)? Without TLS it is mqtt:// (1883)"
    } else {
        "is it the port without TLS (1883)? With TLS it is mqtts:// (8883)"
    }
}

fn of_io(error: &Error, settings: &Settings, connected: bool) -> Trouble {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
        return of_rustls(inner, settings);
    }
    let broker = &settings.url;
    match error.kind() {
        _ if connected => Trouble::Lost(format!("the connection to {broker} broke: {error}")),
        ErrorKind::ConnectionRefused => Trouble::Unreachable(format!(
            "{broker} refuses connections: does the broker run, and is it the right port?"
        )),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
            Trouble::Unreachable(format!("there is no way to {broker}: is the gateway online?"))
        }
        ErrorKind::TimedOut => Trouble::Unreachable(format!("{broker} does not answer: is the gateway online?")),
        ErrorKind::ConnectionReset
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionAborted => Failure::Closed.trouble(settings, false),
        _ if error.to_string().contains("lookup") => Trouble::Unreachable(format!(
            "the name {:?} in mqtt.url is not known: is it right, and does DNS work? ({error})",
            broker.host
        )),
        _ => Trouble::Unreachable(format!("{broker} cannot be reached: {error}")),
    }
}

fn of_tls(error: &TlsError, settings: &Settings) -> Trouble {
    let broker = &settings.url;
    match error {
        TlsError::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
            Some(inner) => of_rustls(inner, settings),
            None => Trouble::NotABroker(format!("{broker} ended the connection when TLS began; {}", hint(settings))),
        },
        TlsError::TLS(error) => of_rustls(error, settings),
        TlsError::DNSName(_) | TlsError::Addr(_) => {
            Trouble::Certificate(format!("{:?} in mqtt.url is not a name that a certificate can have", broker.host))
        }
        other => Trouble::Certificate(format!("TLS with {broker} failed: {other}")),
    }
}

fn of_rustls(error: &RustlsError, settings: &Settings) -> Trouble {
    let broker = &settings.url;
    match error {
        RustlsError::InvalidCertificate(error) => of_certificate(error, settings),
        RustlsError::AlertReceived(alert) => of_alert(*alert, settings),
        RustlsError::InvalidMessage(_) => {
            Trouble::NotABroker(format!("{broker} answers, but not in TLS; {}", hint(settings)))
        }
        RustlsError::PeerIncompatible(why) => Trouble::NotABroker(format!(
            "{broker} speaks no TLS that is good enough ({why:?}): it must know TLS 1.2 or 1.3"
        )),
        other => Trouble::NotABroker(format!("TLS with {broker} failed: {other}")),
    }
}

fn of_alert(alert: AlertDescription, settings: &Settings) -> Trouble {
    let broker = &settings.url;
    let ours = "check mqtt.cert_file and mqtt.key_file";
    match alert {
        AlertDescription::CertificateRequired => Trouble::Certificate(format!(
            "{broker} asks for a certificate of ours: set mqtt.cert_file and mqtt.key_file"
        )),
        AlertDescription::CertificateExpired => Trouble::Certificate(format!(
            "{broker} says that our certificate has expired, or that its time has not come: {ours}, and the clock there"
        )),
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            Trouble::Certificate(format!("{broker} does not trust our certificate ({alert:?}): {ours}"))
        }
        AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            Trouble::Certificate(format!("{broker} does not accept our certificate ({alert:?}): {ours}"))
        }
        AlertDescription::HandshakeFailure => Trouble::Certificate(format!(
            "{broker} ends TLS (HandshakeFailure): it may ask for a certificate of ours (mqtt.cert_file), or know no TLS of today"
        )),
        other => Trouble::NotABroker(format!("{broker} ends TLS ({other:?})")),
    }
}

fn of_certificate(error: &CertificateError, settings: &Settings) -> Trouble {
    let broker = &settings.url;
    match error {
        CertificateError::NotValidYetContext { time, not_before } => Trouble::NotYetValid(format!(
            "the certificate of {broker} is valid from {} on, and the clock here says {}: the clock is probably not set",
            moment(*not_before),
            moment(*time)
        )),
        CertificateError::NotValidYet => Trouble::NotYetValid(format!(
            "the certificate of {broker} is not valid yet: the clock here is probably not set"
        )),
        CertificateError::ExpiredContext { time, not_after } => Trouble::Certificate(format!(
            "the certificate of {broker} expired on {} (the clock here says {}): it has to be renewed there",
            moment(*not_after),
            moment(*time)
        )),
        CertificateError::Expired => {
            Trouble::Certificate(format!("the certificate of {broker} has expired: it has to be renewed there"))
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::Certificate(format!(
            "the certificate of {broker} comes from an authority that is not in {}: put the right one into mqtt.ca_file",
            settings.authorities()
        )),
        CertificateError::NotValidForNameContext { presented, .. } => Trouble::Certificate(format!(
            "the certificate of {broker} is for {}, not for {:?}: use such a name in mqtt.url",
            names(presented),
            broker.host
        )),
        CertificateError::NotValidForName => Trouble::Certificate(format!(
            "the certificate of {broker} is for another name than {:?}: use its name in mqtt.url",
            broker.host
        )),
        other => Trouble::Certificate(format!("the certificate of {broker} cannot be used: {other}")),
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") }
}

fn moment(time: UnixTime) -> String {
    let millis = time.as_secs().saturating_mul(1000);
    rfc3339(WallTime(i64::try_from(millis).unwrap_or(i64::MAX)))
}
