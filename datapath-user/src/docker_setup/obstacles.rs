//! What keeps packets of containers from the datapath, or the datapath from being what decides about them.

use std::fs;
use std::path::Path;

use super::change::Scene;
use super::document::Document;
use super::rules::{self, Rules};
use super::serving::{REMEDY, Serving};
use super::{processes, status};
use crate::doctor::{Finding, Level, finding};

/// Everything that is looked at on a host with dockerd.
pub(super) fn findings(scene: &Scene) -> Vec<Finding> {
    let rules = rules::find();
    let mut findings = settings(scene);
    findings.push(serving(scene));
    findings.push(proxies());
    findings.push(old_rules(scene, &rules));
    findings.push(forward_policy(&rules));
    findings.extend(firewalls());
    findings.push(swarm(scene));
    findings
}

fn is_enabled(scene: &Scene) -> bool {
    let text = scene.file.text.as_deref();
    text.and_then(|text| Document::parse(text).ok()).is_some_and(|document| document.is_enabled())
}

/// The file, and whether dockerd runs with it.
fn settings(scene: &Scene) -> Vec<Finding> {
    let file = scene.file.path.display();
    let text = scene.file.text.as_deref().unwrap_or("{}");
    let told = match Document::parse(text) {
        Err(error) => finding("docker_settings", Level::Error, format!("{file}: {error:#}"), "correct the file"),
        Ok(_) if is_enabled(scene) => {
            finding("docker_settings", Level::Ok, format!("{file} leaves packets to the datapath"), "")
        }
        Ok(_) => finding(
            "docker_settings",
            Level::Warning,
            format!("{file} does not tell dockerd to leave packets to the datapath"),
            "`datapath docker enable`",
        ),
    };
    let restart = match (scene.dockerd.is_there(), status::restart_pending(scene)) {
        (false, _) => finding("docker_restart", Level::Note, "dockerd does not run", "start it"),
        (true, Some(false)) => finding("docker_restart", Level::Ok, "dockerd runs with what its file says", ""),
        (true, Some(true)) => finding(
            "docker_restart",
            Level::Warning,
            "dockerd was started before its file was changed",
            "restart dockerd: `systemctl restart docker`",
        ),
        (true, None) => finding(
            "docker_restart",
            Level::Note,
            "whether dockerd runs with what its file says cannot be seen from here",
            "restart dockerd if in doubt: `systemctl restart docker`",
        ),
    };
    vec![told, restart]
}

fn serving(scene: &Scene) -> Finding {
    let serving = Serving::find();
    let needed = is_enabled(scene) && scene.dockerd.is_there();
    let level = match serving {
        Serving::Yes => Level::Ok,
        // Without rules of either, containers reach each other and everything else.
        _ if needed => Level::Error,
        _ => Level::Note,
    };
    finding("docker_serving", level, serving.name(), REMEDY)
}

/// Processes of dockerd that publish ports; without dockerd too, they are in the way of our own.
#[must_use]
pub fn proxies() -> Finding {
    let count = processes::named("docker-proxy").len();
    finding(
        "docker_proxy",
        if count > 0 { Level::Warning } else { Level::Ok },
        format!("{count} docker-proxy running"),
        "they answer published ports in place of the datapath: `datapath docker enable`, then restart dockerd",
    )
}

fn old_rules(scene: &Scene, rules: &Rules) -> Finding {
    let found = if rules.is_empty() { "none".to_owned() } else { rules.places.join(", ") };
    let found = format!("rules of dockerd in packet filters: {found}");
    if rules.is_empty() {
        return finding("docker_rules", Level::Ok, found, "");
    }
    if status::runs_with_iptables(scene) == Some(true) {
        let remedy = "dockerd makes them: `datapath docker enable --restart` ends that and removes them";
        return finding("docker_rules", Level::Warning, found, remedy);
    }
    let remedy = format!("an earlier dockerd has left them: reboot, or `{}`", rules.removal_line());
    finding("docker_rules", Level::Warning, found, remedy)
}

/// dockerd sets it when it makes rules, and nobody sets it back. The datapath's own packets do not pass there; what a
/// bridge floods does, where br_netfilter makes it.
fn forward_policy(rules: &Rules) -> Finding {
    if rules.forward_drops.is_empty() {
        return finding("docker_forward_policy", Level::Ok, "FORWARD does not drop by default", "");
    }
    let bridges = ["iptables", "ip6tables"].iter().any(|family| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
    });
    let commands: Vec<_> = rules.forward_drops.iter().map(|program| format!("{program} -P FORWARD ACCEPT")).collect();
    let (level, effect) = match bridges {
        true => (Level::Warning, "what Docker's bridges flood (broadcast, multicast) is dropped by it"),
        false => (Level::Note, "the datapath does not pass there"),
    };
    finding(
        "docker_forward_policy",
        level,
        format!("FORWARD drops by default; {effect}"),
        format!(
            "if it was dockerd that has set it, and nothing else on this host relies on it: `{}`",
            commands.join(" && ")
        ),
    )
}

fn firewalls() -> Vec<Finding> {
    let firewalld = !processes::named("firewalld").is_empty();
    let ufw = fs::read_to_string("/etc/ufw/ufw.conf").is_ok_and(|text| ufw_is_enabled(&text));
    let effect = "active: it decides what containers reach on the host itself, and does not see published ports (nor did it \
                  with dockerd's own rules)";
    let remedy = |open: &str| {
        format!(
            "let containers reach the host's services with {open}; limit a published port by its address: `-p 127.0.0.1:…`"
        )
    };
    let of = |check: &str, active: bool, open: &str| {
        let found = if active { effect } else { "not active" };
        finding(check, if active { Level::Note } else { Level::Ok }, found, remedy(open))
    };
    vec![
        of("firewalld", firewalld, "`firewall-cmd --permanent --zone=trusted --add-interface=docker0`"),
        of("ufw", ufw && Path::new("/usr/sbin/ufw").exists(), "`ufw allow in on docker0`"),
    ]
}

fn ufw_is_enabled(text: &str) -> bool {
    text.lines().any(|line| line.trim().to_ascii_lowercase().replace(' ', "") == "enabled=yes")
}

fn swarm(scene: &Scene) -> Finding {
    match scene.dockerd.swarm() {
        Some(state) => finding(
            "docker_swarm",
            Level::Warning,
            format!("this host is in a swarm ({state})"),
            "its ingress and overlay networks live from iptables, which the datapath does not replace: `docker swarm leave`, \
             or `datapath docker disable`",
        ),
        None => finding("docker_swarm", Level::Ok, "not in a swarm", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::ufw_is_enabled;

    #[test]
    fn ufw() {
        assert!(ufw_is_enabled("# ENABLED=no\nENABLED=yes\n"));
        assert!(!ufw_is_enabled("#ENABLED=yes\nENABLED=no\n"));
    }
}
