//! The command line. Parsed here, acted on by the library, said by `output`.

mod plans;

use crate::apply::{self, Options};
use crate::document::Document;
use crate::error::{Error, ExitCode, HostFailure, Result};
use crate::events::Event;
use crate::facts::BuildFacts;
use crate::import::{self, Import};
use crate::inventory::{Severity, Source};
use crate::layout::Layout;
use crate::limits::{self, Limit};
use crate::output::{Form, Output};
use crate::resolve::{Cluster, Host, Overrides};
use crate::transfer::Origin;
use crate::transport::{self, Local, Transport, file_error};
use crate::trust::{self, Trust};
use crate::{derive, doctor, explain, export, lock, logs, manual, monitoring, render, status, transfer};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// One inventory turns bare hosts into a farm, and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "provision", version, propagate_version = true, after_help = EXIT_HELP)]
pub struct Cli {
    /// Say everything as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const EXIT_HELP: &str = "`provision exit-codes` lists the exit codes.";

/// What every command needs to know.
#[derive(Debug, Clone, Args)]
struct Target {
    /// The inventory
    #[arg(value_name = "INVENTORY", env = "PROVISION_INVENTORY", default_value = "inventories/local.yaml")]
    inventory: PathBuf,
    /// Put everything of this machine below this directory, whatever the inventory says
    #[arg(long, value_name = "DIR", env = "PROVISION_PREFIX")]
    prefix: Option<PathBuf>,
    /// Add this to every port of this machine: for a second cluster
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
    /// Keep the development reference string here: several clusters may share it
    #[arg(long, value_name = "DIR")]
    dev_srs_cache: Option<PathBuf>,
    /// Install the binaries of this directory instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Work on so many hosts at once
    #[arg(long, value_name = "N", default_value_t = apply::FORKS, value_parser = parse_forks)]
    forks: usize,
    /// Only these: hosts, groups, role:NAME, tag:NAME; with ! in front all but these
    #[arg(long, value_name = "NAME,…", allow_hyphen_values = true)]
    limit: Vec<String>,
}

fn parse_forks(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(forks @ 1..=1024) => Ok(forks),
        _ => Err("a number from 1 to 1024".to_string()),
    }
}

/// How to run.
#[derive(Debug, Clone, Args)]
struct Run {
    /// Multiply every deadline by this: slow machines
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    patience: f64,
    /// Do not wait for the first accepted solution
    #[arg(long)]
    no_wait: bool,
}

