//! The load generator: thousands of viewers on one thread, and what they cost the server.
//!
//! A viewer is watched by epoll until its first media. Then it is visited fifty times a second
//! (`--visit-ms`) and throws away what has come, so that no wake-up of the load disturbs what is measured; probes
//! stay with epoll, since they measure latency.

use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::args::Args;
use crate::checker::Findings;
use crate::cost::Edge;
use crate::link::tls_config;
use crate::machine::{self, Pids};
use crate::rtp_play::Arrivals;
use crate::sys::{self, Epoll, monotonic_ns};
use crate::target::Target;
use crate::viewer::{Bench, Care, Viewer};
use crate::{Outcome, report};

/// A viewer without a byte for so long has stalled.
const STALL_NS: u64 = 2_000_000_000;
const ACKNOWLEDGE_NS: u64 = 10_000_000_000;
const MS: u64 = 1_000_000;
const SECOND: f64 = 1e9;

/// What the command line says.
struct Options {
    url: String,
    target: Target,
    viewers: usize,
    streams: usize,
    join_rate: f64,
    join_timeout: f64,
    seconds: f64,
    warmup: f64,
    probes: usize,
    pids: Pids,
    integrity: bool,
    slow_percent: f64,
    slow_rate: f64,
    /// Milliseconds from one visit of a viewer to the next.
    visit_ms: usize,
}

impl Options {
    fn take(args: &mut Args) -> Outcome<Self> {
        let url: String = args.need("url")?;
        if let Some(cpu) = args.take_maybe("cpu")? {
            sys::pin(cpu)?;
        }
        let bytes_per_second = args.take("bitrate", 2000.0)? * 1000.0 / 8.0;
        Ok(Self {
            target: Target::parse(&url)?,
            url,
            viewers: args.take("viewers", 1)?,
            streams: args.take("streams", 1)?.max(1),
            join_rate: args.take("join-rate", 500.0)?,
            join_timeout: args.take("join-timeout", 60.0)?,
            seconds: args.take("seconds", 20.0)?,
            warmup: args.take("warmup", 2.0)?,
            probes: args.take("probes", 20)?,
            pids: Pids::parse(&args.take("server-pid", String::new())?)?,
            integrity: args.flag("client-integrity"),
            slow_percent: args.take("slow-percent", 0.0)?,
            slow_rate: args.take("slow-factor", 0.5)? * bytes_per_second,
            visit_ms: args.take("visit-ms", 20)?.max(1),
        })
    }

    /// Half of the probes join before the crowd and half behind it; slow viewers are spread.
    fn care(&self, index: usize) -> Care {
        let first = self.probes.div_ceil(2);
        if index < first || index + (self.probes - first) >= self.viewers {
            return Care::Probes;
        }
        let share = |count: usize| (count as f64 * self.slow_percent / 100.0) as usize;
        if share(index + 1) > share(index) {
            Care::Slow(self.slow_rate)
        } else if self.integrity {
            Care::Checks
        } else {
            Care::Discards
        }
    }
}

/// All viewers and how they do.
struct Crowd {
    options: Options,
    tls: Arc<ClientConfig>,
    epoll: Epoll,
    bench: Bench,
    viewers: Vec<Option<Viewer>>,
    /// Viewers by the millisecond of their visit.
    visits: Vec<Vec<usize>>,
    visited_ms: u64,
    /// Viewers in the epoll set whose joining is not over.
    joining: usize,
    joined: usize,
    failed: usize,
    lost: usize,
    slow_lost: usize,
    stalls: usize,
    received: u64,
    first_fault: Option<String>,
}

/// What there was at one end of the measuring window.
struct Counts {
    cost: Edge,
    received: u64,
    /// Datagrams the kernel of this machine could not deliver, to whomever.
    undelivered: u64,
    stalls: usize,
}

