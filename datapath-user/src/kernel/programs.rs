//! The datapath as a whole: programs loaded, maps adopted or made, hooks.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use aya::programs::TcAttachType;
use datapath_common::abi::{Program, Settings};
use serde::{Deserialize, Serialize};

use super::events::Events;
use super::flows::Flows;
use super::loaded::{Loaded, Object};
use super::netlink::{Direction, Link, Netlink};
use super::pins::Found;
use super::program_log::Lines;
use super::tables::Tables;
use super::xdp::{self, Refused};
use super::{bpf, clsact, pins, tcx};

/// How the user wants programs attached.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// tcx or nothing.
    Tcx,
    /// clsact, even where the kernel has tcx.
    Clsact,
}

impl FromStr for Attach {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcx" => Ok(Self::Tcx),
            "clsact" => Ok(Self::Clsact),
            _ => bail!("`{text}` is no way to attach; use auto, tcx or clsact"),
        }
    }
}

/// How programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Links in ordered chains.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

impl Attach {
    /// The mode on this kernel. An error names what is missing; nothing has been changed then (F10).
    pub fn choose(self) -> Result<Mode> {
        let has_tcx = || bpf::has_tcx().context("the kernel cannot be asked for tcx; the daemon needs root");
        match self {
            Self::Clsact => Ok(Mode::Clsact),
            Self::Auto => Ok(if has_tcx()? { Mode::Tcx } else { Mode::Clsact }),
            Self::Tcx if has_tcx()? => Ok(Mode::Tcx),
            Self::Tcx => bail!(
                "this kernel has no tcx, which came with Linux 6.6; start with `--attach clsact` or `--attach auto`"
            ),
        }
    }
}

/// Where in the chain of a device's programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Ahead of everybody: nobody else may pass a container's packet.
    First,
    /// Behind everybody: the host's own filters come first.
    Last,
}

/// Where a program belongs.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The program's name in the object.
    pub name: &'static str,
    /// Which way packets go.
    pub direction: TcAttachType,
    /// Where in the chain.
    pub place: Place,
}

impl Hook {
    /// The hook of a program.
    pub fn of(program: Program) -> Self {
        use TcAttachType::{Egress, Ingress};
        let (name, direction, place) = match program {
            Program::FromContainer => ("from_container", Ingress, Place::First),
            Program::ToContainer => ("to_container", Egress, Place::First),
            Program::ToHost => ("to_host", Ingress, Place::First),
            Program::FromHost => ("from_host", Egress, Place::First),
            Program::FromUplink => ("from_uplink", Ingress, Place::Last),
            Program::ToUplink => ("to_uplink", Egress, Place::Last),
            Program::FromLoopback => ("from_loopback", Egress, Place::Last),
            // Not at a hook of tc, but ahead of all that are: see `xdp`.
            Program::Guard => (xdp::PROGRAM, Ingress, Place::First),
        };
        Self { name, direction, place }
    }

    /// The direction as filters are asked for.
    pub fn netlink_direction(&self) -> Direction {
        match self.direction {
            TcAttachType::Ingress => Direction::Ingress,
            _ => Direction::Egress,
        }
    }
}

