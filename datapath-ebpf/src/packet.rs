//! The door to packet memory: [`Packet`] for a socket buffer; [`xdp`] has the frame before there is one.
//!
//! [`headers`] copies the first bytes where they lie. All else goes through helpers that take offsets, so that no pointer into a
//! packet is kept, and none can be stale.

mod checksum;
mod clamped;
mod headers;
pub mod look_up;
pub mod xdp;

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers,
};
use clamped::clamped;
use datapath_common::{
    abi::{Address, DropReason, FRAGMENT_ROOM, FlowEnd, FlowKey, Mutant, Program, Settings},
    logic::{
        headers::{ETHERNET, Headers, ROOM},
        message::{HEADER, Message, QUOTED_V6},
        parse::Parsed,
    },
    path::{Checksum, Packed, Packet, Readable, Route, Scratch, Tables},
};

use crate::{maps::Maps, stages};

/// What a network card has summed of the packet is kept right (CHECKSUM_COMPLETE).
const RECOMPUTE: u64 = BPF_F_RECOMPUTE_CSUM as u64;
/// Packet type of what is for this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
/// Packet type of what is for another machine.
const PACKET_OTHERHOST: u32 = 3;
/// Packet type of the host's own copy of a group packet. No device gives it to what it receives (eth_type_trans).
const PACKET_LOOPBACK: u32 = 5;

/// The socket buffer at a tc hook.
pub struct Skb {
    pub skb: *mut __sk_buff,
    /// The program whose packet it is. A word, for the verifier forgets what is in the halves of one.
    pub program: u64,
    /// How many bytes of Ethernet header the packet lacks: 14 on devices without.
    pub missing: u32,
}

impl Skb {
    #[inline(always)]
    pub const fn new(skb: *mut __sk_buff, program: Program) -> Self {
        Self { skb, program: program as u64, missing: 0 }
    }

    #[inline(always)]
    pub fn length(&self) -> u32 {
        // SAFETY: the context is valid while the program runs; the verifier checks the field.
        unsafe { (*self.skb).len }
    }

    /// Leaves what was decided where BPF_PROG_TEST_RUN can read it.
    #[inline(always)]
    pub fn leave(&mut self, verdict: u32, ifindex: u32, reason: u32) {
        // SAFETY: as in `length`; `cb` is the program's to write.
        unsafe {
            (*self.skb).cb[0] = verdict;
            (*self.skb).cb[1] = ifindex;
            (*self.skb).cb[2] = reason;
        }
    }

    /// Makes the packet one for the host it goes to, whatever device took it (before Linux 6.15 a redirect to a peer
    /// kept the type, and the peer's stack drops what is not for it).
    #[inline(always)]
    pub fn set_for_host(&mut self) {
        // SAFETY: as in `length`; the helper checks its arguments.
        unsafe {
            if (*self.skb).pkt_type != PACKET_HOST {
                helpers::bpf_skb_change_type(self.skb, PACKET_HOST);
            }
        }
    }

    #[inline(always)]
    fn write_headers(&mut self, headers: &Headers, length: u32, flags: u64) -> Result<(), DropReason> {
        // SAFETY: the callers' constant lengths are within the room; what belongs behind a missing header is as long
        // as that is shorter.
        let failed = unsafe {
            if self.missing != 0 {
                let from = headers.bytes.as_ptr().add(ETHERNET as usize);
                helpers::bpf_skb_store_bytes(self.skb.cast(), 0, from.cast(), length - ETHERNET, flags)
            } else {
                helpers::bpf_skb_store_bytes(self.skb.cast(), 0, headers.bytes.as_ptr().cast(), length, flags)
            }
        };
        if failed == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
    }

    #[inline(always)]
    fn copy_to(&mut self, ifindex: u32, mark: u32, flags: u64) {
        self.set_mark(mark);
        // SAFETY: the helper checks its arguments. A copy that finds no memory is a lost broadcast.
        unsafe { helpers::bpf_clone_redirect(self.skb, ifindex, flags) };
    }
}

