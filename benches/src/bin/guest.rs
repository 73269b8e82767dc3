//! What runs inside the virtual machine of `cargo xtask test --kernel 6.1` (F10): loads every program, then passes
//! switched and published TCP connections between namespaces of an older kernel, and one of stations that it learns; and has XDP keep somebody
//! out.
//!
//! It is the machine's init. It talks on the console, in lines that start with `guest:`; xtask waits for the verdict.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use benches::verifier;
use datapath_common::abi::{Settings, program_log};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
    sys::reboot::{RebootMode, reboot},
};

const OBJECT: &str = "/lib/datapath.o";
const CONNECT: Duration = Duration::from_secs(5);
/// Emulated processors are slow, and the verifier is not the only one to notice.
const START: Duration = Duration::from_secs(120);

const LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const LAN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const HOST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 11));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 12));
const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 0x11));
const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 0x12));
const STATION: Ipv4Addr = Ipv4Addr::new(10, 31, 0, 71);
const STATION_SERVER: Ipv4Addr = Ipv4Addr::new(10, 31, 0, 72);

fn main() {
    match test() {
        Ok(()) => println!("guest: verdict passed"),
        Err(error) => println!("guest: verdict failed: {}", format!("{error:#}").replace('\n', " | ")),
    }
    if std::process::id() == 1 {
        let never = reboot(RebootMode::RB_POWER_OFF);
        println!("guest: cannot power off: {never:?}");
    }
}

fn test() -> Result<()> {
    ensure!(std::process::id() == 1, "this is the init of a virtual machine; use `cargo xtask test --kernel 6.1`");
    mount_file_systems()?;
    load_modules()?;
    println!("guest: kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    let object = fs::read(OBJECT).context(OBJECT)?;
    let costs = verifier::costs(&object, &Settings::DEFAULT).context("loading the programs")?;
    println!("guest: costs {}", serde_json::to_string(&costs)?);
    let logging = Settings { program_log: program_log::TRACE, ..Settings::DEFAULT };
    let costs = verifier::costs(&object, &logging).context("loading the programs with all that they can log")?;
    println!("guest: with program log {}", serde_json::to_string(&costs)?);

    lay_wires()?;
    let mut daemon = start_daemon()?;
    let traffic = pass_traffic();
    if traffic.is_err() {
        for command in [&["status"][..], &["doctor"], &["endpoint", "ls"], &["port", "ls"]] {
            print!("{}", datapath(command).unwrap_or_else(|error| format!("{error:#}\n")));
        }
    }
    daemon.kill()?;
    daemon.wait()?;
    traffic
}

fn mount_file_systems() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/var"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(place)?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    Ok(())
}

/// xtask lists the modules in the order they must be loaded in.
fn load_modules() -> Result<()> {
    for module in fs::read_to_string("/modules/order").context("/modules/order")?.lines() {
        let file = File::open(Path::new("/modules").join(module)).with_context(|| module.to_owned())?;
        nix::kmod::finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {module}"))?;
    }
    Ok(())
}

