use super::*;

const NAT: GatewayMode = GatewayMode::Nat;
const ONE: Way<'_> = Way { network: "n", mode: NAT };

fn read(json: &str) -> (BTreeSet<Binding>, Vec<String>) {
    let mut causes = Vec::new();
    (inspected(&serde_json::from_str(json).expect("ports"), &mut causes), causes)
}

fn show(ports: &[DockerPort]) -> Vec<String> {
    let one = |port: &DockerPort| {
        let ip = port.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
        format!("{} {ip} {}:{}/{}", port.network, port.host, port.target, port.protocol)
    };
    ports.iter().map(one).collect()
}

fn through(json: &str, ipv4: Way<'_>, ipv6: Way<'_>) -> Vec<String> {
    let (bindings, causes) = read(json);
    assert_eq!(causes, Vec::<String>::new());
    show(&published("c", &bindings, ipv4, ipv6))
}

#[test]
fn forms_of_docker() {
    let all = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#;
    assert_eq!(through(all, ONE, ONE), ["n * 8080:80/tcp"]);
    assert_eq!(through(r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#, ONE, ONE), ["n * 8080:80/tcp"]);
    let one_version = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}"#;
    assert_eq!(through(one_version, ONE, ONE), ["n 0.0.0.0 8080:80/tcp"], "20.10 on a network without IPv6");
    let different = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"49153"},{"HostIp":"::","HostPort":"49154"}]}"#;
    assert_eq!(through(different, ONE, ONE), ["n 0.0.0.0 49153:80/tcp", "n :: 49154:80/tcp"]);
    let addresses = r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":"53"},{"HostIp":"::1","HostPort":"53"},
        {"HostIp":"::ffff:192.0.2.1","HostPort":"53"}]}"#;
    assert_eq!(through(addresses, ONE, ONE), ["n 127.0.0.1 53:53/udp", "n 192.0.2.1 53:53/udp", "n ::1 53:53/udp"]);
    let twice = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"1"},{"HostIp":"0.0.0.0","HostPort":"2"}]}"#;
    assert_eq!(through(twice, ONE, ONE), ["n 0.0.0.0 1:80/tcp", "n 0.0.0.0 2:80/tcp"], "one port published twice");
    assert_eq!(
        through(r#"{"132/sctp":[{"HostIp":"","HostPort":"132"}],"80/tcp":null,"81/tcp":[]}"#, ONE, ONE),
        ["n * 132:132/sctp"]
    );
    assert_eq!(
        through(r#"{"80/tcp":[{"HostIp":"","HostPort":""}],"81/tcp":[{"HostPort":"0"}],"82/tcp":[{}]}"#, ONE, ONE),
        [""; 0]
    );
}

#[test]
fn rows() {
    let ports: Vec<_> = (8000..=8205)
        .map(|port| {
            format!(
                r#""{port}/tcp":[{{"HostIp":"0.0.0.0","HostPort":"{port}"}},{{"HostIp":"::","HostPort":"{port}"}}]"#
            )
        })
        .collect();
    assert_eq!(through(&format!("{{{}}}", ports.join(",")), ONE, ONE), ["n * 8000-8205:8000-8205/tcp"]);
    let gaps = r#"{"1/tcp":[{"HostPort":"11"}],"2/tcp":[{"HostPort":"12"}],"4/tcp":[{"HostPort":"13"}],
        "5/tcp":[{"HostPort":"14"}],"5/udp":[{"HostPort":"15"}],"65535/tcp":[{"HostPort":"65535"}]}"#;
    assert_eq!(
        through(gaps, ONE, ONE),
        ["n * 11-12:1-2/tcp", "n * 13-14:4-5/tcp", "n * 65535:65535/tcp", "n * 15:5/udp"]
    );
    let apart = r#"{"1/tcp":[{"HostIp":"127.0.0.1","HostPort":"1"}],"2/tcp":[{"HostIp":"127.0.0.2","HostPort":"2"}]}"#;
    assert_eq!(through(apart, ONE, ONE), ["n 127.0.0.1 1:1/tcp", "n 127.0.0.2 2:2/tcp"]);
}

#[test]
fn each_version_its_way() {
    let other = Way { network: "six", mode: NAT };
    let all = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#;
    assert_eq!(through(all, ONE, other), ["n 0.0.0.0 8080:80/tcp", "six :: 8080:80/tcp"]);
    assert_eq!(
        through(r#"{"80/tcp":[{"HostPort":"8080"}]}"#, ONE, other),
        ["n 0.0.0.0 8080:80/tcp", "six :: 8080:80/tcp"]
    );
}

#[test]
fn routed_ports_are_opened_at_the_container() {
    let routed = Way { network: "n", mode: GatewayMode::Routed };
    for ports in [
        r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#,
        r#"{"80/tcp":[{"HostIp":"","HostPort":"0"}]}"#,
        r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#,
        r#"{"80/tcp":[{"HostIp":"192.0.2.1","HostPort":"8080"},{"HostIp":"::1","HostPort":""}]}"#,
    ] {
        assert_eq!(through(ports, routed, routed), ["n * 80:80/tcp"], "{ports}");
    }
    let all = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":""}]}"#;
    assert_eq!(through(all, ONE, routed), ["n 0.0.0.0 8080:80/tcp", "n :: 80:80/tcp"], "IPv6 routed, IPv4 translated");
}

#[test]
fn garbage_is_left_out_alone() {
    let (bindings, causes) = read(
        r#"{"eighty/tcp":[{"HostPort":"1"}],"0/tcp":[{"HostPort":"2"}],"70000/tcp":[{"HostPort":"3"}],
        "80/icmp":[{"HostPort":"4"}],"81/tcp":[{"HostPort":"70000"}],"82/tcp":[{"HostPort":"-1"}],
        "83/tcp":[{"HostIp":"invalid IP","HostPort":"5"}],"84/tcp":[{"HostIp":"","HostPort":"84"}]}"#,
    );
    assert_eq!(show(&published("c", &bindings, ONE, ONE)), ["n * 84:84/tcp"]);
    assert_eq!(causes.len(), 7, "{causes:?}");
    assert!(causes.iter().any(|cause| cause.contains("\"invalid IP\"")), "{causes:?}");
}

#[test]
fn the_list_says_the_same() {
    let json = r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,
        "PublicPort":8080,"Type":"tcp"},{"PrivatePort":99,"Type":"tcp"},{"IP":"127.0.0.1","PrivatePort":5,"PublicPort":6,
        "Type":"sctp"}]"#;
    let mut causes = Vec::new();
    let bindings = listed(&serde_json::from_str::<Vec<PortSummary>>(json).expect("ports"), &mut causes);
    assert_eq!(causes, Vec::<String>::new());
    assert_eq!(show(&published("c", &bindings, ONE, ONE)), ["n * 8080:80/tcp", "n 127.0.0.1 6:5/sctp"]);
    let same = r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"99/tcp":null,
        "5/sctp":[{"HostIp":"127.0.0.1","HostPort":"6"}]}"#;
    assert_eq!(bindings, read(same).0);
}
