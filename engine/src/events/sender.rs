//! The thread that brings the events of one queue to one URL, in order.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use protocols::text::hex;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::{EventCounts, Queued, signature};
use crate::config::mask_url;
use crate::config::model::{EventOptions, Secret};
use crate::net::reach::Reach;
use crate::net::tls_client;

/// The pause after the first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Idle connections are given up soon: the next event may be an hour away.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// Starts the thread; what it gives back is disconnected when the thread ends.
///
/// # Errors
/// The authorities cannot be read, or there are no more threads.
pub(super) fn start(
    url: &Secret,
    options: &EventOptions,
    waiting: Receiver<Queued>,
    counts: Arc<EventCounts>,
) -> Result<Receiver<()>, String> {
    let sealed = url.0.starts_with("https://");
    let agent = agent(options, sealed)?;
    let (alive, ended) = crossbeam_channel::bounded(0);
    let sender = Sender {
        agent,
        shown: mask_url(&url.0, false),
        url: url.0.clone(),
        secret: options.secret.as_ref().map(|secret| secret.0.clone()),
        attempts: options.attempts,
        counts,
    };
    let run = move || {
        let _alive: crossbeam_channel::Sender<()> = alive;
        for queued in waiting {
            sender.deliver(&queued);
        }
    };
    std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(run)
        .map_err(|error| format!("no thread for event callbacks: {error}"))?;
    Ok(ended)
}

fn agent(options: &EventOptions, sealed: bool) -> Result<Agent, String> {
    let mut tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
    if sealed {
        tls = tls.root_certs(authorities(options.ca.as_deref())?);
    }
    let config = Agent::config_builder()
        .timeout_global(Some(options.timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_age(IDLE_MAX)
        .max_idle_connections(1)
        .proxy(None)
        .user_agent(crate::stream::SERVER_NAME)
        .tls_config(tls.build())
        .build();
    Ok(Agent::with_parts(config, DefaultConnector::default(), NotLinkLocal))
}

fn authorities(file: Option<&Path>) -> Result<RootCerts, String> {
    let path = file.map_or_else(tls_client::platform_bundle, Path::to_path_buf);
    let unusable = |error: String| format!("{}: {error}", path.display());
    let bytes = fs::read(&path).map_err(|error| unusable(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .map(|der| der.map(|der| Certificate::from_der(&der).to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("holds no certificate".to_owned()));
    }
    Ok(RootCerts::from(certificates))
}

/// Names are resolved as everywhere, but never to where clouds keep their secrets.
#[derive(Debug)]
struct NotLinkLocal;

impl Resolver for NotLinkLocal {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for address in found.iter().filter(|address| !is_link_local(address.ip())) {
            kept.push(*address);
        }
        if kept.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(kept) }
    }
}

fn is_link_local(ip: std::net::IpAddr) -> bool {
    Reach::of(ip) == Reach::LinkLocal
}

struct Sender {
    agent: Agent,
    url: String,
    shown: String,
    secret: Option<String>,
    attempts: u32,
    counts: Arc<EventCounts>,
}

/// How an attempt ended.
enum Attempt {
    Taken,
    Refused(u16),
    Failed(String),
}

impl Sender {
    fn deliver(&self, queued: &Queued) {
        let name = queued.event.kind().name();
        let id = match random_id() {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(event = name, %error, "an event without a name is not sent");
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let body = body(queued, &id);
        let mut pause = PAUSE_MIN;
        for attempt in 1..=self.attempts {
            let why = match self.attempt(name, &id, &body) {
                Attempt::Taken => {
                    self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Attempt::Refused(status) => {
                    tracing::warn!(url = %self.shown, event = name, status, "an event is refused");
                    break;
                }
                Attempt::Failed(why) => why,
            };
            if attempt == self.attempts {
                tracing::warn!(url = %self.shown, event = name, %why, "an event is given up");
                break;
            }
            tracing::debug!(url = %self.shown, event = name, %why, "an event is sent again");
            self.counts.retried.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn attempt(&self, name: &str, id: &str, body: &[u8]) -> Attempt {
        let timestamp = (crate::clock::unix_millis() / 1000).to_string();
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-Event", name)
            .header("X-Event-Id", id)
            .header("X-Timestamp", &timestamp);
        if let Some(secret) = &self.secret {
            request = request.header("X-Signature", signature(secret, &timestamp, body));
        }
        match request.send(body) {
            Ok(answer) => match answer.status().as_u16() {
                200..=299 => Attempt::Taken,
                status @ (408 | 425 | 429 | 500..=599) => {
                    Attempt::Failed(format!("status {status}"))
                }
                status => Attempt::Refused(status),
            },
            // It would be told with all that is in it.
            Err(ureq::Error::BadUri(_)) => Attempt::Failed("the URL cannot be used".to_owned()),
            // Other failures name their kind and at most the host.
            Err(error) => Attempt::Failed(crate::conn::escape(&error.to_string())),
        }
    }
}

fn body(queued: &Queued, id: &str) -> Vec<u8> {
    let mut value = serde_json::to_value(&*queued.event).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.insert("id".to_owned(), json!(id));
        map.insert("time_unix_ms".to_owned(), json!(queued.unix_ms));
    }
    value.to_string().into_bytes()
}

/// 128 random bits.
fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_to_link_local_addresses() {
        for (ip, is) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("127.0.0.1", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_link_local(ip.parse().unwrap()), is, "{ip}");
        }
    }
}
