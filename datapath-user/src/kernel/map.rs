//! A map by its pinned descriptor, typed, usable from many threads at once: every call is one system call, and the
//! kernel orders them.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Pod;

use super::bpf;

/// A map with keys `K` and values `V`.
#[derive(Debug)]
pub struct Map<K, V> {
    descriptor: OwnedFd,
    name: &'static str,
    capacity: u32,
    types: PhantomData<fn(K) -> V>,
}

/// Keys in one batch call: enough that the call costs nothing, little enough that the kernel's copy stays small.
const BATCH: usize = 4_096;

impl<K: Pod, V: Pod> Map<K, V> {
    /// Opens the map pinned as `name` and checks that it is laid out as this program understands it.
    pub fn open(pin_dir: &Path, name: &'static str) -> Result<Self> {
        let path = pin_dir.join(name);
        let descriptor =
            bpf::open_pin(&path).with_context(|| format!("the map {} cannot be opened", path.display()))?;
        let info = bpf::map_info(descriptor.as_fd()).with_context(|| format!("map {name}"))?;
        ensure!(
            (info.key_size as usize, info.value_size as usize) == (size_of::<K>(), size_of::<V>()),
            "the pinned map {} has keys of {} and values of {} bytes, this version has {} and {}; \
             run `datapath daemon --cleanup` with the version that made it",
            path.display(),
            info.key_size,
            info.value_size,
            size_of::<K>(),
            size_of::<V>(),
        );
        Ok(Self { descriptor, name, capacity: info.max_entries, types: PhantomData })
    }

