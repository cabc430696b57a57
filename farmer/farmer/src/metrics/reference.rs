//! The reference of metrics in the book, written from what the roles register: `cargo xtask docs` brings it up to date.

use super::NAMES_OF_REFERENCE;
use crate::roles::{cache, context, controller, plot_client, plot_server, proof_server};
use crate::status::Status;
use cluster::contract::Role;
use std::fmt::Write;
use std::path::Path;

/// Set, it has the document written instead of compared.
const WRITE: &str = "AUTONOMYS_WRITE_DOCS";

/// What metrics count, as their names say it; of several the first.
const UNITS: [&str; 17] = [
    "seconds",
    "bytes",
    "pieces",
    "sectors",
    "records",
    "slots",
    "segments",
    "blocks",
    "nodes",
    "caches",
    "audits",
    "errors",
    "candidates",
    "proofs",
    "solutions",
    "signatures",
    "signings",
];

const HEAD: &str = "\
# Metrics
<!-- Written by `cargo xtask docs` from what the roles register: change the help texts there. -->

With `--prometheus-listen-on ADDR:PORT` a role serves over HTTP

* `/metrics`: what stands below, in the text form of OpenMetrics, for Prometheus;
* `/status`: its state, what it waits for, and its counters and gauges under their short names, as JSON;
* `/ready`: the same, with status 200 when it is at work and 503 while it is not.

A metric that means what one of the network's reference farmer means has that one's name, beginning with `subspace_farmer_`;
all others begin with `autonomys_`. Everything counts from the start of the process. A histogram has `_bucket`, `_sum` and
`_count` in `/metrics` and is not in `/status`; a counter with a label stands there as `name{value}`, and in neither before it has
counted something.
";

/// The roles, each with what it may count.
fn roles() -> [(Role, Status); 6] {
    let registered = |role: Role, register: fn(&Status)| {
        let status = Status::new(role.name(), String::new());
        context::insecure_reference_string(&status);
        register(&status);
        (role, status)
    };
    let cache = |status: &Status| drop(cache::contents::Metrics::new(status));
    [
        registered(Role::Controller, controller::register_metrics),
        registered(Role::ShardedCache, cache),
        registered(Role::FullPieceShardedCache, cache),
        registered(Role::ProofServer, |status| drop(proof_server::Metrics::new(status))),
        registered(Role::PlotServer, |status| drop(plot_server::metrics::Metrics::new(status))),
        registered(Role::PlotClient, |status| drop(plot_client::metrics::Metrics::new(status))),
    ]
}

/// A metric as OpenMetrics describes it.
#[derive(Debug)]
struct Described {
    exposed: String,
    kind: String,
    help: String,
    label: Option<String>,
}

/// Reads the descriptions in a role's metrics.
fn described(text: &str) -> Vec<Described> {
    let word = |line: &str| {
        let (name, rest) = line.split_once(' ').expect("a name and something about it");
        (name.to_owned(), rest.to_owned())
    };
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            let (exposed, help) = word(line);
            found.push(Described { exposed, kind: String::new(), help, label: None });
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (exposed, kind) = word(line);
            let last = found.last_mut().filter(|last: &&mut Described| last.exposed == exposed);
            last.expect("the type follows the help").kind = kind;
        } else if let Some((_, label)) = line.split_once('{').filter(|(name, _)| !name.ends_with("_bucket")) {
            let last = found.last_mut().expect("samples follow the description");
            last.label = label.split_once('=').map(|(label, _)| label.to_owned());
        }
    }
    found
}

impl Described {
    /// The name in `/status` and in the code.
    fn name(&self) -> &str {
        let of_reference = NAMES_OF_REFERENCE.iter().find(|(_, theirs)| *theirs == self.exposed);
        of_reference.map_or_else(|| self.exposed.trim_start_matches("autonomys_"), |(ours, _)| ours)
    }

    /// What it counts.
    fn unit(&self) -> &'static str {
        if self.name() == "slot" {
            return "slot number";
        }
        if self.help.starts_with("1 ") {
            return "0 or 1";
        }
        let said = |unit: &&&str| self.name().split('_').any(|word| word == **unit);
        UNITS.iter().find(said).unwrap_or_else(|| panic!("{self:?}: the name says no unit of {UNITS:?}"))
    }

    fn row(&self) -> String {
        let help = self.help.trim_end_matches('.');
        assert!(
            help.len() > 3 && help.starts_with(|first: char| first.is_uppercase() || first == '1'),
            "{self:?}"
        );
        let code = |name: &str| format!("`{name}`");
        let suffix = if self.kind == "counter" { "_total" } else { "" };
        let in_status = if self.kind == "histogram" { String::new() } else { code(self.name()) };
        let label = self.label.as_deref().map(code).unwrap_or_default();
        format!(
            "| `{}{suffix}` | {in_status} | {} | {label} | {} | {help} |\n",
            self.exposed,
            self.kind,
            self.unit()
        )
    }
}

/// The document.
fn reference() -> String {
    let mut document = HEAD.to_owned();
    let mut last = String::new();
    for (role, status) in roles() {
        let mut rows: Vec<_> = described(&status.all_metrics_text()).iter().map(Described::row).collect();
        rows.sort();
        let table = rows.concat();
        if table == last {
            // The two kinds of cache count the same.
            document = document.replace("## sharded-cache\n", &format!("## sharded-cache, {role}\n"));
            continue;
        }
        write!(
            document,
            "\n## {role}\n| in `/metrics` | in `/status` | type | label | unit | what it is |\n|---|---|---|---|---|---|\n{table}"
        )
        .expect("writing to a string does not fail");
        last = table;
    }
    document
}

#[test]
fn the_reference_in_the_book_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book/metrics.md");
    let reference = reference();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &reference).expect("the book can be written");
    }
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(document == reference, "{} is out of date: run `cargo xtask docs`", path.display());
}

#[test]
fn names_of_the_reference_farmer_belong_to_metrics() {
    let text = roles().map(|(_, status)| status.all_metrics_text()).concat();
    for (ours, theirs) in NAMES_OF_REFERENCE {
        assert!(text.contains(&format!("# HELP {theirs} ")), "no role counts {ours}");
    }
}
