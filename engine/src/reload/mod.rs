//! Reloading: both files are read and checked, and what differs is put in force on every shard.
//! A file with a fault changes nothing and is told of. Only the API writes, and only the file that it
//! was asked to write.
//!
//! One [`Reloader`] per process. Whoever reloads does so on a thread that may wait, one at a time:
//! the thread of [`watch`] for signals and changed files, a blocking thread of a shard for the API.
//! A shard gets one message with one `Arc`, in [`crate::shard::Shard::reconfigure`], and says that
//! it goes by it.

mod files;
mod report;
#[cfg(test)]
mod tests;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use self::files::Contents;
pub use self::report::{Applied, Cause, ReloadError, Report};
use crate::auth::Rules;
use crate::clock;
use crate::config::model::Config;
use crate::config::{ConfigError, Document, diff_reloadable, keep_restart_options};
use crate::events::Events;
use crate::net::tls::{Certificate, TlsContext};
use crate::policy::{self, ActivePolicy, Policy};
use crate::record::{Upkeep, UpkeepCounts};
use crate::ring::{ControlMessage, Remote};
use crate::{config, observe};

/// How long shards may take to go by a new configuration before the answer says that some do not.
const APPLY_MAX: Duration = Duration::from_secs(2);
/// How long it is tried to tell a shard whose queue is full; by then the process has ended, for
/// that shard does not turn.
const SEND_MAX: Duration = Duration::from_secs(15);
/// How often they are looked at meanwhile.
const APPLY_POLL: Duration = Duration::from_millis(2);

/// Where the two files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// `config.xml`.
    pub config: PathBuf,
    /// `policy.xml`; need not exist.
    pub policy: PathBuf,
}

impl Files {
    fn both(&self) -> [&Path; 2] {
        [&self.config, &self.policy]
    }

    /// Checks the text of `policy.xml`; none is a policy without rules.
    ///
    /// # Errors
    /// It is wrong.
    pub fn policy_of(&self, text: &str) -> Result<Policy, ConfigError> {
        match text {
            "" => Ok(Policy::default()),
            text => policy::load_str(&self.policy.display().to_string(), text),
        }
    }
}

/// What a shard goes by from now on: all of it at once, so that none goes by half of a change.
#[derive(Debug)]
pub struct Reconfigured {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// What is forwarded and pulled.
    pub policy: Arc<ActivePolicy>,
    /// Who is told of events.
    pub events: Events,
    /// Counts up with each.
    pub generation: u64,
}

/// Both files as they were last accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// `config.xml`.
    pub document: Document,
    /// `policy.xml` as it is written; empty if there is none.
    pub policy_text: String,
}

impl Accepted {
    fn config_text(&self) -> &str {
        &self.document.text
    }

    fn policy_text(&self) -> &str {
        &self.policy_text
    }
}

/// What a running server has that a reload changes.
pub struct Running {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The policy in force.
    pub policy: Policy,
    /// The same with what it needs from outside.
    pub active: Arc<ActivePolicy>,
    /// Who is told of events.
    pub events: Events,
    /// The way to the shards.
    pub remote: Remote,
    /// What each shard goes by.
    pub applied: Arc<[AtomicU64]>,
    /// Certificates, when TLS is on.
    pub tls: Option<Arc<TlsContext>>,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// Who looks after recordings.
    pub upkeep: Option<Upkeep>,
    /// What that has done.
    pub upkeep_counts: Arc<UpkeepCounts>,
}

