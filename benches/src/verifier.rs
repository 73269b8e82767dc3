//! What each program costs the kernel's verifier: instructions it walked, and the deepest stack of any call chain.
//!
//! aya keeps the verifier's log only of a program that was refused, so the programs are loaded here once more, with
//! the log level that prints statistics (`BPF_LOG_STATS`, Linux 5.2). The maps are aya's; they are pinned in a folder
//! of their own and are gone afterwards.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    EbpfLoader,
    maps::{Map, MapData},
};
use aya_obj::{
    Function, Object, Program, ProgramSection,
    generated::{BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type},
};
use datapath_common::abi::{Settings, map};
use serde::{Deserialize, Serialize};

/// What one program costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions the verifier walked; it gives up at a million.
    pub instructions: u32,
    /// Bytes of stack of the deepest chain of calls; the kernel's limit is 512.
    pub stack: u32,
}

/// `BPF_LOG_STATS` of include/linux/bpf_verifier.h.
const LOG_STATS: u32 = 4;
const LOG_BYTES: usize = 64 * 1024;

/// The cost of every program of this object on the running kernel.
pub fn costs(object: &[u8], settings: &Settings) -> Result<BTreeMap<String, Cost>> {
    let pins = PinFolder::create()?;
    let maps = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .override_global(map::SETTINGS, settings, true)
        .load(object)
        .context("cannot create the maps of the BPF object")?;
    let descriptors: HashMap<&str, RawFd> =
        maps.maps().map(|(name, map)| Ok((name, descriptor(name, map)?))).collect::<Result<_>>()?;

    let mut object = Object::parse(object)?;
    let definitions: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
    let located = definitions
        .iter()
        .map(|(name, definition)| {
            let descriptor = descriptors.get(name.as_str()).with_context(|| format!("map {name} was not created"))?;
            Ok((name.as_str(), *descriptor, definition))
        })
        .collect::<Result<Vec<_>>>()?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(located.into_iter(), &text)?;
    object.relocate_calls(&text)?;

    let (mut costs, mut refused) = (BTreeMap::new(), Vec::new());
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        match load(program, function).and_then(|log| cost(&log, &function.instructions).context(log)) {
            Ok(cost) => drop(costs.insert(name.clone(), cost)),
            Err(error) => refused.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(costs)
}

/// A folder of our own on the BPF file system, removed with all its pins.
struct PinFolder(PathBuf);

impl PinFolder {
    fn create() -> Result<Self> {
        let folder = Path::new("/sys/fs/bpf").join(format!("datapath-verifier-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn descriptor(name: &str, map: &Map) -> Result<RawFd> {
    let data: &MapData = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::Unsupported(data) => data,
        other => bail!("map {name} is of a kind that is not counted on here: {other:?}"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}

/// Loads the program, throws it away, and returns what the verifier printed.
fn load(program: &Program, function: &Function) -> Result<String> {
    let kind = match program.section {
        ProgramSection::SchedClassifier => bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS,
        ProgramSection::Xdp { .. } => bpf_prog_type::BPF_PROG_TYPE_XDP,
        ref other => bail!("its section is of a kind that is not counted on here: {other:?}"),
    };
    let mut log = vec![0_u8; LOG_BYTES];
    // SAFETY: bpf_attr is a union of plain integers; the kernel demands that what is not set is zero.
    let mut attributes = unsafe { std::mem::zeroed::<bpf_attr>() };
    // SAFETY: every variant of a zeroed bpf_attr is valid.
    let fields = unsafe { &mut attributes.__bindgen_anon_3 };
    fields.prog_type = kind as u32;
    fields.insns = function.instructions.as_ptr() as u64;
    fields.insn_cnt = u32::try_from(function.instructions.len())?;
    fields.license = program.license.as_ptr() as u64;
    fields.log_level = LOG_STATS;
    fields.log_buf = log.as_mut_ptr() as u64;
    fields.log_size = u32::try_from(log.len())?;
    // SAFETY: BPF_PROG_LOAD reads the instructions and the license and writes the log, all of which outlive the call
    // and have the lengths given (the license ends with a zero).
    let returned = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_LOAD as u32, &raw mut attributes, size_of::<bpf_attr>())
    };
    let error = io::Error::last_os_error();
    let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..length]).into_owned();
    let descriptor = RawFd::try_from(returned)?;
    ensure!(descriptor >= 0, "the kernel refused it: {error}\n{text}");
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(text)
}

/// Reads `processed N insns` and `stack depth A+B+…` (one number per function, in order of their position).
fn cost(log: &str, instructions: &[bpf_insn]) -> Result<Cost> {
    let word_after = |start: &str| {
        log.lines()
            .find_map(|line| line.strip_prefix(start))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or_else(|| anyhow!("the verifier printed no `{start}`"))
    };
    let frames: Vec<u32> =
        word_after("stack depth ")?.split('+').map(str::parse).collect::<Result<_, _>>().context("stack depth")?;
    Ok(Cost { instructions: word_after("processed ")?.parse()?, stack: deepest_chain(instructions, &frames)? })
}

/// The sum of the frames along the deepest chain of calls, each rounded up as the verifier does (to 32 bytes in
/// `check_max_stack_depth`, or a multiple of 16 since Linux 6.8; 32 is the stricter).
fn deepest_chain(instructions: &[bpf_insn], frames: &[u32]) -> Result<u32> {
    let calls = calls(instructions);
    let starts: Vec<usize> = std::iter::once(0)
        .chain(calls.iter().map(|(_, to)| *to))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    ensure!(starts.len() == frames.len(), "{} functions, but {} frames in the log", starts.len(), frames.len());
    let function_of = |position: usize| starts.partition_point(|start| *start <= position) - 1;
    let mut callees = vec![HashSet::new(); starts.len()];
    for (from, to) in calls {
        callees[function_of(from)].insert(function_of(to));
    }
    let mut known = vec![None; starts.len()];
    Ok(depth(0, &callees, frames, &mut known))
}

/// BPF has no recursion, so this ends.
fn depth(function: usize, callees: &[HashSet<usize>], frames: &[u32], known: &mut Vec<Option<u32>>) -> u32 {
    if let Some(depth) = known[function] {
        return depth;
    }
    let below = callees[function].iter().map(|callee| depth(*callee, callees, frames, known)).max().unwrap_or(0);
    let total = frames[function].max(1).next_multiple_of(32) + below;
    known[function] = Some(total);
    total
}

/// Calls of BPF functions, and callbacks handed to helpers: from which instruction to which.
fn calls(instructions: &[bpf_insn]) -> Vec<(usize, usize)> {
    const CALL: u8 = 0x85;
    const LOAD_64: u8 = 0x18;
    instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| {
            let source = u32::from(instruction.src_reg());
            (instruction.code == CALL && source == BPF_PSEUDO_CALL)
                || (instruction.code == LOAD_64 && source == BPF_PSEUDO_FUNC)
        })
        .filter_map(|(from, instruction)| {
            let to = i64::try_from(from).ok()? + 1 + i64::from(instruction.imm);
            Some((from, usize::try_from(to).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, source: u32, imm: i32) -> bpf_insn {
        // SAFETY: bpf_insn is plain integers.
        let mut instruction = unsafe { std::mem::zeroed::<bpf_insn>() };
        instruction.code = code;
        instruction.set_src_reg(u8::try_from(source).expect("small"));
        instruction.imm = imm;
        instruction
    }

    #[test]
    fn cost_follows_the_deepest_chain() {
        let exit = instruction(0x95, 0, 0);
        // 0: calls 3; 1: calls 4; 2: exit; 3 (first function): exit; 4 (second): calls 6; 5: exit; 6 (third): exit.
        let program = [
            instruction(0x85, BPF_PSEUDO_CALL, 2),
            instruction(0x85, BPF_PSEUDO_CALL, 2),
            exit,
            exit,
            instruction(0x85, BPF_PSEUDO_CALL, 1),
            exit,
            exit,
        ];
        let log = "verification time 9 usec\nstack depth 40+8+33+0\nprocessed 123 insns (limit 1000000) max_states\n";
        let expected = Cost { instructions: 123, stack: 64 + 64 + 32 };
        assert_eq!(cost(log, &program).expect("a whole log"), expected);
    }

    #[test]
    fn a_log_without_statistics_is_an_error() {
        assert!(cost("", &[]).is_err());
    }
}
