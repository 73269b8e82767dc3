//! What each program costs the kernel's verifier: instructions it walked, and the deepest stack of any call chain.
//!
//! aya keeps the verifier's log only of a program that was refused, so the programs are loaded here once more, with
//! the log level that prints statistics (`BPF_LOG_STATS`, Linux 5.2). The maps are aya's; they are pinned in a folder
//! of their own and are gone afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    btf::BtfFeatures,
    generated::{BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type},
};
use datapath_common::abi::{Settings, map};
use serde::{Deserialize, Serialize};

/// What one program costs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions the verifier walked; it gives up at a million.
    pub instructions: u32,
    /// Bytes of stack of the deepest chain of calls; the kernel's limit is 512.
    pub stack: u32,
    /// That chain: functions and the bytes of their frames.
    pub deepest: Vec<String>,
}

/// `BPF_LOG_STATS` of include/linux/bpf_verifier.h.
const LOG_STATS: u32 = 4;
/// The module of functions that are called only where a load-time setting says so.
const OPTIONAL: &str = "datapath_ebpf::log::";
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
    let types = load_types(&mut object)?;
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
    let names = Names::of(&object);
    object.relocate_calls(&text)?;

    let (mut costs, mut refused) = (BTreeMap::new(), Vec::new());
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let (log, accepted) = load(program, function, &types).with_context(|| name.clone())?;
        match cost(&log, &function.instructions, &names) {
            Ok(cost) if accepted => drop(costs.insert(name.clone(), cost)),
            Ok(cost) => refused.push(format!("{name} was refused: {log}deepest chain: {}", cost.deepest.join(", "))),
            Err(error) => refused.push(format!("{name}: {error:#}: {log}")),
        }
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(costs)
}

/// Names of functions, by what survives linking: the opcodes.
struct Names(HashMap<Vec<u8>, String>);

impl Names {
    fn of(object: &Object) -> Self {
        Self(object.functions.values().map(|f| (opcodes(&f.instructions), f.name.clone())).collect())
    }

    fn name(&self, instructions: &[bpf_insn]) -> String {
        // rustc's names end in a hash.
        let name = self.0.get(&opcodes(instructions)).map_or("?", String::as_str);
        format!("{:#}", rustc_demangle::demangle(name))
    }
}

fn opcodes(instructions: &[bpf_insn]) -> Vec<u8> {
    instructions.iter().map(|instruction| instruction.code).collect()
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

/// Loads the object's BTF, as every kernel since 6.1 takes it.
fn load_types(object: &mut Object) -> Result<OwnedFd> {
    let types = object
        .fixup_and_sanitize_btf(&BtfFeatures::new(true, true, true, true, true, true, true, true))?
        .context("the object has no BTF; it is built with -C link-arg=--btf")?
        .to_bytes();
    // SAFETY: as in `load`.
    let mut attributes = unsafe { std::mem::zeroed::<bpf_attr>() };
    // SAFETY: as in `load`.
    let fields = unsafe { &mut attributes.__bindgen_anon_7 };
    fields.btf = types.as_ptr() as u64;
    fields.btf_size = u32::try_from(types.len())?;
    // SAFETY: BPF_BTF_LOAD reads the types, which outlive the call and have the length given.
    let returned = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_BTF_LOAD as u32, &raw mut attributes, size_of::<bpf_attr>())
    };
    ensure!(returned >= 0, "the kernel refused the object's BTF: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(returned)?) })
}

/// Loads the program, throws it away, and returns what the verifier printed and whether it accepted the program.
fn load(program: &Program, function: &Function, types: &OwnedFd) -> Result<(String, bool)> {
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
    fields.prog_btf_fd = u32::try_from(types.as_raw_fd())?;
    // Without it the verifier refuses callbacks.
    let functions = function.func_info.func_info_bytes();
    fields.func_info = functions.as_ptr() as u64;
    fields.func_info_rec_size = u32::try_from(function.func_info_rec_size)?;
    fields.func_info_cnt = u32::try_from(function.func_info.len())?;
    fields.log_level = LOG_STATS;
    fields.log_buf = log.as_mut_ptr() as u64;
    fields.log_size = u32::try_from(log.len())?;
    // SAFETY: BPF_PROG_LOAD reads the instructions, the license and the function records and writes the log, all of which
    // outlive the call and have the lengths given (the license ends with a zero).
    let returned = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_LOAD as u32, &raw mut attributes, size_of::<bpf_attr>())
    };
    let error = io::Error::last_os_error();
    let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..length]).into_owned();
    let descriptor = RawFd::try_from(returned)?;
    if descriptor < 0 {
        ensure!(!text.is_empty(), "the kernel refused it before looking at it: {error}");
        return Ok((text, false));
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok((text, true))
}

