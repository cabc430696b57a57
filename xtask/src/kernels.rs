//! Compiles the kernels with NVRTC, as pinned, for all targets into one bundle, and watches registers and spills.

use anyhow::{Context, Result, bail};
use kernels::bundle::Bundle;
use kernels::nvrtc::{Nvrtc, Target};
use kernels::{Kernel, Sizes};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler, as PyPI has it.
const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.4.127";
/// SHA-256 of its wheel for Linux on x86-64.
const WHEEL_SHA256: &str = "a178759ebb095827bd30ef56598ec182b85547f1508941a3d560eb7ea1fbf338";
/// Registers of each kernel by target, which only `--accept` changes.
const TABLE: &str = "kernels/registers.txt";

/// What the compiler says of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Usage {
    registers: u32,
    shared_bytes: u32,
    spilled_bytes: u32,
}

/// By kernel and architecture.
type Usages = BTreeMap<(String, String), Usage>;

/// Compiles for all targets; writes `target/kernels.bundle`.
pub(crate) fn run(root: &Path, accept: bool) -> Result<()> {
    let nvrtc = Nvrtc::load(Some(&install(root)?))?;
    let (mut images, mut usages) = (Vec::new(), Usages::new());
    for target in Target::ALL {
        let begun = std::time::Instant::now();
        let compiled = nvrtc.compile(target)?;
        let architecture = target.architecture();
        let size = compiled.image.len();
        eprintln!("{architecture}: {size} bytes in {:.1} s", begun.elapsed().as_secs_f64());
        if matches!(target, Target::Cubin(_)) {
            for (kernel, usage) in parse(&compiled.log)? {
                usages.insert((kernel, architecture.clone()), usage);
            }
        }
        images.push((target, compiled.image));
    }
    check_complete(&usages)?;
    let path = root.join("target/kernels.bundle");
    let bytes = Bundle::new(images).to_bytes();
    Bundle::from_bytes(&bytes)?;
    fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {} bytes", path.display(), bytes.len());
    compare(&root.join(TABLE), &usages, accept)
}

/// Puts NVRTC under target/tools; returns its directory.
fn install(root: &Path) -> Result<PathBuf> {
    let directory = root.join("target/tools").join(WHEEL.replace("==", "-"));
    let libraries = directory.join("nvidia/cuda_nvrtc/lib");
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(libraries);
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let requirements = directory.join("requirements.txt");
    fs::write(&requirements, format!("{WHEEL} --hash=sha256:{WHEEL_SHA256}\n"))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]);
    // The compiler for this machine's C library; the wheel is the same on each.
    pip.args(["--platform", "manylinux2014_x86_64", "--dest"]).arg(&directory);
    pip.arg("--requirement").arg(&requirements);
    super::run(pip).context("cannot download NVRTC")?;
    let wheels: Vec<PathBuf> = fs::read_dir(&directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .collect();
    let [wheel] = wheels.as_slice() else {
        bail!("expected one wheel in {}, found {}", directory.display(), wheels.len());
    };
    // A wheel is a zip archive.
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&directory);
    super::run(unpack).context("cannot unpack NVRTC")?;
    fs::remove_file(wheel)?;
    fs::write(complete, "")?;
    Ok(libraries)
}

/// The number in front of `unit`.
fn number_before(line: &str, unit: &str) -> Option<u32> {
    line.split(unit)
        .next()
        .filter(|before| before.len() < line.len())?
        .split_whitespace()
        .last()?
        .parse()
        .ok()
}

/// Usage of each kernel out of a compiler's log.
fn parse(log: &str) -> Result<Vec<(String, Usage)>> {
    let mut found: Vec<(String, Usage)> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            found.push((rest.split('\'').next().unwrap_or_default().to_owned(), Usage::default()));
        }
        let Some((name, usage)) = found.last_mut() else { continue };
        if let Some(stores) = number_before(line, " bytes spill stores") {
            let loads = number_before(line, " bytes spill loads")
                .with_context(|| format!("{name}: no spill loads in {line:?}"))?;
            usage.spilled_bytes = stores + loads;
        }
        if let Some(registers) = number_before(line, " registers") {
            usage.registers = registers;
            usage.shared_bytes = number_before(line, " bytes smem").unwrap_or_default();
        }
    }
    Ok(found)
}

/// Every kernel that the host knows was compiled for every architecture, and the log said its registers.
fn check_complete(usages: &Usages) -> Result<()> {
    for target in Target::ALL.into_iter().filter(|target| matches!(target, Target::Cubin(_))) {
        for kernel in Kernel::ALL {
            let key = (kernel.name().to_owned(), target.architecture());
            if usages.get(&key).is_none_or(|usage| usage.registers == 0) {
                bail!("the compiler says nothing of kernel {} for {}", key.0, key.1);
            }
        }
    }
    Ok(())
}

