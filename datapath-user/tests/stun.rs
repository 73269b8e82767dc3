//! Behaviours N1, N2 and N8 as a STUN client sees them: RFC 3489's names for what kind of NAT it is behind.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use lab::{Container, Lan, Namespace};
use support::{Scene, assert_no_leak};

/// The server's second address; the client finds by it what a mapping and a filter depend on.
const SECOND: &str = "10.99.0.11";

/// A program of the packages that `cargo xtask setup` unpacks.
fn program(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the tests are built below the target folder");
    let program = target.join("stun").join(path);
    assert!(program.exists(), "{} is missing; run `cargo xtask setup`", program.display());
    program
}

/// A running server; killed when this is dropped.
struct Stund(Child);

impl Stund {
    fn start(namespace: &Namespace) -> Self {
        namespace.ip(&format!("addr add {SECOND}/24 dev eth0")).expect("an address");
        let arguments = ["-h", Lan::INTERNET[0], "-a", SECOND];
        let mut command = namespace.command(program("usr/sbin/stund"), arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        Self(child)
    }
}

impl Drop for Stund {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the client says about the NAT, from this port and the next.
fn nat_of(container: &Container, port: u16) -> String {
    let port = port.to_string();
    let arguments = [Lan::INTERNET[0], "-p", &port];
    // Its exit status is the kind of NAT.
    let output = container.namespace.output(&program("usr/bin/stun").to_string_lossy(), arguments).expect("runs");
    let verdict = output.stdout.lines().chain(output.stderr.lines()).find_map(|line| line.strip_prefix("Primary: "));
    verdict.unwrap_or_else(|| panic!("no verdict in {output:?}")).trim_end().to_owned()
}

#[test]
fn n2_the_mapping_is_independent_preserves_ports_and_does_hairpin() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _server = Stund::start(&scene.lan().internet);
    let uplink = scene.watch_uplink();
    assert_eq!(nat_of(&a, 5_000), "Independent Mapping, Port Dependent Filter, preserves ports, will hairpin");
    // The same ports of another endpoint: one of the two has to appear with others.
    assert_eq!(nat_of(&b, 5_000), "Independent Mapping, Port Dependent Filter, random port, will hairpin");
    assert_eq!(nat_of(&b, 5_010), "Independent Mapping, Port Dependent Filter, preserves ports, will hairpin");
    assert_no_leak(uplink);
}
