//! Devices.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Netlink, error_number, unless_missing};

/// Bytes of the largest TCP packet that devices with BIG TCP take: more costs streams again (docs/performance.md).
pub const BIG_TCP: u32 = 192 << 10;
/// The same without BIG TCP (GSO_LEGACY_MAX_SIZE of the kernel).
pub const LEGACY_TCP: u32 = 64 << 10;

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// Its name at the moment.
    pub name: String,
    /// Kind of a virtual device, such as `veth` or `bridge`.
    pub kind: Option<String>,
    /// MAC address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Link layer, an `ARPHRD_` number.
    pub hardware: u16,
    /// Administratively up.
    pub up: bool,
    /// Up and with a carrier.
    pub running: bool,
    /// The bridge or bond it is a port of.
    pub master: Option<u32>,
    /// The other end of a pair, as its namespace numbers it.
    pub peer_index: Option<u32>,
    /// Id of the other end's namespace, if it is another one.
    pub peer_netns: Option<i32>,
    /// Text that somebody attached to it.
    pub alias: Option<String>,
    /// Id of the XDP program on it, in whichever mode.
    pub xdp: Option<u32>,
    /// Bytes of the largest TCP packets that it takes, by IPv4 and by IPv6.
    pub largest_tcp: [u32; 2],
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            mac: None,
            mtu: 0,
            hardware: message.header.link_layer_type.into(),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            master: None,
            peer_index: None,
            peer_netns: None,
            alias: None,
            xdp: None,
            largest_tcp: [LEGACY_TCP; 2],
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer_index = Some(index),
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = Some(id),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::GsoIpv4MaxSize(size) => link.largest_tcp[0] = size,
                LinkAttribute::GsoMaxSize(size) => link.largest_tcp[1] = size,
                LinkAttribute::Xdp(attributes) => {
                    link.xdp = attributes.into_iter().find_map(|attribute| match attribute {
                        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) if id != 0 => Some(id),
                        _ => None,
                    });
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// The veth pair that is a network's gateway: both ends in the host.
#[derive(Clone, Debug)]
pub struct GatewayPair {
    /// The end that carries the addresses.
    pub name: String,
    /// The end whose ingress drops everything.
    pub far_name: String,
    /// MAC address of the gateway.
    pub mac: [u8; 6],
    /// MAC address of the far end.
    pub far_mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether both ends take packets of [`BIG_TCP`] bytes.
    pub big_tcp: bool,
}

