//! What a stretch of time cost: CPU seconds of the server, of this program and of everything else.

use serde_json::{Value, json};

use crate::machine::{self, Pids};
use crate::report::round;
use crate::sys::monotonic_ns;

/// Counters at one end of a measuring window.
#[derive(Debug)]
pub struct Edge {
    at_ns: u64,
    server_cpu: f64,
    own_cpu: f64,
    machine_cpu: f64,
}

impl Edge {
    /// As of now.
    pub fn now(server: &Pids) -> Self {
        Self {
            at_ns: monotonic_ns(),
            server_cpu: server.cpu_seconds(),
            own_cpu: machine::own_cpu_seconds(),
            machine_cpu: machine::machine_cpu_seconds(),
        }
    }

    /// The figures of the time since an earlier edge, in which so many bytes were delivered.
    pub fn since(&self, before: &Self, delivered_bytes: u64) -> Value {
        let seconds = self.seconds_since(before);
        let server_cpu = self.server_cpu - before.server_cpu;
        let own_cpu = self.own_cpu - before.own_cpu;
        let machine_cpu = self.machine_cpu - before.machine_cpu;
        let gigabytes = delivered_bytes as f64 / 1e9;
        json!({
            "seconds": round(seconds),
            "delivered_bytes": delivered_bytes,
            "mbit_per_s": round(gigabytes * 8e3 / seconds),
            "server_cpu_s": round(server_cpu),
            "load_cpu_s": round(own_cpu),
            "server_share": round(server_cpu / seconds),
            "load_share": round(own_cpu / seconds),
            "other_cpus": round((machine_cpu - server_cpu - own_cpu) / seconds),
            "cpu_s_per_gb": round(server_cpu / gigabytes),
            "cpu_s_per_gb_with_load": round((server_cpu + own_cpu) / gigabytes),
        })
    }

    /// Seconds since an earlier edge.
    pub fn seconds_since(&self, before: &Self) -> f64 {
        (self.at_ns - before.at_ns) as f64 / 1e9
    }

    /// CPU seconds of the server since an earlier edge.
    pub fn server_cpu_since(&self, before: &Self) -> f64 {
        self.server_cpu - before.server_cpu
    }
}
