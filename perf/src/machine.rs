//! What the kernel says about processes and the machine, from `/proc`.

use std::fs;

/// Clock ticks per second of `/proc`; fixed in the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_KIB: u64 = 4;

/// The processes of one server.
#[derive(Debug, Clone, Default)]
pub struct Pids(Vec<u32>);

impl Pids {
    /// From `1,2,3`.
    ///
    /// # Errors
    /// One of them is no number.
    pub fn parse(text: &str) -> Result<Self, std::num::ParseIntError> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// CPU seconds so far, user and system, all threads.
    pub fn cpu_seconds(&self) -> f64 {
        self.0.iter().map(|pid| cpu_seconds(&pid.to_string())).sum()
    }

    /// Resident size in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.0.iter().map(|pid| resident_kib(*pid)).sum()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let count = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.0.iter().map(count).sum()
    }

    /// Whether all of them still run.
    pub fn alive(&self) -> bool {
        self.0.iter().all(|pid| fs::metadata(format!("/proc/{pid}/stat")).is_ok())
    }
}

/// CPU seconds of this process so far.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds("self")
}

/// CPU seconds the whole machine was busy so far.
pub fn machine_cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    // user, nice, system, -, -, irq, softirq; idle, waiting and stolen time are not busy.
    [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum::<f64>() / TICKS_PER_SECOND
}

/// Datagrams that arrived in this network and found no room in their socket, or no socket, so far.
pub fn undelivered_datagrams() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let named = names.split_whitespace().zip(values.split_whitespace());
    let wanted = named.filter(|(name, _)| matches!(*name, "NoPorts" | "InErrors"));
    wanted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn cpu_seconds(pid: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command may hold anything, so the fields count from its closing bracket.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.flat_map(str::parse::<f64>).sum::<f64>() / TICKS_PER_SECOND
}

fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_KIB
}

/// Kernel, processor and memory in one line.
pub fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let processors = read("/proc/cpuinfo");
    let mut models = processors.lines().filter(|line| line.starts_with("model name"));
    let count = models.clone().count();
    let model = models.next().and_then(|line| line.split_once(": ")).map_or("?", |part| part.1);
    let memory = read("/proc/meminfo");
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let gib = kib.unwrap_or(0) >> 20;
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    format!("{count} x {model}, {gib} GiB, Linux {}, tcp {}", kernel.trim(), congestion.trim())
}
