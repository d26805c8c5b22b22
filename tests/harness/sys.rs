//! Raw system calls of the harness, and all of its `unsafe`: signals, resource limits and the
//! seccomp filter of a child.

use std::ffi::CString;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

/// Sends `signal` to one process; errors (it is gone) are the caller's to ignore.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    check(unsafe { libc::kill(pid.cast_signed(), signal) })
}

/// Sends `signal` to the process group that `pid` leads.
pub fn signal_group(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    check(unsafe { libc::kill(-pid.cast_signed(), signal) })
}

/// Ticks per second of `/proc/PID/stat`.
pub fn clock_ticks() -> u64 {
    // SAFETY: sysconf takes an integer and returns one.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Gives this thread, and the processes it starts from now on, a network of its own, without any
/// interface that is up. Only root may.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: unshare takes an integer and touches no memory of ours; sockets that are open stay.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Gives this thread, and the processes it starts from now on, `file` in the place of `target`.
/// Only root may.
pub fn replace_file(file: &Path, target: &Path) -> io::Result<()> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (file, target) = (path(file)?, path(target)?);
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings end with 0 and live for the calls; null stands for what is not used.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        // What is mounted here is nobody else's.
        check(libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()))?;
        check(libc::mount(file.as_ptr(), target.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()))
    }
}

/// Sets the receive buffer of a socket, so that the kernel does not read ahead for a slow reader.
pub fn set_receive_buffer(stream: &TcpStream, bytes: i32) {
    let size = libc::socklen_t::try_from(size_of_val(&bytes)).unwrap_or(0);
    let (fd, value) = (stream.as_raw_fd(), (&raw const bytes).cast());
    // SAFETY: pointer and size describe one live int; a refusal leaves the default.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, value, size) };
}

/// A resource limit of a child.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// `RLIMIT_MEMLOCK` in bytes, soft and hard.
    Memlock(u64),
    /// `RLIMIT_NOFILE`, soft and hard.
    Nofile(u64),
}

/// Makes the child start under `limit`.
pub fn limit(command: &mut Command, limit: Limit) {
    let (resource, value) = match limit {
        Limit::Memlock(bytes) => (libc::RLIMIT_MEMLOCK, bytes),
        Limit::Nofile(count) => (libc::RLIMIT_NOFILE, count),
    };
    let pair = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: between fork and exec the closure makes one system call on a value it owns; no
    // allocation, no lock.
    unsafe { command.pre_exec(move || check(libc::setrlimit(resource, &raw const pair))) };
}

/// Drops root's power to raise its own limits (`CAP_SYS_RESOURCE`, `CAP_IPC_LOCK`) in the child.
pub fn drop_resource_capabilities(command: &mut Command) {
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    const CAP_SYS_RESOURCE: libc::c_ulong = 24;
    let drop = || {
        for capability in [CAP_IPC_LOCK, CAP_SYS_RESOURCE] {
            // SAFETY: PR_CAPBSET_DROP takes integers only; without the right to drop there is
            // nothing to drop either, so its error does not matter.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { command.pre_exec(drop) };
}

/// Makes `io_uring_setup`, `_enter` and `_register` fail with EPERM in the child, as Docker's
/// default seccomp profile does.
pub fn deny_io_uring(command: &mut Command) {
    const LOAD_SYSCALL_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, offset 0
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        statement(LOAD_SYSCALL_NUMBER, 0, 0, 0),
        statement(JUMP_IF_AT_LEAST, 0, 2, 425),
        statement(JUMP_IF_GREATER, 1, 0, 427),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).expect("five statements"),
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: prctl with integer arguments only.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        // SAFETY: the program points at an array that outlives the call; the kernel copies it.
        check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) })
    };
    // SAFETY: between fork and exec the closure makes system calls on values it owns; no
    // allocation, no lock.
    unsafe { command.pre_exec(install) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
