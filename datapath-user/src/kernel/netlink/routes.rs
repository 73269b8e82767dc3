//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::{Netlink, collect, error_number, unless_missing};

/// The table that routes are in unless they say otherwise.
pub const MAIN_TABLE: u32 = 254;

/// A unicast route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The router, if there is one.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub ifindex: Option<u32>,
    /// The table.
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
}

impl Route {
    fn read(message: &RouteMessage) -> Option<Self> {
        if message.header.kind != RouteType::Unicast {
            return None;
        }
        let any: IpAddr = match message.header.address_family {
            rtnetlink::packet_route::AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            rtnetlink::packet_route::AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (mut destination, mut gateway, mut ifindex, mut metric) = (any, None, None, 0);
        let mut table = message.header.table.into();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = ip(address)?,
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Oif(index) => ifindex = Some(*index),
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Priority(priority) => metric = *priority,
                _ => {}
            }
        }
        let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
        Some(Self { destination, gateway, ifindex, table, metric })
    }

    /// The default route over a gateway.
    pub fn default_via(gateway: IpAddr, ifindex: u32, table: u32) -> Self {
        let any: IpAddr = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let destination = IpNet::new_assert(any, 0);
        Self { destination, gateway: Some(gateway), ifindex: Some(ifindex), table, metric: 0 }
    }

    /// Whether it leads everywhere.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Whether it is of this address's family.
    pub fn is_of(&self, address: IpAddr) -> bool {
        self.destination.addr().is_ipv4() == address.is_ipv4()
    }

    fn message(&self) -> Result<RouteMessage> {
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(self.destination.network(), self.destination.prefix_len())?
            .table_id(self.table)
            .protocol(RouteProtocol::Static)
            .kind(RouteType::Unicast);
        builder = match self.gateway {
            Some(gateway) => {
                ensure!(gateway.is_ipv4() == self.destination.addr().is_ipv4(), "a route of two families");
                builder.gateway(gateway)?.scope(RouteScope::Universe)
            }
            None if self.destination.addr().is_ipv4() => builder.scope(RouteScope::Link),
            None => builder,
        };
        if let Some(ifindex) = self.ifindex {
            builder = builder.output_interface(ifindex);
        }
        if self.metric > 0 {
            builder = builder.priority(self.metric);
        }
        Ok(builder.build())
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

impl Netlink {
    /// Every unicast route of every table.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let any = match version {
                IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
                IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
            };
            let dump = self.handle.route().get(any).execute();
            routes.extend(collect("routes", dump, |message| Route::read(&message)).await?);
        }
        Ok(routes)
    }

    /// Adds a route. It may be there already.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        match self.handle.route().add(route.message()?).execute().await {
            Err(error) if error_number(&error) == Some(libc::EEXIST) => Ok(()),
            result => result.with_context(|| format!("the route to {} cannot be added", route.destination)),
        }
    }

    /// Removes a route. It need not be there.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let deleted = unless_missing(self.handle.route().del(route.message()?).execute().await);
        deleted.with_context(|| format!("the route to {} cannot be removed", route.destination))
    }
}
