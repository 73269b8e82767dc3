//! The four assertions, without which a test of Docker proves nothing: the right client address (which every attempt
//! checks itself), no docker-proxy and no rule of netfilter, the counter of what is published, no leak on the uplink.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use lab::Capture;
use lab::docker::Rules;
use lab::frame::Transport;

use crate::scenario::Scenario;
use crate::scene::{Scene, is_inside};

const NO_ARGUMENTS: [&str; 0] = [];

/// What must hold after each scenario.
pub fn after(scene: &Scene, scenario: &Scenario, uplink: Capture) -> Result<()> {
    let proxies = proxies(scene)?;
    let tracked: u64 = scene.namespace().read_sysctl("netfilter/nf_conntrack_count")?.parse()?;
    let rules = rules(scene)?;
    match scene.rules {
        // The control: these would be seen.
        Rules::Stock => {
            ensure!(tracked > 0, "stock dockerd tracks no connection");
            ensure!(!rules.is_empty(), "stock dockerd has no rules");
        }
        Rules::Datapath => {
            ensure!(proxies.is_empty(), "docker-proxy runs: {proxies:?}");
            ensure!(tracked == 0, "the kernel tracks {tracked} connections");
            ensure!(rules.is_empty(), "there are rules of netfilter:\n{}", rules.join("\n"));
            check_uplink(scenario, uplink)?;
        }
    }
    Ok(())
}

/// Nothing of the inside is on the wire, and no question of an internal network.
fn check_uplink(scenario: &Scenario, uplink: Capture) -> Result<()> {
    let frames: Vec<_> = uplink.stop().into_iter().filter(|frame| !frame.outgoing).collect();
    if !scenario.routes_outside {
        let leaked: Vec<_> = frames.iter().filter(|frame| frame.view.source.is_some_and(is_inside)).collect();
        ensure!(leaked.is_empty(), "addresses of containers are on the uplink: {leaked:?}");
    }
    if scenario.silent_names {
        let asks = |transport| {
            matches!(transport, Transport::Udp { destination: 53, .. } | Transport::Tcp { destination: 53, .. })
        };
        let asked: Vec<_> = frames.iter().filter(|frame| asks(frame.view.transport)).collect();
        ensure!(asked.is_empty(), "names of an internal network are asked outside: {asked:?}");
    }
    Ok(())
}

/// The command lines of docker-proxy in the host.
pub fn proxies(scene: &Scene) -> Result<Vec<String>> {
    let pids = lab::run("ip", ["netns", "pids", scene.namespace().name()])?;
    let command_line = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let lines = pids.split_whitespace().map(command_line).map(|line| line.replace('\0', " "));
    Ok(lines.filter(|line| line.split(' ').next().is_some_and(|name| name.ends_with("docker-proxy"))).collect())
}

/// All rules of netfilter but those in our one bridge table, one a line, by both kinds of iptables and by nft.
pub fn rules(scene: &Scene) -> Result<Vec<String>> {
    let host = scene.namespace();
    let mut found = Vec::new();
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        found.extend(host.run(program, NO_ARGUMENTS)?.lines().filter(|line| line.starts_with("-A")).map(str::to_owned));
    }
    let tables = host.run("nft", ["list", "tables"])?;
    let (ours, others): (Vec<_>, Vec<_>) = tables.lines().partition(|table| table.starts_with("table bridge "));
    ensure!(ours.len() <= 1, "more than one table of the bridge family: {ours:?}");
    for table in others {
        let words = ["list"].into_iter().chain(table.split_whitespace());
        let text = host.run("nft", words)?;
        // An empty table or chain, such as the iptables command leaves by looking, is in nobody's way.
        let is_rule = |line: &&str| line.starts_with("\t\t") && !line.trim_start().starts_with("type ");
        found.extend(text.lines().filter(is_rule).map(|line| format!("{table}: {}", line.trim())));
    }
    Ok(found)
}

/// The ports of the host that Docker says it has published: number, and whether by TCP.
pub fn published_ports(scene: &Scene) -> Result<HashSet<(u16, bool)>> {
    let mut found = HashSet::new();
    for container in scene.docker.running()? {
        let published = container.published()?.into_iter();
        found.extend(published.filter_map(|port| Some((port.host?, port.protocol == "tcp"))));
    }
    Ok(found)
}

/// How many flows our daemon has counted at published ports; nothing where it does not run.
pub fn published_flows(scene: &Scene) -> Result<Option<u64>> {
    let Some(host) = scene.datapath() else { return Ok(None) };
    let ports = host.json(["port", "ls"])?;
    let ports = ports.as_array().context("`port ls --json` is a list")?;
    Ok(Some(ports.iter().filter_map(|port| port["hits"].as_u64()).sum()))
}

/// What was sent to published ports is what our counters say.
pub fn published_counted(scene: &Scene, before: Option<u64>, sent: usize) -> Result<()> {
    if let (Some(before), Some(after)) = (before, published_flows(scene)?) {
        let counted = after.saturating_sub(before);
        ensure!(counted == sent as u64, "{sent} flows went to published ports, and {counted} were counted");
    }
    Ok(())
}

/// The host as it is, for the message of a failed test.
pub fn picture(scene: &Scene) -> String {
    let run = |program: &str, arguments: &[&str]| {
        scene.namespace().run(program, arguments).unwrap_or_else(|error| format!("{error:#}"))
    };
    let docker = |line| scene.docker.line(line).unwrap_or_else(|error| format!("{error:#}"));
    [
        docker("ps --all --format {{.Names}}\\t{{.Status}}\\t{{.Networks}}\\t{{.Ports}}"),
        run("ip", &["-brief", "address"]),
        scene.datapath().map_or_else(String::new, |host| {
            let ports = host.datapath(["port", "ls"]).unwrap_or_else(|error| format!("{error:#}"));
            format!("{ports}\n{}", host.daemon_log())
        }),
    ]
    .join("\n")
}
