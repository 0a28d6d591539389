//! Limits on the memory that the allocator keeps.
//!
//! A refresh or the load of a cache needs several times the memory that its result does, for a moment. glibc
//! keeps most of that (measured with 100,000 entries: 110 MiB after a start instead of 55).

/// glibc returns a freed block larger than this to the kernel at once. By default it raises this limit to the
/// largest block that was ever freed, up to 32 MiB.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: i32 = 128 << 10;

/// Has the allocator keep no large block. nix has no `mallopt`, hence libc.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "only the C library can configure its allocator")]
pub(crate) fn keep_no_large_block() {
    // SAFETY: it sets numbers of the allocator under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        // If memory is locked, only the first arena returns any.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free memory to the kernel. nix has no `malloc_trim`, hence libc.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "only the C library can release what its allocator keeps")]
pub(crate) fn trim() {
    // SAFETY: it touches no memory in use, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}

/// Only glibc has this setting.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_no_large_block() {}

/// Other C libraries keep little memory.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
