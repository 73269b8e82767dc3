//! `datapath docker enable`, `disable` and `status`: the real program on files, packet filters and processes in a
//! namespace. dockerd is played by what answers or looks like it; what the real one does with the file is for the tests
//! that run it.

#[path = "docker_setup/host.rs"]
mod host;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use host::Host;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_datapath");

/// The start of a process is known to a hundredth of a second; what is before and after it has to be further away.
const CLOCK: std::time::Duration = std::time::Duration::from_millis(50);

/// The finding of a check, and how bad it is.
#[track_caller]
fn finding<'a>(status: &'a Value, check: &str) -> (&'a str, &'a Value) {
    let findings = status["findings"].as_array().or(status.as_array()).expect("a list");
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no finding {check}: {status:#}"));
    (found["level"].as_str().expect("a level"), found)
}

const MINE: &str =
    "{\n    \"log-driver\": \"journald\",\n    \"iptables\": true,\n    \"log-opts\": { \"tag\": \"x\" }\n}\n";

#[test]
fn enable_then_disable_is_the_identity_on_disk() {
    let host = Host::new();
    host.write(MINE);
    std::fs::set_permissions(host.file(), std::fs::Permissions::from_mode(0o640)).expect("settable");
    chown(host.file(), Some(1), Some(2)).expect("settable");
    let said = host.run("enable");
    assert!(said.contains("changed") && said.contains("start dockerd"), "{said}");
    assert_eq!(
        host.text(),
        "{\n    \"log-driver\": \"journald\",\n    \"iptables\": false,\n    \"log-opts\": { \"tag\": \"x\" },\n    \
         \"ip6tables\": false,\n    \"userland-proxy\": false\n}\n"
    );
    for path in [host.file(), host.backup()] {
        let metadata = std::fs::metadata(&path).expect("is there");
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1, 2), "{}", path.display());
    }
    assert_eq!(std::fs::read_to_string(host.backup()).expect("is there"), MINE);

    let before = std::fs::metadata(host.file()).expect("is there").ino();
    assert!(host.run("enable").contains("was not changed"));
    assert_eq!(std::fs::metadata(host.file()).expect("is there").ino(), before, "the second time does not write");

    host.run("disable");
    assert_eq!(host.text(), MINE);
    assert_eq!(host.names(), ["daemon.json"], "no backup and no temporary file is left");
    let metadata = std::fs::metadata(host.file()).expect("is there");
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1, 2));
    assert!(host.run("disable").contains("nothing to take back"));
    assert_eq!(host.text(), MINE);
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let host = Host::new();
    host.run("enable");
    assert_eq!(host.text(), "{\n  \"iptables\": false,\n  \"ip6tables\": false,\n  \"userland-proxy\": false\n}\n");
    host.run("disable");
    assert!(host.names().is_empty(), "{:?}", host.names());
}

#[test]
fn keys_that_were_set_before_stay_set() {
    let host = Host::new();
    let text = "{\"iptables\": false, \"ip6tables\": false, \"userland-proxy\": false}";
    host.write(text);
    host.run("enable");
    host.run("disable");
    assert_eq!(host.text(), text);
    assert!(host.run("disable").contains("stay false"), "without a backup they are not ours to take away");
    assert_eq!(host.text(), text);
}

#[test]
fn what_others_changed_since_stays() {
    let host = Host::new();
    host.write(MINE);
    host.run("enable");
    host.write(&host.text().replace("journald", "local").replace("\"ip6tables\": false", "\"ip6tables\": true"));
    let said = host.run("disable");
    assert!(said.contains("changed since") && said.contains("`ip6tables` was changed"), "{said}");
    assert_eq!(host.text(), MINE.replace("journald", "local").replace(" }\n}", " },\n    \"ip6tables\": true\n}"));
}

#[test]
fn enabled_again_after_a_change_by_hand_still_leads_back() {
    let host = Host::new();
    host.write(MINE);
    host.run("enable");
    host.write(&host.text().replace("\"ip6tables\": false", "\"ip6tables\": true"));
    host.run("enable");
    host.run("disable");
    assert_eq!(host.text(), MINE.replace(" }\n}", " },\n    \"ip6tables\": true\n}"));
}

