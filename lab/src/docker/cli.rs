//! The docker command of Debian, told which dockerd to talk to.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::container::{DockerContainer, Inspected};
use super::{image, programs};
use crate::command::Output;
use crate::http;

/// A client of one dockerd.
#[derive(Clone, Debug)]
pub struct Docker {
    folder: PathBuf,
}

impl Docker {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A command of Docker's packages that talks to this dockerd only, and reads nobody's configuration.
    pub(super) fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        programs::prefer(&mut command);
        command
            .env("DOCKER_HOST", format!("unix://{}/docker.sock", self.folder.display()))
            .env("DOCKER_CONFIG", self.folder.join("client"))
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION");
        command
    }

    /// `docker …`, and all it said.
    pub fn output(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        let mut command = self.client(programs::program("usr/bin/docker")?);
        command.args(arguments);
        Output::of(command, None)
    }

    /// `docker …`, which must succeed; what it printed, without the last line's end.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        Ok(self.output(arguments)?.ok()?.trim_end().to_owned())
    }

    /// `docker <line>`, split at white space.
    pub fn line(&self, line: &str) -> Result<String> {
        self.command(line.split_whitespace())
    }

    /// `docker run --detach --name <name> <options>` with the echo server as its program, on these ports. It is ready
    /// when this returns.
    pub fn serve(&self, name: &str, options: &str, ports: &[u16]) -> Result<DockerContainer> {
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let run = ["run", "--detach", "--name", name];
        let program = [image::NAME, "serve", name].into_iter().chain(ports.iter().map(String::as_str));
        self.command(run.into_iter().chain(options.split_whitespace()).chain(program))?;
        let container = self.container(name)?;
        container.wait_until_listening()?;
        Ok(container)
    }

    /// A container that runs, by its name.
    pub fn container(&self, name: &str) -> Result<DockerContainer> {
        DockerContainer::enter(Inspected::of(self.inspect("container", name)?)?)
    }

    /// What dockerd says of a container that runs, asked within a millisecond or two.
    pub fn inspected(&self, name: &str) -> Result<Inspected> {
        let text = http::get(&self.folder.join("docker.sock"), &format!("/containers/{name}/json"))?;
        Inspected::of(serde_json::from_str(&text)?)
    }

    /// All containers that run.
    pub fn running(&self) -> Result<Vec<Inspected>> {
        let names = self.line("ps --format {{.Names}}")?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.command(["inspect", "--type", "container"].into_iter().chain(names.lines()))?;
        let list: Vec<Value> = serde_json::from_str(&text)?;
        list.into_iter().map(Inspected::of).collect()
    }

    /// `docker inspect --type <kind> <name>`.
    pub fn inspect(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.command(["inspect", "--type", kind, name])?;
        let mut list: Value = serde_json::from_str(&text)?;
        list.get_mut(0).map(Value::take).with_context(|| format!("inspect of {name} printed {text}"))
    }

    /// The names of all containers, running or not.
    pub fn containers(&self) -> Result<Vec<String>> {
        let text = self.line("ps --all --format {{.Names}}")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Removes all containers, and all networks but Docker's own three.
    pub fn remove_everything(&self) -> Result<()> {
        // One command would remove one after the other.
        let containers = self.containers()?;
        let removed: Result<Vec<_>> = std::thread::scope(|scope| {
            let remove = |name| scope.spawn(move || self.command(["rm", "--force", "--volumes", name]));
            let started: Vec<_> = containers.iter().map(|name| remove(name.as_str())).collect();
            let ended = started.into_iter().map(|thread| thread.join());
            ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        removed?;
        let networks = self.line("network ls --filter type=custom --format {{.Name}}")?;
        if !networks.is_empty() {
            self.command(["network", "rm"].into_iter().chain(networks.lines()))?;
        }
        Ok(())
    }

    /// The name of a network's bridge device.
    pub fn bridge(&self, network: &str) -> Result<String> {
        let network = self.inspect("network", network)?;
        if let Some(name) = network["Options"]["com.docker.network.bridge.name"].as_str() {
            return Ok(name.to_owned());
        }
        let id = network["Id"].as_str().and_then(|id| id.get(..12)).context("a network has an id")?;
        Ok(format!("br-{id}"))
    }
}