/// Runs the load and prints its row.
///
/// # Errors
/// An option is wrong, or nobody could join.
pub fn run(args: &mut Args) -> Outcome<()> {
    let options = Options::take(args)?;
    let sink = args.sink()?;
    sys::raise_descriptor_limit();
    let resident_before = options.pids.resident_kib();
    let descriptors_before = options.pids.descriptors();
    let mut crowd = Crowd {
        tls: tls_config()?,
        epoll: Epoll::new()?,
        bench: Bench::default(),
        viewers: Vec::with_capacity(options.viewers),
        visits: vec![Vec::new(); options.visit_ms],
        visited_ms: monotonic_ns() / MS,
        options,
        joining: 0,
        joined: 0,
        failed: 0,
        lost: 0,
        slow_lost: 0,
        stalls: 0,
        received: 0,
        first_fault: None,
    };
    crowd.join()?;
    crowd.run_for(crowd.options.warmup)?;
    let resident_after = crowd.options.pids.resident_kib();
    crowd.bench.findings.latency.reset();
    crowd.bench.arrivals = Arrivals::default();
    let before = crowd.counts();
    crowd.run_for(crowd.options.seconds)?;
    let after = crowd.counts();
    let mut row = crowd.figures(&before, &after);
    let per_viewer =
        |kib: u64| (kib as f64 - resident_before as f64) / crowd.options.viewers.max(1) as f64;
    let memory = json!({
        "rss_before_kib": resident_before,
        "rss_after_kib": resident_after,
        "rss_end_kib": crowd.options.pids.resident_kib(),
        "rss_kib_per_viewer": report::round(per_viewer(resident_after)),
        "descriptors_before": descriptors_before,
        "descriptors": crowd.options.pids.descriptors(),
        "server_alive": crowd.options.pids.alive(),
    });
    report::merge(&mut row, memory);
    sink.put(row)?;
    match crowd.joined {
        0 => Err(format!("nobody got media: {:?}", crowd.first_fault).into()),
        _ => Ok(()),
    }
}

