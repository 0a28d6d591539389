//! What the allocator keeps for itself. A refresh, or a cache that is read, needs many times for a moment what
//! stays of it; glibc would keep most of that for good (measured: with 100,000 entries, 110 MiB after a start in place of 55).

/// Larger blocks than this are the kernel's as soon as they are freed. Without being told, glibc raises the
/// limit to the largest block that was ever freed, up to 32 MiB.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// Tells the allocator to keep no large block.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "only the C library can set its allocator")]
pub(crate) fn keep_no_large_block() {
    // SAFETY: it sets numbers of the allocator's, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        // Of memory that is locked, only the first arena gives anything back.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what is free, between what is in use too.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "only the C library can give back what it keeps")]
pub(crate) fn give_back() {
    // SAFETY: it takes nothing that is in use, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have nothing to be told.
#[cfg(not(target_env = "gnu"))]
pub fn keep_no_large_block() {}

/// Other C libraries keep little.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
