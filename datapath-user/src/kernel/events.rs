//! Drop events as they happen.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, RingBuf};
use datapath_common::abi::{Event, map};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The reader of the events. There must be one at a time: what it reads is gone.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Opens the ring buffer in the pin directory. Needs a tokio runtime.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        let path = pin_dir.join(map::EVENTS);
        let data = MapData::from_pin(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).context("the events cannot be read")?;
        // SAFETY: the ring keeps its one descriptor open as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(|error| anyhow::anyhow!("the events cannot be waited for: {error}"))?;
        Ok(Self { ring })
    }

    /// The next event. May be dropped while it waits without losing one.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            let mut ready = self.ring.readable_mut().await.context("the events cannot be waited for")?;
            // The readiness is an edge: look again after clearing it, or a wake-up in between is lost.
            ready.clear_ready();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Event>> {
        let Some(item) = self.ring.get_mut().next() else { return Ok(None) };
        let bytes: &[u8] = &item;
        anyhow::ensure!(bytes.len() >= size_of::<Event>(), "an event of {} bytes; expected more", bytes.len());
        // SAFETY: long enough, and `Event` is plain data.
        Ok(Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<Event>()) }))
    }
}
