//! The door to packet memory at an XDP hook: what can be read of a frame before there is a socket buffer.

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::xdp_md, helpers};
use datapath_common::{
    abi::Address,
    logic::headers::{ETHERNET, Headers, Lead, ROOM, ethertype},
    path::{Bare, Readable},
};

use super::{
    clamped,
    headers::{self, load16, load32, load64},
};

/// A frame at an XDP hook, perhaps in several pieces (`xdp.frags`).
pub struct Xdp {
    context: *mut xdp_md,
}

impl Xdp {
    #[inline(always)]
    pub const fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }

    /// Where the first piece begins and ends.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context is valid while the program runs; the verifier checks the fields.
        unsafe { ((*self.context).data as usize, (*self.context).data_end as usize) }
    }

    /// Reads `length` bytes from `offset` on; false when there are not so many.
    ///
    /// # Safety
    /// There is room for so many.
    #[inline(always)]
    unsafe fn load_bytes(&self, offset: u32, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller's; the helper checks the frame's side.
        unsafe { helpers::bpf_xdp_load_bytes(self.context, offset, to.cast(), length) == 0 }
    }
}

impl Readable for Xdp {
    #[inline(always)]
    fn read_headers(&mut self, _: u32, headers: &mut Headers) -> bool {
        let (start, end) = self.bounds();
        headers.packet_length = (end - start) as u32;
        if headers::copy(start, end, headers) {
            return true;
        }
        let available = clamped::<ETHERNET, { ROOM as u32 }>(headers.packet_length);
        headers.length = available;
        // SAFETY: `available` bytes fit.
        unsafe { self.load_bytes(0, headers.bytes.as_mut_ptr(), available) }
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // Nothing to be zeroed: that would be a memset that goes byte by byte.
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: `N` bytes fit, and all are written where it succeeds. Where it fails, nobody reads them.
        unsafe {
            let there = self.load_bytes(offset, bytes.as_mut_ptr().cast(), N as u32);
            there.then(|| bytes.assume_init())
        }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as in `bounds`.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        0
    }
}

impl Bare for Xdp {
    #[inline(always)]
    fn destination(&self) -> u64 {
        let (start, end) = self.bounds();
        if start + ETHERNET as usize > end {
            return 0;
        }
        // SAFETY: inside the header, of which all is there.
        let (first, last) = unsafe { (load32::<0>(start), load16::<4>(start)) };
        if cfg!(target_endian = "little") {
            first as u64 | (last as u64) << 32
        } else {
            (first as u64) << 32 | (last as u64) << 16
        }
    }

    #[inline(always)]
    fn lead(&self) -> Lead {
        let (start, end) = self.bounds();
        if start + ETHERNET as usize + 20 > end {
            return Lead::Other;
        }
        // SAFETY: what is read of each header is there.
        unsafe {
            match u16::from_be(load16::<12>(start)) {
                ethertype::IPV4 => Lead::V4(load32::<26>(start)),
                ethertype::IPV6 if start + ETHERNET as usize + 40 <= end => {
                    Lead::V6(Address { words: [load64::<22>(start), load64::<30>(start)] })
                }
                _ => Lead::Other,
            }
        }
    }

    #[inline(always)]
    fn whole_length(&self) -> u32 {
        // SAFETY: the helper takes the context.
        unsafe { helpers::bpf_xdp_get_buff_len(self.context) as u32 }
    }
}
