//! Uplinks whose packets one CPU takes.
//!
//! A network card interrupts one CPU for each of its receive queues, and the programs run there, unless the kernel hands packets on
//! to other CPUs by their flows (RPS; Documentation/networking/scaling.rst of Linux).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Finding, Level, finding};
use crate::engine::Readers;
use crate::kernel::netlink::Netlink;

const DEVICES: &str = "/sys/class/net";

/// Cards below the uplinks. Nothing is said of virtual devices alone: what they receive, the sender's CPU takes.
pub(super) async fn findings(readers: &Readers) -> Vec<Finding> {
    let (Ok(netlink), Ok(cpus)) = (Netlink::open(), aya::util::online_cpus()) else { return Vec::new() };
    let mut cards = BTreeMap::new();
    for uplink in &readers.snapshot().uplinks {
        let Ok(Some(link)) = netlink.link(uplink.ifindex).await else { continue };
        if is_shown(Path::new(DEVICES), &link.name, link.index, link.mac) {
            find_cards(Path::new(DEVICES), &link.name, &mut cards);
        }
    }
    cards.into_iter().map(|(name, queues)| judge(&name, queues, &cpus)).collect()
}

/// The receive queues of a card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Queues {
    count: usize,
    /// Whether any of them hands packets on to other CPUs.
    steered: bool,
}

/// Whether sysfs shows this device: it is that of the namespace in which it was mounted, which may not be the daemon's.
fn is_shown(devices: &Path, name: &str, ifindex: u32, mac: Option<[u8; 6]>) -> bool {
    let read = |file: &str| fs::read_to_string(devices.join(name).join(file)).unwrap_or_default();
    let mac = mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    read("ifindex").trim() == ifindex.to_string() && Some(read("address").trim()) == mac.as_deref()
}

/// The card that a device is, or those below it: the ports of a bond, what a VLAN is on.
fn find_cards(devices: &Path, name: &str, cards: &mut BTreeMap<String, Queues>) {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let device = devices.join(name);
    if !device.join("device").exists() {
        for lower in entries(&device).iter().filter_map(|entry| entry.strip_prefix("lower_")) {
            find_cards(devices, lower, cards);
        }
        return;
    }
    let queues = device.join("queues");
    let received: Vec<_> = entries(&queues).into_iter().filter(|queue| queue.starts_with("rx-")).collect();
    let steered = received.iter().any(|queue| {
        let mask = fs::read_to_string(queues.join(queue).join("rps_cpus")).unwrap_or_default();
        mask.contains(|digit: char| digit.is_ascii_hexdigit() && digit != '0')
    });
    if !received.is_empty() {
        cards.insert(name.to_owned(), Queues { count: received.len(), steered });
    }
}

fn judge(card: &str, queues: Queues, cpus: &[u32]) -> Finding {
    let alone = queues.count == 1 && !queues.steered && cpus.len() > 1;
    let queue = if queues.count == 1 { "1 receive queue" } else { &format!("{} receive queues", queues.count) };
    let found = match (alone, queues.steered) {
        (true, _) => format!("{card} has {queue}, so one of {} CPUs takes all its packets", cpus.len()),
        (false, true) => format!("{card} has {queue}, and hands packets on to other CPUs"),
        (false, false) => format!("{card} has {queue}"),
    };
    let remedy = format!(
        "where that CPU is the limit: `ethtool -L {card} combined {}` if `ethtool -l {card}` allows more than 1, else \
         `echo {} > {DEVICES}/{card}/queues/rx-0/rps_cpus`",
        cpus.len(),
        mask(cpus),
    );
    finding("receive_queues", if alone { Level::Note } else { Level::Ok }, found, remedy)
}

