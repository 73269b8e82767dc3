//! The door to packet memory at an XDP hook: what can be read of a frame before there is a socket buffer.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{bindings::xdp_md, helpers};
use datapath_common::{
    abi::Address,
    logic::headers::{ETHERNET, Headers, Lead, ROOM, ethertype},
    path::{Bare, Readable},
};

use super::clamped;

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

    /// A word of the first piece, which must be known to be that long: the verifier refuses a program that has not looked.
    ///
    /// # Safety
    /// The word is inside. It need not be aligned: this machine loads words from anywhere.
    #[inline(always)]
    unsafe fn word<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: the caller's.
        unsafe { ptr::read((self.bounds().0 + offset) as *const T) }
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
        let to = headers.bytes.as_mut_ptr();
        if start + ROOM <= end {
            headers.length = ROOM as u32;
            // SAFETY: so many bytes are there, as the verifier has seen, and so many fit. The room begins two bytes before a
            // multiple of 8, and this machine loads words from anywhere.
            unsafe { copy_headers(start as *const u8, to) };
            return true;
        }
        let available = clamped::<ETHERNET, { ROOM as u32 }>(headers.packet_length);
        headers.length = available;
        // SAFETY: `available` bytes fit.
        unsafe { self.load_bytes(0, to, available) }
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
        let (first, last) = unsafe { (self.word::<u32>(0), self.word::<u16>(4)) };
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
            match u16::from_be(self.word(12)) {
                ethertype::IPV4 => Lead::V4(self.word(26)),
                ethertype::IPV6 if start + ETHERNET as usize + 40 <= end => {
                    Lead::V6(Address { words: [self.word(22), self.word(30)] })
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

/// Copies [`ROOM`] bytes, in words that are aligned where they go to.
///
/// # Safety
/// So many bytes can be read and written there.
#[inline(always)]
unsafe fn copy_headers(from: *const u8, to: *mut u8) {
    const { assert!(ROOM == 80) };
    // SAFETY: the caller's. 2 + 4 + 9 times 8 + 2 bytes.
    unsafe {
        ptr::write(to.cast::<u16>(), ptr::read(from.cast::<u16>()));
        ptr::write(to.add(2).cast::<u32>(), ptr::read(from.add(2).cast::<u32>()));
        let mut at = 6;
        while at < ROOM - 2 {
            ptr::write(to.add(at).cast::<u64>(), ptr::read(from.add(at).cast::<u64>()));
            at += 8;
        }
        ptr::write(to.add(at).cast::<u16>(), ptr::read(from.add(at).cast::<u16>()));
    }
}