    /// How many entries it has room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    fn failed<T>(&self, what: &str, result: io::Result<T>) -> Result<T> {
        result.map_err(|error| match error.raw_os_error() {
            // The latter is what tries say.
            Some(libc::E2BIG | libc::ENOSPC) if what == "written" => {
                anyhow::anyhow!("the map {} is full ({} entries)", self.name, self.capacity)
            }
            _ => anyhow::Error::new(error).context(format!("the map {} could not be {what}", self.name)),
        })
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: the sizes were checked when the map was opened.
        let found = unsafe { bpf::lookup(self.as_fd(), key, value.as_mut_ptr()) };
        // SAFETY: on success the kernel has written the whole value, and `V` is plain data.
        Ok(self.failed("read", found)?.map(|()| unsafe { value.assume_init() }))
    }

    /// Sets the value of `key`.
    pub fn set(&self, key: &K, value: &V) -> Result<()> {
        // SAFETY: the sizes were checked when the map was opened.
        self.failed("written", unsafe { bpf::update(self.as_fd(), key, value, 0) })
    }

    /// Sets the value of `key` unless it has one. Says whether it had none.
    pub fn insert_new(&self, key: &K, value: &V) -> Result<bool> {
        // SAFETY: the sizes were checked when the map was opened.
        match unsafe { bpf::update(self.as_fd(), key, value, bpf::NO_EXIST) } {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            result => self.failed("written", result).map(|()| true),
        }
    }

    /// Removes `key`. Says whether it was there.
    pub fn remove(&self, key: &K) -> Result<bool> {
        // SAFETY: the size was checked when the map was opened.
        self.failed("written", unsafe { bpf::delete(self.as_fd(), key) })
    }

    /// Removes `key` and says what it led to, in one step.
    pub fn take(&self, key: &K) -> Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: the sizes were checked when the map was opened.
        let found = unsafe { bpf::take(self.as_fd(), key, value.as_mut_ptr()) };
        // SAFETY: on success the kernel has written the whole value, and `V` is plain data.
        Ok(self.failed("written", found)?.map(|()| unsafe { value.assume_init() }))
    }

    /// Every entry, many at a time. Meant for maps that only the daemon writes: an entry that the programs delete meanwhile
    /// makes the walk start over, or miss some.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        const { assert!(size_of::<K>() <= size_of::<bpf::Cursor>(), "the kernel writes a key there") };
        let room = (self.capacity as usize).min(BATCH);
        let (mut keys, mut values) = (vec![MaybeUninit::uninit(); room], vec![MaybeUninit::uninit(); room]);
        let mut entries = Vec::new();
        let mut from = None;
        loop {
            // SAFETY: the sizes were checked when the map was opened.
            let (count, next) = match unsafe { bpf::lookup_batch(self.as_fd(), from.as_ref(), &mut keys, &mut values) }
            {
                Err(error) if from.is_none() && lacks_batches(&error) => return self.entries_singly(),
                result => self.failed("read", result)?,
            };
            let read = keys.iter().zip(&values).take(count);
            // SAFETY: the kernel has written so many, and both are plain data.
            entries.extend(read.map(|(key, value)| unsafe { (key.assume_init(), value.assume_init()) }));
            let Some(next) = next else { return Ok(entries) };
            from = Some(next);
        }
    }

    fn entries_singly(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut last: Option<K> = None;
        loop {
            let mut next = MaybeUninit::<K>::zeroed();
            // SAFETY: `K` is plain data, for which zeroes are a value.
            let next = unsafe { next.assume_init_mut() };
            // SAFETY: the size was checked when the map was opened.
            if !self.failed("read", unsafe { bpf::next_key(self.as_fd(), last.as_ref(), next) })? {
                return Ok(entries);
            }
            if let Some(value) = self.get(next)? {
                entries.push((*next, value));
            }
            last = Some(*next);
        }
    }

    /// Sets all `keys` to `value`, many at a time. On failure, those set by this call are removed again.
    pub fn set_all(&self, keys: &[K], value: &V) -> Result<()> {
        let values = vec![*value; keys.len().min(BATCH)];
        let mut done = 0;
        for chunk in keys.chunks(BATCH) {
            let (count, result) = self.set_chunk(chunk, &values[..chunk.len()]);
            done += count;
            if let Err(error) = self.failed("written", result) {
                return match self.remove_all(&keys[..done]) {
                    Ok(()) => Err(error),
                    Err(undo) => Err(error.context(format!("and could not be undone: {undo:#}"))),
                };
            }
        }
        Ok(())
    }

    /// Sets a batch; says how many keys were set.
    fn set_chunk(&self, keys: &[K], values: &[V]) -> (usize, io::Result<()>) {
        // SAFETY: the sizes were checked when the map was opened.
        match unsafe { bpf::update_batch(self.as_fd(), keys, values) } {
            Ok(()) => (keys.len(), Ok(())),
            Err((error, 0)) if lacks_batches(&error) => {
                for (count, (key, value)) in keys.iter().zip(values).enumerate() {
                    // SAFETY: as above.
                    if let Err(error) = unsafe { bpf::update(self.as_fd(), key, value, 0) } {
                        return (count, Err(error));
                    }
                }
                (keys.len(), Ok(()))
            }
            Err((error, count)) => (count, Err(error)),
        }
    }

    /// Removes all `keys`, many at a time. Missing ones are no error.
    pub fn remove_all(&self, keys: &[K]) -> Result<()> {
        for chunk in keys.chunks(BATCH) {
            let mut rest = chunk;
            while !rest.is_empty() {
                // SAFETY: the size was checked when the map was opened.
                match unsafe { bpf::delete_batch(self.as_fd(), rest) } {
                    Ok(()) => break,
                    // It stopped at a missing key: go on behind it.
                    Err((error, count)) if error.raw_os_error() == Some(libc::ENOENT) && count < rest.len() => {
                        rest = &rest[count + 1..];
                    }
                    Err((error, 0)) if lacks_batches(&error) => {
                        for key in rest {
                            self.remove(key)?;
                        }
                        break;
                    }
                    Err((error, _)) => return self.failed("written", Err(error)),
                }
            }
        }
        Ok(())
    }
}

/// Kernels before 5.6 (commit 05799638bd1a) have no batches of hash maps.
fn lacks_batches(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | bpf::NOT_SUPPORTED))
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A per-CPU array of counters.
#[derive(Debug)]
pub struct Counters {
    map: Map<u32, u64>,
    cpus: usize,
}

impl Counters {
    /// Opens the counters pinned as `name`.
    pub fn open(pin_dir: &Path, name: &'static str) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::Error::new(error).context(file))?;
        Ok(Self { map: Map::open(pin_dir, name)?, cpus })
    }

    /// The sum over all CPUs, or nothing beyond the end of the array.
    pub fn sum(&self, index: u32) -> Result<Option<u64>> {
        let mut values = vec![0_u64; self.cpus];
        // SAFETY: a per-CPU value of 8 bytes takes 8 bytes for each possible CPU, and that is the room there is.
        let found = unsafe { bpf::lookup(self.map.as_fd(), &index, values.as_mut_ptr()) };
        Ok(self.map.failed("read", found)?.map(|()| values.iter().sum()))
    }
}
