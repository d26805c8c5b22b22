//! What the kernel says of the machine: file systems and interfaces.

// Raw calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes of the file system a path is in, and those that may still be written there; `None` if the
/// path is not there. May wait for a disk.
#[must_use]
pub fn disk_bytes(path: &Path) -> Option<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero is a valid statvfs to be filled in.
    let mut info: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: path and struct live for the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut info) } != 0 {
        return None;
    }
    Some((info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize))
}

/// Name and address of all network interfaces, loopback included; empty when they cannot be read.
#[must_use]
pub fn interfaces() -> Vec<(String, IpAddr)> {
    let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes one list head, which is freed below with its own function.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut entry = head;
    while !entry.is_null() {
        // SAFETY: the list is owned by this function until freeifaddrs; nodes are well formed.
        let node = unsafe { &*entry };
        entry = node.ifa_next;
        if node.ifa_addr.is_null() || node.ifa_name.is_null() {
            continue;
        }
        // SAFETY: a non-null address starts with its family, which says which struct it is.
        let address = unsafe {
            match i32::from((*node.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let v4 = &*node.ifa_addr.cast::<libc::sockaddr_in>();
                    IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    let v6 = &*node.ifa_addr.cast::<libc::sockaddr_in6>();
                    IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
                }
                _ => continue,
            }
        };
        // SAFETY: a non-null name ends with a zero byte and lives as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        found.push((name.to_string_lossy().into_owned(), address));
    }
    // SAFETY: the head came from getifaddrs and no reference into the list is left.
    unsafe { libc::freeifaddrs(head) };
    found
}