/// What of a host is meant.
#[derive(Debug, Clone, Args)]
struct Roles {
    /// Only this role or program, for example plot-client; repeatable
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the inventory and whether this machine is fit for it; touches nothing
    Check(Target),
    /// Show what apply would do; touches nothing
    Plan(plans::PlanArgs),
    /// Why a host's programs run where they run: GPU, cores, memory, ports, sectors, each with what decided it
    Explain {
        /// The host
        #[arg(value_name = "HOST")]
        host: String,
        #[command(flatten)]
        target: Target,
    },
    /// Build, install and start what is missing, and wait until the cluster farms; or execute a plan that `plan --out` saved
    Apply {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        run: Run,
        /// Show what changes in files, too
        #[arg(long)]
        diff: bool,
    },
    /// Show what on the hosts is not as the inventory wants it; touches nothing
    Drift {
        #[command(flatten)]
        target: Target,
        /// Show files in full: what is there against what is wanted
        #[arg(long)]
        diff: bool,
    },
    /// Start what is installed
    Start {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        roles: Roles,
        #[command(flatten)]
        run: Run,
    },
    /// Stop in order; data stays
    Stop {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        roles: Roles,
    },
    /// Restart what runs, one host after the other and each program behind its gate
    Restart {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        roles: Roles,
        /// Multiply every deadline by this: slow machines
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        patience: f64,
    },
    /// Put back the configuration and the binaries that stood on the hosts before a run
    Rollback {
        #[command(flatten)]
        target: Target,
        /// Go back to before this run, as `--list` names it, instead of the last one that changed something
        #[arg(long, value_name = "RUN", conflicts_with = "list")]
        to: Option<String>,
        /// Show what each run changed; touches nothing
        #[arg(long)]
        list: bool,
        /// Multiply every deadline by this: slow machines
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        patience: f64,
    },
    /// Who is at work on the hosts, and how to end a run that hangs
    #[command(subcommand)]
    Lock(LockCommand),
    /// How every role and the cluster are
    Status(Target),
    /// The last lines of the logs
    Logs {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        roles: Roles,
        /// Go on with new lines until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Lines of each log
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        lines: usize,
    },
    /// Write the configuration files into a directory instead of a host
    Render {
        #[command(flatten)]
        target: Target,
        /// The directory
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write Prometheus's configuration, alert rules and a Grafana dashboard into a directory; asks no host
    Monitoring {
        #[command(flatten)]
        target: Target,
        /// The directory
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Print the inventory with nothing left open, as JSON: what services.autonomys.cluster of the NixOS modules takes
    Resolve(Target),
    /// Print the JSON Schema of inventories, for editors
    Schema,
    /// What is wrong, why it matters and what mends it, the worst first
    Doctor(Target),
    /// Show the keys of hosts that are reached over SSH, and pin those that are new in the inventory
    Trust {
        #[command(flatten)]
        target: Target,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write completions for a shell to standard output
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command into a directory
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Bring an archive of a node's database to node hosts and have their nodes go on with it
    ///
    /// The archive (tar, or tar in gzip or zstd) holds `db`, at its root or in its only directory. It is brought whole and
    /// checked, gone on with after any interruption, and unpacked beside the live database; the node is stopped for two
    /// renames, one host after the other, and has its old database back when it is not ready on the new one.
    #[command(allow_missing_positional = true)]
    ImportNodeDb {
        #[command(flatten)]
        target: Target,
        /// The archive: a file of this machine, or a URL that the hosts fetch
        #[arg(value_name = "FILE|URL", required = true)]
        archive: Origin,
        /// Only to these hosts [default: all that have a node]
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// Send at most so many bytes a second, over all hosts together: 500K, 20M, 1G
        #[arg(long, value_name = "RATE", value_parser = transfer::parse_rate)]
        bwlimit: Option<u64>,
        /// The archive has this SHA-256
        #[arg(long, value_name = "HEX", value_parser = transfer::parse_sha256)]
        sha256: Option<String>,
        /// Multiply every deadline by this: slow machines
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        patience: f64,
    },
    /// Make all pieces of the history from a node and hand them to the plotters' full-piece caches
    ///
    /// Runs autonomys-export-piece beside the node, verifies what it made, brings it to each plotter and swaps it in as a whole
    /// when the cache is not being filled. Cut off anywhere, the same command goes on.
    ExportPiece {
        #[command(flatten)]
        target: Target,
        /// Host of the node [default: the first that has one]
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// Only to this plotter; repeatable [default: to all]
        #[arg(long = "to", value_name = "NAME")]
        receivers: Vec<String>,
        /// Multiply every deadline by this: slow machines
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
        patience: f64,
    },
    /// List the exit codes
    ExitCodes,
    /// Serve another machine's provision over standard input and output
    #[command(hide = true)]
    Remote,
}

#[derive(Debug, Subcommand)]
enum LockCommand {
    /// Who is at work on each host, for how long, and whether it hangs
    Status(Target),
    /// End the runs that hold the locks, after showing whose they are
    Break {
        #[command(flatten)]
        target: Target,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command line of this process; returns its exit code.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Remote) {
        return transport::remote::main();
    }
    let output = Output::new(if cli.json { Form::Json } else { Form::Text });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Error::Internal(format!("cannot start a runtime: {error}"))),
        Ok(runtime) => {
            let result = runtime.block_on(async {
                tokio::select! {
                    result = act(cli.command, &output) => result,
                    () = interrupted() => Err(Error::Interrupted),
                }
            });
            // Nobody waits for a thread that still reads a large file.
            runtime.shutdown_background();
            result
        }
    };
    let code = result.unwrap_or_else(|error| {
        output.error(&error);
        error.exit_code()
    });
    std::process::ExitCode::from(code as u8)
}

/// SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn overrides(target: &Target) -> Result<Overrides> {
    Ok(Overrides {
        prefix: target.prefix.as_deref().map(absolute).transpose()?,
        port_offset: target.port_offset,
        dev_srs_cache: target.dev_srs_cache.as_deref().map(absolute).transpose()?,
        binaries: (target.binaries.as_deref().map(absolute).transpose()?)
            .map(|directory| (directory.join("autonomys-farmer"), directory.join("autonomys-dev-node"))),
    })
}

