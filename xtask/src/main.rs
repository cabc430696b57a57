//! Developer commands: `cargo xtask COMMAND`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

mod bench;
mod demo;
mod drills;
mod kernels;
mod nix;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use primitives::simd::Simd;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the tests: installs the servers they need under target/tools, then calls nextest, or cargo test without it. Those
    /// that compare with the reference run on every code path of this machine first (AUTONOMYS_SIMD limits them to one)
    Test {
        /// Only the conformance tests
        #[arg(long)]
        vectors: bool,
        /// Passed on to the test runner: a filter, --no-capture, …; without any, everything is run
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install nats-server and Supervisor, as pinned, under target/tools
    Tools,
    /// Set up the local farm below a fresh prefix, time it to its first accepted solution, weigh its roles, stop it
    Demo {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the cases of docs/benchmarks.md, compare them with the reference and with this machine's limits, and bring the
    /// document up to date
    Bench(bench::Bench),
    /// Run the failure drills and bring the table of docs/book/drills.md up to date
    Drills {
        /// Only these, by their names in the table, whose other rows stay as they are
        names: Vec<String>,
    },
    /// Bring the pages of docs/book up to date that are written from the code
    Docs,
    /// Check the Nix files as far as that goes without GitHub and a binary cache; sets up Nix under target/tools where there is none
    NixCheck,
    /// Run the units that the NixOS modules make for one host under a systemd in a container, to accepted solutions and through a
    /// power cut; root, and some five minutes
    NixFarm {
        /// Directory with autonomys-farmer and autonomys-dev-node, instead of building them
        #[arg(long, value_name = "DIR")]
        binaries: Option<PathBuf>,
    },
    /// Compile the CUDA kernels for all supported cards into target/kernels.bundle, with NVRTC as pinned (installed under
    /// target/tools); fails when one spills registers or needs more than kernels/registers.txt has
    Kernels {
        /// Write the registers into the table
        #[arg(long)]
        accept: bool,
    },
    /// Format check and clippy, warnings as errors; cargo-deny where it is installed
    Lint,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Test { vectors, arguments } => test(vectors, &arguments),
        Task::Tools => tools().map(|directory| println!("The tools are in {}", directory.display())),
        Task::Lint => lint(),
        Task::Kernels { accept } => kernels::run(&root(), accept),
        Task::Demo { json } => demo(json),
        Task::Bench(options) => bench(&options),
        Task::Drills { names } => drills(&names),
        Task::Docs => docs(),
        Task::NixCheck => nix::check(&root()),
        Task::NixFarm { binaries } => nix_farm(binaries.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the workspace").to_owned()
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    provision::apply::set_by_cargo_run().for_each(|name| _ = command.env_remove(name));
    command.current_dir(root());
    command
}

fn run(mut command: Command) -> Result<()> {
    eprintln!("$ {}", display(&command));
    let status = command.status().with_context(|| format!("cannot run {}", display(&command)))?;
    if !status.success() {
        bail!("{} failed: {status}", display(&command));
    }
    Ok(())
}

fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether `cargo SUBCOMMAND` is installed.
fn has(subcommand: &str) -> bool {
    let mut command = cargo();
    command.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn tools() -> Result<PathBuf> {
    let directory = root().join("target/tools");
    provision::packages::install_tools(&directory)
        .context("cannot install nats-server and Supervisor for the tests")?;
    Ok(directory)
}

/// Beginning of the names of conformance tests that need the live network's reference string.
const LIVE_VECTORS: &str = "vectors_live_";

/// Beginning of the names of those that are the same under the development string.
const DEV_VECTORS: &str = "vectors_dev_";

/// Beginnings of the names of tests that cannot run here; says why.
fn left_out(vectors: bool) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    if env::var_os("AUTONOMYS_SRS").is_none() {
        eprintln!(
            "SKIPPED: every test named vectors_live_…: AUTONOMYS_SRS does not name the live network's reference string \
             (the same cases run under the development string)"
        );
        left_out.push(LIVE_VECTORS);
    }
    if !vectors && let Err(reason) = in_namespaces(&["--user", "--map-root-user"], &SMALL_DISK) {
        eprintln!(
            "SKIPPED: every test named full_disk_…: this system mounts no tmpfs in a user namespace ({reason}); allow \
             unprivileged user namespaces, or run as root outside a container, to have them"
        );
        left_out.push("full_disk_");
    }
    if !vectors && !SSHD.iter().any(|sshd| Path::new(sshd).exists()) {
        eprintln!(
            "SKIPPED: every test named ssh_… or fleet_…: there is no sshd here; `apt-get install openssh-server` has it"
        );
        left_out.extend(["ssh_", "fleet_"]);
    } else if !vectors && let Err(reason) = in_namespaces(&["--net", "--pid", "--fork"], &SMALL_DISK) {
        eprintln!(
            "SKIPPED: every test named fleet_…: only root may make network namespaces for an sshd ({reason}); run as root \
             outside a container to have them"
        );
        left_out.push("fleet_");
    }
    if !vectors && !has_promtool() {
        eprintln!(
            "SKIPPED: every test named promtool_…: there is no promtool in PATH or PROMTOOL; `apt-get install prometheus` \
             has it"
        );
        left_out.push("promtool_");
    }
    if !vectors {
        eprintln!(
            "SKIPPED: every test named drill_…: they count slots by the clock for half an hour, on a machine that \
             does nothing else: `cargo xtask drills`"
        );
        left_out.push("drill_");
    }
    left_out
}

/// Whether the alerts can be tested under Prometheus's own evaluation.
fn has_promtool() -> bool {
    let mut command = Command::new(env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into()));
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where sshd may be.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/run/current-system/sw/bin/sshd"];
/// Mounts a small disk, to see whether that may be.
const SMALL_DISK: [&str; 6] = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"];

/// Runs a command on a directory in mount namespaces, and others, that are gone at once.
fn in_namespaces(namespaces: &[&str], command: &[&str]) -> Result<(), String> {
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).arg("--mount").args(command);
    let output = unshare.arg(env::temp_dir()).output().map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
}

fn test(vectors: bool, arguments: &[String]) -> Result<()> {
    tools()?;
    let mut left_out = left_out(vectors);
    let everything = vectors || arguments.is_empty();
    let others = Simd::ALL.into_iter().filter(|simd| simd.is_available() && *simd < Simd::best());
    let others: Vec<Simd> =
        if everything && env::var_os("AUTONOMYS_SIMD").is_none() { others.collect() } else { Vec::new() };
    for simd in &others {
        // The live string brings no other code: the fastest path is enough for it.
        let left_out = [&left_out[..], &[LIVE_VECTORS]].concat();
        let mut command = run_tests(true, &left_out, arguments, &packages_with_code_paths());
        command.env("AUTONOMYS_SIMD", simd.name());
        eprintln!("The conformance tests on the code path {}:", simd.name());
        run(command)?;
    }
    if !others.is_empty() && !left_out.contains(&LIVE_VECTORS) {
        eprintln!(
            "Left out below: every test named vectors_dev_…, which runs as vectors_live_…, on other code paths it has run"
        );
        left_out.push(DEV_VECTORS);
    }
    run(run_tests(vectors, &left_out, arguments, &[]))?;
    if everything && !vectors { shim_tests() } else { Ok(()) }
}

/// The kernels on the CPU. Their feature is not for the programs that `apply` builds, so they are a build of their own.
fn shim_tests() -> Result<()> {
    let arguments = ["--release", "--workspace", "--locked", "--features", SHIM, "--test", "shim"];
    let mut command = cargo();
    if let Err(reason) = cplusplus() {
        eprintln!("SKIPPED: every test named shim_…: {reason}; `apt-get install g++` has a compiler");
        return Ok(());
    }
    if has("nextest") {
        command.args(["nextest", "run"]).args(arguments);
    } else {
        command.arg("test").args(arguments).args(["--", "--test-threads=1"]);
    }
    run(command)
}

/// The feature with which the kernels run on the CPU.
const SHIM: &str = "kernels/shim";

/// Whether there is a compiler for the shim.
fn cplusplus() -> Result<(), String> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++20", "-fsyntax-only", "-x", "c++", "/dev/null"]).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{} knows no C++20", compiler.display())),
        Err(error) => Err(format!("{} does not run ({error})", compiler.display())),
    }
}