/// See the module text.
pub struct Reloader {
    files: Files,
    /// Held for a whole reload. Never waited for by a shard.
    running: Mutex<Running>,
    generation: AtomicU64,
    accepted: RwLock<Arc<Accepted>>,
    last: RwLock<Arc<Report>>,
    /// The files as they were when they were read last.
    known: Mutex<Contents>,
    /// Reloads that changed something or nothing, and those that failed.
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Reloader {
    /// For a server that runs with what these files say. `named`: the files they name, looked at
    /// before they were read; one that was missing may have been made since.
    #[must_use]
    pub fn new(files: Files, accepted: Accepted, named: Contents, running: Running) -> Self {
        let restart = diff_reloadable(&running.config, &accepted.document.config);
        let applied = Applied { restart, ..Applied::default() };
        let unix_ms = clock::unix_millis();
        let last = Report { unix_ms, cause: Cause::Start, outcome: Ok(applied) };
        let mut known = named.with_made();
        known.set(&files.config, &accepted.document.text);
        known.set(&files.policy, &accepted.policy_text);
        Self {
            files,
            running: Mutex::new(running),
            generation: AtomicU64::new(0),
            accepted: RwLock::new(Arc::new(accepted)),
            last: RwLock::new(Arc::new(last)),
            known: Mutex::new(known),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Both files as they were last accepted; never waits for a reload.
    #[must_use]
    pub fn accepted(&self) -> Arc<Accepted> {
        Arc::clone(&self.accepted.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What came of the last reload or write; never waits for one.
    #[must_use]
    pub fn last(&self) -> Arc<Report> {
        Arc::clone(&self.last.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reloads that went well, and those that changed nothing because of a fault.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Where the files are.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Reads both files and puts in force what differs. May wait; not on a shard.
    pub fn reload(&self, cause: Cause) -> Arc<Report> {
        let running = self.lock();
        let checked = self.read(&running);
        self.conclude(running, cause, checked)
    }

    /// The same, unless somebody else has read the files as they are meanwhile.
    fn reload_changed(&self) {
        let running = self.lock();
        if !self.knows(&self.look()) {
            let checked = self.read(&running);
            self.conclude(running, Cause::File, checked);
        }
    }

    /// Writes `config.xml` with the text that `edit` makes of the one that was accepted last, and
    /// puts it in force; nothing is written that would be refused, nor over what somebody else has
    /// written since. May wait; not on a shard.
    pub fn write_config(
        &self,
        edit: impl FnOnce(&Document) -> Result<String, ReloadError>,
    ) -> Arc<Report> {
        let running = self.lock();
        let before = self.accepted();
        let name = self.files.config.display().to_string();
        let base_dir = &before.document.config.base_dir;
        let checked = edit(&before.document)
            .and_then(|text| Document::parse(&name, &text, base_dir).map_err(refused))
            .map(|document| Accepted { document, policy_text: before.policy_text.clone() })
            .and_then(|new| self.write(&running, new, &self.files.config, Accepted::config_text));
        self.conclude(running, Cause::Api, checked)
    }

    /// The same for `policy.xml`.
    pub fn write_policy(
        &self,
        edit: impl FnOnce(&str) -> Result<String, ReloadError>,
    ) -> Arc<Report> {
        let running = self.lock();
        let before = self.accepted();
        let checked = edit(&before.policy_text)
            .map(|policy_text| Accepted { document: before.document.clone(), policy_text })
            .and_then(|new| self.write(&running, new, &self.files.policy, Accepted::policy_text));
        self.conclude(running, Cause::Api, checked)
    }

    /// The shards have ended: waits for the last events to be told, but not beyond the deadline.
    pub fn finish(&self, deadline: Instant) {
        let mut running = self.lock();
        running.upkeep = None;
        std::mem::take(&mut running.events).finish(deadline);
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the files that were read last.
    fn knows(&self, contents: &Contents) -> bool {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) == *contents
    }

    /// The files that were read last as they are now.
    fn look(&self) -> Contents {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.again()
    }

    /// Puts in force what has passed all checks, and tells what came of it.
    fn conclude(
        &self,
        mut running: MutexGuard<'_, Running>,
        cause: Cause,
        checked: Result<Checked, ReloadError>,
    ) -> Arc<Report> {
        let outcome = checked.map(|checked| self.apply(&mut running, checked));
        let counter = if outcome.is_ok() { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        match &outcome {
            Ok(applied) => tracing::info!(cause = cause.name(), "reloaded: {applied}"),
            Err(error) => {
                tracing::warn!(cause = cause.name(), %error, "not reloaded: nothing changes");
            }
        }
        let report = Arc::new(Report { unix_ms: clock::unix_millis(), cause, outcome });
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&report);
        report
    }

    /// Reads and checks both files.
    fn read(&self, running: &Running) -> Result<Checked, ReloadError> {
        // Before they are read: what changes from here on is seen by the watch.
        let mut seen = self.look();
        let checked = self.read_both(&mut seen).and_then(|new| self.check(running, new, &mut seen));
        // A fault is known too, so that it is told of once.
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        checked
    }

    fn read_both(&self, seen: &mut Contents) -> Result<Accepted, ReloadError> {
        let document = Document::load(&self.files.config).map_err(refused)?;
        seen.set(&self.files.config, &document.text);
        let policy_text = policy::read_text(&self.files.policy).map_err(refused)?;
        seen.set(&self.files.policy, &policy_text);
        Ok(Accepted { document, policy_text })
    }

    /// Checks what has been edited, and writes the file that was; the other one is as it was
    /// accepted last, whatever stands on the disk by now.
    fn write(
        &self,
        running: &Running,
        new: Accepted,
        path: &Path,
        text: fn(&Accepted) -> &str,
    ) -> Result<Checked, ReloadError> {
        let mut seen = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let checked = self.check(running, new, &mut seen)?;
        let (old, new) = (self.accepted(), text(&checked.accepted));
        let shown = path.display();
        match files::replace(path, text(&old), new) {
            Ok(true) => seen.set(path, new),
            Ok(false) => return Err(ReloadError::Changed(shown.to_string())),
            Err(error) => {
                return Err(ReloadError::Write(format!("{shown}: cannot be written: {error}")));
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(checked)
    }

    /// Everything that can fail, before anything changes.
    fn check(
        &self,
        running: &Running,
        accepted: Accepted,
        seen: &mut Contents,
    ) -> Result<Checked, ReloadError> {
        let Accepted { document, policy_text } = &accepted;
        let config = keep_restart_options(&running.config, document.config.clone());
        let policy = self.files.policy_of(policy_text).map_err(refused)?;
        // Before they are read.
        let named = Contents::of_named(&config, &policy, running.tls.is_some());
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
        Ok(Checked { accepted, config, policy, active, rules, certificate, events })
    }

    /// Cannot fail: puts everything in force.
    fn apply(&self, running: &mut Running, checked: Checked) -> Applied {
        let Checked { accepted, config, policy, active, rules, certificate, events } = checked;
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
        Applied { changed, restart, policy: new_policy, certificates, late }
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
                let to = crate::ring::ShardId(u16::try_from(index).unwrap_or(u16::MAX));
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

/// What has passed all checks.
struct Checked {
    accepted: Accepted,
    config: Config,
    policy: Policy,
    active: Arc<ActivePolicy>,
    rules: Rules,
    certificate: Option<Certificate>,
    /// None: the threads there are go on.
    events: Option<Events>,
}

fn refused(error: impl std::fmt::Display) -> ReloadError {
    ReloadError::Refused(error.to_string())
}