fn load(target: &Target, output: &Output) -> Result<Cluster> {
    load_with_source(&target.inventory, &overrides(target)?, output).map(|(cluster, _)| cluster)
}

fn load_with_source(
    inventory: &std::path::Path,
    overrides: &Overrides,
    output: &Output,
) -> Result<(Cluster, Source)> {
    let (cluster, source, findings) = apply::load(inventory, overrides)?;
    output.findings(&findings, &source);
    Ok((cluster, source))
}

/// The hosts that are meant.
fn hosts<'a>(cluster: &'a Cluster, target: &Target) -> Result<Vec<&'a Host>> {
    Limit::parse(&target.limit)?.hosts(cluster)
}

/// The hosts that are meant and have programs of these roles.
fn hosts_with<'a>(cluster: &'a Cluster, target: &Target, roles: &Roles) -> Result<Vec<&'a Host>> {
    let meant = limits::programs_meant(cluster, &hosts(cluster, target)?, &roles.roles)?;
    Ok(meant.into_iter().map(|(host, _)| host).collect())
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(file_error("cannot name the directory", path))
}

fn options(target: &Target, run: &Run) -> Options {
    // Under `cargo run` the user types that again, not the path of the binary.
    let cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    let mut invocation =
        if cargo { "cargo run --release -p provision --".to_string() } else { "provision".to_string() };
    if let Some(prefix) = &target.prefix
        && std::env::var_os("PROVISION_PREFIX").is_none()
    {
        invocation = format!("PROVISION_PREFIX={} {invocation}", prefix.display());
    }
    let inventory = match target.port_offset {
        Some(offset) => format!("{} --port-offset {offset}", target.inventory.display()),
        None => target.inventory.display().to_string(),
    };
    let (patience, forks) = (run.patience, target.forks);
    Options { patience, invocation, inventory, wait_for_solution: !run.no_wait, forks, ..Options::default() }
}

