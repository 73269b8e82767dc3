//! The first bytes of a packet, without a helper.
//!
//! A call and its return cost more than the copy, and of a TCP segment, whose payload lies elsewhere, the helper gathers pieces.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use datapath_common::logic::headers::{Headers, ROOM, ethertype};

/// Ethernet, IPv4 without options, and the first 20 bytes of what it carries: all that is looked at of a packet that is not
/// longer in one piece, as TCP's segments are.
const SHORT: usize = 54;

/// Copies the headers of a packet that has an Ethernet header, as many of them as lie together; 0 where those are too few.
#[inline(always)]
pub(super) fn copy(skb: *mut __sk_buff, headers: &mut Headers) -> u32 {
    // SAFETY: the context is valid while the program runs.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    let to = headers.bytes.as_mut_ptr();
    // SAFETY: so many bytes are there, which the verifier sees, and there is room for them.
    unsafe {
        if data + ROOM <= end {
            copy_short(data, to);
            copy_rest(data, to);
            return ROOM as u32;
        }
        if data + SHORT <= end {
            copy_short(data, to);
            if headers.ethertype() == ethertype::IPV4 {
                return SHORT as u32;
            }
        }
    }
    0
}

/// In pieces as the headers are aligned: a word that is read later was written at once, which a CPU has ready.
#[inline(always)]
unsafe fn copy_short(data: usize, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        to.cast::<u16>().write(load16::<0>(data));
        to.add(2).cast::<u32>().write(load32::<2>(data));
        to.add(6).cast::<u64>().write(load64::<6>(data));
        to.add(14).cast::<u64>().write(load64::<14>(data));
        to.add(22).cast::<u64>().write(load64::<22>(data));
        to.add(30).cast::<u64>().write(load64::<30>(data));
        to.add(38).cast::<u64>().write(load64::<38>(data));
        to.add(46).cast::<u64>().write(load64::<46>(data));
    }
}

#[inline(always)]
unsafe fn copy_rest(data: usize, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        to.add(54).cast::<u64>().write(load64::<54>(data));
        to.add(62).cast::<u64>().write(load64::<62>(data));
        to.add(70).cast::<u64>().write(load64::<70>(data));
        to.add(78).cast::<u16>().write(load16::<78>(data));
    }
}

/// A word of the packet, wherever it lies: the compiler would put one that may not be aligned together from bytes.
macro_rules! load {
    ($name:ident, $word:ty, $size:literal) => {
        #[inline(always)]
        unsafe fn $name<const AT: i16>(data: usize) -> $word {
            let word: u64;
            // SAFETY: the caller's; the verifier checks it.
            unsafe {
                asm!(
                    concat!("{word} = *(", $size, " *)({data} + {at})"),
                    word = lateout(reg) word,
                    data = in(reg) data,
                    at = const AT,
                    options(readonly, nostack, preserves_flags),
                );
            }
            word as $word
        }
    };
}

load!(load16, u16, "u16");
load!(load32, u32, "u32");
load!(load64, u64, "u64");