/// A LAN machine and the host on one wire, and two namespaces for the endpoints.
fn lay_wires() -> Result<()> {
    for namespace in ["lan", "host", "c1", "c2"] {
        ip(&format!("netns add {namespace}"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
    }
    ip("link add wan0 netns host type veth peer name lan0 netns lan")?;
    for (namespace, device, v4, v6) in [("host", "wan0", HOST, HOST_V6), ("lan", "lan0", LAN, LAN_V6)] {
        ip(&format!("-n {namespace} address add {v4}/24 dev {device}"))?;
        ip(&format!("-n {namespace} address add {v6}/64 dev {device} nodad"))?;
        ip(&format!("-n {namespace} link set {device} up"))?;
    }
    Ok(())
}

fn pass_traffic() -> Result<()> {
    let status: serde_json::Value = serde_json::from_str(&datapath(&["status", "--json"])?)?;
    ensure!(status["attach"] == "clsact", "expected clsact on a kernel without TCX, but: {}", status["attach"]);

    datapath(&["network", "create", "app", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "--big-tcp"])?;
    for (name, v4, v6) in [("c1", CLIENT, CLIENT_V6), ("c2", SERVER, SERVER_V6)] {
        let (v4, v6) = (v4.to_string(), v6.to_string());
        datapath(&["attach", name, "--network", "app", "--name", name, "--ip", &v4, "--ip", &v6])?;
    }
    serve("c2", 80)?;

    for (server, client) in [(SERVER, CLIENT), (SERVER_V6, CLIENT_V6)] {
        expect_peer("c1", SocketAddr::new(server, 80), client).context("switched connection")?;
        println!("guest: switched TCP connection from {client} to {server}");
    }
    pass_large_packets()?;
    for host in [HOST, HOST_V6] {
        let refused = peer_seen("lan", SocketAddr::new(host, 8080));
        ensure!(refused.is_err(), "{host}:8080 answered before it was published");
    }
    datapath(&["publish", "8080:80", "c2"])?;
    for (host, client) in [(HOST, LAN), (HOST_V6, LAN_V6)] {
        expect_peer("lan", SocketAddr::new(host, 8080), client).context("published connection")?;
        println!("guest: published TCP connection from {client} to {host}");
    }
    keep_out()?;
    pass_stations()
}

/// This kernel has BIG TCP for IPv6, and not yet for IPv4, and the daemon says so.
fn pass_large_packets() -> Result<()> {
    const BYTES: usize = 16 << 20;

    let network: serde_json::Value = serde_json::from_str(&datapath(&["network", "inspect", "app", "--json"])?)?;
    let wanted = serde_json::json!({ "ipv4": 65_536, "ipv6": 196_608 });
    ensure!(network["big_tcp"] == wanted, "BIG TCP of the network is {}", network["big_tcp"]);
    for (server, large) in [(SERVER, false), (SERVER_V6, true)] {
        let to = SocketAddr::new(server, 81);
        let listener = inside("c2", move || Ok(TcpListener::bind(to)?))?;
        let sink = thread::spawn(move || std::io::copy(&mut listener.accept()?.0, &mut std::io::sink()));
        let [bytes, packets] = received("c2")?;
        inside("c1", move || Ok(TcpStream::connect_timeout(&to, CONNECT)?.write_all(&vec![7; BYTES])?))?;
        let arrived = sink.join().map_err(|_| anyhow::anyhow!("the sink panicked"))??;
        ensure!(arrived == BYTES as u64, "{arrived} of {BYTES} bytes arrived at {to}");
        let [bytes, packets] = [received("c2")?[0] - bytes, received("c2")?[1] - packets];
        let largest = 65_536 + 14;
        ensure!((bytes / packets > largest) == large, "{bytes} bytes came to {to} in {packets} packets");
        println!("guest: a stream to {to} in packets of {} bytes", bytes / packets);
    }
    Ok(())
}

/// Bytes and packets that a container's interface has received.
fn received(namespace: &str) -> Result<[u64; 2]> {
    let table = inside(namespace, || Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    let mut counters = line.split_whitespace();
    let mut next = || Ok::<u64, anyhow::Error>(counters.next().context("no counter")?.parse()?);
    Ok([next()?, next()?])
}

/// The XDP program is on the uplink, in its driver, and keeps out whom it is told to.
fn keep_out() -> Result<()> {
    let status: serde_json::Value = serde_json::from_str(&datapath(&["status", "--json"])?)?;
    ensure!(status["guard"]["uplinks"][0]["native"] == true, "the uplink has no XDP: {}", status["guard"]);
    let lan = [LAN.to_string(), LAN_V6.to_string()];
    let published = [(HOST, LAN), (HOST_V6, LAN_V6)];
    datapath(&["guard", "deny", &lan[0], &lan[1]])?;
    for (host, client) in published {
        ensure!(peer_seen("lan", SocketAddr::new(host, 8080)).is_err(), "{client} was let in, although it is denied");
    }
    let status: serde_json::Value = serde_json::from_str(&datapath(&["status", "--json"])?)?;
    ensure!(status["guard"]["dropped"]["denied"].as_u64() > Some(0), "XDP has dropped nothing: {}", status["guard"]);
    datapath(&["guard", "undeny", "--all"])?;
    datapath(&["guard", "limit", "syn", "100000"])?;
    for (host, client) in published {
        expect_peer("lan", SocketAddr::new(host, 8080), client).context("connection of one who was denied")?;
    }
    println!("guest: XDP has kept out whom it was told to");
    Ok(())
}

/// Two containers take other addresses than they were given: on a network that learns they are stations.
fn pass_stations() -> Result<()> {
    datapath(&["network", "create", "vms", "--subnet", "10.31.0.0/24", "--learning"])?;
    for (name, station) in [("c1", STATION), ("c2", STATION_SERVER)] {
        datapath(&["attach", name, "--network", "vms", "--name", name, "--ifname", "eth1"])?;
        let [.., number] = station.octets();
        ip(&format!("-n {name} address flush dev eth1"))?;
        ip(&format!("-n {name} link set eth1 address 02:00:00:00:00:{number}"))?;
        ip(&format!("-n {name} address add {station}/24 dev eth1"))?;
    }
    expect_peer("c1", SocketAddr::new(STATION_SERVER.into(), 80), STATION.into()).context("connection of stations")?;
    println!("guest: TCP connection of learnt stations from {STATION} to {STATION_SERVER}");
    Ok(())
}

/// Starts the daemon in the host's namespace and waits until it says it is ready.
fn start_daemon() -> Result<Child> {
    let mut daemon = inside("host", || {
        Ok(Command::new("/bin/datapath")
            .args(["daemon", "--xdp", "native", "--xdp-on-veth"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?)
    })?;
    let lines = BufReader::new(daemon.stderr.take().context("the daemon's stderr")?).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            println!("daemon: {line}");
            if line.trim() == "ready" && sender.send(()).is_err() {
                println!("guest: the daemon was ready too late");
            }
        }
    });
    if receiver.recv_timeout(START).is_err() {
        daemon.kill()?;
        bail!("the daemon was not ready within {} s", START.as_secs());
    }
    Ok(daemon)
}

/// Answers every connection with the address it comes from.
fn serve(namespace: &str, port: u16) -> Result<()> {
    let listener = inside(namespace, move || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?))?;
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answered = connection.and_then(|mut stream| {
                let peer = stream.peer_addr()?.ip().to_canonical();
                stream.write_all(peer.to_string().as_bytes())
            });
            if let Err(error) = answered {
                println!("guest: server: {error}");
            }
        }
    });
    Ok(())
}