/// The veth pair of an endpoint: one end in the host, one in the container's namespace.
#[derive(Clone, Debug)]
pub struct EndpointPair {
    /// Name of the host's end.
    pub host_name: String,
    /// Name of the container's end.
    pub container_name: String,
    /// MAC address of the container's end.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether both ends take packets of [`BIG_TCP`] bytes.
    pub big_tcp: bool,
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarEnd {
    /// Id of the namespace it is in.
    pub netns: i32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its name.
    pub name: String,
}

impl Netlink {
    /// Every device, without what IPv6 has counted on each, which is most of the answer.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut all = LinkMessage::default();
        all.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let read = |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(Link::from(link)),
            _ => None,
        };
        self.dumps.collect(RouteNetlinkMessage::GetLink(all), read).context("the devices cannot be listed")
    }

    /// The device with this index.
    pub async fn link(&self, index: u32) -> Result<Option<Link>> {
        let found = self.handle.link().get().match_index(index).execute().try_next().await;
        absent(found).with_context(|| format!("device {index} cannot be looked up"))
    }

    /// The device of this name.
    pub async fn link_named(&self, name: &str) -> Result<Option<Link>> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        absent(found).with_context(|| format!("device {name} cannot be looked up"))
    }

    /// MAC address and name of the other end of a pair, where that is in another namespace; nothing when it is gone.
    /// The namespace is asked through its id, so that no path to it is needed (IFLA_TARGET_NETNSID, Linux 4.15,
    /// commit 79e1ad148c84).
    pub async fn far_end(&self, link: &Link) -> Result<Option<FarEnd>> {
        let (Some(index), Some(netns)) = (link.peer_index, link.peer_netns) else { return Ok(None) };
        let mut request = self.handle.link().get().match_index(index);
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(netns));
        let found = match request.execute().try_next().await {
            // The namespace, or the device in it, has just ended.
            Err(error) if matches!(error_number(&error), Some(libc::ENODEV | libc::EINVAL | libc::ENONET)) => None,
            found => found.with_context(|| format!("the other end of {} cannot be looked up", link.name))?,
        };
        let Some(far) = found.map(Link::from) else { return Ok(None) };
        Ok(far.mac.map(|mac| FarEnd { netns, mac, name: far.name }))
    }

    async fn index_of(&self, name: &str) -> Result<u32> {
        let link = self.link_named(name).await?.with_context(|| format!("device {name} is gone"))?;
        Ok(link.index)
    }

    /// Creates a gateway pair, both ends down. Returns the indices of the gateway and of the far end.
    pub async fn create_gateway_pair(&self, pair: &GatewayPair) -> Result<(u32, u32)> {
        let far = LinkUnspec::new_with_name(&pair.far_name).address(pair.far_mac.to_vec());
        let far = sized(far, pair.mtu, pair.big_tcp).build();
        let near = veth(&pair.name, far).address(pair.mac.to_vec());
        let message = sized(near, pair.mtu, pair.big_tcp).build();
        self.create(&pair.name, message).await?;
        let indices = async { Ok((self.index_of(&pair.name).await?, self.index_of(&pair.far_name).await?)) };
        self.or_delete(&pair.name, indices.await).await
    }

    /// Creates an endpoint's pair, both ends down, the container's end directly in its namespace under its final
    /// name. Returns the index of the host's end.
    pub async fn create_endpoint_pair(&self, pair: &EndpointPair, netns: BorrowedFd<'_>) -> Result<u32> {
        let inside =
            LinkUnspec::new_with_name(&pair.container_name).address(pair.mac.to_vec()).setns_by_fd(netns.as_raw_fd());
        let inside = sized(inside, pair.mtu, pair.big_tcp).build();
        let message = sized(veth(&pair.host_name, inside), pair.mtu, pair.big_tcp).build();
        match self.handle.link().add(message).execute().await {
            Ok(()) => {}
            // The kernel says the same for either end.
            Err(error) if error_number(&error) == Some(libc::EEXIST) => {
                let taken_here = self.link_named(&pair.host_name).await?.is_some();
                let (name, place) = if taken_here {
                    (&pair.host_name, "on the host")
                } else {
                    (&pair.container_name, "in the container; choose another --ifname")
                };
                bail!("an interface named {name} already exists {place}");
            }
            Err(error) => return Err(error).with_context(|| format!("{} cannot be created", pair.host_name)),
        }
        let index = self.index_of(&pair.host_name).await;
        self.or_delete(&pair.host_name, index).await
    }

    async fn create(&self, name: &str, message: LinkMessage) -> Result<()> {
        match self.handle.link().add(message).execute().await {
            Err(error) if error_number(&error) == Some(libc::EEXIST) => {
                bail!("an interface named {name} or that of its other end already exists")
            }
            result => result.with_context(|| format!("{name} cannot be created")),
        }
    }

    /// Takes a device back whose creation did not end well.
    async fn or_delete<T>(&self, name: &str, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.delete_link_named(name).await?;
        }
        result
    }

    /// Sets a device up.
    pub async fn set_up(&self, index: u32) -> Result<()> {
        self.change("set up", LinkUnspec::new_with_index(index).up().build()).await
    }

    /// Sets a device down.
    pub async fn set_down(&self, index: u32) -> Result<()> {
        self.change("set down", LinkUnspec::new_with_index(index).down().build()).await
    }

    /// Sets the largest IP packet.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.change(&format!("given an MTU of {mtu}"), message).await
    }

    /// Sets the MAC address.
    pub async fn set_mac(&self, index: u32, mac: [u8; 6]) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).address(mac.to_vec()).build();
        self.change("given another MAC address", message).await
    }

    async fn change(&self, what: &str, message: LinkMessage) -> Result<()> {
        let index = message.header.index;
        let changed = self.handle.link().set(message).execute().await;
        changed.with_context(|| format!("device {index} cannot be {what}"))
    }

    /// Deletes a device, and the other end of its pair. It need not exist.
    pub async fn delete_link(&self, index: u32) -> Result<()> {
        let deleted = unless_missing(self.handle.link().del(index).execute().await);
        deleted.with_context(|| format!("device {index} cannot be deleted"))
    }

    /// Deletes a device by its name. It need not exist.
    pub async fn delete_link_named(&self, name: &str) -> Result<()> {
        match self.link_named(name).await? {
            Some(link) => self.delete_link(link.index).await,
            None => Ok(()),
        }
    }
}

fn veth(name: &str, peer: LinkMessage) -> LinkMessageBuilder<LinkVeth> {
    LinkVeth::new(name, "").set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
}

/// A device that is to take packets of this size. One that takes larger ones of TCP too says so to its own stack, which makes them
/// (gso), and to what puts received ones together (gro). A kernel without the attributes for IPv4 (before Linux 6.3) passes over them.
fn sized<T>(device: LinkMessageBuilder<T>, mtu: u32, big_tcp: bool) -> LinkMessageBuilder<T> {
    let device = device.mtu(mtu);
    if !big_tcp {
        return device;
    }
    device
        .append_extra_attribute(LinkAttribute::GsoMaxSize(BIG_TCP))
        .append_extra_attribute(LinkAttribute::GroMaxSize(BIG_TCP))
        .append_extra_attribute(LinkAttribute::GsoIpv4MaxSize(BIG_TCP))
        .append_extra_attribute(LinkAttribute::GroIpv4MaxSize(BIG_TCP))
}

fn absent(found: Result<Option<LinkMessage>, rtnetlink::Error>) -> Result<Option<Link>, rtnetlink::Error> {
    match found {
        Err(error) if error_number(&error) == Some(libc::ENODEV) => Ok(None),
        result => Ok(result?.map(Link::from)),
    }
}
