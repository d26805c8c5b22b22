//! Reloading: both files are read and checked, and what differs is put in force on every shard.
//! A file with a fault changes nothing and is told of.
//!
//! One [`Reloader`] per process. Whoever reloads does so on a thread that may wait, one at a time:
//! the thread of [`watch`] for signals and changed files, a blocking thread of a shard for the API.
//! A shard gets one message with one `Arc`, in [`crate::shard::Shard::reconfigure`], and says that
//! it goes by it.

mod files;
mod report;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use self::files::Stamps;
pub use self::report::{Applied, Cause, ReloadError, Report};
use crate::auth::Rules;
use crate::clock;
use crate::config::model::Config;
use crate::config::{Document, diff_reloadable, keep_restart_options};
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

/// What a shard goes by from now on.
#[derive(Debug, Clone)]
pub struct Reconfigured {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// Who is told of events.
    pub events: Events,
    /// Counts up with each.
    pub generation: u64,
}

/// What a shard forwards and pulls from now on.
#[derive(Debug)]
pub struct PolicyInForce {
    /// The policy.
    pub policy: Arc<ActivePolicy>,
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

/// What a running server has that a reload changes.
pub struct Running {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// The policy in force.
    pub policy: Policy,
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
    tls: Option<Arc<TlsContext>>,
    generation: AtomicU64,
    accepted: RwLock<Arc<Accepted>>,
    last: RwLock<Arc<Report>>,
    stamps: Mutex<Stamps>,
    /// Reloads that changed something or nothing, and those that failed.
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Reloader {
    /// For a server that runs with what these files say.
    #[must_use]
    pub fn new(files: Files, accepted: Accepted, running: Running) -> Self {
        let restart = diff_reloadable(&running.config, &accepted.document.config);
        let applied = Applied { restart, ..Applied::default() };
        let unix_ms = clock::unix_millis();
        let last = Report { unix_ms, cause: Cause::Start, outcome: Ok(applied) };
        let this = Self {
            files,
            tls: running.tls.clone(),
            running: Mutex::new(running),
            generation: AtomicU64::new(0),
            accepted: RwLock::new(Arc::new(accepted)),
            last: RwLock::new(Arc::new(last)),
            stamps: Mutex::default(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        *this.stamps.lock().unwrap_or_else(PoisonError::into_inner) = this.look();
        this
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
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_locked(running, cause)
    }

    /// The same, unless somebody else has read the files as they are meanwhile.
    fn reload_changed(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.knows(&self.look()) {
            self.reload_locked(running, Cause::File);
        }
    }

    /// These are the files that were read last.
    fn knows(&self, stamps: &Stamps) -> bool {
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) == *stamps
    }

    fn reload_locked(&self, running: MutexGuard<'_, Running>, cause: Cause) -> Arc<Report> {
        self.run(running, cause, |this| {
            let document = Document::load(&this.files.config).map_err(refused)?;
            let policy_text = policy::read_text(&this.files.policy).map_err(refused)?;
            Ok(Accepted { document, policy_text })
        })
    }

    /// Writes `config.xml` with the text that `edit` makes of the one on the disk, and puts it in
    /// force; nothing is written that would be refused. May wait; not on a shard.
    pub fn write_config(
        &self,
        edit: impl FnOnce(&Document) -> Result<String, ReloadError>,
    ) -> Arc<Report> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(running, Cause::Api, |this| {
            let path = &this.files.config;
            let old = Document::load(path).map_err(refused)?;
            let text = edit(&old)?;
            let name = path.display().to_string();
            let document = Document::parse(&name, &text, &old.config.base_dir).map_err(refused)?;
            let policy_text = policy::read_text(&this.files.policy).map_err(refused)?;
            Ok(Accepted { document, policy_text })
        })
    }

    /// The same for `policy.xml`.
    pub fn write_policy(
        &self,
        edit: impl FnOnce(&str) -> Result<String, ReloadError>,
    ) -> Arc<Report> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(running, Cause::Api, |this| {
            let document = Document::load(&this.files.config).map_err(refused)?;
            let old = policy::read_text(&this.files.policy).map_err(refused)?;
            let policy_text = edit(&old)?;
            Ok(Accepted { document, policy_text })
        })
    }

