//! Reloading: both files are read and checked, and what differs is put in force on every shard.
//! A file with a fault changes nothing and is told of. Only the API writes, and only the file that it
//! was asked to write.
//!
//! One [`Reloader`] per process. Whoever reloads does so on a thread that may wait, one at a time:
//! the thread of [`watch`] for signals and changed files, a blocking thread of a shard for the API.
//! A shard gets one message with one `Arc`, in [`crate::shard::Shard::reconfigure`], and says that
//! it goes by it.

mod apply;
mod files;
mod report;
#[cfg(test)]
mod tests;
pub mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use self::apply::Checked;
pub use self::files::Contents;
use self::files::Replaced;
pub use self::report::{Applied, Cause, ReloadError, Report};
use crate::auth::Rules;
use crate::clock;
use crate::config::model::Config;
use crate::config::{ConfigError, Document, diff_reloadable};
use crate::events::Events;
use crate::net::tls::TlsContext;
use crate::policy::{self, ActivePolicy, Policy};
use crate::record::{Upkeep, UpkeepCounts};
use crate::ring::Remote;

/// How often the end of the process looks whether a reload is over.
const FINISH_POLL: Duration = Duration::from_millis(2);

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
        let mut running = loop {
            match self.running.try_lock() {
                Ok(running) => break running,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if clock::now() < deadline => {
                    std::thread::sleep(FINISH_POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    tracing::warn!("a reload takes too long: the last events are not told");
                    return;
                }
            }
        };
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
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = known.clone();
        let mut checked = self.check(running, new, &mut seen)?;
        let (old, new) = (self.accepted(), text(&checked.accepted));
        let shown = path.display();
        match files::replace(path, text(&old), new) {
            Ok(Replaced::Foreign) => return Err(ReloadError::Changed(shown.to_string())),
            Ok(Replaced::Same) => {}
            Ok(Replaced::Written { backup }) => {
                seen.set(path, new);
                checked.backup = backup;
            }
            Err(error) => {
                return Err(ReloadError::Write(format!("{shown}: cannot be written: {error}")));
            }
        }
        // The other file may name some that it waits for.
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.and(seen);
        Ok(checked)
    }
}

fn refused(error: impl std::fmt::Display) -> ReloadError {
    ReloadError::Refused(error.to_string())
}
