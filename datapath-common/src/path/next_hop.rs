//! Next hops by number. What the kernel's routes said once a second about a flow need not be asked again for each packet.

#![expect(unsafe_code, reason = "a place of `NEXT_HOPS` is one that other CPUs write at the same time")]

use core::ptr;

use super::{Tables, slot::atomic};
use crate::abi::{Address, Mutant, NextHop, claim, next_hop};

/// One place of `NEXT_HOPS`.
#[derive(Clone, Copy, Debug)]
pub struct NextHopSlot(*mut NextHop);

impl NextHopSlot {
    /// The place at this address.
    ///
    /// # Safety
    /// `next_hop` points to a value of the `NEXT_HOPS` map, or to a [`NextHop`] that outlives the slot and is only used by slots.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(next_hop: *mut NextHop) -> Self {
        Self(next_hop)
    }

    /// The address that is there, for good, or `None` as long as there is none.
    #[inline(always)]
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        // SAFETY: the pointer is valid (`new`); the address is read after the state that says it is there.
        unsafe {
            let live = ptr::read_volatile(&raw const (*self.0).claim) == claim::LIVE;
            live.then(|| ptr::read_volatile(&raw const (*self.0).address))
        }
    }

    /// Takes a place that is free.
    #[inline(always)]
    #[must_use]
    pub fn take(&self) -> bool {
        // SAFETY: valid by `new`.
        unsafe { atomic::swap32(&raw mut (*self.0).claim, claim::FREE, claim::BUSY) }
    }

    /// Sets the address of a place taken before, and gives it to all.
    #[inline(always)]
    pub fn set(&self, address: &Address) {
        // SAFETY: valid by `new`, and the place is ours.
        unsafe {
            ptr::write_volatile(&raw mut (*self.0).address, *address);
            atomic::exchange32(&raw mut (*self.0).claim, claim::LIVE);
        }
    }
}

/// The number of the next hop for packets to `destination`. The first gateway to need a place has it for good; another one that
/// would need the same stays unknown, and hosts have few.
#[inline(always)]
pub fn number<T: Tables>(tables: &T, destination: &Address, next_hop: &Address) -> u8 {
    if next_hop == destination {
        return next_hop::ON_LINK;
    }
    let confused = tables.mutant(Mutant::GatewaysConfused);
    let number = if confused { next_hop::ON_LINK + 1 } else { place(next_hop) };
    let Some(slot) = tables.next_hop(number) else { return next_hop::UNKNOWN };
    if slot.address().is_none() && slot.take() {
        slot.set(next_hop);
    }
    match slot.address() {
        Some(known) if known == *next_hop || confused => number,
        _ => next_hop::UNKNOWN,
    }
}

/// The address of the next hop with this number, for packets to `destination`; `None` where the kernel is to be asked.
#[inline(always)]
pub fn address<T: Tables>(tables: &T, number: u8, destination: &Address) -> Option<Address> {
    match number {
        next_hop::UNKNOWN => None,
        next_hop::ON_LINK => Some(*destination),
        _ => tables.next_hop(number).and_then(|slot| slot.address()),
    }
}

/// Where a gateway belongs. Of 256 neighbours, all but two have a place of their own.
#[inline(always)]
fn place(gateway: &Address) -> u8 {
    const RESERVED: u64 = 2;

    let [high, low] = gateway.words;
    let mixed = high ^ low;
    // Addresses are in wire order, so what differs between neighbours is in the highest byte.
    let folded = mixed ^ mixed >> 32;
    let folded = folded ^ folded >> 16;
    let folded = folded ^ folded >> 8;
    ((folded & 0xff) % (next_hop::NUMBERS as u64 - RESERVED) + RESERVED) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{NativeTables, State};

    fn gateways() -> [Vec<Address>; 2] {
        [
            (1..=200).map(|host| Address::v4([192, 0, 2, host])).collect(),
            (1..=200).map(|host| Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])).collect(),
        ]
    }

    #[test]
    fn a_number_leads_back_to_the_address() {
        for gateways in gateways() {
            let tables = NativeTables::new(State::default(), 16);
            let destination = Address::v4([10, 1, 2, 3]);
            let mut known = 0;
            for gateway in &gateways {
                let first = number(&tables, &destination, gateway);
                assert_eq!(number(&tables, &destination, gateway), first);
                if first != next_hop::UNKNOWN {
                    assert!(first > next_hop::ON_LINK);
                    assert_eq!(address(&tables, first, &destination), Some(*gateway));
                    known += 1;
                }
            }
            // Two of 256 have to share with others.
            assert!(known >= gateways.len() - 2, "{known} have a place");
        }
    }

    #[test]
    fn a_place_is_the_first_ones() {
        let tables = NativeTables::new(State::default(), 16);
        let destination = Address::v4([10, 1, 2, 3]);
        let first = Address::v4([192, 0, 2, 1]);
        let other = (0..=255)
            .flat_map(|a| (0..=255).map(move |b| Address::v4([10, 9, a, b])))
            .find(|other| place(other) == place(&first))
            .expect("there are more addresses than places");
        assert_ne!(number(&tables, &destination, &first), next_hop::UNKNOWN);
        assert_eq!(number(&tables, &destination, &other), next_hop::UNKNOWN);
        assert_eq!(address(&tables, next_hop::UNKNOWN, &destination), None);
        let on_link = number(&tables, &other, &other);
        assert_eq!(address(&tables, on_link, &other), Some(other));
    }
}
