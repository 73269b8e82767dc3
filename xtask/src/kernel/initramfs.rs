//! The virtual machine's file system: our binaries with the libraries they need beside them, and a few modules.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};

use super::image::Image;
use crate::shell::{self, find_program};

/// What is put in besides what every machine gets.
pub struct Contents {
    /// The daemon and command line.
    pub datapath: PathBuf,
    /// The test itself, which is init.
    pub guest: PathBuf,
    /// The BPF object.
    pub object: PathBuf,
}

/// Modules that are needed; what they depend on comes along.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf"];

/// Makes the archive, and returns where it is.
pub fn build(folder: &Path, image: &Image, contents: &Contents) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for place in ["bin", "lib", "modules", "proc", "sys", "dev", "run", "tmp", "var", "etc"] {
        fs::create_dir_all(root.join(place))?;
    }
    let ip = find_program("ip").context("ip is missing; run `cargo xtask setup`")?;
    for (from, name) in [(&contents.datapath, "datapath"), (&contents.guest, "guest"), (&ip, "ip")] {
        // Debug information would only have to be unpacked by an emulated processor.
        shell::run(shell::command("strip").arg("-o").arg(root.join("bin").join(name)).arg(from))?;
        copy_libraries(from, &root)?;
    }
    fs::copy(&contents.object, root.join("lib/datapath.o")).context("no BPF object; run `cargo xtask build`")?;
    symlink("bin/guest", root.join("init"))?;
    copy_modules(image, &root.join("modules"))?;
    archive(&root, &folder.join("initramfs.gz"))
}

/// The libraries `ldd` lists, the dynamic loader included, at the paths where the program looks for them.
fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    for line in shell::output(shell::command("ldd").arg(program))?.lines() {
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else {
            continue; // linux-vdso is no file
        };
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a library has a folder")?)?;
        fs::copy(library, &target).with_context(|| format!("cannot copy {library}"))?;
    }
    Ok(())
}

fn copy_modules(image: &Image, target: &Path) -> Result<()> {
    let available = module_files(&image.modules.join("kernel"))?;
    let mut order = Vec::new();
    for name in MODULES {
        add_module(name, &available, &mut order)?;
    }
    let mut list = String::new();
    for path in &order {
        let name = path.file_name().context("a module has a name")?;
        fs::copy(path, target.join(name))?;
        list.push_str(&format!("{}\n", name.to_string_lossy()));
    }
    Ok(fs::write(target.join("order"), list)?)
}

/// Appends the module after those it depends on.
fn add_module(name: &str, available: &BTreeSet<PathBuf>, order: &mut Vec<PathBuf>) -> Result<()> {
    let file_name = format!("{name}.ko");
    let path = available
        .iter()
        .find(|path| path.file_name().is_some_and(|found| found.to_string_lossy().replace('-', "_") == file_name))
        .with_context(|| format!("this kernel has no module {name}"))?;
    if order.contains(path) {
        return Ok(());
    }
    for dependency in dependencies(&fs::read(path)?) {
        add_module(&dependency, available, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The `depends=` entry of the module's `.modinfo`: zero-terminated strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    module
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .map(|list| {
            let list = String::from_utf8_lossy(list).replace('-', "_");
            list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        })
        .unwrap_or_default()
}

fn module_files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(module_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            found.insert(path);
        }
    }
    Ok(found)
}

/// `find | cpio | gzip`, without a shell.
fn archive(root: &Path, target: &Path) -> Result<PathBuf> {
    let list = shell::output(shell::command("find").arg(".").current_dir(root))?;
    let mut cpio = shell::command("cpio")
        .args(["--create", "--format=newc", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cpio is missing; run `cargo xtask setup`")?;
    let mut gzip = shell::command("gzip")
        .arg("-1")
        .stdin(cpio.stdout.take().context("cpio's output")?)
        .stdout(fs::File::create(target)?)
        .spawn()
        .context("cannot run gzip")?;
    cpio.stdin.take().context("cpio's input")?.write_all(list.as_bytes())?;
    ensure!(cpio.wait()?.success() && gzip.wait()?.success(), "cannot write {}", target.display());
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF\0license=GPL\0depends=nf-conntrack,libcrc32c\0name=x\0";
        assert_eq!(super::dependencies(module), ["nf_conntrack", "libcrc32c"]);
        assert!(super::dependencies(b"license=GPL\0depends=\0").is_empty());
    }
}
