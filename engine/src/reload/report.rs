//! What came of a reload: for the log, the API and the metrics.

use std::fmt;

/// Why the files were read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// A file has changed.
    File,
    /// A request to reload, or to write a file.
    Api,
}

impl Cause {
    /// Its name in the log and the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// What is in force now that was not before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Options of `config.xml` with another meaning, those that need a restart left out.
    pub changed: Vec<&'static str>,
    /// Options whose value in the file waits for a restart, however long already.
    pub restart: Vec<&'static str>,
    /// `policy.xml` says something else.
    pub policy: bool,
    /// Another certificate is shown.
    pub certificates: bool,
    /// Shards that do not go by it yet: they were too busy, and follow as soon as they can.
    pub late: usize,
    /// A file was written, and what it held before is kept beside it.
    pub backup: bool,
}

/// One reload.
#[derive(Debug, Clone)]
pub struct Report {
    /// Wall clock, Unix milliseconds.
    pub unix_ms: u64,
    /// What it came from.
    pub cause: Cause,
    /// What it changed, or why it changed nothing.
    pub outcome: Result<Applied, ReloadError>,
}

/// Why a reload or a write changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// A file is wrong, or what it names cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The file that was to be written is not the one that was accepted last.
    #[error(
        "{0}: has changed on the disk and is not in force, so that nothing is written over it: \
         reload, and try again"
    )]
    Changed(String),
    /// A file cannot be written.
    #[error("{0}")]
    Write(String),
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.changed.is_empty() {
            parts.push(format!("changed {}", self.changed.join(", ")));
        }
        if self.policy {
            parts.push("changed the policy".to_owned());
        }
        if self.certificates {
            parts.push("changed the certificate".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing changed".to_owned());
        }
        if self.late > 0 {
            parts.push(format!("{} shards follow", self.late));
        }
        if !self.restart.is_empty() {
            parts.push(format!("a restart is needed for {}", self.restart.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}