    /// The shards have ended: waits for the last events to be told, but not beyond the deadline.
    pub fn finish(&self, deadline: Instant) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut running.events).finish(deadline);
    }

    /// One at a time: makes what is wanted, checks it, writes what is not on the disk yet, and puts
    /// it in force.
    fn run(
        &self,
        mut running: MutexGuard<'_, Running>,
        cause: Cause,
        make: impl FnOnce(&Self) -> Result<Accepted, ReloadError>,
    ) -> Arc<Report> {
        // Before the files are read: what changes from here on is seen by the watch.
        let stamps = self.look();
        let outcome = make(self).and_then(|wanted| {
            let checked = self.check(&running, &wanted)?;
            self.write(&wanted)?;
            Ok(self.apply(&mut running, wanted, checked))
        });
        let counter = if outcome.is_ok() { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let written = cause == Cause::Api && outcome.is_ok();
        let stamps = if written { self.look() } else { stamps };
        *self.stamps.lock().unwrap_or_else(PoisonError::into_inner) = stamps;
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

    /// Everything that can fail, before anything changes.
    fn check(&self, running: &Running, wanted: &Accepted) -> Result<Checked, ReloadError> {
        let file = &wanted.document.config;
        let config = keep_restart_options(&running.config, file.clone());
        let name = self.files.policy.display().to_string();
        let policy = match wanted.policy_text.as_str() {
            "" => Policy::default(),
            text => policy::load_str(&name, text).map_err(refused)?,
        };
        let active = ActivePolicy::new(policy.clone(), &config).map_err(refused)?;
        let rules = Rules::load(&config).map_err(refused)?;
        let certificate = match &running.tls {
            None => None,
            Some(_) => Some(Certificate::read(&config.ssl, &config.base_dir).map_err(refused)?),
        };
        let events = match running.events.is_of(&config.events) {
            true => running.events.clone(),
            false => Events::start(&config.events, &running.events.counts)
                .map_err(ReloadError::Refused)?,
        };
        Ok(Checked { config, policy, active, rules, certificate, events })
    }

    /// Writes the files that are not as they should be.
    fn write(&self, wanted: &Accepted) -> Result<(), ReloadError> {
        let put = |path: &Path, text: &str| {
            let same = std::fs::read_to_string(path).is_ok_and(|there| there == text);
            if same || (text.is_empty() && !path.exists()) {
                return Ok(());
            }
            files::replace(path, text).map(drop).map_err(|error| {
                ReloadError::Write(format!("{}: cannot be written: {error}", path.display()))
            })
        };
        put(&self.files.config, &wanted.document.text)?;
        put(&self.files.policy, &wanted.policy_text)
    }

    /// Cannot fail: puts everything in force.
    fn apply(&self, running: &mut Running, wanted: Accepted, checked: Checked) -> Applied {
        let Checked { config, policy, active, rules, certificate, events } = checked;
        let before = self.accepted();
        let restart = diff_reloadable(&running.config, &wanted.document.config);
        let mut changed = wanted.document.changed(&before.document);
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
        let mut shards = running.applied.len();
        let policy_changed = !policy.is_same(&running.policy);
        // Those that are dialled from now on are shown the new certificate.
        let dials_anew = config.ssl.client_files() != running.config.ssl.client_files();
        // Files of keys may have changed under their names.
        let auth_differs = dials_anew || !rules.is_same(&running.rules);
        if *running.config != config || auth_differs {
            let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
            running.config = Arc::new(config);
            running.events = events;
            // Whoever was let in a moment ago stays so while the rules are the same.
            if auth_differs {
                running.rules = Arc::new(rules);
            }
            let (config, rules) = (Arc::clone(&running.config), Arc::clone(&running.rules));
            let new = Reconfigured { config, rules, events: running.events.clone(), generation };
            shards = put_in_force(running, generation, || {
                ControlMessage::Reconfigure(Box::new(new.clone()))
            });
        }
        if policy_changed || dials_anew {
            let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
            running.policy = policy;
            let in_force = Arc::new(PolicyInForce { policy: active, generation });
            shards = put_in_force(running, generation, || {
                ControlMessage::ApplyPolicy(Arc::clone(&in_force))
            });
        }
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(wanted);
        Applied { changed, restart, policy: policy_changed, certificates, shards }
    }

    /// The files as they are now.
    fn look(&self) -> Stamps {
        let certificates = self.tls.as_deref().map(TlsContext::files);
        let files = [self.files.config.as_path(), self.files.policy.as_path()];
        Stamps::of(files.into_iter().chain(certificates.iter().flatten().map(PathBuf::as_path)))
    }
}

/// What has passed all checks.
struct Checked {
    config: Config,
    policy: Policy,
    active: Arc<ActivePolicy>,
    rules: Rules,
    certificate: Option<Certificate>,
    events: Events,
}

fn refused(error: impl std::fmt::Display) -> ReloadError {
    ReloadError::Refused(error.to_string())
}

/// Sends to every shard and waits until they go by it; how many do.
fn put_in_force(running: &Running, generation: u64, make: impl Fn() -> ControlMessage) -> usize {
    let start = clock::now();
    let shards = running.applied.len();
    let mut unsent: Vec<usize> = (0..shards).collect();
    loop {
        // A full control queue is tried again: shards drain theirs on every turn.
        unsent.retain(|&index| {
            let to = crate::ring::ShardId(u16::try_from(index).unwrap_or(u16::MAX));
            !running.remote.send(to, make())
        });
        let there = |index: &usize| running.applied[*index].load(Ordering::Acquire) >= generation;
        let done = (0..shards).filter(there).count();
        let taken = clock::now().saturating_duration_since(start);
        let patience = if unsent.is_empty() { APPLY_MAX } else { SEND_MAX };
        if done == shards || taken >= patience {
            if done < shards {
                tracing::error!(done, shards, "some shards do not go by the new files yet");
            }
            return done;
        }
        std::thread::sleep(APPLY_POLL);
    }
}
