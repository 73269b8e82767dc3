//! Stages as global functions: the verifier walks each once for every program, and what their callers know does not multiply
//! the ways through them (Linux 5.6, commit 51c39bb1d5d1).
//!
//! Beside the socket buffer they take numbers only. What was read of the packet they look up again: Linux 6.1 takes no key of
//! a map out of memory that an argument points to.

use aya_ebpf::bindings::__sk_buff;
use datapath_common::{
    abi::{DropReason, FlowEnd},
    path::{Packed, Scratch, stages},
};

use crate::{maps::Maps, packet::Skb};

/// [`stages::follow_flow`]: the packet of a program, which lacks so many bytes of link header, sent by an endpoint of this
/// generation.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn follow_flow(skb: *mut __sk_buff, program: u64, missing: u32, endpoint: u32, generation: u32) -> u64 {
    let sender = FlowEnd { endpoint, generation };
    run(Skb { skb, program, missing }, |packet, scratch| stages::follow_flow(packet, &Maps, scratch, sender))
}

/// [`stages::follow_error`]: the same.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn follow_error(skb: *mut __sk_buff, program: u64, missing: u32, endpoint: u32, generation: u32) -> u64 {
    let sender = FlowEnd { endpoint, generation };
    run(Skb { skb, program, missing }, |packet, scratch| stages::follow_error(packet, &Maps, scratch, sender))
}

/// [`stages::answer`]: the same, about a packet that is too big (1) or has no hop left (0).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer(skb: *mut __sk_buff, program: u64, missing: u32, told: u32, too_big: u32) -> u64 {
    run(Skb { skb, program, missing }, |packet, scratch| stages::answer(packet, &Maps, scratch, told, too_big != 0))
}

#[inline(always)]
fn run(mut packet: Skb, stage: impl FnOnce(&mut Skb, &mut Scratch) -> Packed) -> u64 {
    // An array has all its entries.
    let Some(scratch) = Maps::scratch(packet.program as u32) else {
        return Packed::new(Err(DropReason::WriteFailed)).word();
    };
    stage(&mut packet, scratch).word()
}
