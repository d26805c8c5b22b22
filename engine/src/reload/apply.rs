//! From two texts to what is in force: all checks first, then what cannot fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Accepted, Applied, Contents, Reconfigured, ReloadError, Reloader, Running, refused};
use crate::auth::Rules;
use crate::clock;
use crate::config::{self, Config, diff_reloadable, keep_restart_options};
use crate::events::Events;
use crate::net::tls::Certificate;
use crate::observe;
use crate::policy::{ActivePolicy, Policy};
use crate::record::Upkeep;
use crate::ring::{ControlMessage, ShardId};

/// How long shards may take to go by a new configuration before the answer says that some do not.
const APPLY_MAX: Duration = Duration::from_secs(2);
/// How long it is tried to tell a shard whose queue is full; by then the process has ended, for
/// that shard does not turn.
const SEND_MAX: Duration = Duration::from_secs(15);
/// How often they are looked at meanwhile.
const APPLY_POLL: Duration = Duration::from_millis(2);

/// What has passed all checks.
pub(super) struct Checked {
    pub(super) accepted: Accepted,
    config: Config,
    policy: Policy,
    active: Arc<ActivePolicy>,
    rules: Rules,
    certificate: Option<Certificate>,
    /// None: the threads there are go on.
    events: Option<Events>,
    /// A file was written, and what it held is kept.
    pub(super) backup: bool,
}

impl Reloader {
    /// Everything that can fail, before anything changes.
    pub(super) fn check(
        &self,
        running: &Running,
        accepted: Accepted,
        seen: &mut Contents,
    ) -> Result<Checked, ReloadError> {
        let Accepted { document, policy_text } = &accepted;
        let config = keep_restart_options(&running.config, document.config.clone());
        let policy = self.files.policy_of(policy_text).map_err(refused)?;
        // Before they are read.
        let waiting = Contents::of([document.config.auth.token_file.clone()]);
        let named = Contents::of_named(&config, &policy, running.tls.is_some()).and(waiting);
        *seen = seen.with(self.files.both(), named);
        let active = ActivePolicy::new(policy.clone(), &config).map_err(refused)?;
        let name = self.files.config.display().to_string();
        let rules = document.rules(&name, &config).map_err(refused)?;
        if document.config.auth.token_file != config.auth.token_file {
            // It waits for a restart, which is to go well.
            document.rules(&name, &document.config).map_err(refused)?;
        }
        let certificate = match &running.tls {
            None => None,
            Some(_) => Some(Certificate::read(&config.ssl, &config.base_dir).map_err(refused)?),
        };
        let events = match running.events.is_of(&config.events) {
            true => None,
            false => Some(
                Events::start(&config.events, &running.events.counts)
                    .map_err(ReloadError::Refused)?,
            ),
        };
        let backup = false;
        Ok(Checked { accepted, config, policy, active, rules, certificate, events, backup })
    }

    /// Cannot fail: puts everything in force.
    pub(super) fn apply(&self, running: &mut Running, checked: Checked) -> Applied {
        let Checked { accepted, config, policy, active, rules, certificate, events, backup } =
            checked;
        let before = self.accepted();
        let restart = diff_reloadable(&running.config, &accepted.document.config);
        let mut changed = accepted.document.changed(&before.document);
        changed.retain(|path| config::options::find(path).is_some_and(|opt| opt.reloadable));
        let certificates = match (&running.tls, certificate) {
            (Some(tls), Some(certificate)) => tls.install(certificate),
            _ => false,
        };
        if config.log_level != running.config.log_level
            && let Err(error) = observe::log::set_filter(&config.log_level)
        {
            tracing::warn!(%error, "the log goes on as before");
        }
        let kept = |config: &Config| (config.record.age_max, config.record.bytes_max);
        if kept(&config) != kept(&running.config) {
            running.upkeep = Upkeep::start(&config.record, &running.upkeep_counts)
                .inspect_err(|error| tracing::error!(%error, "nobody looks after recordings"))
                .ok();
        }
        for warning in config.warnings.iter().filter(|new| !running.config.warnings.contains(new)) {
            tracing::warn!("{warning}");
        }
        let new_policy = policy != running.policy;
        // Files of keys and certificates may have changed under their names.
        let dials_anew = !active.tls_client.is_same(&running.active.tls_client);
        let new_rules = !rules.is_same(&running.rules);
        let new_config = *running.config != config;
        let new_events = events.is_some();
        if new_config {
            running.config = Arc::new(config);
        }
        if let Some(events) = events {
            running.events = events;
        }
        // Whoever was let in a moment ago stays so while the rules are the same.
        if new_rules {
            running.rules = Arc::new(rules);
        }
        if new_policy || dials_anew {
            running.policy = policy;
            running.active = active;
        }
        let mut late = 0;
        if new_config || new_rules || new_events || new_policy || dials_anew {
            late = self.put_in_force(running);
        }
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accepted);
        Applied { changed, restart, policy: new_policy, certificates, late, backup }
    }

    /// Tells every shard and waits until they go by it; how many do not yet.
    fn put_in_force(&self, running: &Running) -> usize {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let new = Arc::new(Reconfigured {
            config: Arc::clone(&running.config),
            rules: Arc::clone(&running.rules),
            policy: Arc::clone(&running.active),
            events: running.events.clone(),
            generation,
        });
        let start = clock::now();
        let shards = running.applied.len();
        let mut unsent: Vec<usize> = (0..shards).collect();
        loop {
            // A full control queue is tried again: shards drain theirs on every turn.
            unsent.retain(|&index| {
                let to = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
                !running.remote.send(to, ControlMessage::Reconfigure(Arc::clone(&new)))
            });
            let behind = |at: &&AtomicU64| at.load(Ordering::Acquire) < generation;
            let late = running.applied.iter().filter(behind).count();
            let taken = clock::now().saturating_duration_since(start);
            let patience = if unsent.is_empty() { APPLY_MAX } else { SEND_MAX };
            if late == 0 || taken >= patience {
                if late > 0 {
                    tracing::error!(late, shards, "some shards do not go by the new files yet");
                }
                return late;
            }
            std::thread::sleep(APPLY_POLL);
        }
    }
}
