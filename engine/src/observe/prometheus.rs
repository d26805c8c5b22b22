//! The text form of the counters (Prometheus exposition format 0.0.4).

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use protocols::rtp::Statistics;

use super::{AccessCounts, Counters, DropReason, ShardReport};
use crate::record::{Counts, GapReason};

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ =
            write!(self.0, "# HELP smart_rtmpd_{name} {help}\n# TYPE smart_rtmpd_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "smart_rtmpd_{name}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn summary(&mut self, name: &str, help: &str, histogram: &Histogram<u64>) {
        self.family(name, "summary", help);
        for quantile in ["0.5", "0.9", "0.99", "1"] {
            let at = quantile.parse().unwrap_or(1.0);
            let seconds = histogram.value_at_quantile(at) as f64 / 1e6;
            self.sample(name, &[("quantile", quantile)], seconds);
        }
        let sum = histogram.mean() * histogram.len() as f64 / 1e6;
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], histogram.len());
    }
}

/// Labels of viewers, so that each is there at 0 too.
const VIEWER_PROTOCOLS: [&str; 8] =
    ["rtmp", "rtsp", "http-flv", "ws-flv", "http-ts", "ws-ts", "http-mp4", "ws-mp4"];

/// What the process as a whole adds to the reports.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Number of shards.
    pub shards: usize,
    /// Time since start.
    pub uptime: Duration,
    /// Resident bytes when the last shard had come up.
    pub base_bytes: u64,
    /// Resident bytes now.
    pub resident_bytes: u64,
    /// Of those, what the allocator keeps for later.
    pub heap_free_bytes: u64,
    /// How often a shard had to be woken from outside.
    pub nudges: u64,
    /// Pieces of recordings whose index was made again at the start.
    pub recovered: u64,
    /// Pieces of recordings deleted because of age or size.
    pub deleted: u64,
    /// Event callbacks by what became of them.
    pub events: [(&'static str, u64); 4],
    /// Reloads by how they ended.
    pub reloads: [(&'static str, u64); 2],
}

/// Renders the reports of all shards that answered.
#[must_use]
pub fn render(reports: &[ShardReport], process: &Process) -> String {
    let Process { shards, uptime, .. } = *process;
    let mut sum = Counters::default();
    for counters in reports.iter().filter_map(|report| report.counters.as_deref()) {
        sum.merge(counters);
    }
    let mut out = Text(String::with_capacity(8192));
    out.one("uptime_seconds", "gauge", "Time since start.", uptime.as_secs_f64());
    out.one("shards", "gauge", "Shards of this process.", shards);
    out.one("shards_answered", "gauge", "Shards in this answer.", reports.len());
    per_shard(&mut out, reports);
    memory(&mut out, reports, process);
    let dropped = reports.iter().map(|report| report.control_dropped).sum::<u64>();
    let help = "Control messages between shards dropped because their queue was full.";
    out.one("control_dropped_total", "counter", help, dropped);
    let nudges = "Sleeps of a shard's executor that had to be ended from outside.";
    out.one("nudges_total", "counter", nudges, process.nudges);
    let streams: usize = reports.iter().map(|report| report.streams.len()).sum();
    out.one("streams", "gauge", "Streams with a publisher.", streams);
    out.family("viewers", "gauge", "Viewers by protocol.");
    let mut viewers = super::Viewers::default();
    for audience in reports.iter().flat_map(|report| &report.audiences) {
        viewers.add(&audience.viewers);
    }
    for proto in VIEWER_PROTOCOLS {
        out.sample("viewers", &[("proto", proto)], viewers.of(proto));
    }
    let statuses = || reports.iter().flat_map(|report| &report.streams).flat_map(|s| &s.forwards);
    out.family("forwards", "gauge", "Forwards of live streams, by state.");
    for state in ["resting", "connecting", "live", "waiting"] {
        let count = statuses().filter(|status| status.state == state).count();
        out.sample("forwards", &[("state", state)], count);
    }
    let rate = statuses().map(|status| status.bits_per_second).sum::<u64>();
    out.one("forward_bits_per_second", "gauge", "What forwards send.", rate);
    totals(&mut out, &sum);
    packets(&mut out, &sum.packets);
    recordings(&mut out, &sum.recordings, process);
    access(&mut out, &sum.auth);
    out.family("events_total", "counter", "Event callbacks, by what became of them.");
    for (outcome, count) in process.events {
        out.sample("events_total", &[("outcome", outcome)], count);
    }
    out.family("reloads_total", "counter", "Reloads of the files, by how they ended.");
    for (outcome, count) in process.reloads {
        out.sample("reloads_total", &[("outcome", outcome)], count);
    }
    out.summary(
        "ingest_to_socket_seconds",
        "From the last byte of a frame to the end of its fan-out on a shard.",
        &sum.ingest_to_socket,
    );
    out.summary("shard_turn_seconds", "One turn of a shard's loop.", &sum.turn);
    let late = "How much later than due a shard looked at its deadlines.";
    out.summary("shard_tick_late_seconds", late, &sum.tick_late);
    out.0
}

fn per_shard(out: &mut Text, reports: &[ShardReport]) {
    type Pick = fn(&ShardReport) -> u64;
    let gauges: [(&str, &str, Pick); 2] = [
        ("connections", "Open connections.", |report| report.connections as u64),
        ("merge_window_microseconds", "Merge window in force.", |report| report.window_us),
    ];
    for (name, help, pick) in gauges {
        out.family(name, "gauge", help);
        for report in reports {
            out.sample(name, &[("shard", &report.shard.0.to_string())], pick(report));
        }
    }
    out.family("ring_media_messages_total", "counter", "Media messages between shards.");
    for report in reports {
        for (to, count) in report.ring_messages.iter().enumerate() {
            if to != report.shard.index() {
                let (from, to) = (report.shard.0.to_string(), to.to_string());
                out.sample("ring_media_messages_total", &[("from", &from), ("to", &to)], count);
            }
        }
    }
}

fn memory(out: &mut Text, reports: &[ShardReport], process: &Process) {
    out.family("mem_bytes", "gauge", "Where the memory is; adds up to about the resident size.");
    let sum = |pick: fn(&super::Memory) -> usize| {
        reports.iter().map(|report| pick(&report.memory)).sum::<usize>()
    };
    let classes = [
        ("logs", sum(|memory| memory.logs)),
        ("wires", sum(|memory| memory.wires)),
        ("segments", sum(|memory| memory.segments)),
        ("connections", sum(|memory| memory.connections)),
        ("pending", sum(|memory| memory.pending)),
    ];
    out.sample("mem_bytes", &[("class", "base")], process.base_bytes);
    out.sample("mem_bytes", &[("class", "free")], process.heap_free_bytes);
    out.sample("mem_bytes", &[("class", "log")], super::log::kept_bytes());
    for (class, bytes) in classes {
        out.sample("mem_bytes", &[("class", class)], bytes);
    }
    out.one("resident_bytes", "gauge", "Resident size of the process.", process.resident_bytes);
}

fn totals(out: &mut Text, sum: &Counters) {
    let counters = [
        ("accepted_total", "Connections accepted.", sum.accepted),
        ("bytes_in_total", "Bytes from peers.", sum.bytes_in),
        ("bytes_out_total", "Bytes to peers.", sum.bytes_out),
        ("pull_attempts_total", "Times a source was to be fetched.", sum.pull_attempts),
        ("forward_attempts_total", "Times a target was dialled.", sum.forward_attempts),
        ("edge_not_found_total", "Streams no origin has.", sum.edge_not_found),
        ("frames_in_total", "Frames from publishers.", sum.frames_in),
        ("time_breaks_total", "Publisher time jumps bridged.", sum.bridged),
        ("frames_nudged_total", "Frames moved to keep a track monotonic.", sum.nudged),
        ("panics_total", "Panics caught around connections.", sum.panics),
        ("sends_total", "Sends of the fan-out.", sum.sends),
        ("sends_blocked_total", "Sends a socket did not take whole.", sum.sends_blocked),
        ("flushes_total", "Batches of the fan-out.", sum.flushes),
        ("log_lines_dropped_total", "Log lines dropped.", super::log::dropped()),
    ];
    for (name, help, value) in counters {
        out.one(name, "counter", help, value);
    }
    out.family("dropped_total", "counter", "What was not passed on, by reason.");
    for reason in DropReason::ALL {
        out.sample("dropped_total", &[("reason", reason.label())], sum.drops(reason));
    }
    out.family("closed_total", "counter", "Connections ended, by protocol and reason.");
    for ((proto, reason), count) in &sum.closed {
        out.sample("closed_total", &[("proto", proto), ("reason", reason)], count);
    }
    out.family("pull_failures_total", "counter", "Sources that failed or ended, by reason.");
    for (reason, count) in &sum.pull_failures {
        out.sample("pull_failures_total", &[("reason", reason)], count);
    }
    out.family("forward_failures_total", "counter", "Targets that failed or ended, by reason.");
    for (reason, count) in &sum.forward_failures {
        out.sample("forward_failures_total", &[("reason", reason)], count);
    }
    out.family("turned_away_total", "counter", "Connections turned away at accept.");
    for (reason, count) in &sum.turned_away {
        out.sample("turned_away_total", &[("reason", reason)], count);
    }
}

fn packets(out: &mut Text, sum: &Statistics) {
    let rows = [
        ("received", sum.received),
        ("lost", sum.given_up),
        ("late", sum.late),
        ("reordered", sum.reordered),
        ("duplicate", sum.duplicates),
        ("malformed", sum.malformed_payloads),
        ("wrong_payload_type", sum.wrong_payload_type),
    ];
    let help = "RTP packets of publishers; lost ones are those not waited for any longer.";
    out.family("rtp_packets_total", "counter", help);
    for (what, count) in rows {
        out.sample("rtp_packets_total", &[("what", what)], count);
    }
    let help = "Frames not passed on because a packet of them, or a picture they need, was lost.";
    out.one("rtp_frames_discarded_total", "counter", help, sum.discarded_frames);
}

fn recordings(out: &mut Text, counts: &Counts, process: &Process) {
    let rows = [
        ("record_streams", "gauge", "Streams that are being recorded.", counts.streams),
        ("record_queue_bytes", "gauge", "Media that waits for the disk.", counts.queue_bytes),
        ("record_bytes_total", "counter", "Bytes recorded.", counts.bytes),
        ("record_fragments_total", "counter", "Fragments recorded.", counts.fragments),
        ("record_pieces_total", "counter", "Pieces begun.", counts.pieces),
        ("record_recovered_total", "counter", "Pieces made whole at start.", process.recovered),
        ("record_deleted_total", "counter", "Pieces deleted by age or size.", process.deleted),
    ];
    for (name, kind, help, value) in rows {
        out.one(name, kind, help, value);
    }
    out.family("record_gaps_total", "counter", "Gaps in recordings, by reason.");
    for reason in GapReason::ALL {
        out.sample("record_gaps_total", &[("reason", reason.label())], counts.gaps(reason));
    }
}

fn access(out: &mut Text, counts: &AccessCounts) {
    let help = "Decisions on who may do what, by role, outcome and reason.";
    out.family("auth_decisions_total", "counter", help);
    for (role, outcome, why, count) in counts.decisions() {
        let labels = [("role", role.name()), ("outcome", outcome), ("reason", why)];
        out.sample("auth_decisions_total", &labels, count);
    }
    let help = "Questions about permission without an answer, by cause.";
    out.family("auth_unanswered_total", "counter", help);
    for (cause, count) in counts.causes() {
        out.sample("auth_unanswered_total", &[("cause", cause.label())], count);
    }
    let help = "Exchanges with the authorisation server.";
    out.summary("auth_exchange_seconds", help, &counts.exchanges);
    let rows = [
        ("auth_rechecks_total", "counter", "Running sessions judged again.", counts.rechecks),
        ("auth_waiting", "gauge", "Who waits for the authorisation server.", counts.waiting as u64),
        (
            "auth_paused_shards",
            "gauge",
            "Shards that leave the authorisation server alone because it does not answer.",
            counts.paused as u64,
        ),
    ];
    for (name, kind, help, value) in rows {
        out.one(name, kind, help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_be_injected() {
        let mut text = Text(String::new());
        text.sample("x", &[("l", "a\"b\\c\nd")], 1);
        assert_eq!(text.0, "smart_rtmpd_x{l=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
