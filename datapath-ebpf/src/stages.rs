//! Stages as global functions.
use aya_ebpf::bindings::__sk_buff;
use datapath_common::{abi::FlowEnd, path::{Packed, Scratch, stages}};

use crate::{maps::Maps, packet::Skb};

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stage_follow(skb: *mut __sk_buff, scratch: *mut Scratch, endpoint: u32, generation: u32) -> u64 {
    if scratch.is_null() {
        return u64::MAX;
    }
    // SAFETY: checked.
    let scratch = unsafe { &mut *scratch };
    let mut packet = Skb::lacking(skb, scratch.headers.missing);
    let packed = stages::follow(&mut packet, &Maps, scratch, FlowEnd { endpoint, generation });
    scratch.headers.missing = packet.missing();
    packed.word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stage_answer(skb: *mut __sk_buff, scratch: *mut Scratch, told: u32, too_big: u32) -> u64 {
    if scratch.is_null() {
        return u64::MAX;
    }
    // SAFETY: checked.
    let scratch = unsafe { &mut *scratch };
    let mut packet = Skb::lacking(skb, scratch.headers.missing);
    let packed = stages::answer(&mut packet, &Maps, scratch, told, too_big != 0);
    scratch.headers.missing = packet.missing();
    packed.word()
}

pub fn from_word(word: u64) -> Packed {
    Packed::from_word(word)
}
