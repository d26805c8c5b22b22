//! A policy that has been checked against the configuration, with all it needs from outside: what
//! shards act on, replaced whole on reload.

use std::path::PathBuf;
use std::sync::Arc;

use super::Policy;
use crate::config::{Config, Line};
use crate::edge::Origins;
use crate::net::preflight::StartError;
use crate::net::tls_client::TlsClient;
use crate::pull::Entry;

/// See the module text.
pub struct ActivePolicy {
    /// The rules of forwards.
    pub rules: Policy,
    /// What is pulled.
    pub pulls: Vec<Arc<Entry>>,
    /// Where streams that are not here are fetched from.
    pub origins: Vec<Arc<Origins>>,
    /// Whom to trust among those that are dialled.
    pub tls_client: TlsClient,
}

impl std::fmt::Debug for ActivePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivePolicy").finish_non_exhaustive()
    }
}

impl ActivePolicy {
    /// Checks a policy; paths in it begin at the folder of the configuration.
    ///
    /// # Errors
    /// A stream that cannot be, or a file of authorities that is unusable.
    pub fn new(mut policy: Policy, config: &Config) -> Result<Arc<Self>, StartError> {
        let absolute = |ca: &mut Option<PathBuf>| {
            *ca = ca.take().map(|ca| config.base_dir.join(ca));
        };
        let rules = policy.vhosts.iter_mut().chain(&mut policy.urls);
        rules.flat_map(|rule| &mut rule.forward).for_each(|forward| absolute(&mut forward.ca));
        policy.pulls.iter_mut().for_each(|entry| absolute(&mut entry.ca));
        policy.origins.iter_mut().for_each(|origins| absolute(&mut origins.ca));
        let names = policy.pulls.iter().map(|pull| (pull.line, pull.app.as_str(), &*pull.name));
        let apps = policy.origins.iter().map(|origins| (origins.line, &*origins.app, "*"));
        for (Line(line), app, name) in names.chain(apps) {
            // Any name does to ask whether there is such an app.
            let asked = if name == "*" { "x" } else { name };
            if let Err(refusal) = config.stream_key("", app, asked) {
                let text = refusal.text();
                let sentence = format!("policy line {line}: {app}/{name} cannot be pulled: {text}");
                return Err(StartError::Policy(sentence));
            }
        }
        let tls_client = TlsClient::load(&config.ssl, authorities(&policy))
            .map_err(|error| StartError::Certificate(error.to_string()))?;
        let pulls = std::mem::take(&mut policy.pulls).into_iter().map(Arc::new).collect();
        let origins = std::mem::take(&mut policy.origins).into_iter().map(Arc::new).collect();
        Ok(Arc::new(Self { rules: policy, pulls, origins, tls_client }))
    }

    /// Nothing is forwarded or pulled.
    #[must_use]
    pub fn none() -> Arc<Self> {
        Arc::new(Self {
            rules: Policy::default(),
            pulls: Vec::new(),
            origins: Vec::new(),
            tls_client: TlsClient::default(),
        })
    }

    /// Some stream is forwarded.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.rules.vhosts.iter().chain(&self.rules.urls).any(|rule| !rule.forward.is_empty())
    }
}

/// The authorities of every peer within TLS.
fn authorities(policy: &Policy) -> Vec<Option<PathBuf>> {
    let mut authorities = Vec::new();
    for rule in policy.vhosts.iter().chain(&policy.urls) {
        for forward in &rule.forward {
            let url = if forward.rewrite.is_empty() { &rule.name } else { &forward.rewrite };
            if url.starts_with("rtmps://") {
                authorities.push(forward.ca.clone());
            }
        }
    }
    let pulls = policy.pulls.iter().filter(|entry| entry.is_sealed());
    authorities.extend(pulls.map(|entry| entry.ca.clone()));
    let origins = policy.origins.iter().filter(|origins| origins.is_sealed());
    authorities.extend(origins.map(|origins| origins.ca.clone()));
    authorities
}