/// Reads `processed N insns` and `stack depth A+B+…` (one number per function, in order of their position).
fn cost(log: &str, instructions: &[bpf_insn], names: &Names) -> Result<Cost> {
    let word_after = |start: &str| {
        log.lines()
            .find_map(|line| line.strip_prefix(start))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or_else(|| anyhow!("the verifier printed no `{start}`"))
    };
    let mut frames: Vec<u32> =
        word_after("stack depth ")?.split('+').map(str::parse).collect::<Result<_, _>>().context("stack depth")?;
    let graph = CallGraph::of(instructions);
    let end = |function: usize| graph.starts.get(function + 1).copied().unwrap_or(instructions.len());
    let name = |function: usize| names.name(&instructions[graph.starts[function]..end(function)]);
    if frames.len() < graph.starts.len() {
        // What only settings that are off would call, the kernel has removed.
        for gone in (0..graph.starts.len()).filter(|function| name(*function).starts_with(OPTIONAL)) {
            frames.insert(gone.min(frames.len()), 0);
        }
    }
    ensure!(
        graph.starts.len() == frames.len(),
        "frames of {frames:?}, but functions {:?}",
        (0..graph.starts.len()).map(name).collect::<Vec<_>>()
    );
    let (stack, chain) = graph.deepest(0, &frames, &mut HashMap::new());
    let deepest = chain.into_iter().map(|function| format!("{} {}", name(function), frames[function])).collect();
    Ok(Cost { instructions: word_after("processed ")?.parse()?, stack, deepest })
}

/// Who calls whom in a linked program. Functions are numbered by position.
struct CallGraph {
    starts: Vec<usize>,
    callees: Vec<BTreeSet<usize>>,
}

impl CallGraph {
    fn of(instructions: &[bpf_insn]) -> Self {
        let calls = calls(instructions);
        let starts: BTreeSet<usize> = std::iter::once(0).chain(calls.iter().map(|(_, to)| *to)).collect();
        let starts: Vec<usize> = starts.into_iter().collect();
        let function_of = |position: usize| starts.partition_point(|start| *start <= position) - 1;
        let mut callees = vec![BTreeSet::new(); starts.len()];
        for (from, to) in calls {
            callees[function_of(from)].insert(function_of(to));
        }
        Self { starts, callees }
    }

    /// The deepest chain of calls from this function on, and the sum of its frames. BPF has no recursion, so this ends.
    ///
    /// Each frame is rounded up to 32 bytes, as `check_max_stack_depth` does: with a JIT only to 16 since Linux 6.8,
    /// but what is measured on a new kernel shall hold on an old one.
    fn deepest(
        &self,
        function: usize,
        frames: &[u32],
        known: &mut HashMap<usize, (u32, Vec<usize>)>,
    ) -> (u32, Vec<usize>) {
        if let Some(found) = known.get(&function) {
            return found.clone();
        }
        let below = self.callees[function].iter().map(|callee| self.deepest(*callee, frames, known));
        let (depth, chain) = below.max_by_key(|(depth, _)| *depth).unwrap_or_default();
        let found = (depth + frames[function].max(1).next_multiple_of(32), [vec![function], chain].concat());
        known.insert(function, found.clone());
        found
    }
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
        let found = cost(log, &program, &Names(HashMap::new())).expect("a whole log");
        assert_eq!((found.instructions, found.stack), (123, 64 + 64 + 32));
        assert_eq!(found.deepest, ["? 40", "? 33", "? 0"]);
    }

    #[test]
    fn a_log_without_statistics_is_an_error() {
        assert!(cost("", &[], &Names(HashMap::new())).is_err());
    }
}
