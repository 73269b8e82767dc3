//! Carrying out the commands of the client.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::arguments::{
    AttachArguments, Command, CreateArguments, EndpointCommand, FdbCommand, FlowCommand, NetworkCommand, PortCommand,
};
use super::client::{Client, NotRunning, encode};
use super::{docker, guard, show};
use crate::api::PublishRequest;
use crate::doctor::{self, Finding, Level};
use crate::model::{AttachRequest, NetworkRequest};
use crate::view::{self, Event};

/// Carries out a command.
pub async fn run(client: &Client, command: Command, json: bool) -> Result<ExitCode> {
    match command {
        Command::Status => print(json, &client.get::<view::Status>("/status").await?, show::status)?,
        Command::Doctor => return doctor(client, json).await,
        Command::Network(command) => network(client, command, json).await?,
        Command::Endpoint(EndpointCommand::Ls) => {
            print(json, &client.get::<Vec<view::Endpoint>>("/endpoints").await?, |e| show::endpoints(e))?;
        }
        Command::Endpoint(EndpointCommand::Inspect { name }) => {
            let path = format!("/endpoints/{}", encode(&name));
            print(json, &client.get::<Vec<view::Endpoint>>(&path).await?, show::inspect)?;
        }
        Command::Attach(arguments) => {
            let endpoint: view::Endpoint = client.post("/endpoints", &attach_request(arguments)?).await?;
            print(json, &endpoint, show::attached)?;
        }
        Command::Detach { name, network } => {
            let query = network.map_or(String::new(), |network| format!("?network={}", encode(&network)));
            let path = format!("/endpoints/{}{query}", encode(&name));
            print(json, &client.delete::<Vec<view::Endpoint>>(&path).await?, |e| show::detached(e))?;
        }
        Command::Publish { port, name, network } => {
            let request = PublishRequest { port, endpoint: name, network };
            print(json, &client.post::<view::Port>("/ports", &request).await?, show::published)?;
        }
        Command::Unpublish { port } => {
            let path = format!("/ports?port={}", encode(&port));
            print(json, &client.delete::<view::Port>(&path).await?, show::unpublished)?;
        }
        Command::Port(PortCommand::Ls) => {
            print(json, &client.get::<Vec<view::Port>>("/ports").await?, |p| show::ports(p))?
        }
        Command::Fdb(FdbCommand::Ls { network }) => {
            let query = network.map_or(String::new(), |network| format!("?network={}", encode(&network)));
            print(json, &client.get::<Vec<view::FdbEntry>>(&format!("/fdb{query}")).await?, |f| show::fdb(f))?;
        }
        Command::Flow(FlowCommand::Ls { endpoint }) => {
            let query = endpoint.map_or(String::new(), |endpoint| format!("?endpoint={}", encode(&endpoint)));
            print(json, &client.get::<Vec<view::Flow>>(&format!("/flows{query}")).await?, |f| show::flows(f))?;
        }
        Command::Guard(command) => guard::run(client, command, json).await?,
        Command::Docker(command) => docker::run(command, json).await?,
        Command::Monitor { drops, endpoint } => monitor(client, drops, endpoint, json).await?,
        Command::Daemon(_) | Command::Bench(_) | Command::Completions { .. } => {
            unreachable!("these need no daemon, and are carried out before")
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn network(client: &Client, command: NetworkCommand, json: bool) -> Result<()> {
    match command {
        NetworkCommand::Create(arguments) => {
            let network: view::Network = client.post("/networks", &network_request(arguments)).await?;
            print(json, &network, show::created)
        }
        NetworkCommand::Ls => print(json, &client.get::<Vec<view::Network>>("/networks").await?, |n| show::networks(n)),
        NetworkCommand::Inspect { name } => {
            print(json, &client.get::<view::Network>(&format!("/networks/{}", encode(&name))).await?, show::inspect)
        }
        NetworkCommand::Rm { name } => {
            let path = format!("/networks/{}", encode(&name));
            print(json, &client.delete::<view::Network>(&path).await?, |network| {
                Ok(format!("network {} removed\n", network.name))
            })
        }
    }
}

fn network_request(arguments: CreateArguments) -> NetworkRequest {
    NetworkRequest {
        name: arguments.name,
        subnets: arguments.subnets,
        ipv6: arguments.ipv6,
        gateways: arguments.gateways,
        gateway_mode: arguments.gateway_mode.into(),
        internal: arguments.internal,
        no_icc: arguments.no_icc,
        no_masquerade: arguments.no_masquerade,
        mss_clamp: arguments.mss_clamp,
        learning: arguments.learning,
        ageing: arguments.ageing,
        mtu: arguments.mtu,
        big_tcp: arguments.big_tcp,
    }
}

fn attach_request(arguments: AttachArguments) -> Result<AttachRequest> {
    let AttachArguments { netns, network, name, aliases, ips, mac, ifname } = arguments;
    // The daemon has another working directory.
    let relative = netns.contains('/') && !netns.starts_with('/');
    let netns = if relative { std::path::absolute(Path::new(&netns))?.display().to_string() } else { netns };
    Ok(AttachRequest { netns, network, name, aliases, ips, mac, ifname })
}

/// Asks the daemon; without one, what can be seen of the host is better than nothing.
async fn doctor(client: &Client, json: bool) -> Result<ExitCode> {
    let findings = match client.get::<Vec<Finding>>("/doctor").await {
        Ok(findings) => findings,
        Err(error) if error.is::<NotRunning>() => {
            let mut findings = doctor::examine(None).await;
            findings.insert(
                0,
                Finding {
                    check: "daemon".to_owned(),
                    level: Level::Error,
                    found: format!(
                        "nothing answers on {}; the checks below are of the namespace of this command",
                        client.socket().display()
                    ),
                    remedy: "start it with `datapath daemon`, or name its socket with --socket".to_owned(),
                },
            );
            findings
        }
        Err(error) => return Err(error),
    };
    print(json, &findings, |findings| show::findings(findings))?;
    let bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn monitor(client: &Client, drops: bool, endpoint: Option<String>, json: bool) -> Result<()> {
    let endpoint = endpoint.map_or(String::new(), |endpoint| format!("&endpoint={}", encode(&endpoint)));
    let show = |line: &[u8]| -> Result<()> {
        if json {
            println!("{}", String::from_utf8_lossy(line));
        } else {
            print!("{}", show::event(&serde_json::from_slice::<Event>(line)?));
        }
        Ok(())
    };
    client.lines(&format!("/events?drops={drops}{endpoint}"), show).await
}

pub(super) fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> Result<String>) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        print!("{}", text(value)?);
    }
    Ok(())
}
