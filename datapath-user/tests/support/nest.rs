//! A container with a bridge in it, and stations behind that: what a host of virtual machines is.

use std::net::IpAddr;

use lab::{Container, Link, Mac, Namespace};

use super::{Scene, endpoint};

/// A container whose interface is a port of a bridge of its own. The bridge has the interface's addresses.
#[derive(Debug)]
pub struct Nest {
    pub container: Container,
    network: u8,
}

/// A machine behind a nest.
#[derive(Debug)]
pub struct Station {
    pub namespace: Namespace,
    pub mac: Mac,
    /// As [`endpoint`] has them.
    pub addresses: [IpAddr; 2],
}

impl Nest {
    /// Joins a container to network `number`, with the host number `host`, and builds its bridge.
    #[track_caller]
    pub fn join(scene: &Scene, name: &str, number: u8, host: u16) -> Self {
        let container = scene.join(name, number, host);
        let mac = container.namespace.mac("eth0").expect("a MAC");
        let [v4, v6] = endpoint(number, host);
        container.namespace.sysctl("ipv6/conf/eth0/disable_ipv6", "1").expect("set");
        container
            .namespace
            .ip(&format!(
                "addr flush dev eth0\nlink add br0 address {mac} type bridge mcast_snooping 0\nlink set eth0 master br0\n\
                 addr add {v4}/24 dev br0\naddr add {v6}/64 dev br0 nodad\nlink set br0 up\n\
                 route add default via 10.20.{number}.1 dev br0\nroute add default via fd20:{number}::1 dev br0"
            ))
            .expect("a bridge");
        Self { container, network: number }
    }

    /// A new station behind the bridge with this host number, which nobody gave to it.
    #[track_caller]
    pub fn station(&self, name: &str, host: u16) -> Station {
        let namespace = Namespace::new(name).expect("a namespace");
        let addresses = endpoint(self.network, host);
        let texts = [format!("{}/24", addresses[0]), format!("{}/64", addresses[1])];
        let texts = texts.each_ref().map(String::as_str);
        let device = format!("to-{name}");
        let port = Link { namespace: &self.container.namespace, name: &device, addresses: &[] };
        port.join(&Link { namespace: &namespace, name: "eth0", addresses: &texts }).expect("a link");
        self.container.namespace.ip(&format!("link set {device} master br0")).expect("a port");
        let gateway = format!("10.20.{}.1", self.network);
        namespace.ip(&format!("route add default via {gateway}")).expect("a route");
        let mac = namespace.mac("eth0").expect("a MAC");
        Station { namespace, mac, addresses }
    }
}
