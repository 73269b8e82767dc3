//! Loops by bpf_loop.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers;
use datapath_common::path::{LoopBody, Repeat};

use crate::{
    maps::Maps,
    packet::{Skb, xdp::Xdp},
};

impl Repeat for Maps {
    #[inline(always)]
    fn repeat<S>(&self, times: u32, state: &mut S, body: LoopBody<S>) {
        // SAFETY: the callback has the signature that bpf_loop calls, and the state lives as long as the loop.
        unsafe { helpers::bpf_loop(times, body as *mut c_void, ptr::from_mut(state).cast(), 0) };
    }
}

impl Repeat for Skb {
    #[inline(always)]
    fn repeat<S>(&self, times: u32, state: &mut S, body: LoopBody<S>) {
        Maps.repeat(times, state, body);
    }
}

impl Repeat for Xdp {
    #[inline(always)]
    fn repeat<S>(&self, times: u32, state: &mut S, body: LoopBody<S>) {
        Maps.repeat(times, state, body);
    }
}