impl Crowd {
    /// Connects everybody at the asked rate and waits for their first media.
    fn join(&mut self) -> Outcome<()> {
        let began = monotonic_ns();
        let deadline = began + (self.options.join_timeout * SECOND) as u64;
        while monotonic_ns() < deadline {
            let passed = (monotonic_ns() - began) as f64 / SECOND;
            let due = (passed * self.options.join_rate) as usize + 1;
            while self.viewers.len() < due.min(self.options.viewers) {
                self.connect(self.viewers.len());
            }
            self.turn()?;
            if self.viewers.len() == self.options.viewers && self.joining == 0 {
                break;
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) {
        let care = self.options.care(index);
        let stream = index % self.options.streams;
        let viewer = Viewer::connect(&self.options.target, &self.tls, stream, care, monotonic_ns());
        let added = viewer.and_then(|viewer| {
            viewer.watch(&self.epoll, index as u64)?;
            Ok(viewer)
        });
        match added {
            Ok(viewer) => {
                self.joining += 1;
                self.viewers.push(Some(viewer));
            }
            Err(error) => {
                self.failed += 1;
                self.first_fault.get_or_insert(error.to_string());
                self.viewers.push(None);
            }
        }
    }

    fn run_for(&mut self, seconds: f64) -> Outcome<()> {
        let end = monotonic_ns() + (seconds * SECOND) as u64;
        while monotonic_ns() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// One round of the loop: what epoll reports, then the visits that are due.
    fn turn(&mut self) -> Outcome<()> {
        let mut ready = Vec::new();
        self.epoll.wait(1, |event| ready.push(event))?;
        for event in ready {
            self.on_ready(event.token as usize, event.writable);
        }
        let now_ms = monotonic_ns() / MS;
        let visit_ms = self.options.visit_ms;
        let from = self.visited_ms.max(now_ms.saturating_sub(visit_ms as u64));
        for slot in from..now_ms {
            let slot = slot as usize % visit_ms;
            for position in 0..self.visits[slot].len() {
                self.visit(self.visits[slot][position]);
            }
        }
        self.visited_ms = now_ms;
        Ok(())
    }

    fn on_ready(&mut self, index: usize, writable: bool) {
        let Some(viewer) = &mut self.viewers[index] else { return };
        let was_joining = viewer.first_media_ns.is_none();
        let before = viewer.received;
        let result = if writable { viewer.flush() } else { Ok(()) }
            .and_then(|()| viewer.receive(&mut self.bench, monotonic_ns));
        self.received += viewer.received - before;
        if let Err(error) = result {
            return self.drop_viewer(index, &error.to_string());
        }
        if was_joining && viewer.first_media_ns.is_some() {
            self.joining -= 1;
            self.joined += 1;
            self.visits[index % self.options.visit_ms].push(index);
        }
        if viewer.first_media_ns.is_some() && viewer.care != Care::Probes {
            viewer.unwatch(&self.epoll);
        } else if writable && !viewer.wants_write() {
            let _ = self.epoll.modify(viewer.fd(), index as u64, false);
        } else if viewer.wants_write() {
            let _ = self.epoll.modify(viewer.fd(), index as u64, true);
        }
    }

    fn visit(&mut self, index: usize) {
        let Some(viewer) = &mut self.viewers[index] else { return };
        let before = viewer.received;
        let now = monotonic_ns();
        let mut result = viewer.acknowledge(now, ACKNOWLEDGE_NS);
        if result.is_ok() && viewer.care != Care::Probes {
            result = viewer.receive(&mut self.bench, monotonic_ns);
        }
        self.received += viewer.received - before;
        let silent = now.saturating_sub(viewer.last_bytes_ns) > STALL_NS;
        if silent && !viewer.stalled && !matches!(viewer.care, Care::Slow(_)) {
            viewer.stalled = true;
            self.stalls += 1;
        }
        if let Err(error) = result {
            self.drop_viewer(index, &error.to_string());
        }
    }

    fn drop_viewer(&mut self, index: usize, fault: &str) {
        let Some(viewer) = self.viewers[index].take() else { return };
        viewer.unwatch(&self.epoll);
        if viewer.first_media_ns.is_none() {
            self.joining -= 1;
            self.failed += 1;
        } else if matches!(viewer.care, Care::Slow(_)) {
            self.slow_lost += 1;
        } else {
            self.lost += 1;
        }
        self.first_fault.get_or_insert(fault.to_owned());
    }

    fn counts(&self) -> Counts {
        let cost = Edge::now(&self.options.pids);
        let undelivered = machine::undelivered_datagrams();
        Counts { cost, received: self.received, undelivered, stalls: self.stalls }
    }

    fn figures(&self, before: &Counts, after: &Counts) -> Value {
        let firsts = |pick: fn(&Viewer) -> Option<u64>| {
            let viewers = self.viewers.iter().flatten();
            let times = viewers.filter_map(|v| Some((pick(v)? - v.began_ns) / 1000));
            report::distribution_ms(times)
        };
        let mut row = after.cost.since(&before.cost, after.received - before.received);
        let seen = json!({
            "kind": "load",
            "url": self.options.url,
            "viewers": self.options.viewers,
            "joined": self.joined,
            "failed": self.failed,
            "never": self.joining,
            "lost": self.lost,
            "stalls": after.stalls - before.stalls,
            "stalls_total": after.stalls,
            "first_fault": self.first_fault,
            "latency_ms": report::histogram_ms(&self.bench.findings.latency),
            "first_media_ms": firsts(|viewer| viewer.first_media_ns),
            "first_video_ms": firsts(|viewer| viewer.first_video_ns),
            "checked": findings(&self.bench.findings),
            "slow": findings(&self.bench.slow),
            "slow_lost": self.slow_lost,
        });
        report::merge(&mut row, seen);
        if self.options.target.is_datagrams() {
            let datagrams = json!({
                "packets": self.bench.arrivals.packets,
                "packets_lost": self.bench.arrivals.lost,
                "undelivered": after.undelivered - before.undelivered,
            });
            report::merge(&mut row, json!({ "datagrams": datagrams }));
        }
        row
    }
}

fn findings(found: &Findings) -> Value {
    json!({
        "frames": found.frames,
        "damaged": found.damaged,
        "backwards": found.backwards,
        "bad_starts": found.bad_starts,
        "jumps": found.jumps,
        "skipped": found.skipped,
        "broken_jumps": found.broken_jumps,
        "audio_gaps": found.audio_gaps,
    })
}