/// The table as it is committed.
fn render(usages: &Usages) -> String {
    let threads = |name: &str| {
        let kernel = Kernel::ALL.iter().find(|kernel| kernel.name() == name);
        kernel.map_or(0, |kernel| kernel.threads(Sizes::NETWORK))
    };
    let mut text = format!(
        "# Registers a thread and bytes of shared memory a block, by {WHEEL}; `cargo xtask kernels` compares, with --accept writes.\n\
         # kernel architecture threads registers shared_bytes\n"
    );
    for ((kernel, architecture), usage) in usages {
        let Usage { registers, shared_bytes, .. } = usage;
        let _ = writeln!(text, "{kernel} {architecture} {} {registers} {shared_bytes}", threads(kernel));
    }
    text
}

/// Registers by kernel and architecture, out of the table.
fn recorded(text: &str) -> Result<BTreeMap<(String, String), u32>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kernel, architecture, _, registers, _] = words[..] else {
                bail!("expected five words, found {line:?}");
            };
            Ok(((kernel.to_owned(), architecture.to_owned()), registers.parse()?))
        })
        .collect()
}

/// Fails on spills, and on more registers than are recorded.
fn compare(table: &Path, usages: &Usages, accept: bool) -> Result<()> {
    let spills: Vec<String> = usages
        .iter()
        .filter(|(_, usage)| usage.spilled_bytes > 0)
        .map(|((kernel, architecture), usage)| {
            format!("{kernel} for {architecture} spills {} bytes of registers", usage.spilled_bytes)
        })
        .collect();
    if !spills.is_empty() {
        bail!("{}", spills.join("\n"));
    }
    if accept {
        return fs::write(table, render(usages)).with_context(|| format!("cannot write {}", table.display()));
    }
    let text = fs::read_to_string(table).with_context(|| format!("cannot read {}", table.display()))?;
    let recorded = recorded(&text).with_context(|| table.display().to_string())?;
    let mut grown = Vec::new();
    for ((kernel, architecture), usage) in usages {
        let before = recorded.get(&(kernel.clone(), architecture.clone()));
        if before.is_none_or(|before| usage.registers > *before) {
            let before = before.map_or("none".to_owned(), u32::to_string);
            grown.push(format!(
                "{kernel} for {architecture}: {} registers, recorded {before}",
                usage.registers
            ));
        }
    }
    if !grown.is_empty() {
        bail!(
            "registers that {} does not have; `cargo xtask kernels --accept` takes them:\n{}",
            table.display(),
            grown.join("\n")
        );
    }
    if render(usages) != text {
        eprintln!(
            "{} is out of date, for the better; `cargo xtask kernels --accept` writes it",
            table.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LOG: &str = "\
ptxas info    : 197 bytes gmem
ptxas info    : Compiling entry function 'match_7' for 'sm_90'
ptxas info    : Function properties for match_7
ptxas         .     64 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 55 registers, 49064 bytes smem
ptxas info    : Compiling entry function 'find_ties' for 'sm_90'
ptxas info    : Function properties for find_ties
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 20 registers
";

    fn usages(registers: u32, spilled_bytes: u32) -> Usages {
        let usage = Usage { registers, spilled_bytes, shared_bytes: 0 };
        Usages::from([(("find_ties".to_owned(), "sm_90".to_owned()), usage)])
    }

    #[test]
    fn the_log_is_read() {
        let [first, second] = parse(LOG).unwrap().try_into().unwrap();
        assert_eq!(first.0, "match_7");
        assert_eq!(first.1, Usage { registers: 55, shared_bytes: 49_064, spilled_bytes: 12 });
        assert_eq!(second, ("find_ties".to_owned(), Usage { registers: 20, ..Usage::default() }));
        assert!(check_complete(&usages(20, 0)).is_err());
    }

    #[test]
    fn spills_and_growth_fail() {
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path().join("registers.txt");
        assert!(compare(&table, &usages(20, 0), false).is_err(), "no table");
        assert!(compare(&table, &usages(20, 4), true).unwrap_err().to_string().contains("spills 4 bytes"));
        compare(&table, &usages(20, 0), true).unwrap();
        compare(&table, &usages(20, 0), false).unwrap();
        compare(&table, &usages(19, 0), false).unwrap();
        let error = compare(&table, &usages(21, 0), false).unwrap_err().to_string();
        assert!(error.contains("find_ties for sm_90: 21 registers, recorded 20"), "{error}");
        fs::write(&table, "find_ties sm_90 256\n").unwrap();
        assert!(compare(&table, &usages(20, 0), false).is_err(), "a malformed table");
    }
}
