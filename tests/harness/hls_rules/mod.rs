//! HLS media playlists as an independent judge reads them: one after the other as a client got
//! them, held to the rules of draft-pantos-hls-rfc8216bis. Shares no code with the server.
//!
//! Give [`check`] what one client received for one media playlist, in order. It expands delta
//! updates itself, with what the client had before.

pub mod renditions;
mod single;
mod succession;
pub mod syntax;

/// One playlist as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// When it arrived, in milliseconds of any clock.
    pub at_ms: u64,
    /// The body.
    pub text: &'a str,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Against a MUST.
    Violation,
    /// Against a SHOULD, or against what players are known to need.
    Warning,
}

/// One rule broken once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Index of the snapshot.
    pub snapshot: usize,
    /// How bad it is.
    pub severity: Severity,
    /// Clause of the draft.
    pub clause: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// Every rule broken by a sequence of playlists.
pub fn check(snapshots: &[Snapshot<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut history = succession::History::default();
    for (index, snapshot) in snapshots.iter().enumerate() {
        let mut faults = Faults::default();
        let playlist = syntax::parse(snapshot.text, &mut faults);
        single::check(&playlist, &mut faults);
        history.next(snapshot.at_ms, playlist, &mut faults);
        findings.extend(faults.0.into_iter().map(|(severity, clause, detail)| Finding {
            snapshot: index,
            severity,
            clause,
            detail,
        }));
    }
    findings
}

/// The violations among [`check`]'s findings as lines of text, for an assertion.
pub fn violations(snapshots: &[Snapshot<'_>]) -> Vec<String> {
    let grave = |finding: &Finding| finding.severity == Severity::Violation;
    let line = |Finding { snapshot, clause, detail, .. }: Finding| {
        format!("playlist {snapshot}: {detail} ({clause})")
    };
    check(snapshots).into_iter().filter(grave).map(line).collect()
}

/// Faults of one playlist.
#[derive(Default)]
struct Faults(Vec<(Severity, &'static str, String)>);

impl Faults {
    fn violation(&mut self, clause: &'static str, detail: impl Into<String>) {
        self.0.push((Severity::Violation, clause, detail.into()));
    }

    fn warning(&mut self, clause: &'static str, detail: impl Into<String>) {
        self.0.push((Severity::Warning, clause, detail.into()));
    }

    /// A violation unless `holds`.
    fn must(&mut self, holds: bool, clause: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.violation(clause, detail());
        }
    }

    /// A warning unless `holds`.
    fn should(&mut self, holds: bool, clause: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.warning(clause, detail());
        }
    }
}

#[cfg(test)]
mod tests;