/// CPUs as sysfs takes them: words of 32 bits in hexadecimal, the highest first, with commas between them.
fn mask(cpus: &[u32]) -> String {
    let highest = cpus.iter().max().map_or(0, |cpu| cpu / 32);
    let word =
        |index: u32| cpus.iter().filter(|&cpu| cpu / 32 == index).fold(0_u32, |word, cpu| word | 1 << (cpu % 32));
    let words = (0..=highest).rev().map(|index| match index == highest {
        true => format!("{:x}", word(index)),
        false => format!("{:08x}", word(index)),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::{Level, Queues, find_cards, is_shown, judge, mask};

    fn card(devices: &Path, name: &str, masks: &[&str]) {
        fs::create_dir_all(devices.join(name).join("device")).expect("a card");
        for (index, mask) in masks.iter().enumerate() {
            let queue = devices.join(format!("{name}/queues/rx-{index}"));
            fs::create_dir_all(&queue).expect("a queue");
            fs::write(queue.join("rps_cpus"), format!("{mask}\n")).expect("its mask");
        }
        fs::create_dir_all(devices.join(name).join("queues/tx-0")).expect("a queue to send from");
    }

    fn found(devices: &Path, name: &str) -> BTreeMap<String, Queues> {
        let mut cards = BTreeMap::new();
        find_cards(devices, name, &mut cards);
        cards
    }

    #[test]
    fn cards_are_found_below_bonds_and_vlans() {
        let folder = tempfile::tempdir().expect("a directory");
        let devices = folder.path();
        card(devices, "eth0", &["00000000,00000000"]);
        card(devices, "eth1", &["0", "0", "0"]);
        card(devices, "eth2", &["00000000,00000003", "0"]);
        for (name, lower) in [("bond0.5", &["bond0"][..]), ("bond0", &["eth0", "eth1"]), ("veth7", &[])] {
            fs::create_dir_all(devices.join(name).join("queues/rx-0")).expect("a virtual device");
            for lower in lower {
                fs::create_dir(devices.join(name).join(format!("lower_{lower}"))).expect("what is below it");
            }
        }
        let single = Queues { count: 1, steered: false };
        assert_eq!(found(devices, "eth0"), BTreeMap::from([("eth0".to_owned(), single)]));
        let three = Queues { count: 3, steered: false };
        let both = BTreeMap::from([("eth0".to_owned(), single), ("eth1".to_owned(), three)]);
        assert_eq!(found(devices, "bond0.5"), both);
        assert_eq!(found(devices, "eth2"), BTreeMap::from([("eth2".to_owned(), Queues { count: 2, steered: true })]));
        assert_eq!(found(devices, "veth7"), BTreeMap::new());
    }

    #[test]
    fn one_queue_on_many_cpus_is_worth_a_note() {
        let single = Queues { count: 1, steered: false };
        let note = judge("eth0", single, &[0, 1, 2, 3]);
        assert_eq!(
            (note.level, note.found.as_str()),
            (Level::Note, "eth0 has 1 receive queue, so one of 4 CPUs takes all its packets")
        );
        assert!(note.remedy.contains("`ethtool -L eth0 combined 4`"), "{}", note.remedy);
        assert!(note.remedy.contains("`echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus`"), "{}", note.remedy);
        assert_eq!(judge("eth0", single, &[0]).level, Level::Ok);
        assert_eq!(judge("eth0", Queues { steered: true, ..single }, &[0, 1]).level, Level::Ok);
        assert_eq!(judge("eth0", Queues { count: 2, steered: false }, &[0, 1, 2]).level, Level::Ok);
    }

    #[test]
    fn masks_are_as_sysfs_takes_them() {
        assert_eq!(mask(&[0, 1]), "3");
        assert_eq!(mask(&(0..32).collect::<Vec<_>>()), "ffffffff");
        assert_eq!(mask(&(0..40).collect::<Vec<_>>()), "ff,ffffffff");
        assert_eq!(mask(&[1, 64]), "1,00000000,00000002");
    }

    #[test]
    fn a_device_of_another_namespace_is_none_of_ours() {
        let folder = tempfile::tempdir().expect("a directory");
        card(folder.path(), "eth0", &["0"]);
        fs::write(folder.path().join("eth0/ifindex"), "2\n").expect("its number");
        fs::write(folder.path().join("eth0/address"), "02:00:00:00:00:0a\n").expect("its address");
        let mac = [2, 0, 0, 0, 0, 10];
        assert!(is_shown(folder.path(), "eth0", 2, Some(mac)));
        assert!(!is_shown(folder.path(), "eth0", 2, Some([2, 0, 0, 0, 0, 11])));
        assert!(!is_shown(folder.path(), "eth0", 3, Some(mac)));
        assert!(!is_shown(folder.path(), "eth0", 2, None));
        assert!(!is_shown(folder.path(), "eth1", 2, Some(mac)));
    }
}
