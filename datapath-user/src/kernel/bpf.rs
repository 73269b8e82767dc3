//! The few calls of bpf(2) that the daemon makes itself: maps shared between threads by `&self`, batches, and facts
//! about pinned objects. Loading and attaching is aya's.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands, numbered as in `enum bpf_cmd` of linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(i64)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgLoad = 5,
    ObjGet = 7,
    ObjInfo = 15,
    ProgQuery = 16,
    MapLookupAndDelete = 21,
    MapLookupBatch = 24,
    MapUpdateBatch = 26,
    MapDeleteBatch = 27,
}

/// Flag of an update: the key must be new.
pub const NO_EXIST: u64 = 1;

/// Hook types of tcx, `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` (Linux 6.6, commit e420bed02507).
pub const TCX_INGRESS: u32 = 46;
/// See [`TCX_INGRESS`].
pub const TCX_EGRESS: u32 = 47;

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be what `command` takes, and every address in it must point to memory that is large enough and
/// lives until the call returns.
unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: the caller vouches for the attributes; their size is that of the type.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *const V, flags: u64) -> Element {
    let map = u32::try_from(map.as_raw_fd()).expect("descriptors are not negative");
    Element { map, padding: 0, key: key as u64, value: value as u64, flags }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the value of `key` into `value`, which has room for the map's value size (times the CPUs of a per-CPU map).
///
/// # Safety
/// `K` and the room of `value` must match the map.
pub unsafe fn lookup<K, V>(map: BorrowedFd<'_>, key: &K, value: *mut V) -> io::Result<Option<()>> {
    let mut attributes = element(map, key, value, 0);
    // SAFETY: the caller vouches for the sizes; both places live through the call.
    found(unsafe { bpf(Command::MapLookup, &mut attributes) }.map(drop))
}

/// Takes the value of `key` out of a hash map in one step.
///
/// # Safety
/// `K` and `V` must match the map.
pub unsafe fn take<K, V>(map: BorrowedFd<'_>, key: &K, value: *mut V) -> io::Result<Option<()>> {
    let mut attributes = element(map, key, value, 0);
    // SAFETY: as for `lookup`.
    found(unsafe { bpf(Command::MapLookupAndDelete, &mut attributes) }.map(drop))
}

/// Sets the value of `key`.
///
/// # Safety
/// `K` and `V` must match the map.
pub unsafe fn update<K, V>(map: BorrowedFd<'_>, key: &K, value: &V, flags: u64) -> io::Result<()> {
    let mut attributes = element(map, key, value, flags);
    // SAFETY: as for `lookup`.
    unsafe { bpf(Command::MapUpdate, &mut attributes) }.map(drop)
}

/// Deletes `key`; says whether it was there.
///
/// # Safety
/// `K` must match the map.
pub unsafe fn delete<K>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attributes = element::<K, u8>(map, key, std::ptr::null(), 0);
    // SAFETY: as for `lookup`.
    Ok(found(unsafe { bpf(Command::MapDelete, &mut attributes) })?.is_some())
}

/// The key after `key`, or the first one.
///
/// # Safety
/// `K` must match the map.
pub unsafe fn next_key<K: Copy>(map: BorrowedFd<'_>, key: Option<&K>, next: &mut K) -> io::Result<bool> {
    let key = key.map_or(std::ptr::null(), std::ptr::from_ref);
    let mut attributes = element(map, key, std::ptr::from_mut(next), 0);
    // SAFETY: as for `lookup`.
    Ok(found(unsafe { bpf(Command::MapNextKey, &mut attributes) })?.is_some())
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Sets many keys at once. On failure, the error and how many were set.
///
/// # Safety
/// `K` and `V` must match the map.
pub unsafe fn update_batch<K, V>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> Result<(), (io::Error, usize)> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    // SAFETY: as for `lookup`, the slices are equally long.
    unsafe { batch(Command::MapUpdateBatch, map, keys, values.as_ptr()) }
}

/// Where a walk over a map goes on: a key, or the number of a bucket.
pub type Cursor = [u64; 8];

/// Reads the next entries of a map, as many as there is room for, from `from` on (none: from the beginning). Says how many were
/// read, and where the walk goes on, if it does.
///
/// # Safety
/// `K` and `V` must match the map, and `K` be no larger than a [`Cursor`].
pub unsafe fn lookup_batch<K, V>(
    map: BorrowedFd<'_>,
    from: Option<&Cursor>,
    keys: &mut [MaybeUninit<K>],
    values: &mut [MaybeUninit<V>],
) -> io::Result<(usize, Option<Cursor>)> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    let mut next = Cursor::default();
    let mut attributes = Batch {
        in_batch: from.map_or(0, |from| from.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len()).expect("batches are bounded by their callers"),
        map: u32::try_from(map.as_raw_fd()).expect("descriptors are not negative"),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller vouches for the sizes; all places live through the call.
    match unsafe { bpf(Command::MapLookupBatch, &mut attributes) } {
        Ok(_) => Ok((attributes.count as usize, Some(next))),
        // The end: what was read before it counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attributes.count as usize, None)),
        Err(error) => Err(error),
    }
}

