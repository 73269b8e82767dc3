//! Shared access to the values that one CPU at a time may write: sets of fragments, and the stations behind a port.

#![expect(unsafe_code, reason = "the one door to values that a lock guards")]

use core::ptr;

use super::slot::atomic;
use crate::abi::{FragmentSet, PORT_STATIONS, PortStations, Station};

/// A value that begins with its lock: 1 while a CPU uses it.
///
/// # Safety
/// The first field is the `u32` of the lock.
pub unsafe trait Lock {}

// SAFETY: it does.
unsafe impl Lock for FragmentSet {}
// SAFETY: it does.
unsafe impl Lock for PortStations {}

/// One value of `FRAGMENTS`.
pub type FragmentSetSlot = Locked<FragmentSet>;
/// One value of `STATIONS`.
pub type StationsSlot = Locked<PortStations>;

/// A value of a map, with a lock.
#[derive(Debug)]
pub struct Locked<V>(*mut V);

impl<V> Clone for Locked<V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Locked<V> {}

impl<V: Lock> Locked<V> {
    /// The value at this address.
    ///
    /// # Safety
    /// `value` points to a value of a map, or to one that outlives this and is only used by this type.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(value: *mut V) -> Self {
        Self(value)
    }

    /// Takes the value for this CPU alone, unless another one has it.
    #[inline(always)]
    #[must_use]
    pub fn try_lock(&self) -> bool {
        // SAFETY: valid by `new`, and the lock is what it begins with.
        unsafe { atomic::swap32(self.0.cast(), 0, 1) }
    }

    /// Gives the value back.
    #[inline(always)]
    pub fn unlock(&self) {
        // SAFETY: as in `try_lock`.
        unsafe { atomic::exchange32(self.0.cast(), 0) }
    }

    /// The value, for the one CPU that has taken it.
    #[expect(clippy::mut_from_ref, reason = "the value is the map's, and the lock decides who may write it")]
    #[inline(always)]
    pub(super) fn get(&self) -> &mut V {
        // SAFETY: valid by `new`, and locked by the caller.
        unsafe { &mut *self.0 }
    }
}

impl StationsSlot {
    #[inline(always)]
    fn place(&self, position: u32) -> *mut Station {
        // SAFETY: valid by `new`; the position is made one inside.
        unsafe { &raw mut (*self.0).stations[position as usize & (PORT_STATIONS - 1)] }
    }

    /// A station, as it is at the moment; who else writes it may be at work, and all that a port's table ever has of one
    /// owner fits together.
    #[inline(always)]
    #[must_use]
    pub fn station(&self, position: u32) -> &Station {
        // SAFETY: a place of the table; racing reads are of whole words.
        unsafe { &*self.place(position) }
    }

    /// Notes that a station was heard. Needs no lock.
    #[inline(always)]
    pub fn refresh(&self, position: u32, now: u64) {
        // SAFETY: a place of the table; a whole word.
        unsafe { ptr::write_volatile(&raw mut (*self.place(position)).seen, now) }
    }

    /// Frees a place. Needs no lock: a station that is being learnt there at this moment is learnt by its next frame.
    #[inline(always)]
    pub fn free(&self, position: u32) {
        // SAFETY: a place of the table; a whole word.
        unsafe { ptr::write_volatile(&raw mut (*self.place(position)).generation, 0) }
    }
}
