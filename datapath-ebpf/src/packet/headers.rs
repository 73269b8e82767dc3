//! The first bytes of a packet, without a helper, at both kinds of hook.
//!
//! A call and its return cost more than the copy, and of a TCP segment, whose payload lies elsewhere, the helper gathers pieces.

use datapath_common::logic::headers::{Headers, ROOM, ethertype};

/// Ethernet, IPv4 without options, and the first 20 bytes of what it carries: all that is looked at of a packet that is not
/// longer in one piece, as TCP's segments are.
const SHORT: usize = 54;

/// Copies the headers of a packet that begins with an Ethernet header, as far as its first piece goes, which lies between these
/// addresses. False where that is too short: then a helper has to read them.
#[inline(always)]
pub(super) fn copy(start: usize, end: usize, headers: &mut Headers) -> bool {
    let to = headers.bytes.as_mut_ptr();
    // SAFETY: so many bytes are there, which the verifier sees, and there is room for them.
    unsafe {
        if start + ROOM <= end {
            copy_short(start, to);
            copy_rest(start, to);
            headers.length = ROOM as u32;
            return true;
        }
        if start + SHORT <= end {
            copy_short(start, to);
            if headers.ethertype() == ethertype::IPV4 {
                headers.length = SHORT as u32;
                return true;
            }
        }
    }
    false
}

/// In words as the headers are aligned: one that is read later was written at once, which a CPU has ready.
#[inline(always)]
unsafe fn copy_short(from: usize, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        to.cast::<u16>().write(load16::<0>(from));
        to.add(2).cast::<u32>().write(load32::<2>(from));
        to.add(6).cast::<u64>().write(load64::<6>(from));
        to.add(14).cast::<u64>().write(load64::<14>(from));
        to.add(22).cast::<u64>().write(load64::<22>(from));
        to.add(30).cast::<u64>().write(load64::<30>(from));
        to.add(38).cast::<u64>().write(load64::<38>(from));
        to.add(46).cast::<u64>().write(load64::<46>(from));
    }
}

#[inline(always)]
unsafe fn copy_rest(from: usize, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        to.add(54).cast::<u64>().write(load64::<54>(from));
        to.add(62).cast::<u64>().write(load64::<62>(from));
        to.add(70).cast::<u64>().write(load64::<70>(from));
        to.add(78).cast::<u16>().write(load16::<78>(from));
    }
}

/// A word of the packet, wherever it lies: the compiler would put one that may not be aligned together from bytes.
macro_rules! load {
    ($name:ident, $word:ty, $size:literal) => {
        #[cfg(target_arch = "bpf")]
        #[inline(always)]
        pub(super) unsafe fn $name<const AT: i16>(from: usize) -> $word {
            let word: u64;
            // SAFETY: the caller's; the verifier checks it.
            unsafe {
                core::arch::asm!(
                    concat!("{word} = *(", $size, " *)({from} + {at})"),
                    word = lateout(reg) word,
                    from = in(reg) from,
                    at = const AT,
                    options(readonly, nostack, preserves_flags),
                );
            }
            word as $word
        }

        #[cfg(not(target_arch = "bpf"))]
        pub(super) unsafe fn $name<const AT: i16>(from: usize) -> $word {
            // SAFETY: the caller's.
            unsafe { ((from + AT as usize) as *const $word).read_unaligned() }
        }
    };
}

load!(load16, u16, "u16");
load!(load32, u32, "u32");
load!(load64, u64, "u64");
