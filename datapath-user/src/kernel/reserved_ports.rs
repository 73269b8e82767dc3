//! `ip_local_reserved_ports`: published host ports are kept from outgoing connections, next to the user's own list.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::port_set::PortSet;
use super::sysctl;

const PATH: &str = "net/ipv4/ip_local_reserved_ports";

/// What is reserved now.
fn present() -> Result<PortSet> {
    /// Every second port, five digits and a comma each, and then some.
    const LONGEST: usize = 512 * 1_024;
    sysctl::read_up_to(PATH, LONGEST)?.parse()
}

/// The user's list and ours together. Kept across restarts by the caller, so that the user's list is never lost.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ReservedPorts {
    /// What the user reserved.
    user: PortSet,
    /// What we last wrote.
    written: PortSet,
}

impl ReservedPorts {
    /// Takes what is there now for the user's list. Only for the first start.
    pub fn read() -> Result<Self> {
        let user = present()?;
        Ok(Self { written: user.clone(), user })
    }

    /// Takes these for ours from now on, whether they are reserved yet or not.
    pub fn announce(&mut self, ours: &PortSet) {
        let coming = ours.clone().without(&self.user);
        self.written = std::mem::take(&mut self.written).union(&coming);
    }

    /// Reserves `ours` next to the user's list, as the user may have changed it since the last call.
    pub fn update(&mut self, ours: &PortSet) -> Result<()> {
        let present = present()?;
        let user = self.user_list(&present);
        let wanted = user.clone().union(ours);
        if wanted != present {
            write(&wanted)?;
        }
        *self = Self { user, written: wanted };
        Ok(())
    }

    /// What the user's list is now: what was added to or taken from what we wrote is the user's doing.
    fn user_list(&self, present: &PortSet) -> PortSet {
        let added = present.clone().without(&self.written);
        let taken = self.written.clone().without(present);
        self.user.clone().union(&added).without(&taken)
    }

    /// Leaves the user's list only.
    pub fn restore(&mut self) -> Result<()> {
        self.update(&PortSet::default())
    }
}

/// The kernel takes less than a page at once; a further write through the same file adds to the first.
fn write(ports: &PortSet) -> Result<()> {
    const PIECE: usize = 4_000;
    let failed = || format!("/proc/sys/{PATH} cannot be written");
    let mut file = OpenOptions::new().write(true).open(format!("/proc/sys/{PATH}")).with_context(failed)?;
    let text = ports.to_string();
    let mut rest = text.as_str();
    loop {
        let end = if rest.len() <= PIECE { rest.len() } else { rest[..PIECE].rfind(',').unwrap_or(PIECE) };
        let piece = format!("{}\n", &rest[..end]);
        let count = file.write(piece.as_bytes()).with_context(failed)?;
        ensure!(count + 1 >= piece.len(), "/proc/sys/{PATH} took only {count} of {} bytes", piece.len());
        if end == rest.len() {
            return Ok(());
        }
        rest = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scratch;

    fn ports(text: &str) -> PortSet {
        text.parse().expect("a literal")
    }

    #[test]
    fn changes_by_the_user_are_kept() {
        let mut reserved = ReservedPorts { user: ports("22"), written: ports("22,80") };
        assert_eq!(reserved.user_list(&ports("22,80,443")), ports("22,443"));
        assert_eq!(reserved.user_list(&ports("80")), ports(""));
        reserved.written = ports("22");
        assert_eq!(reserved.user_list(&ports("22")), ports("22"));
        // Whether the daemon ends before or after it has written what it was about to write.
        reserved.announce(&ports("22,80"));
        assert_eq!(reserved.user_list(&ports("22")), ports("22"));
        assert_eq!(reserved.user_list(&ports("22,80")), ports("22"));
    }

    #[test]
    fn the_kernel_keeps_both_lists() {
        scratch::in_namespace(|| {
            sysctl::write(PATH, "1000,2000-2003").expect("settable");
            let mut reserved = ReservedPorts::read().expect("readable");
            // Far more than a page of text.
            let many: PortSet = (0..6_000).map(|index| 3_001 + index * 2).collect();
            reserved.update(&many).expect("writable");
            assert_eq!(present().expect("readable"), many.clone().union(&ports("1000,2000-2003")));
            reserved.update(&ports("80")).expect("writable");
            assert_eq!(sysctl::read(PATH).expect("readable"), "80,1000,2000-2003");
            reserved.restore().expect("writable");
            assert_eq!(sysctl::read(PATH).expect("readable"), "1000,2000-2003");
            sysctl::write(PATH, "").expect("settable");
            let mut reserved = ReservedPorts::read().expect("readable");
            reserved.update(&ports("80")).expect("writable");
            reserved.restore().expect("writable");
            assert_eq!(sysctl::read(PATH).expect("readable"), "");
        });
    }
}