fn expect_peer(namespace: &str, to: SocketAddr, expected: IpAddr) -> Result<()> {
    let seen = peer_seen(namespace, to)?;
    ensure!(seen == expected, "the server at {to} saw {seen}, not {expected}");
    Ok(())
}

/// Which client address the server at `to` sees.
fn peer_seen(namespace: &str, to: SocketAddr) -> Result<IpAddr> {
    let start = Instant::now();
    inside(namespace, move || {
        let mut stream = TcpStream::connect_timeout(&to, CONNECT).with_context(|| format!("connect to {to}"))?;
        stream.set_read_timeout(Some(CONNECT))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.parse()?)
    })
    .with_context(|| format!("after {} ms", start.elapsed().as_millis()))
}

/// Runs this in a thread that is in the namespace.
fn inside<T: Send + 'static>(namespace: &str, action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let thread = thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        action()
    });
    thread.join().unwrap_or_else(|_| bail!("a thread panicked in namespace {namespace}"))
}

fn ip(arguments: &str) -> Result<()> {
    output(Command::new("/bin/ip").args(arguments.split_whitespace())).map(drop)
}

fn datapath(arguments: &[&str]) -> Result<String> {
    output(Command::new("/bin/datapath").args(arguments))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, error.trim());
    Ok(String::from_utf8(output.stdout)?)
}
