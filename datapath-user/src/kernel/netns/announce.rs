//! Telling siblings that an address has a new owner.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{ContainerInterface, Netns};
use crate::kernel::announcement::{Sender, frames};

/// Before each announcement.
const PAUSES: [Duration; 3] = [Duration::from_millis(2), Duration::from_millis(30), Duration::from_millis(300)];

/// Announces the addresses of the container's interface from there.
///
/// Goes on in the background, and is repeated: the kernel tells nobody when a carrier that has come up takes packets.
pub fn announce(netns: &Netns, interface: &ContainerInterface) -> Result<()> {
    let frames = frames(interface.mac, interface.ipv4.map(|net| net.addr()), interface.ipv6.map(|net| net.addr()));
    let (netns, name) = (netns.try_clone()?, interface.name.clone());
    let speak = move || {
        for pause in PAUSES {
            thread::sleep(pause);
            if let Err(error) = send(&name, &frames) {
                // A container that has gone already has nothing to announce.
                tracing::debug!(interface = name, "not announced: {error:#}");
            }
        }
        Ok(())
    };
    thread::Builder::new().name("announce".into()).spawn(move || netns.run(speak)).context("no thread")?;
    Ok(())
}

fn send(interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    Sender::open()?.send(nix::net::if_::if_nametoindex(interface)?, frames)
}
