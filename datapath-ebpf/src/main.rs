//! The BPF programs. Each is one line here: which hook, which direction, which path of `datapath_common::path`.
//!
//! [`packet`] and [`maps`] are the doors to packet memory and to the maps; [`finish`] turns an outcome into what the
//! kernel does; [`log`] tells what the slow path did. All decisions are in `datapath-common`, where they run natively too.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics, asm_experimental_arch))]
#![cfg_attr(target_arch = "bpf", allow(internal_features, reason = "atomics are intrinsics on this target"))]
#![allow(missing_docs, reason = "the classifier macro makes functions of its own beside the documented ones")]

mod finish;
mod log;
mod maps;
mod packet;
mod repeat;
mod stages;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use datapath_common::{
    abi::Program,
    path::{self, Outcome, Scratch},
};
use finish::{Hook, finish, finish_guarded};
use maps::Maps;
use packet::{Skb, xdp::Xdp};

/// Everything a container sends: ingress of its host-side veth.
#[classifier]
pub fn from_container(context: TcContext) -> i32 {
    run(context, Program::FromContainer, Hook::Ingress, path::from_container)
}

/// Everything from outside: ingress of an uplink.
#[classifier]
pub fn from_uplink(context: TcContext) -> i32 {
    run(context, Program::FromUplink, Hook::Ingress, path::from_uplink)
}

/// From the host to containers: egress of a gateway device, own or adopted.
#[classifier]
pub fn from_host(context: TcContext) -> i32 {
    run(context, Program::FromHost, Hook::Egress, path::from_host)
}

/// From the host to itself: egress of lo.
#[classifier]
pub fn from_loopback(context: TcContext) -> i32 {
    run(context, Program::FromLoopback, Hook::Egress, path::from_loopback)
}

/// Everything that leaves: egress of an uplink.
#[classifier]
pub fn to_uplink(context: TcContext) -> i32 {
    run(context, Program::ToUplink, Hook::Egress, path::to_uplink)
}

/// Everything that reaches a container: egress of its host-side veth.
#[classifier]
pub fn to_container(context: TcContext) -> i32 {
    run(context, Program::ToContainer, Hook::Egress, path::to_container)
}

/// Everything that an adopted bridge hands up to the host: its ingress.
#[classifier]
pub fn to_host(context: TcContext) -> i32 {
    run(context, Program::ToHost, Hook::Ingress, path::to_host)
}

/// Everything from outside, before there is a socket buffer: XDP of an uplink, in its driver.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    // An array has all its entries.
    let Some(scratch) = Maps::blank_scratch(Program::Guard) else {
        return xdp_action::XDP_ABORTED;
    };
    let mut packet = Xdp::new(context.ctx);
    let outcome = path::guard(&mut packet, &Maps, scratch);
    finish_guarded(&mut packet, outcome, scratch)
}

/// Takes one packet its way.
#[inline(always)]
fn run(
    context: TcContext,
    program: Program,
    hook: Hook,
    path: impl FnOnce(&mut Skb, &Maps, &mut Scratch) -> Outcome,
) -> i32 {
    // An array has all its entries.
    let Some(scratch) = Maps::blank_scratch(program) else {
        return TC_ACT_SHOT;
    };
    let mut packet = Skb::new(context.skb.skb, program);
    let outcome = path(&mut packet, &Maps, scratch);
    finish(&mut packet, outcome, scratch, program, hook)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers these programs call are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