#[test]
fn a_file_that_was_deleted_since_comes_back() {
    let host = Host::new();
    host.write(MINE);
    host.run("enable");
    std::fs::remove_file(host.file()).expect("removes");
    host.run("disable");
    assert_eq!((host.text().as_str(), host.names()), (MINE, vec!["daemon.json".to_owned()]));
}

#[test]
fn a_symbolic_link_stays_one() {
    let host = Host::new();
    std::fs::create_dir(host.folder.path().join("real")).expect("makes");
    let target = host.folder.path().join("real/docker.json");
    std::fs::write(&target, MINE).expect("writes");
    symlink("real/docker.json", host.file()).expect("links");
    host.run("enable");
    assert_eq!(std::fs::read_link(host.file()).expect("still a link"), Path::new("real/docker.json"));
    assert!(host.folder.path().join("real/docker.json.before-datapath").exists());
    assert!(std::fs::read_to_string(&target).expect("reads").contains("\"userland-proxy\": false"));
    host.run("disable");
    assert_eq!(std::fs::read_to_string(&target).expect("reads"), MINE);
}

#[test]
fn a_dry_run_changes_nothing_and_shows_all() {
    let host = Host::new();
    host.write(MINE);
    let said = host.run("enable --dry-run");
    for line in ["-    \"iptables\": true,", "+    \"iptables\": false,", "+    \"userland-proxy\": false"] {
        assert!(said.lines().any(|said| said == line), "{line} in {said}");
    }
    assert_eq!((host.text().as_str(), host.names()), (MINE, vec!["daemon.json".to_owned()]));
    host.run("enable");
    let json: Value = serde_json::from_str(&host.run("disable --dry-run --json")).expect("JSON");
    assert_eq!((&json["changed"], &json["dry_run"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(host.backup().exists());
}

#[test]
fn what_dockerd_would_not_start_with_is_refused() {
    let host = Host::new();
    host.refuse("enable --restart", "first");
    for (text, reason) in [
        ("", "empty"),
        ("{\"iptables\": true", "not JSON"),
        ("{} // mine", "not JSON"),
        ("[]", "not a JSON object"),
        ("{\"iptables\": true, \"iptables\": true}", "more than once"),
        ("{\"icc\": false}", "enable_icc=false"),
    ] {
        host.write(text);
        host.refuse("enable", reason);
    }
    std::fs::write(host.file(), b"{\"a\": \"\xff\"}").expect("writes");
    host.refuse("enable", "UTF-8");
    std::fs::remove_file(host.file()).expect("removes");
    symlink("nowhere.json", host.file()).expect("links");
    host.refuse("enable", "does not exist");
    std::fs::remove_file(host.file()).expect("removes");
    std::fs::create_dir(host.file()).expect("makes");
    host.refuse("enable", "is not a file");
    std::fs::remove_dir(host.file()).expect("removes");

    host.write(MINE);
    let _dockerd = host.process("dockerd", &["--iptables=true"]);
    host.refuse("enable", "started with --iptables");
}

#[test]
fn what_dockerd_says_is_heeded() {
    for (info, reason) in [
        (r#"{"ServerVersion": "20.10.24", "Swarm": {"LocalNodeState": "active"}}"#, "docker swarm leave"),
        (r#"{"ServerVersion": "19.03.9", "Swarm": {"LocalNodeState": "inactive"}}"#, "upgrade"),
        ("<html>", "does not answer as dockerd"),
    ] {
        let host = Host::new();
        host.write(MINE);
        host.answer(info);
        host.refuse("enable", reason);
    }
    let host = Host::new();
    host.write(MINE);
    host.answer(r#"{"ServerVersion": "20.10.24+dfsg1", "Swarm": {"LocalNodeState": "inactive"}}"#);
    host.run("enable");
    assert_eq!(host.status()["dockerd"]["version"], "20.10.24+dfsg1");
}

#[test]
fn status_knows_whether_a_restart_is_pending() {
    let host = Host::new();
    assert_eq!(host.status()["restart_pending"], Value::Null, "without dockerd there is nothing to restart");
    host.write("{}");
    std::thread::sleep(CLOCK);
    {
        let dockerd = host.process("dockerd", &[]);
        let status = host.status();
        assert_eq!((&status["enabled"], &status["restart_pending"]), (&Value::Bool(false), &Value::Bool(false)));
        assert_eq!(status["dockerd"]["pid"], dockerd.0.id());
        assert_eq!(status["dockerd"]["iptables"], Value::Bool(true));
        std::thread::sleep(CLOCK);
        assert!(host.run("enable").contains("restart") || host.run("enable").contains("start it again"));
        let status = host.status();
        assert_eq!((&status["enabled"], &status["restart_pending"]), (&Value::Bool(true), &Value::Bool(true)));
        assert_eq!(finding(&status, "docker_restart").0, "warning");
        assert_eq!(finding(&status, "docker_serving").0, "error", "no daemon serves these containers");
    }
    std::thread::sleep(CLOCK);
    let _dockerd = host.process("dockerd", &[]);
    let status = host.status();
    assert_eq!(
        (&status["restart_pending"], &status["dockerd"]["iptables"]),
        (&Value::Bool(false), &Value::Bool(false))
    );
    assert_eq!(finding(&status, "docker_restart").0, "ok");
}

#[test]
fn proxies_are_found_in_this_namespace_only() {
    let (host, other) = (Host::new(), Host::new());
    let _dockerd = host.process("dockerd", &[]);
    let _proxies = [host.process("docker-proxy", &[]), other.process("docker-proxy", &[])];
    let status = host.status();
    let (level, proxies) = finding(&status, "docker_proxy");
    assert_eq!((level, &proxies["found"]), ("warning", &Value::from("1 docker-proxy running")));

    let doctor = |host: &Host| -> Value {
        let socket = host.folder.path().join("nobody.sock");
        let words = ["doctor", "--json", "--socket", socket.to_str().expect("text")];
        serde_json::from_str(&host.namespace.output(BINARY, words).expect("runs").stdout).expect("JSON")
    };
    assert_eq!(finding(&doctor(&host), "docker_swarm").0, "ok", "doctor looks at dockerd where there is one");
    let without = doctor(&other);
    assert_eq!(finding(&without, "docker_proxy").0, "warning");
    assert!(!without.as_array().expect("a list").iter().any(|finding| finding["check"] == "docker_swarm"));
}

/// What dockerd 20.10 leaves, beside rules of the user's.
const LEFT: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -i docker0 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i mine0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 10.9.0.0/16 -o mine0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
";

#[test]
fn rules_of_an_earlier_dockerd_are_found_and_their_remedy_removes_them() {
    for kind in ["iptables-nft", "iptables-legacy"] {
        let host = Host::new();
        host.run("enable");
        let _dockerd = host.process("dockerd", &[]);
        assert_eq!(finding(&host.status(), "docker_rules").0, "ok");
        host.namespace.run_with_input(&format!("{kind}-restore"), [""; 0], LEFT).expect("restores");
        let status = host.status();
        let (level, rules) = finding(&status, "docker_rules");
        assert_eq!(level, "warning", "{kind}: {status:#}");
        assert!(rules["found"].as_str().expect("text").contains(kind), "{rules:#}");
        let (level, policy) = finding(&status, "docker_forward_policy");
        assert!(matches!(level, "note" | "warning"), "{policy:#}");

        let remedy = rules["remedy"].as_str().expect("text");
        let line = remedy.split('`').nth(1).unwrap_or_else(|| panic!("a command in {remedy}"));
        host.namespace.run("sh", ["-ec", line]).expect("the remedy works");
        assert_eq!(finding(&host.status(), "docker_rules").0, "ok", "{kind}");
        let save = host.namespace.run(&format!("{kind}-save"), [""; 0]).expect("saves");
        for theirs in ["-A INPUT -i docker0", "-A FORWARD -i mine0", "-s 10.9.0.0/16"] {
            assert!(save.contains(theirs), "{theirs} is the user's: {save}");
        }
        assert!(!save.contains("DOCKER") && !save.contains("172.17"), "{save}");
    }
}