/// Deletes many keys at once; stops at the first that is missing. On failure, the error and how many were deleted.
///
/// # Safety
/// `K` must match the map.
pub unsafe fn delete_batch<K>(map: BorrowedFd<'_>, keys: &[K]) -> Result<(), (io::Error, usize)> {
    // SAFETY: as for `lookup`; a deletion takes no values.
    unsafe { batch::<K, u8>(Command::MapDeleteBatch, map, keys, std::ptr::null()) }
}

/// # Safety
/// As for [`bpf`].
unsafe fn batch<K, V>(
    command: Command,
    map: BorrowedFd<'_>,
    keys: &[K],
    values: *const V,
) -> Result<(), (io::Error, usize)> {
    let mut attributes = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values as u64,
        count: u32::try_from(keys.len()).expect("batches are bounded by their callers"),
        map: u32::try_from(map.as_raw_fd()).expect("descriptors are not negative"),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller vouches for the pointers.
    match unsafe { bpf(command, &mut attributes) } {
        Ok(_) => Ok(()),
        // The kernel leaves `count` as it was when it has no batches for this map at all.
        Err(error) => {
            let untouched = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | NOT_SUPPORTED));
            Err((error, if untouched { 0 } else { attributes.count as usize }))
        }
    }
}

/// The kernel's internal ENOTSUPP, which bpf(2) lets out for maps without batch operations.
pub const NOT_SUPPORTED: i32 = 524;

/// Opens what is pinned at `path`.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        descriptor: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut attributes = Attributes { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    let descriptor = unsafe { bpf(Command::ObjGet, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).expect("descriptors fit");
    // SAFETY: the call succeeded, so this is a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// What the kernel says of a map (the beginning of `struct bpf_map_info`).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Id of the map.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: u32,
}

/// What the kernel says of a link of tcx or XDP (the beginning of `struct bpf_link_info`).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkInfo {
    /// `enum bpf_link_type`.
    pub kind: u32,
    /// Id of the link.
    pub id: u32,
    /// The program in it.
    pub program: u32,
    padding: u32,
    /// The device; 0 when it is gone.
    pub ifindex: u32,
    /// [`TCX_INGRESS`] or [`TCX_EGRESS`]; means nothing of a link of XDP.
    pub hook: u32,
}

/// What the kernel says of a program (the beginning of `struct bpf_prog_info`).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    verified_length: u32,
    jited: u64,
    verified: u64,
}

fn info<T: Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    #[repr(C)]
    struct Attributes {
        descriptor: u32,
        length: u32,
        info: u64,
    }
    let mut info = T::default();
    let mut attributes = Attributes {
        descriptor: u32::try_from(object.as_raw_fd()).expect("descriptors are not negative"),
        length: u32::try_from(size_of::<T>()).expect("a small struct"),
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`; the private callers pass plain integers.
    unsafe { bpf(Command::ObjInfo, &mut attributes) }?;
    Ok(info)
}

/// What the kernel says of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// What the kernel says of a link.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// Whether the kernel knows tcx. Asks what is attached to lo; changes nothing.
pub fn has_tcx() -> io::Result<bool> {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        ifindex: u32,
        hook: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut attributes = Attributes { ifindex: 1, hook: TCX_INGRESS, ..Attributes::default() };
    // SAFETY: with a count of 0 and no addresses the kernel only counts.
    match unsafe { bpf(Command::ProgQuery, &mut attributes) } {
        Ok(_) => Ok(true),
        // lo may have another index; the kernel looked for it, so it knows the hook.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether programs are compiled to machine code: loads the smallest one and asks. The sysctl that says so exists
/// only in the first network namespace.
pub fn has_jit() -> io::Result<bool> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
    }
    const SOCKET_FILTER: u32 = 1;
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let mut attributes = Attributes {
        kind: SOCKET_FILTER,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
    };
    // SAFETY: instructions and licence outlive the call.
    let descriptor = unsafe { bpf(Command::ProgLoad, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).expect("descriptors fit");
    // SAFETY: the call succeeded, so this is a new descriptor, which nobody else has.
    let program = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(info::<ProgramInfo>(std::os::fd::AsFd::as_fd(&program))?.jited_length > 0)
}
