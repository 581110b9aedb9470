//! Hands memory that a burst of work has left free back to the system.

/// After a first start most of what was allocated is free again, yet still counted as ours: glibc
/// keeps it until asked. Other allocators see to it themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's own call; it takes and gives no pointer")]
pub fn give_back() {
    // SAFETY: thread-safe by its documentation; memory in use is not touched.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
