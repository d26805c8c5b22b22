//! The log, the machine, and sums.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::model::{Cpu, Disk, Interface, Log, LogLine, Memory, System};
use super::page::NUMBER_MAX;
use super::problem::Problem;
use super::{Answer, Call, json};
use crate::alarm::Alarm;
use crate::net::{sys, sys_host};
use crate::observe;
use crate::observe::log::KEPT_LINES;

/// How long CPUs are looked at.
const CPU_SPAN: Duration = Duration::from_millis(200);
/// Lines of the log unless a request says otherwise.
const LINES: usize = 100;

pub(super) fn log(call: &Call<'_>) -> Result<Answer, Problem> {
    let limit = call.limit(LINES, KEPT_LINES)?;
    let from = match call.query("from") {
        None => None,
        Some(text) => match text.parse::<u64>() {
            Ok(from) if from <= NUMBER_MAX && !text.starts_with('+') => Some(from),
            _ => return Err(Problem::bad_request("from is the number of a line")),
        },
    };
    let (lines, next) = observe::log::tail(from, limit);
    let line = |(number, text): (u64, Box<str>)| LogLine { number, text: text.into_string() };
    json(&Log { lines: lines.into_iter().map(line).collect(), next })
}

pub(super) async fn statistics(call: &Call<'_>) -> Result<Answer, Problem> {
    json(&call.ctx.backend.totals().await.statistics())
}

pub(super) async fn system(call: &Call<'_>) -> Result<Answer, Problem> {
    let before = cpu_times();
    Alarm::after(CPU_SPAN).await;
    let uptime_s = call.ctx.backend.totals().await.uptime.as_secs();
    let folders = [
        ("config", call.config.base_dir.clone()),
        ("recordings", call.config.record.dir.clone()),
        ("vod", call.config.http.vod_dir.clone()),
    ];
    // A disk may be far away.
    let gather = move || {
        let disks = folders.iter().filter_map(|(name, path)| disk(name, path)).collect();
        System {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s,
            os: text("/proc/sys/kernel/osrelease"),
            architecture: std::env::consts::ARCH.to_owned(),
            load_average: load_average(&text("/proc/loadavg")),
            cpus: usage(&before, &cpu_times()),
            memory: memory(&text("/proc/meminfo")),
            disks,
            interfaces: interfaces(),
        }
    };
    json(&glommio::executor().spawn_blocking(gather).await)
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Per CPU: its number, its idle and its whole time, in ticks.
fn cpu_times() -> Vec<(u32, u64, u64)> {
    parse_cpu_times(&text("/proc/stat"))
}

fn parse_cpu_times(stat: &str) -> Vec<(u32, u64, u64)> {
    let of_line = |line: &str| {
        let (name, rest) = line.strip_prefix("cpu")?.split_once(' ')?;
        let index = name.parse().ok()?;
        let times: Vec<u64> = rest.split_whitespace().filter_map(|t| t.parse().ok()).collect();
        // User, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        let idle = times.iter().skip(3).take(2).sum();
        Some((index, idle, times.iter().take(8).sum()))
    };
    stat.lines().filter_map(of_line).collect()
}

fn usage(before: &[(u32, u64, u64)], after: &[(u32, u64, u64)]) -> Vec<Cpu> {
    let of = |(index, idle, all): &(u32, u64, u64)| {
        let (_, idle_before, all_before) = before.iter().find(|(other, ..)| other == index)?;
        let span = all.saturating_sub(*all_before);
        let idle = idle.saturating_sub(*idle_before).min(span);
        let used = if span == 0 { 0.0 } else { (span - idle) as f64 / span as f64 };
        Some(Cpu { index: *index, used: (used * 1000.0).round() / 1000.0 })
    };
    after.iter().filter_map(of).collect()
}

fn load_average(text: &str) -> [f64; 3] {
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0.0));
    [(); 3].map(|()| numbers.next().unwrap_or(0.0))
}

fn memory(meminfo: &str) -> Memory {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) << 10
    };
    Memory {
        total: kib("MemTotal"),
        available: kib("MemAvailable"),
        process: sys::resident_bytes(),
    }
}

fn disk(folder: &str, path: &Path) -> Option<Disk> {
    let (total, available) = sys_host::disk_bytes(path)?;
    Some(Disk { folder: folder.to_owned(), total, available })
}

fn interfaces() -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    for (name, address) in sys_host::interfaces() {
        let at = all.iter().position(|interface| interface.name == name);
        let at = at.unwrap_or_else(|| {
            // The name is the kernel's: no path can be in it.
            let of = |file: &str| text(&format!("/sys/class/net/{name}/{file}"));
            let count = |file: &str| of(file).parse().unwrap_or(0);
            all.push(Interface {
                mac: of("address"),
                addresses: Vec::new(),
                bytes_in: count("statistics/rx_bytes"),
                bytes_out: count("statistics/tx_bytes"),
                name: name.clone(),
            });
            all.len() - 1
        });
        all[at].addresses.push(address.to_string());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        let before = parse_cpu_times("cpu  9 9 9 9\ncpu0 100 0 100 800 0 0 0 0 0 0\nintr 1");
        let after = parse_cpu_times("cpu0 150 0 125 825 0 0 0 0 0 0\ncpu1 1 1 1 1 1 1 1 1");
        let cpus = usage(&before, &after);
        assert_eq!((cpus.len(), cpus[0].index, cpus[0].used), (1, 0, 0.75));
        assert_eq!(load_average("0.50 1.25 2 1/2 3"), [0.5, 1.25, 2.0]);
        let memory = memory("MemTotal:       1024 kB\nMemAvailable:    512 kB\n");
        assert_eq!((memory.total, memory.available), (1 << 20, 1 << 19));
        assert!(memory.process > 0);
    }

    #[test]
    fn this_machine_has_a_disk_and_an_interface() {
        let disk = disk("x", &std::env::temp_dir()).unwrap();
        assert!(disk.total >= disk.available && disk.total > 0);
        assert!(interfaces().iter().any(|i| i.addresses.contains(&"127.0.0.1".to_owned())));
    }
}
