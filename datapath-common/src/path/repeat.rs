//! Loops whose body the verifier walks once, however often it runs.

/// One round of [`Repeat::repeat`]: 0 to go on, 1 to end. Which round it is means nothing to any body.
pub type LoopBody<S> = extern "C" fn(round: u64, state: *mut S) -> u64;

/// What can run such a loop. In the kernel it is bpf_loop (Linux 5.17): written as a loop, the longer ones would exceed the
/// verifier's million instructions.
pub trait Repeat {
    /// Calls `body` up to `times` times, until it says that this was the last.
    fn repeat<S>(&self, times: u32, state: &mut S, body: LoopBody<S>) {
        for round in 0..times {
            if body(round.into(), state) != 0 {
                break;
            }
        }
    }
}
