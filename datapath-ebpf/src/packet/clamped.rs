//! Lengths within bounds that the verifier sees.

/// `length`, but at least `LEAST` and at most `MOST`. Reading more than there is fails in the helper.
///
/// In assembly for Linux 6.1: the compiler compares one register and passes a copy of it, and that verifier neither
/// carries bounds over copies of 32 bits nor learns from `!= 0`.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(super) fn clamped<const LEAST: u32, const MOST: u32>(length: u32) -> u32 {
    let mut clamped = length as u64;
    // SAFETY: touches the one register only, and the jumps stay inside.
    unsafe {
        core::arch::asm!(
            "if {length} > {most} goto +3",
            "if {length} > {below} goto +3",
            "{length} = {least}",
            "goto +1",
            "{length} = {most}",
            length = inout(reg) clamped,
            least = const LEAST,
            most = const MOST,
            below = const LEAST - 1,
            options(pure, nomem, nostack),
        );
    }
    clamped as u32
}

#[cfg(not(target_arch = "bpf"))]
pub(super) fn clamped<const LEAST: u32, const MOST: u32>(length: u32) -> u32 {
    length.clamp(LEAST, MOST)
}