/// The packages that have code of their own for some instruction sets, and the first set that has.
const WITH_CODE_PATHS: [(&str, Simd); 3] =
    [("proof-of-space", Simd::Avx2), ("archiving", Simd::Avx512), ("farming", Simd::Avx2)];

/// Those whose code on this machine's best path is not what every other path has.
fn packages_with_code_paths() -> Vec<&'static str> {
    let best = Simd::best();
    WITH_CODE_PATHS.iter().filter(|(_, first)| *first <= best).map(|(name, _)| *name).collect()
}

/// How many threads nextest has, unless the command line says it.
const TEST_THREADS: &str = "NEXTEST_TEST_THREADS";

/// The command that runs the tests of `packages`, or of all if there are none.
fn run_tests(vectors: bool, left_out: &[&str], arguments: &[String], packages: &[&str]) -> Command {
    let mut command = cargo();
    if has("nextest") {
        command.args(["nextest", "run", "--release", "--workspace", "--locked"]);
        // See `threads-required` in .config/nextest.toml.
        if env::var_os(TEST_THREADS).is_none() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.env(TEST_THREADS, (2 * cores).to_string());
        }
        if env::var_os("CI").is_some() {
            command.args(["--profile", "ci"]);
        }
        let mut filter = if vectors { "test(/(^|::)vectors_/)" } else { "all()" }.to_owned();
        for name in left_out {
            filter += &format!(" and not test(/(^|::){name}/)");
        }
        if !packages.is_empty() {
            let packages: Vec<String> = packages.iter().map(|name| format!("package({name})")).collect();
            filter += &format!(" and ({})", packages.join(" | "));
        }
        command.args(["-E", &filter]).args(arguments);
    } else {
        eprintln!("cargo-nextest is not installed: cargo test takes its place");
        command.args(["test", "--release", "--locked", "--no-fail-fast"]);
        if packages.is_empty() {
            command.arg("--workspace");
        }
        command.args(packages.iter().flat_map(|name| ["-p", name]));
        // One binary after the other, and inside a binary one test after the other: many of them start whole clusters.
        command.args(if vectors { &["--test", "vectors"][..] } else { &["--lib", "--bins", "--tests"] });
        command.args(arguments).args(["--", "--test-threads=1"]);
        for name in left_out {
            command.args(["--skip", name]);
        }
    }
    command
}

