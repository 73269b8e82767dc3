//! Filters of clsact qdiscs: whose are they, and taking a qdisc of ours away.

use anyhow::{Context, Result};
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::{Netlink, collect, error_number, unless_missing};

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the host.
    Ingress,
    /// Out of it.
    Egress,
}

/// A filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Lower is earlier.
    pub priority: u16,
    /// Handle, with the qdisc's part in the upper half.
    pub handle: u32,
    /// Kind, such as `bpf` or `u32`.
    pub kind: String,
    /// Name of the program, if it is one.
    pub program: Option<String>,
}

impl Filter {
    /// A dump shows each priority once without handle: that is no filter.
    fn read(message: TcMessage) -> Option<Self> {
        let handle = u32::from(message.header.handle.major) << 16 | u32::from(message.header.handle.minor);
        let (mut kind, mut program) = (String::new(), None);
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(name) => kind = name,
                TcAttribute::Options(options) => {
                    program = options.into_iter().find_map(|option| match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let priority = u16::try_from(message.header.info >> 16).expect("sixteen bits");
        (handle != 0).then_some(Self { priority, handle, kind, program })
    }
}

impl Netlink {
    /// The filters of a device; none if it has no clsact or ingress qdisc.
    pub async fn filters(&self, ifindex: u32, direction: Direction) -> Result<Vec<Filter>> {
        let index = i32::try_from(ifindex).context("ifindices are positive")?;
        let handle = self.handle.clone();
        let mut filters = handle.traffic_filter(index);
        let request = match direction {
            Direction::Ingress => filters.get().ingress(),
            Direction::Egress => filters.get().egress(),
        };
        match collect("filters", request.execute(), Filter::read).await {
            Err(error) => match error.downcast_ref::<rtnetlink::Error>().and_then(error_number) {
                Some(libc::EINVAL | libc::ENOENT | libc::ENODEV) => Ok(Vec::new()),
                _ => Err(error),
            },
            found => found,
        }
    }

    /// Removes a clsact qdisc with all its filters. It need not be there.
    pub async fn delete_clsact(&self, ifindex: u32) -> Result<()> {
        let index = i32::try_from(ifindex).context("ifindices are positive")?;
        let handle = self.handle.clone();
        let mut request = handle.qdisc().del(index);
        let header = &mut request.message_mut().header;
        header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
        header.handle = TcHandle { major: 0xffff, minor: 0 };
        match request.execute().await {
            Err(error) if error_number(&error) == Some(libc::EINVAL) => Ok(()),
            result => {
                unless_missing(result).with_context(|| format!("the qdisc of device {ifindex} cannot be removed"))
            }
        }
    }
}
