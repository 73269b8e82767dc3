//! The files in `captured` are what dockerd 20.10.24 answered, with `"iptables": false` and `"userland-proxy": false`.

use super::*;

fn read(json: &str) -> Container {
    let from: ContainerInspectResponse = serde_json::from_str(json).expect("a container");
    let (container, causes) = Container::inspected(from.id.as_deref().unwrap_or_default(), &from);
    assert_eq!(causes, Vec::<String>::new());
    container
}

#[test]
fn captured_containers() {
    let web = read(include_str!("captured/container-web.json"));
    assert_eq!((web.name.as_str(), web.joined.len(), web.bindings.len()), ("web", 1, 7));
    assert!(web.joined[0].gateway_ipv4 && !web.joined[0].gateway_ipv6 && web.joined[0].aliases.is_empty());

    let multi = read(include_str!("captured/container-multi.json"));
    assert_eq!((multi.joined.len(), multi.bindings.len()), (3, 6));
    let aliases: Vec<_> = multi.joined.iter().flat_map(|joined| joined.aliases.as_slice()).collect();
    assert_eq!(aliases.len(), 2, "the short id is not among them: {aliases:?}");
    assert_eq!(multi.joined.iter().filter(|joined| joined.gateway_ipv6).count(), 1);

    let shares = read(include_str!("captured/container-shares.json"));
    assert_eq!(shares, Container { name: "shares".to_owned(), ..Container::default() }, "the endpoints are another's");
}

#[test]
fn the_list_says_the_same() {
    let list: Vec<ContainerSummary> =
        serde_json::from_str(include_str!("captured/containers.json")).expect("containers");
    assert_eq!(list.len(), 4);
    for (name, json) in [
        ("web", include_str!("captured/container-web.json")),
        ("multi", include_str!("captured/container-multi.json")),
        ("six", include_str!("captured/container-six.json")),
        ("shares", include_str!("captured/container-shares.json")),
    ] {
        let inspected = read(json);
        let named = |entry: &&ContainerSummary| entry.names.as_deref() == Some(&[format!("/{name}")]);
        let entry = list.iter().find(named).expect("it is listed");
        let (listed, causes) = Container::listed(entry.id.as_deref().unwrap_or_default(), entry);
        assert_eq!(causes, Vec::<String>::new());
        assert!(inspected.matches_listed(&listed), "{inspected:?}\n{listed:?}");
        assert_eq!(inspected.joined.is_empty(), inspected.matches_listed(&Container::default()), "{name}");
    }
}

#[test]
fn links_are_no_names() {
    let entry = r#"{"Id":"a","Names":["/other/alias","/own"],"State":"running"}"#;
    assert_eq!(Container::listed("a", &serde_json::from_str(entry).expect("an entry")).0.name, "own");
}

#[test]
fn only_running_ones_count() {
    let state = |state: &str| {
        let json = format!(
            r#"{{"Id":"a","Name":"/x","State":{state},"NetworkSettings":{{"Ports":{{"80/tcp":[{{"HostPort":"80"}}]}},
            "Networks":{{"n":{{"NetworkID":"n1","EndpointID":"e1","Gateway":"10.0.0.1"}}}}}}}}"#
        );
        let container = read(&json);
        (container.joined.len(), container.bindings.len())
    };
    assert_eq!(state(r#"{"Status":"running","Running":true}"#), (1, 1));
    assert_eq!(state(r#"{"Status":"paused","Running":true,"Paused":true}"#), (1, 1));
    assert_eq!(state(r#"{"Status":"restarting","Running":true,"Restarting":true}"#), (0, 0));
    assert_eq!(state(r#"{"Status":"exited","Running":false}"#), (0, 0));
    assert_eq!(state("null"), (0, 0));
    for (state, runs) in [("running", true), ("paused", true), ("restarting", false), ("exited", false), ("", false)] {
        let entry = format!(
            r#"{{"Id":"a","Names":["/x"],"State":"{state}","Ports":[{{"PrivatePort":1,"PublicPort":2,"Type":"tcp"}}]}}"#
        );
        let container = Container::listed("a", &serde_json::from_str(&entry).expect("an entry")).0;
        assert_eq!(container.bindings.len() == 1, runs, "{state}");
    }
}

#[test]
fn fields_of_newer_versions() {
    // API 1.52 (dockerd 29): no addresses beside Networks; GwPriority, DNSNames; aliases without the short id.
    let container = read(
        r#"{"Id":"6c3b81aa00112233","Name":"/web","State":{"Status":"running","Running":true,"Paused":false,
        "Restarting":false},"NetworkSettings":{"SandboxID":"s","SandboxKey":"/var/run/docker/netns/s","Ports":{"80/tcp":
        [{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]},"Networks":{"a":{"IPAMConfig":null,
        "Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":5,"NetworkID":"n1","EndpointID":"e1","Gateway":"10.0.0.1",
        "IPAddress":"10.0.0.2","MacAddress":"8a:fd:92:00:00:01","IPPrefixLen":24,"IPv6Gateway":"","GlobalIPv6Address":"",
        "GlobalIPv6PrefixLen":0,"DNSNames":null},"b":{"Aliases":["db","db","6c3b81"],"GwPriority":0,"NetworkID":"n2",
        "EndpointID":"e2","Gateway":"","IPv6Gateway":"fd00::1","DNSNames":["web","db","6c3b81aa0011"]},
        "c":{"NetworkID":"n3","EndpointID":""}}}}"#,
    );
    let [a, b] = container.joined.as_slice() else { panic!("{container:?}") };
    assert_eq!((a.priority, a.gateway_ipv4, a.gateway_ipv6), (5, true, false));
    assert_eq!((b.priority, b.gateway_ipv4, b.gateway_ipv6), (0, false, true));
    assert_eq!(b.aliases, ["db", "6c3b81"], "an alias that is a part of the id was chosen by the user");
}
