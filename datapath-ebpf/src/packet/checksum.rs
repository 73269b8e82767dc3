//! Mending a transport checksum by what its cover changed.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers,
};
use datapath_common::{abi::DropReason, path::Checksum};

use super::Skb;

/// `BPF_F_IPV6` of `bpf_l4_csum_replace`: leave `skb->csum` alone, as the change of an IPv6 address and that of the
/// checksum that covers it cancel out (Linux 6.16, commit ead7f9b8de65).
const BPF_F_IPV6: u64 = 1 << 7;
const EINVAL: i64 = -22;

#[inline(always)]
pub(super) fn mend(packet: &mut Skb, checksum: &Checksum) -> Result<(), DropReason> {
    let offset = checksum.offset.wrapping_sub(packet.missing);
    let difference = checksum.difference.folded32();
    let mut flags = if checksum.zero_is_none { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
    if checksum.pseudo {
        flags |= BPF_F_PSEUDO_HDR as u64;
    }
    if checksum.pseudo && checksum.ipv6 {
        let mut failed = replace(packet, offset, difference, flags | BPF_F_IPV6);
        if failed == EINVAL {
            // Before 6.16 the helper also takes the difference from skb->csum; give it back.
            failed = replace(packet, offset, difference, flags);
            // SAFETY: the helper checks its arguments, and does nothing where skb->csum is not in use.
            unsafe { helpers::bpf_csum_update(packet.skb, difference) };
        }
        return if failed == 0 { Ok(()) } else { Err(DropReason::WriteFailed) };
    }
    if replace(packet, offset, difference, flags) == 0 { Ok(()) } else { Err(DropReason::WriteFailed) }
}

#[inline(always)]
fn replace(packet: &Skb, offset: u32, difference: u32, flags: u64) -> i64 {
    // SAFETY: the helper checks its arguments.
    unsafe { helpers::bpf_l4_csum_replace(packet.skb, offset, 0, difference as u64, flags) }
}
