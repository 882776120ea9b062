//! What is needed to connect: the settings, and what the files of `mqtt.*` hold at the moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Timings;
use crate::cloud::topics::Topics;
use crate::cloud::{Subject, Trouble};
use crate::config::{BrokerUrl, Config, MqttProtocol};

/// Where systems keep the authorities that they trust: Debian and OpenWrt, Fedora, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The part of the configuration that matters here.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) url: BrokerUrl,
    pub(super) protocol: MqttProtocol,
    pub(super) client_id: String,
    pub(super) topics: OwnTopics,
    pub(super) timings: Timings,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
}

/// The topics that the link itself knows.
#[derive(Debug, Clone)]
pub(super) struct OwnTopics {
    pub(super) state: String,
    pub(super) command: String,
    pub(super) ack: String,
}

impl Settings {
    /// `None` without `mqtt.url`.
    pub(super) fn of(config: &Config, timings: Timings) -> Option<Self> {
        let mqtt = &config.mqtt;
        Some(Self {
            url: mqtt.url.clone()?,
            protocol: mqtt.protocol,
            client_id: mqtt.client_id.clone().unwrap_or_else(|| config.site.id.to_string()),
            topics: OwnTopics::of(config),
            timings,
            username: mqtt.username.clone(),
            password_file: mqtt.password_file.clone(),
            ca_file: mqtt.ca_file.clone(),
            certificate: mqtt.cert_file.clone().zip(mqtt.key_file.clone()),
        })
    }

    /// rumqttc takes no less than 5 s.
    pub(super) fn keep_alive(&self) -> Duration {
        self.timings.keep_alive.max(Duration::from_secs(5))
    }

    /// What the broker's certificate is checked against, as text for people.
    pub(super) fn authorities(&self) -> String {
        match &self.ca_file {
            Some(file) => format!("mqtt.ca_file ({})", file.display()),
            None => "the system's list".to_owned(),
        }
    }
}

impl OwnTopics {
    fn of(config: &Config) -> Self {
        let topics = Topics::of(config);
        Self { state: topics.state(), command: topics.command(), ack: topics.ack() }
    }

    pub(super) fn subject(&self, topic: &str) -> Option<Subject> {
        match topic {
            _ if topic == self.command => Some(Subject::Command),
            _ if topic == self.ack => Some(Subject::Ack),
            _ => None,
        }
    }
}

/// What a connection takes along.
pub(super) struct Access {
    pub(super) transport: Transport,
    /// User and password.
    pub(super) credentials: Option<(String, String)>,
}

impl Access {
    /// Reads the files: they may have been renewed, or have appeared.
    pub(super) fn read(settings: &Settings) -> Result<Self, Trouble> {
        let transport = if settings.url.tls {
            Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls(settings)?)))
        } else {
            Transport::tcp()
        };
        Ok(Self { transport, credentials: credentials(settings)? })
    }
}

fn credentials(settings: &Settings) -> Result<Option<(String, String)>, Trouble> {
    let password = match &settings.password_file {
        Some(file) => password(file)?,
        None => String::new(),
    };
    let given = settings.username.is_some() || settings.password_file.is_some();
    Ok(given.then(|| (settings.username.clone().unwrap_or_default(), password)))
}

/// Without the line end that editors like to add.
fn password(file: &Path) -> Result<String, Trouble> {
    let mut text = fs::read_to_string(file).map_err(|error| unreadable("mqtt.password_file", file, &error))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn tls(settings: &Settings) -> Result<ClientConfig, Trouble> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Trouble::Certificate(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(authorities(settings)?);
    let Some((cert_file, key_file)) = &settings.certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("mqtt.cert_file", cert_file)?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| wrong_pem("mqtt.key_file", key_file, "a private key", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let (cert, key) = (cert_file.display(), key_file.display());
        Trouble::File(format!("mqtt.key_file {key} does not go with mqtt.cert_file {cert}: {error}"))
    })
}

fn authorities(settings: &Settings) -> Result<RootCertStore, Trouble> {
    let (name, file) = match &settings.ca_file {
        Some(file) => ("mqtt.ca_file", file.as_path()),
        None => ("the system's list of authorities", system_authorities()?),
    };
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(certificates(name, file)?);
    if store.is_empty() {
        let file = file.display();
        return Err(Trouble::File(format!("{name} {file}: none of its {unusable} certificates can be used")));
    }
    Ok(store)
}

fn system_authorities() -> Result<&'static Path, Trouble> {
    SYSTEM_AUTHORITIES.iter().map(Path::new).find(|file| file.exists()).ok_or_else(|| {
        let text = "mqtt.ca_file is not set, and this system has no list of authorities: set mqtt.ca_file, or install \
                    ca-certificates";
        Trouble::File(text.to_owned())
    })
}

fn certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(wrong_pem(name, file, "a certificate", &pem::Error::NoItemsFound)),
        Err(error) => Err(wrong_pem(name, file, "a certificate", &error)),
    }
}

fn wrong_pem(name: &str, file: &Path, wanted: &str, error: &pem::Error) -> Trouble {
    match error {
        pem::Error::Io(error) => unreadable(name, file, error),
        pem::Error::NoItemsFound => {
            Trouble::File(format!("{name} {}: there is not {wanted} in it (PEM)", file.display()))
        }
        other => Trouble::File(format!("{name} {}: not {wanted} in PEM: {other}", file.display())),
    }
}

fn unreadable(name: &str, file: &Path, error: &io::Error) -> Trouble {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "the agent may not read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not text".to_owned(),
        _ => error.to_string(),
    };
    Trouble::File(format!("{name} {}: {why}", file.display()))
}
