//! What the kernel is asked about a packet: the host's routes and sockets.

use core::{
    mem::{MaybeUninit, offset_of, size_of},
    ptr,
};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_SKIP_NEIGH, BPF_FIB_LOOKUP_SRC,
        bpf_fib_lookup, bpf_sock_tuple,
    },
    helpers,
};
use datapath_common::{
    abi::{Address, FlowKey, Settings},
    logic::parse::protocol,
    path::{Route, Tables, next_hop},
};

use super::Skb;
use crate::{log, maps::Maps};

/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;
pub const AF_INET: u8 = 2;
pub const AF_INET6: u8 = 10;

/// Makes a plain C structure of words all zeroes. Volatile, as the compiler would call a memset that goes byte by byte.
///
/// # Safety
/// All zeroes must be a valid value.
#[inline(always)]
unsafe fn zeroed<T>(room: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) };
    let words: *mut u32 = room.as_mut_ptr().cast();
    let mut word = 0;
    while word < size_of::<T>() / 4 {
        // SAFETY: inside the room, and aligned.
        unsafe { ptr::write_volatile(words.add(word), 0) };
        word += 1;
    }
    // SAFETY: every byte is written, and the caller knows that zeroes will do.
    unsafe { room.assume_init_mut() }
}

impl Skb {
    /// [`Packet::route`]: asks the host's routes.
    #[inline(never)]
    pub(super) fn look_up_route(&self, answers: &FlowKey, ifindex: u32, source: Option<&mut Address>) -> Route {
        let mut room = MaybeUninit::uninit();
        // SAFETY: all zeroes is a valid value of this plain C struct.
        let lookup: &mut bpf_fib_lookup = unsafe { zeroed(&mut room) };
        let v4 = answers.source.is_v4();
        lookup.family = if v4 { AF_INET } else { AF_INET6 };
        lookup.l4_protocol = answers.protocol;
        lookup.sport = answers.destination_port;
        lookup.dport = answers.source_port;
        lookup.ifindex = ifindex;
        // The kernel tells the MTU only to those who name a length.
        lookup.__bindgen_anon_1.tot_len = 1;
        if v4 {
            lookup.__bindgen_anon_3.ipv4_src = answers.destination.v4_word();
            lookup.__bindgen_anon_4.ipv4_dst = answers.source.v4_word();
        } else {
            lookup.__bindgen_anon_3.ipv6_src = words(&answers.destination);
            lookup.__bindgen_anon_4.ipv6_dst = words(&answers.source);
        }
        let (mut flags, mut told) = (0, None);
        if Maps.setting32(offset_of!(Settings, fib_source)) != 0 {
            // Without looking for the neighbour, the kernel tells the MTU also where that is not resolved yet.
            flags = BPF_FIB_LOOKUP_SKIP_NEIGH;
            if source.is_some() {
                flags |= BPF_FIB_LOOKUP_SRC;
            }
            told = source;
        }
        // SAFETY: the struct is initialised, and its size is given.
        let result =
            unsafe { helpers::bpf_fib_lookup(self.skb.cast(), lookup, size_of::<bpf_fib_lookup>() as i32, flags) }
                as u32;
        log::remember(|seen| {
            seen.routes_asked += 1;
            seen.route_result = result;
            seen.route_ifindex = lookup.ifindex;
        });
        // An unresolved neighbour is resolved by the redirect.
        if result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH {
            return Route::NONE;
        }
        // SAFETY: both views of the unions are plain words, and all were initialised.
        unsafe {
            if let Some(source) = told {
                *source = if v4 {
                    Address::from_v4_word(lookup.__bindgen_anon_3.ipv4_src)
                } else {
                    address(lookup.__bindgen_anon_3.ipv6_src)
                };
            }
            let mtu = lookup.__bindgen_anon_1.mtu_result as u32;
            // Where it is no gateway, it is the destination still; packets of IPv4 may have one of IPv6.
            let next_hop = if lookup.family == AF_INET {
                Address::from_v4_word(lookup.__bindgen_anon_4.ipv4_dst)
            } else {
                address(lookup.__bindgen_anon_4.ipv6_dst)
            };
            let number = next_hop::number(&Maps, &answers.source, &next_hop);
            Route::new(lookup.ifindex, if mtu > 1 { mtu } else { 0 }).by(number)
        }
    }

    /// [`Packet::host_socket`]: asks the host's sockets.
    #[inline(never)]
    pub(super) fn look_up_socket(&self, key: &FlowKey) -> bool {
        let mut room = MaybeUninit::uninit();
        // SAFETY: all zeroes is a valid value of this plain C union.
        let tuple: &mut bpf_sock_tuple = unsafe { zeroed(&mut room) };
        let size = if key.source.is_v4() {
            // SAFETY: plain words.
            let v4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
            v4.saddr = key.source.v4_word();
            v4.daddr = key.destination.v4_word();
            v4.sport = key.source_port;
            v4.dport = key.destination_port;
            12
        } else {
            // SAFETY: plain words.
            let v6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
            v6.saddr = words(&key.source);
            v6.daddr = words(&key.destination);
            v6.sport = key.source_port;
            v6.dport = key.destination_port;
            36
        };
        // SAFETY: the tuple is initialised; a socket that is found is released.
        unsafe {
            let socket = match key.protocol {
                protocol::TCP => helpers::bpf_skc_lookup_tcp(self.skb.cast(), tuple, size, CURRENT_NETNS, 0),
                protocol::UDP => helpers::bpf_sk_lookup_udp(self.skb.cast(), tuple, size, CURRENT_NETNS, 0),
                _ => return false,
            };
            if socket.is_null() {
                return false;
            }
            helpers::bpf_sk_release(socket.cast());
            true
        }
    }
}

/// An address of IPv6 as the kernel has it in memory.
#[inline(always)]
pub fn words(address: &Address) -> [u32; 4] {
    let [high, low] = address.words;
    [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
}

#[inline(always)]
fn address(words: [u32; 4]) -> Address {
    let [a, b, c, d] = words;
    Address { words: [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32] }
}
