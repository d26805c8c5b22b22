//! Before the first shard: raises limits, probes io_uring, chooses the CPUs; says what to do.

#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::config::model::Cores;

/// Locked memory one shard needs for its rings.
const MEMLOCK_PER_SHARD: u64 = 512 << 10;
/// Descriptors of the process itself, and of each shard: rings, poller, listeners, reserve.
const OPEN_FILES_BASE: u64 = 32;
const OPEN_FILES_PER_SHARD: u64 = 24;
/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`.
const MEMBARRIER_REGISTER: libc::c_int = 16;
/// `CAP_IPC_LOCK` as a bit of the capability mask.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// Why the server does not start: what, where, and the remedy in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration or policy file was refused.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The policy asks for something this build cannot do.
    #[error("{0}")]
    Policy(String),
    /// Event callbacks cannot be sent as configured.
    #[error("events: {0}")]
    Events(String),
    /// A configured CPU is not allowed to this process.
    #[error(
        "engine/cores names CPU {cpu}, but this process may only use {}; \
         change engine/cores or the affinity (taskset, cpuset)", cpu_list(.allowed)
    )]
    CpuNotAllowed {
        /// The CPU of the list.
        cpu: usize,
        /// What the affinity mask allows.
        allowed: Vec<usize>,
    },
    /// The affinity mask could not be read.
    #[error("the CPUs this process may use cannot be read (sched_getaffinity failed)")]
    NoCpu,
    /// io_uring is switched off by the sysctl.
    #[error(
        "io_uring is switched off by kernel.io_uring_disabled={0}; \
         run sysctl kernel.io_uring_disabled=0 as root"
    )]
    IoUringDisabled(u8),
    /// io_uring is filtered.
    #[error(
        "io_uring is not permitted, most likely by a seccomp profile; with docker run \
         --security-opt seccomp=scripts/seccomp.json, with systemd allow io_uring_setup, \
         io_uring_enter and io_uring_register"
    )]
    IoUringBlocked,
    /// The kernel has no io_uring.
    #[error("this kernel has no io_uring; Linux 5.11 or newer with CONFIG_IO_URING is needed")]
    IoUringMissing,
    /// Another failure of the probe.
    #[error("io_uring cannot be set up: {0}; Linux 5.11 or newer is needed")]
    IoUring(io::Error),
    /// Too little locked memory.
    #[error(
        "locked memory is limited to {} KiB, {shards} shards need {} KiB; raise it with \
         --ulimit memlock={need} (docker), LimitMEMLOCK={need} (systemd) or ulimit -l, \
         or lower engine/cores", .have >> 10, .need >> 10
    )]
    Memlock {
        /// Bytes allowed.
        have: u64,
        /// Bytes needed.
        need: u64,
        /// Shards asked for.
        shards: usize,
    },
    /// Too few open files.
    #[error(
        "open files are limited to {have}, at least {need} are needed; raise it with \
         --ulimit nofile=65536 (docker), LimitNOFILE=65536 (systemd) or ulimit -n"
    )]
    OpenFiles {
        /// Files allowed.
        have: u64,
        /// Files needed.
        need: u64,
    },
    /// A listening socket could not be opened.
    #[error(
        "{service} cannot listen on {addr}: {source}; change {service}/ip or {service}/port{}",
        privileged(*.addr, .source)
    )]
    Bind {
        /// Section of the configuration.
        service: &'static str,
        /// Where.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody listens there already.
    #[error(
        "{service} cannot listen on {addr}, the port is in use{}; stop the other process \
         (ss -ltnp names it) or change {service}/port", taken_by(.owner)
    )]
    PortTaken {
        /// Section of the configuration.
        service: &'static str,
        /// Where.
        addr: SocketAddr,
        /// Who, if known.
        owner: Option<String>,
    },
    /// A certificate or key cannot be used.
    #[error("{0}; correct ssl/servercert and ssl/serverkey, or switch rtmp/ssl and http/ssl off")]
    Certificate(String),
    /// Signals cannot be taken.
    #[error("signals cannot be blocked: {0}")]
    Signals(io::Error),
    /// A shard did not come up.
    #[error(
        "shard {shard} did not start: {cause}; check ulimit -l and ulimit -n, or lower engine/cores"
    )]
    ShardFailed {
        /// Its number.
        shard: usize,
        /// What it said.
        cause: String,
    },
}

impl StartError {
    /// Exit code by sysexits: 78 for what the operator can set right in a file or an environment,
    /// 71 for what failed in the system, 69 for a port that is not to be had.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Policy(_)
            | Self::Events(_)
            | Self::Certificate(_)
            | Self::CpuNotAllowed { .. }
            | Self::Memlock { .. }
            | Self::OpenFiles { .. }
            | Self::IoUringDisabled(_)
            | Self::IoUringBlocked
            | Self::IoUringMissing => 78,
            Self::NoCpu | Self::Signals(_) | Self::IoUring(_) | Self::ShardFailed { .. } => 71,
            Self::Bind { .. } | Self::PortTaken { .. } => 69,
        }
    }
}

/// Descriptors that get their place in the kernel's table at the start (half a megabyte there).
const DESCRIPTORS_AT_ONCE: u64 = 65_536;

/// Raises limits, then checks what `cores_needed` shards need; call it first, in `main`.
pub fn run(cores_needed: usize) -> Result<(), StartError> {
    let open_files = raise(libc::RLIMIT_NOFILE);
    let memlock = raise(libc::RLIMIT_MEMLOCK);
    register_membarrier();
    probe_io_uring(memlock, cores_needed)?;
    check_memlock(memlock, cores_needed, may_lock_memory())?;
    let need = OPEN_FILES_BASE + OPEN_FILES_PER_SHARD * cores_needed as u64;
    if open_files < need {
        return Err(StartError::OpenFiles { have: open_files, need });
    }
    widen_descriptor_table(open_files.min(DESCRIPTORS_AT_ONCE));
    Ok(())
}

/// CPUs this process may use, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let mut cpus: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// The CPU of every shard.
pub fn place(cores: &Cores) -> Result<Vec<usize>, StartError> {
    place_on(cores, allowed_cpus())
}

fn place_on(cores: &Cores, allowed: Vec<usize>) -> Result<Vec<usize>, StartError> {
    if allowed.is_empty() {
        return Err(StartError::NoCpu);
    }
    match cores {
        Cores::Auto => Ok(allowed),
        Cores::Count(count) => Ok(allowed.into_iter().cycle().take((*count).max(1)).collect()),
        Cores::List(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(StartError::CpuNotAllowed { cpu: *cpu, allowed }),
            None => Ok(cpus.clone()),
        },
    }
}

/// Raises the soft limit to the hard one and returns what holds now.
fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable rlimit for the whole call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return u64::MAX;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: `wanted` is a live rlimit that the call only reads.
    if unsafe { libc::setrlimit(resource, &raw const wanted) } == 0 {
        limit = wanted;
    }
    limit.rlim_cur
}

/// Has the kernel make the table of descriptors as large as it will get. Each doubling of a table
/// that threads share waits for all CPUs (some 10 ms), and would stop a shard in an accept.
fn widen_descriptor_table(descriptors: u64) {
    let last = libc::c_int::try_from(descriptors.saturating_sub(1)).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers; a failure leaves the table as it is. The descriptor made here is the
    // lowest free one from `last` on and known to nobody else.
    unsafe {
        let made = libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, last);
        if made >= 0 {
            libc::close(made);
        }
    }
}

/// Registers before threads exist; later it costs 15 ms in the first sleep. Failure only costs
/// that.
fn register_membarrier() {
    // SAFETY: this membarrier command takes no pointers; flags and CPU are 0 as it demands.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_REGISTER, 0, 0) };
}

/// Sets up a small ring and closes it again.
fn probe_io_uring(memlock: u64, shards: usize) -> Result<(), StartError> {
    // `struct io_uring_params` is 120 bytes; all zero asks for the defaults.
    let mut params = [0u32; 30];
    // SAFETY: `params` is writable, zeroed and as large and aligned as the kernel's structure.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8u32, params.as_mut_ptr()) };
    if ring >= 0 {
        // SAFETY: the descriptor was just returned to us and nobody else knows it.
        unsafe { libc::close(ring as libc::c_int) };
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let disabled = disabled.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Err(explain(error, disabled, memlock, shards))
}

fn explain(error: io::Error, disabled: u8, have: u64, shards: usize) -> StartError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => StartError::IoUringDisabled(disabled),
        Some(libc::EPERM | libc::EACCES) => StartError::IoUringBlocked,
        Some(libc::ENOSYS) => StartError::IoUringMissing,
        Some(libc::ENOMEM) => {
            StartError::Memlock { have, need: MEMLOCK_PER_SHARD * shards.max(1) as u64, shards }
        }
        _ => StartError::IoUring(error),
    }
}

/// The quota counts per shard, except for a process that may lock memory without limit: the
/// executor then still demands one shard's worth.
fn check_memlock(have: u64, shards: usize, unlimited: bool) -> Result<(), StartError> {
    let counted = if unlimited { 1 } else { shards.max(1) };
    let need = MEMLOCK_PER_SHARD * counted as u64;
    if have < need {
        return Err(StartError::Memlock { have, need, shards });
    }
    Ok(())
}

fn may_lock_memory() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.unwrap_or(0) & CAP_IPC_LOCK != 0
}

fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn taken_by(owner: &Option<String>) -> String {
    owner.as_ref().map_or(String::new(), |owner| format!(" by {owner}"))
}

fn privileged(addr: SocketAddr, source: &io::Error) -> &'static str {
    let low = addr.port() < 1024 && source.kind() == io::ErrorKind::PermissionDenied;
    if low { ", ports below 1024 need CAP_NET_BIND_SERVICE" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_go_round_robin_and_only_on_allowed_cpus() {
        let on = |cores: Cores| place_on(&cores, vec![1, 3]);
        assert_eq!(on(Cores::Auto).expect("auto"), [1, 3]);
        assert_eq!(on(Cores::Count(5)).expect("count"), [1, 3, 1, 3, 1]);
        assert_eq!(on(Cores::List(vec![3])).expect("list"), [3]);
        let error = on(Cores::List(vec![3, 2])).expect_err("CPU 2 is not allowed");
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("CPU 2, but this process may only use 1,3;"));
        assert!(matches!(place_on(&Cores::Auto, vec![]), Err(StartError::NoCpu)));
    }

    #[test]
    fn this_machine_has_cpus() {
        let cpus = allowed_cpus();
        assert!(!cpus.is_empty());
        assert_eq!(place(&Cores::Auto).expect("auto"), cpus);
    }

    #[test]
    fn it_passes_here_or_says_why() {
        if let Err(error) = run(1) {
            assert!([69, 71].contains(&error.exit_code()), "{error}");
        }
        let error = check_memlock(raise(libc::RLIMIT_MEMLOCK).min(1 << 40), 1 << 30, false);
        assert!(matches!(error, Err(StartError::Memlock { .. })));
    }

    #[test]
    fn each_errno_names_its_cause_and_remedy() {
        for (errno, disabled, words, code) in [
            (libc::EPERM, 0, "seccomp=scripts/seccomp.json", 78),
            (libc::EPERM, 2, "sysctl kernel.io_uring_disabled=0", 78),
            (libc::ENOSYS, 0, "kernel has no io_uring", 78),
            (libc::ENOMEM, 0, "64 KiB, 2 shards need 1024 KiB", 78),
            (libc::EINVAL, 0, "cannot be set up", 71),
        ] {
            let error = explain(io::Error::from_raw_os_error(errno), disabled, 64 << 10, 2);
            let sentence = error.to_string();
            assert!(sentence.contains(words), "{sentence}");
            assert_eq!(error.exit_code(), code, "{sentence}");
        }
    }

    #[test]
    fn locked_memory_counts_per_shard_unless_unlimited() {
        assert!(check_memlock(8 << 20, 16, false).is_ok());
        assert!(check_memlock(8 << 20, 17, false).is_err());
        assert!(check_memlock(8 << 20, 17, true).is_ok());
        assert!(check_memlock(64 << 10, 1, true).is_err());
    }

    #[test]
    fn the_shipped_seccomp_profile_allows_what_the_probe_needs() {
        let text = include_str!("../../../scripts/seccomp.json");
        let profile: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let groups = profile["syscalls"].as_array().expect("groups");
        let names: Vec<_> =
            groups.iter().flat_map(|g| g["names"].as_array().expect("names")).collect();
        for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "membarrier"] {
            assert!(names.iter().any(|known| *known == name), "{name}");
        }
        for name in ["sched_setaffinity", "prlimit64", "accept4", "sendmsg", "ptrace", "mount"] {
            let allowed = names.iter().any(|known| *known == name);
            assert_eq!(allowed, !["ptrace", "mount"].contains(&name), "{name}");
        }
    }

    #[test]
    fn bind_errors_name_section_and_remedy() {
        let addr = "0.0.0.0:80".parse().expect("address");
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let text = StartError::Bind { service: "http", addr, source }.to_string();
        assert!(text.contains("http/port, ports below 1024"), "{text}");
        let taken = StartError::PortTaken { service: "rtmp", addr, owner: Some("x (1)".into()) };
        assert!(taken.to_string().contains("the port is in use by x (1); stop"), "{taken}");
    }
}
