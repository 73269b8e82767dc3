//! An array map in our memory, for as long as it is looked at: the programs change it meanwhile.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use aya::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::map::Map;

/// Elements that are mapped at once, where not all are needed: of any size, they fill whole pages.
const WINDOW: u32 = 8_192;

/// Elements of an array map, one behind the other.
#[derive(Debug)]
pub struct SharedArray<T> {
    memory: NonNull<T>,
    bytes: usize,
    first: u32,
    count: u32,
}

// SAFETY: the memory is shared with the kernel and lives as long as this; all access is by atomic operations.
unsafe impl<T> Send for SharedArray<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SharedArray<T> {}

impl<T: Pod> SharedArray<T> {
    /// All elements.
    pub fn of(array: &Map<u32, T>) -> Result<Self> {
        Self::part(array, 0, array.capacity())
    }

    /// All elements, some thousands at a time: the daemon has no more of a large map in its memory than that.
    pub fn windows(array: &Map<u32, T>) -> impl Iterator<Item = Result<Self>> + '_ {
        let firsts = (0..array.capacity()).step_by(WINDOW as usize);
        firsts.map(move |first| Self::part(array, first, WINDOW.min(array.capacity() - first)))
    }

    fn part(array: &Map<u32, T>, first: u32, count: u32) -> Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel rounds elements up to 8 bytes") };
        let length = NonZeroUsize::new(count as usize * size_of::<T>()).context("a map is empty")?;
        let offset = i64::from(first) * size_of::<T>() as i64;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the kernel checks offset and length against the map.
        let memory = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, array.as_fd(), offset) }
            .context("a map cannot be mapped into memory")?;
        Ok(Self { memory: memory.cast(), bytes: length.get(), first, count })
    }

    /// The element with this index, if it is here.
    pub fn slot(&self, index: u32) -> Option<NonNull<T>> {
        let place = index.checked_sub(self.first).filter(|&place| place < self.count)?;
        // SAFETY: the place is inside the mapping, which has `count` elements one behind the other.
        Some(unsafe { self.memory.add(place as usize) })
    }

    /// Every element that is here, with its index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, NonNull<T>)> + '_ {
        (self.first..self.first + self.count).filter_map(|index| Some((index, self.slot(index)?)))
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.memory.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "our own mapping: {unmapped:?}");
    }
}