async fn act(command: Command, output: &Output) -> Result<ExitCode> {
    match command {
        Command::Check(target) => check(&target, output).await?,
        Command::Plan(args) => plans::plan(&args, output).await?,
        Command::Apply { target, run, diff } => plans::apply(&target, &run, diff, output).await?,
        Command::Drift { target, diff } => return plans::drift(&target, diff, output).await,
        Command::Start { target, roles, run } => {
            let cluster = load(&target, output)?;
            let hosts = hosts_with(&cluster, &target, &roles)?;
            let options = Options { roles: roles.roles, ..options(&target, &run) };
            let connections = apply::connect_to(hosts, target.forks).await;
            apply::start(&cluster, connections, &options, output.sink()).await?;
        }
        Command::Explain { host, target } => explain_host(&host, &target, output).await?,
        Command::Restart { target, roles, patience } => {
            let cluster = load(&target, output)?;
            let hosts = hosts_with(&cluster, &target, &roles)?;
            let run = Run { patience, no_wait: true };
            let options = Options { roles: roles.roles, ..options(&target, &run) };
            let connections = apply::connect_to(hosts, target.forks).await;
            apply::restart(&cluster, connections, &options, output.sink()).await?;
        }
        Command::Stop { target, roles } => {
            let cluster = load(&target, output)?;
            let hosts = hosts_with(&cluster, &target, &roles)?;
            let options = Options { forks: target.forks, roles: roles.roles, ..Options::default() };
            let connections = apply::connect_to(hosts, target.forks).await;
            let stopped = apply::stop(&cluster, connections, &options, output.sink()).await?;
            let text = format!("{} stopped; data stays\n", crate::error::count(stopped, "program"));
            output.result(&serde_json::json!({"stopped": stopped}), &text);
        }
        Command::Rollback { target, to, list, patience } => {
            roll_back(&target, to.as_deref(), list, patience, output).await?
        }
        Command::Lock(LockCommand::Status(target)) => {
            let cluster = load(&target, output)?;
            let connections = apply::connect_to(hosts(&cluster, &target)?, target.forks).await;
            output.locks(&lock::status(&connections, target.forks).await);
        }
        Command::Lock(LockCommand::Break { target, yes }) => break_locks(&target, yes, output).await?,
        Command::Doctor(target) => return examine(&target, output).await,
        Command::Trust { target, yes } => trust_hosts(&target, yes, output).await?,
        Command::Completions { shell } => manual::completions(Cli::command(), shell, output),
        Command::Man { directory } => manual::pages(Cli::command(), &directory, output).await?,
        Command::Status(target) => {
            let cluster = load(&target, output)?;
            let connections = apply::connect_to(hosts(&cluster, &target)?, target.forks).await;
            let status = status::status(&cluster, &connections, target.forks).await;
            output.status(&status);
            return Ok(if status.healthy() { ExitCode::Ok } else { ExitCode::Down });
        }
        Command::Logs { target, roles, follow, lines } => {
            show_logs(&target, &roles.roles, follow, lines, output).await?
        }
        Command::ImportNodeDb { target, archive, hosts, bwlimit, sha256, patience } => {
            let import = Import { origin: archive, sha256, rate: bwlimit };
            import_node_db(&target, &hosts, &import, patience, output).await?;
        }
        Command::ExportPiece { target, host, receivers, patience } => {
            let cluster = load(&target, output)?;
            let sources = import::node_hosts(&cluster, host.as_slice())?;
            let receivers = export::receivers(&cluster, &receivers)?;
            let options = Options { patience, forks: target.forks, ..Options::default() };
            let exported =
                export::export_piece(&cluster, sources[0], receivers, &options, output.sink()).await?;
            let text = format!(
                "{}: the pieces are in {}; served by {}\n",
                exported.host,
                exported.store.display(),
                if exported.plotters.is_empty() {
                    "nobody".to_string()
                } else {
                    exported.plotters.join(", ")
                }
            );
            output.result(&exported, &text);
        }
        Command::Render { target, out } => render_to(&target, &out, output).await?,
        Command::Monitoring { target, out } => monitoring_to(target, &out, output).await?,
        Command::Remote => return Err(Error::Internal("`remote` is served elsewhere".to_string())),
        Command::Resolve(target) => {
            let document = Document::of(&load(&target, output)?)?;
            output.result(&document, &format!("{:#}\n", serde_json::json!(document)));
        }
        Command::Schema => {
            let schema = crate::inventory::schema();
            output.result(&schema, &format!("{schema:#}\n"));
        }
        Command::ExitCodes => {
            let table: Vec<_> = ExitCode::ALL.iter().map(|code| (*code as u8, code.meaning())).collect();
            let text: String =
                table.iter().map(|(code, meaning)| format!("{code:>3}  {meaning}\n")).collect();
            output.result(&table, &text);
        }
    }
    Ok(ExitCode::Ok)
}