impl Readable for Skb {
    #[inline(always)]
    fn read_headers(&mut self, link_header: u32, headers: &mut Headers) -> bool {
        let length = self.length();
        if link_header == 0 {
            self.missing = ETHERNET;
            // SAFETY: as in `length`. The protocol is in wire order.
            let protocol = unsafe { (*self.skb).protocol } as u16;
            headers.lack_link_header(protocol);
            let available = clamped::<1, { ROOM as u32 - ETHERNET }>(length);
            // SAFETY: `available` bytes fit behind the 14 that are missing.
            let failed = unsafe {
                helpers::bpf_skb_load_bytes(
                    self.skb.cast(),
                    0,
                    headers.bytes.as_mut_ptr().add(ETHERNET as usize).cast(),
                    available,
                )
            };
            headers.length = available + ETHERNET;
            headers.packet_length = length + ETHERNET;
            return failed == 0;
        }
        headers.packet_length = length;
        // SAFETY: as in `length`.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        if headers::copy(start, end, headers) {
            return true;
        }
        let available = clamped::<ETHERNET, { ROOM as u32 }>(length);
        // SAFETY: `available` bytes fit.
        let failed =
            unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), 0, headers.bytes.as_mut_ptr().cast(), available) };
        headers.length = available;
        failed == 0
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        // Nothing to be zeroed: that would be a memset that goes byte by byte.
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: `N` bytes fit; the helper checks the packet's side.
        let failed = unsafe {
            helpers::bpf_skb_load_bytes(
                self.skb.cast(),
                offset.wrapping_sub(self.missing),
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        // SAFETY: the helper writes all of them, or zeroes where it fails.
        (failed == 0).then_some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).gso_size }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason> {
        // SAFETY: `N` bytes are there; the helper checks the packet's side.
        let failed = unsafe {
            helpers::bpf_skb_store_bytes(
                self.skb.cast(),
                offset.wrapping_sub(self.missing),
                bytes.as_ptr().cast(),
                N as u32,
                0,
            )
        };
        if failed == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
    }

    #[inline(always)]
    fn store_headers(&mut self, headers: &Headers, length: u32) -> Result<(), DropReason> {
        self.write_headers(headers, length, 0)
    }

    #[inline(always)]
    fn mend_checksum(&mut self, checksum: &Checksum) -> Result<(), DropReason> {
        if Maps.mutant(Mutant::ChecksumSkipped) { Ok(()) } else { checksum::mend(self, checksum) }
    }

    #[inline(always)]
    fn resize(&mut self, length: u32) -> Result<(), DropReason> {
        // SAFETY: the helper checks its arguments.
        let failed = unsafe { helpers::bpf_skb_change_tail(self.skb, length, 0) };
        if failed == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
    }

    #[inline(always)]
    fn quote(&self, message: &mut Message) -> bool {
        let length = clamped::<1, QUOTED_V6>(message.quoted);
        let (at, to) = (ETHERNET - self.missing, message.quotation().as_mut_ptr());
        // SAFETY: so many bytes fit.
        unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), at, to.cast(), length) == 0 }
    }

    /// A packet whose checksum a device is to complete stays one when its bytes are replaced, and the device would write
    /// into them. The kernel forgets about it when the header that has the checksum is pulled (skb_postpull_rcsum; since
    /// Linux 6.1.5, commit 54c3f1a81421): so the packet is first made longer by that, which also ends its segmentation,
    /// and then that is cut out.
    #[inline(always)]
    fn become_message(&mut self, parsed: &Parsed, headers: &Headers, header_length: u32, message: &Message) -> bool {
        let length = clamped::<1, { HEADER + QUOTED_V6 }>(message.length());
        let message_at = header_length - self.missing;
        let mut pulled = (parsed.transport_offset as u32 & !3) + 4;
        if Maps.mutant(Mutant::ErrorsUnfinished) {
            pulled = 4;
        }
        if self.resize(message_at + length + pulled).is_err() {
            return false;
        }
        let bytes = message.bytes().as_ptr().cast();
        // SAFETY: the helpers check their arguments; so many bytes are there.
        unsafe {
            helpers::bpf_skb_adjust_room(self.skb, -(pulled as i32), BPF_ADJ_ROOM_MAC, 0) == 0
                && helpers::bpf_skb_store_bytes(self.skb.cast(), message_at, bytes, length, RECOMPUTE) == 0
                && self.write_headers(headers, header_length, RECOMPUTE).is_ok()
        }
    }

    #[inline(always)]
    fn add_link_header(&mut self) -> Result<(), DropReason> {
        if self.missing != 0 {
            // SAFETY: the helper checks its arguments.
            if unsafe { helpers::bpf_skb_change_head(self.skb, ETHERNET, 0) } != 0 {
                return Err(DropReason::WriteFailed);
            }
            self.missing = 0;
        }
        Ok(())
    }

    #[inline(always)]
    fn save(&self, room: &mut [u8; FRAGMENT_ROOM]) -> u32 {
        let link_header = ETHERNET - self.missing;
        let length = self.length() - link_header;
        if length > FRAGMENT_ROOM as u32 {
            return 0;
        }
        let length = clamped::<1, { FRAGMENT_ROOM as u32 }>(length);
        // SAFETY: `length` bytes fit.
        let failed =
            unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), link_header, room.as_mut_ptr().cast(), length) };
        if failed == 0 { length } else { 0 }
    }

    #[inline(always)]
    fn replace(&mut self, saved: &[u8; FRAGMENT_ROOM], length: u32) -> Result<(), DropReason> {
        let link_header = ETHERNET - self.missing;
        self.resize(link_header + length)?;
        let length = clamped::<1, { FRAGMENT_ROOM as u32 }>(length);
        // SAFETY: `length` bytes were saved. A sum that the device has made of the packet begins where they do.
        let failed = unsafe {
            helpers::bpf_skb_store_bytes(
                self.skb,
                link_header,
                saved.as_ptr().cast(),
                length,
                BPF_F_RECOMPUTE_CSUM as u64,
            )
        };
        if failed == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
    }

    #[inline(always)]
    fn come_in_again(&mut self) {
        let ifindex = self.ifindex();
        // SAFETY: the helper checks its arguments. A copy that finds no memory is a lost packet.
        unsafe { helpers::bpf_clone_redirect(self.skb, ifindex, BPF_F_INGRESS as u64) };
    }

    #[inline(always)]
    fn copy_to_endpoint(&mut self, ifindex: u32) {
        let mark = self.mark() | Maps.setting32(core::mem::offset_of!(Settings, mark));
        self.copy_to(ifindex, mark, 0);
    }

    #[inline(always)]
    fn copy_to_host(&mut self, ifindex: u32, marked: bool) {
        let ours = Maps.setting32(core::mem::offset_of!(Settings, mark));
        let mark = if marked { self.mark() | ours } else { self.mark() & !ours };
        self.copy_to(ifindex, mark, BPF_F_INGRESS as u64);
    }

    #[inline(always)]
    fn entered_by(&self) -> u32 {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u16> {
        // SAFETY: as in `length`.
        unsafe { ((*self.skb).vlan_present != 0).then(|| (*self.skb).vlan_tci as u16 & 0xfff) }
    }

    #[inline(always)]
    fn remove_tag(&mut self) -> Result<(), DropReason> {
        // SAFETY: the helper checks its arguments.
        if unsafe { helpers::bpf_skb_vlan_pop(self.skb) } == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
    }

    #[inline(always)]
    fn is_for_another(&self) -> bool {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).pkt_type == PACKET_OTHERHOST }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).mark }
    }

    #[inline(always)]
    fn set_mark(&mut self, mark: u32) {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).mark = mark }
    }

    #[inline(always)]
    fn is_looped_back(&self) -> bool {
        // SAFETY: as in `length`.
        unsafe { (*self.skb).pkt_type == PACKET_LOOPBACK }
    }

    #[inline(always)]
    fn route(&self, answers: &FlowKey, ifindex: u32, source: Option<&mut Address>) -> Route {
        self.look_up_route(answers, ifindex, source)
    }

    #[inline(always)]
    fn host_socket(&self, key: &FlowKey) -> bool {
        self.look_up_socket(key)
    }

    #[inline(always)]
    fn follow_flow<T: Tables>(&mut self, _: &T, _: &mut Scratch, sender: FlowEnd) -> Packed {
        let Self { skb, program, missing } = *self;
        Packed::from_word(stages::follow_flow(skb, program, missing, sender.endpoint, sender.generation))
    }

    #[inline(always)]
    fn follow_error<T: Tables>(&mut self, _: &T, _: &mut Scratch, sender: FlowEnd) -> Packed {
        let Self { skb, program, missing } = *self;
        Packed::from_word(stages::follow_error(skb, program, missing, sender.endpoint, sender.generation))
    }

    #[inline(always)]
    fn answer<T: Tables>(&mut self, _: &T, _: &mut Scratch, told: u32, too_big: bool) -> Packed {
        let Self { skb, program, missing } = *self;
        Packed::from_word(stages::answer(skb, program, missing, told, too_big as u32))
    }
}
