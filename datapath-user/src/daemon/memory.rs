//! The daemon's own memory. It needs much more while it starts than ever after: the object is parsed and relocated, maps and devices
//! are read.

/// Has all threads allocate from one arena: in several, what was freed lies about in each. To be called while there is one thread.
pub fn share_one_arena() {
    // SAFETY: a call without pointers, and nobody allocates meanwhile.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives what was freed back to the kernel: the allocator keeps it otherwise, for needs that do not come again.
pub fn give_back() {
    // SAFETY: a call without pointers, that any thread may make at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