async fn roll_back(
    target: &Target,
    to: Option<&str>,
    list: bool,
    patience: f64,
    output: &Output,
) -> Result<()> {
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    if list {
        output.replaced(&apply::generations(connections, target.forks, output.sink()).await?);
        return Ok(());
    }
    let options = options(target, &Run { patience, no_wait: true });
    output.put_back(&apply::rollback(&cluster, connections, to, &options, output.sink()).await?);
    Ok(())
}

async fn examine(target: &Target, output: &Output) -> Result<ExitCode> {
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    let findings = doctor::examine(&cluster, &connections, target.forks).await;
    output.doctor(&findings);
    let ill = findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if ill { ExitCode::Down } else { ExitCode::Ok })
}

async fn break_locks(target: &Target, yes: bool, output: &Output) -> Result<()> {
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    let locks = lock::status(&connections, target.forks).await;
    output.locks(&locks);
    if locks.iter().all(|lock| lock.held.is_none()) {
        return Ok(());
    }
    if !yes {
        output.confirm("break the locks that are held")?;
    }
    let broken = lock::break_all(&locks, &connections).await?;
    let text =
        format!("{} broken: that run ends on each of these hosts\n", crate::error::count(broken, "lock"));
    output.result(&serde_json::json!({"broken": broken}), &text);
    Ok(())
}

async fn trust_hosts(target: &Target, yes: bool, output: &Output) -> Result<()> {
    let (cluster, source) = load_with_source(&target.inventory, &overrides(target)?, output)?;
    let known = trust::ask(&hosts(&cluster, target)?, &source, target.forks).await;
    output.trust(&known);
    let new: Vec<_> = known
        .iter()
        .filter_map(|host| match &host.trust {
            Trust::New { key, .. } => Some((host.host.as_str(), key.as_str())),
            _ => None,
        })
        .collect();
    if !new.is_empty() {
        let pinned = trust::pinned(&source, &new)?;
        let keys = crate::error::count(new.len(), "key");
        if !yes {
            output.confirm(&format!("pin {keys} in {}", target.inventory.display()))?;
        }
        // A link to the inventory stays one.
        let path = Local.resolve(&target.inventory).await?.unwrap_or_else(|| target.inventory.clone());
        let mode =
            std::fs::metadata(&path).map_err(file_error("cannot read", &path))?.permissions().mode() & 0o777;
        Local.write(&path, pinned.as_bytes(), mode).await?;
        let message = format!("{keys} pinned in {}", path.display());
        output.sink().event(&Event::Note { host: None, message });
    }
    trust::verdict(&known)
}

async fn import_node_db(
    target: &Target,
    hosts: &[String],
    import: &Import,
    patience: f64,
    output: &Output,
) -> Result<()> {
    let cluster = load(target, output)?;
    let hosts = import::node_hosts(&cluster, hosts)?;
    let options = Options { patience, forks: target.forks, ..Options::default() };
    let connections = apply::connect_to(hosts, target.forks).await;
    let imported = import::import_node_db(&cluster, connections, import, &options, output.sink()).await?;
    let lines = imported.iter().map(|done| {
        format!("{}: the node runs on what was in {} ({})\n", done.host, done.origin, done.ready)
    });
    output.result(&imported, &lines.collect::<String>());
    Ok(())
}

async fn check(target: &Target, output: &Output) -> Result<()> {
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    // What is missing must be installable, too: so it is planned.
    let options = Options { forks: target.forks, ..Options::default() };
    let planned = apply::plan_only(&cluster, connections, &options).await?;
    let mut count = 0;
    for apply::Planned { plan, warnings, .. } in planned {
        count += warnings.len();
        for warning in warnings {
            let host = (cluster.hosts.len() > 1).then(|| plan.host.clone());
            output.sink().event(&Event::Warning { host, message: warning.message });
        }
    }
    let text =
        format!("{}: no problem found; `plan` shows what apply would do\n", target.inventory.display());
    output.result(&serde_json::json!({"problems": 0, "warnings": count}), &text);
    Ok(())
}

