//! A hint to the processor: what will be read soon.

// The intrinsic takes a pointer; it reads nothing that the program could notice.
#![allow(unsafe_code)]

/// Has the line of the cache that `value` begins in fetched from memory, without waiting for it.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults for no address, and this one is valid.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
