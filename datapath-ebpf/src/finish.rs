//! Where every path ends: the verdict becomes a return code, and a drop is counted and reported.

use core::{mem::size_of_val, ptr};

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers,
};
use datapath_common::{
    abi::{Address, Program, Settings},
    logic::{headers::ETHERNET, parse::parse},
    path::{Bare, Outcome, Packet, Readable, Scratch, Tables, Verdict, next_hop},
};

use crate::{
    log,
    maps::Maps,
    packet::{
        Skb,
        look_up::{AF_INET, AF_INET6, words},
        xdp::Xdp,
    },
};

/// Which way a hook looks. `bpf_redirect_peer` only works inwards: from egress the packet would vanish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Ingress,
    Egress,
}

/// What `skb->cb[0]` holds after a run, for tests.
#[repr(u32)]
enum Left {
    ToEndpoint = 2,
    ToHost = 3,
    ToLoopback = 4,
    ToUplink = 5,
    Reflected = 6,
    Consumed = 7,
    Dropped = 8,
    ToBridge = 9,
    ToStation = 10,
}

/// Carries the outcome out.
#[inline(always)]
pub fn finish(packet: &mut Skb, outcome: Outcome, scratch: &Scratch, program: Program, hook: Hook) -> i32 {
    let Scratch { headers, parsed, .. } = scratch;
    match outcome {
        // Never TC_ACT_OK: that would silence the programs of others on this hook.
        Ok(Verdict::Pass) => TC_ACT_UNSPEC,
        Ok(Verdict::ToEndpoint(ifindex)) => {
            log::sent(program, packet.ifindex(), parsed);
            packet.leave(Left::ToEndpoint as u32, ifindex, 0);
            to_endpoint(packet, ifindex, hook)
        }
        Ok(Verdict::ToStation(ifindex)) => {
            packet.leave(Left::ToStation as u32, ifindex, 0);
            mark(packet);
            // Not to the peer, which would take the frame for its own host's.
            redirect(ifindex, 0)
        }
        Ok(Verdict::ToHost(ifindex)) => {
            packet.leave(Left::ToHost as u32, ifindex, 0);
            unmark(packet);
            redirect(ifindex, BPF_F_INGRESS as u64)
        }
        Ok(Verdict::ToBridge(ifindex)) => {
            packet.leave(Left::ToBridge as u32, ifindex, 0);
            mark(packet);
            redirect(ifindex, BPF_F_INGRESS as u64)
        }
        Ok(Verdict::ToLoopback(ifindex)) => {
            packet.leave(Left::ToLoopback as u32, ifindex, 0);
            unmark(packet);
            redirect(ifindex, BPF_F_INGRESS as u64)
        }
        Ok(Verdict::ToUplink(ifindex)) => {
            log::sent(program, packet.ifindex(), parsed);
            packet.leave(Left::ToUplink as u32, ifindex, headers.next_hop);
            mark(packet);
            to_neighbour(ifindex, next_hop::address(&Maps, headers.next_hop as u8, &parsed.key.destination))
        }
        Ok(Verdict::Reflected) => {
            let ifindex = packet.ifindex();
            packet.leave(Left::Reflected as u32, ifindex, 0);
            mark(packet);
            redirect(ifindex, 0)
        }
        Ok(Verdict::Consumed) => {
            packet.leave(Left::Consumed as u32, 0, 0);
            TC_ACT_SHOT
        }
        Err(reason) => {
            log::dropped(program, packet.ifindex(), parsed, reason);
            packet.leave(Left::Dropped as u32, 0, reason as u32);
            Maps.record_drop(reason, parsed, program, packet.ifindex(), packet.length());
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn to_endpoint(packet: &mut Skb, ifindex: u32, hook: Hook) -> i32 {
    if hook == Hook::Ingress {
        packet.set_for_host();
        // SAFETY: the helper checks its arguments.
        return unsafe { helpers::bpf_redirect_peer(ifindex, 0) as i32 };
    }
    mark(packet);
    redirect(ifindex, 0)
}

/// Out of this device to a neighbour; to the one that the host's routes name, where `next_hop` does not.
#[inline(always)]
fn to_neighbour(ifindex: u32, next_hop: Option<Address>) -> i32 {
    let Some(address) = next_hop else {
        // SAFETY: without parameters the kernel asks its routes.
        return unsafe { helpers::bpf_redirect_neigh(ifindex, ptr::null_mut(), 0, 0) as i32 };
    };
    let neighbour = if address.is_v4() {
        [AF_INET as u32, address.v4_word(), 0, 0, 0]
    } else {
        let [a, b, c, d] = words(&address);
        [AF_INET6 as u32, a, b, c, d]
    };
    // SAFETY: laid out as `bpf_redir_neigh`, which the helper only reads.
    unsafe {
        helpers::bpf_redirect_neigh(
            ifindex,
            (&raw const neighbour).cast_mut().cast(),
            size_of_val(&neighbour) as i32,
            0,
        ) as i32
    }
}

#[inline(always)]
fn redirect(ifindex: u32, flags: u64) -> i32 {
    // SAFETY: the helper checks its arguments.
    unsafe { helpers::bpf_redirect(ifindex, flags) as i32 }
}

/// Marks the packet as judged, for the guards at the egress hooks.
#[inline(always)]
fn mark(packet: &mut Skb) {
    let mark = packet.mark() | Maps.setting32(core::mem::offset_of!(Settings, mark));
    packet.set_mark(mark);
}

/// The host's stack must not carry our mark on to another device.
#[inline(always)]
fn unmark(packet: &mut Skb) {
    let mark = packet.mark() & !Maps.setting32(core::mem::offset_of!(Settings, mark));
    packet.set_mark(mark);
}

/// Carries the outcome of the XDP program out, which passes or drops.
#[inline(always)]
pub fn finish_guarded(packet: &mut Xdp, outcome: Outcome, scratch: &mut Scratch) -> u32 {
    let Err(reason) = outcome else {
        Maps.count_guarded(None);
        return xdp_action::XDP_PASS;
    };
    Maps.count_guarded(Some(reason));
    if Maps.has_ticked(reason)
        && let Some(now) = Maps.event_due(reason)
    {
        let Scratch { headers, parsed, .. } = scratch;
        // Most are dropped before more is read than who sent them. What else is wrong with one is not what it is dropped for.
        if packet.read_headers(ETHERNET, headers) {
            let _ = parse(packet, headers, parsed);
        }
        Maps.tell_drop(now, reason, parsed, Program::Guard, packet.ifindex(), packet.whole_length());
    }
    xdp_action::XDP_DROP
}