fn demo(json: bool) -> Result<()> {
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--locked",
        "-p",
        "farmer",
        "-p",
        "dev-node",
        "-p",
        "provision",
        "--bins",
    ]);
    run(build)?;
    demo::run(&root(), json)
}

fn bench(options: &bench::Bench) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "-p", "bench", "--bin", "autonomys-bench"]);
    run(build)?;
    bench::run(&root(), options)
}

fn nix_farm(binaries: Option<&Path>) -> Result<()> {
    let nats_server = tools()?.join("bin/nats-server");
    let Some(binaries) = binaries else {
        let mut build = cargo();
        build.args(["build", "--release", "--locked", "-p", "farmer", "-p", "dev-node", "--bins"]);
        run(build)?;
        return nix::farm::run(&root(), &root().join("target/release"), &nats_server);
    };
    nix::farm::run(&root(), binaries, &nats_server)
}

fn drills(names: &[String]) -> Result<()> {
    tools()?;
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--workspace", "--bins"]);
    run(build)?;
    drills::run(&root(), names)
}

/// The tests that compare these pages with the code write them when they are asked to.
fn docs() -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--release", "--locked", "-p", "farmer", "--lib", "the_reference_in_the_book"]);
    test.env("AUTONOMYS_WRITE_DOCS", "1");
    run(test)
}

fn lint() -> Result<()> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    run(format)?;
    let mut clippy = cargo();
    // In the profile of the tests: build scripts, procedural macros and C code are built once for both.
    let arguments =
        ["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    clippy.args(arguments);
    run(clippy)?;
    if cplusplus().is_ok() {
        let mut clippy = cargo();
        let arguments =
            ["clippy", "--release", "--workspace", "--locked", "--features", SHIM, "--test", "shim"];
        clippy.args(arguments).args(["--", "-D", "warnings"]);
        run(clippy)?;
    } else {
        eprintln!(
            "SKIPPED: clippy of the kernels' tests, which need a C++ compiler: `apt-get install g++` has one"
        );
    }
    if has("deny") {
        let mut deny = cargo();
        deny.args(["deny", "check", "licenses", "bans", "sources"]);
        run(deny)
    } else {
        eprintln!("SKIPPED: licences and sources of dependencies: cargo-deny is not installed");
        Ok(())
    }
}
