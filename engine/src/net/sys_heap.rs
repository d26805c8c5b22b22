//! The allocator of the process, and what it says of itself.
//!
//! Frames are allocated at the publisher's rate and end in bursts, a whole GOP at a time; most
//! memory of a shard stays on it. jemalloc keeps sizes apart, so that a burst of ends does not walk
//! cold neighbours, and returns unused pages by the clock, from a thread of its own.

// The settings are a symbol that a C library reads, the figures are asked of it by name.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;

use tikv_jemalloc_sys::{mallctl, nallocx};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static HEAP: Jemalloc = Jemalloc;

/// Unused pages go back to the system within a second; one thread does it for all shards.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: Settings = Settings(
    c"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0"
        .as_ptr(),
);

#[repr(transparent)]
struct Settings(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

/// Heap that is resident and not in use, in bytes: what was freed and not given back yet, or kept
/// by a thread for its next call; 0 when the allocator does not say.
#[must_use]
pub fn free_bytes() -> u64 {
    // Figures are snapshots; a new epoch takes new ones.
    renew();
    let figure = |name| read_size(name).unwrap_or(0) as u64;
    // What threads keep counts as allocated. 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
    let kept = figure(c"stats.arenas.4096.tcache_bytes");
    figure(c"stats.resident").saturating_sub(figure(c"stats.allocated").saturating_sub(kept))
}

/// What an allocation of so many bytes takes: sizes are rounded up, by a tenth on average.
#[must_use]
pub fn rounded(bytes: usize) -> usize {
    // SAFETY: reads constants alone; a size of 0 is not allowed and not passed.
    unsafe { nallocx(bytes.max(1), 0) }
}

fn renew() {
    let mut epoch = 1_u64;
    // SAFETY: the option is a `u64` that is written, and nothing is read.
    unsafe {
        mallctl(
            c"epoch".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            (&raw mut epoch).cast(),
            size_of::<u64>(),
        );
    }
}

/// A figure or option of the C type `size_t` or `ssize_t`.
fn read_size(name: &CStr) -> Option<usize> {
    let (mut value, mut length) = (0_usize, size_of::<usize>());
    // SAFETY: a value of `length` bytes is written at most; one of another length is refused.
    let result = unsafe {
        let value = (&raw mut value).cast();
        mallctl(name.as_ptr(), value, &raw mut length, ptr::null_mut(), 0)
    };
    (result == 0 && length == size_of::<usize>()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_in_force() {
        assert_eq!(read_size(c"opt.dirty_decay_ms"), Some(1000));
        assert_eq!(read_size(c"opt.max_background_threads"), Some(1));
        assert_eq!(read_size(c"opt.nonsense"), None);
    }

    #[test]
    fn every_figure_is_known() {
        drop(vec![1_u8; 1000]);
        renew();
        for name in [c"stats.resident", c"stats.allocated", c"stats.arenas.4096.tcache_bytes"] {
            assert!(read_size(name).is_some_and(|bytes| bytes > 0), "{name:?}");
        }
    }

    #[test]
    fn sizes_are_rounded_up_by_a_quarter_at_most() {
        for bytes in [1000, 1024, 5000, 8193, 100_000] {
            assert!((bytes..=bytes * 5 / 4).contains(&rounded(bytes)), "{bytes}");
        }
    }

    #[test]
    fn what_is_freed_is_free() {
        // Much beside what other tests do meanwhile, in pieces that are kept for later use.
        const BYTES: u64 = 64 << 20;
        let before = free_bytes();
        let held: Vec<Vec<u8>> = (0..16).map(|_| vec![1; 4 << 20]).collect();
        let used = free_bytes();
        assert!(used < before + BYTES / 2, "in use, but counted as free: {before}, {used}");
        drop(held);
        let after = free_bytes();
        assert!(after > used + BYTES / 2, "freed, but not counted: {used}, {after}");
    }
}