/// The present name of a device.
pub fn device_name(ifindex: u32) -> Result<String> {
    let name = nix::net::if_::if_indextoname(ifindex).with_context(|| format!("there is no device {ifindex}"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// How to open the datapath.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
    /// How to attach.
    pub attach: Attach,
    /// Whether to load the XDP program too.
    pub xdp: bool,
    /// Load-time settings.
    pub settings: Settings,
}

/// The loaded programs and their maps.
#[derive(Debug)]
pub struct Datapath {
    pin_dir: PathBuf,
    mode: Mode,
    /// With tcx: a daemon before may have attached by clsact.
    filters: bool,
    programs: Mutex<Loaded>,
    tables: Tables,
    flows: Flows,
}

static OBJECT: Object = Object {
    bytes: aya::include_bytes_aligned!(env!("DATAPATH_BPF_OBJECT")),
    digest: env!("DATAPATH_BPF_OBJECT_DIGEST"),
};
#[cfg(feature = "mutants")]
static FAULTY_OBJECT: Object = Object {
    bytes: aya::include_bytes_aligned!(env!("DATAPATH_FAULTY_BPF_OBJECT")),
    digest: env!("DATAPATH_FAULTY_BPF_OBJECT_DIGEST"),
};

impl Datapath {
    /// Loads the programs, with the maps of an earlier daemon or with new ones, or takes those of an earlier daemon where they are
    /// the same. Attaches nothing; what an earlier daemon attached runs on with its programs until
    /// [`attach`](Self::attach) replaces them one by one.
    ///
    /// Blocks while the kernel verifies.
    pub fn open(options: Options) -> Result<Self> {
        let Options { pin_dir, attach, xdp, settings } = options;
        let object = OBJECT;
        #[cfg(feature = "mutants")]
        let object = if settings.mutant == 0 { object } else { FAULTY_OBJECT };
        let mode = attach.choose()?;
        pins::prepare(&pin_dir)?;
        let found = pins::examine(&pin_dir, settings.flow_capacity)?;
        // Filters outlive the pins that tell of them.
        let filters = found == Found::Nothing || pins::had_filters(&pin_dir)?;
        if mode == Mode::Clsact {
            pins::note_filters(&pin_dir)?;
        }
        let opened = Loaded::open(&pin_dir, &settings, xdp, object).and_then(|programs| {
            let tables = Tables::open(&pin_dir)?;
            let flows = Flows::open(&pin_dir)?;
            pins::stamp_version(&pin_dir)?;
            Ok((programs, tables, flows))
        });
        match opened {
            Ok((programs, tables, flows)) => {
                let programs = Mutex::new(programs);
                Ok(Self { filters: mode == Mode::Tcx && filters, pin_dir, mode, programs, tables, flows })
            }
            Err(error) if found == Found::Nothing => {
                Err(match pins::remove_programs(&pin_dir).and_then(|()| pins::remove_maps(&pin_dir)) {
                    Ok(_) => error,
                    Err(undo) => error.context(format!("and the new maps could not be removed: {undo:#}")),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// How programs are attached.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The flows.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// A reader of drop events; at most one at a time. Needs a tokio runtime.
    pub fn events(&self) -> Result<Events> {
        Events::open(&self.pin_dir)
    }

    /// Attaches a program to a device of the host. Where it is attached already, the new program takes the old one's
    /// place in one step; where it is attached in the other mode, that ends only when the new one is in place.
    pub fn attach(&self, program: Program, ifindex: u32) -> Result<()> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let hook = Hook::of(program);
        let classifier = programs.program_mut(hook.name)?;
        let attached = match self.mode {
            Mode::Tcx => tcx::attach(&self.pin_dir, classifier, program, ifindex).and_then(|()| match self.filters {
                true => clsact::detach(program, ifindex).map(drop),
                false => Ok(()),
            }),
            Mode::Clsact => clsact::attach(&self.pin_dir, classifier, program, ifindex)
                .and_then(|()| tcx::detach(&self.pin_dir, program, ifindex).map(drop)),
        };
        attached.with_context(|| format!("{} cannot be attached to device {ifindex}", hook.name))
    }

    /// Attaches the XDP program to a device, in its driver; where it is attached already, the new program takes the old one's
    /// place in one step.
    pub fn guard(&self, link: &Link) -> Result<Result<(), Refused>> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        xdp::attach(&self.pin_dir, programs.guard_mut()?, link)
    }

    /// Detaches the XDP program from a device. It need not be attached.
    pub fn unguard(&self, ifindex: u32) -> Result<bool> {
        xdp::detach(&self.pin_dir, ifindex)
    }

    /// Every device that the XDP program was attached to, and whether it still is.
    pub fn guarded(&self) -> Result<Vec<(u32, bool)>> {
        xdp::attached(&self.pin_dir)
    }

    /// Detaches a program from a device. It need not be attached, and the device need not exist any more.
    pub fn detach(&self, program: Program, ifindex: u32) -> Result<()> {
        let link = tcx::detach(&self.pin_dir, program, ifindex);
        let filter = match self.mode {
            Mode::Clsact => clsact::detach(program, ifindex),
            Mode::Tcx => Ok(false),
        };
        link.and(filter).map(drop)
    }

    /// Every hook of tc where a program of ours is attached, with its device.
    pub async fn attached(&self, netlink: &Netlink) -> Result<Vec<(Program, u32)>> {
        match self.mode {
            Mode::Tcx => {
                let links = tcx::attached(&self.pin_dir)?.into_iter().filter(|link| link.alive);
                Ok(links.map(|link| (link.program, link.ifindex)).collect())
            }
            Mode::Clsact => clsact::attached(netlink).await,
        }
    }

    /// The same, and with tcx also where the device has gone, or somebody has detached it: the kernel is not asked of each.
    pub async fn hooks(&self, netlink: &Netlink) -> Result<Vec<(Program, u32)>> {
        match self.mode {
            Mode::Tcx => tcx::pinned(&self.pin_dir),
            Mode::Clsact => clsact::attached(netlink).await,
        }
    }

    /// Removes the pins of links whose devices are gone. Says how many.
    pub fn sweep_links(&self) -> Result<usize> {
        let dead: Vec<_> = tcx::attached(&self.pin_dir)?.into_iter().filter(|link| !link.alive).collect();
        for link in &dead {
            tcx::detach(&self.pin_dir, link.program, link.ifindex)?;
        }
        for name in pins::names_in(&pins::qdiscs(&self.pin_dir))? {
            let gone = name.parse().is_ok_and(|ifindex| device_name(ifindex).is_err());
            if gone {
                std::fs::remove_dir(pins::qdiscs(&self.pin_dir).join(name))?;
            }
        }
        Ok(dead.len())
    }

    /// What the programs log from now on. There is one reader of it.
    pub fn program_log(&self) -> Result<Lines> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        Lines::of(programs.program_mut(Hook::of(Program::FromContainer).name)?)
    }

    /// Where maps and links are pinned.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }
}