async fn explain_host(name: &str, target: &Target, output: &Output) -> Result<()> {
    let (cluster, source) = load_with_source(&target.inventory, &overrides(target)?, output)?;
    let Some(host) = cluster.hosts.iter().find(|host| host.name.value == name) else {
        let known: Vec<_> = cluster.hosts.iter().map(|host| host.name.value.as_str()).collect();
        let problem = crate::error::Problem {
            code: "unknown-host",
            message: format!("there is no host `{name}` in {}", target.inventory.display()),
            hint: format!("hosts are {}", known.join(", ")),
        };
        return Err(Error::Check { problems: vec![problem] });
    };
    let transport = transport::connect(host).await?;
    let facts = crate::facts::gather(host, &*transport, &BuildFacts::default()).await?;
    output.explanation(&explain::explain(&cluster, host, &facts, &source));
    Ok(())
}

async fn show_logs(
    target: &Target,
    roles: &[String],
    follow: bool,
    lines: usize,
    output: &Output,
) -> Result<()> {
    let cluster = load(target, output)?;
    let meant = limits::programs_meant(&cluster, &hosts(&cluster, target)?, roles)?;
    let showing = meant.iter().map(|(host, programs)| {
        let many = (meant.len() > 1, programs.len() > 1);
        async move {
            let transport = transport::connect(host).await?;
            let host_name = many.0.then_some(host.name.value.as_str());
            let mut on_line = |program: &str, line: &str| output.log_line(host_name, program, line, many.1);
            logs::show(&Layout::of(host), programs, lines, follow, &*transport, &mut on_line).await
        }
    });
    let mut failures = Vec::new();
    for ((host, _), result) in meant.iter().zip(futures::future::join_all(showing).await) {
        if let Err(error) = result {
            failures.push(HostFailure { host: host.name.value.clone(), error });
        }
    }
    match failures.pop() {
        None => Ok(()),
        Some(failure) if meant.len() == 1 => Err(failure.error),
        Some(failure) => {
            failures.push(failure);
            Err(Error::Hosts { failures, of: meant.len() })
        }
    }
}

async fn render_to(target: &Target, out: &std::path::Path, output: &Output) -> Result<()> {
    let cluster = load(target, output)?;
    let binaries = crate::facts::binaries(&cluster, &Local).await?;
    let mut written = Vec::new();
    for host in hosts(&cluster, target)? {
        let transport = transport::connect(host).await?;
        let facts = crate::facts::gather(host, &*transport, &binaries).await?;
        let (mut programs, _) = derive::programs(&cluster, host, &facts);
        for file in render::files(&cluster, host, &mut programs)? {
            let relative = file.path.strip_prefix(&host.prefix).unwrap_or(&file.path).to_path_buf();
            let path = out.join(&host.name.value).join(relative);
            if let Some(parent) = path.parent() {
                Local.make_directory(parent, 0o755).await?;
            }
            Local.write(&path, file.text.as_bytes(), file.mode).await?;
            written.push(path);
        }
    }
    let text: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    output.result(&written, &text);
    Ok(())
}

async fn monitoring_to(mut target: Target, out: &std::path::Path, output: &Output) -> Result<()> {
    let cluster = load(&target, output)?;
    // Alerts are read by people who are in no directory in particular.
    target.inventory = absolute(&target.inventory)?;
    let Options { invocation, inventory, .. } = options(&target, &Run { patience: 1.0, no_wait: true });
    let files = monitoring::files(&cluster, &monitoring::Call { provision: invocation, inventory })?;
    Local.make_directory(out, 0o755).await?;
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        Local.write(&path, text.as_bytes(), 0o644).await?;
        written.push(path);
    }
    let text: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    output.result(&written, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
