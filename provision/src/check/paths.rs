//! Directories of stores, spools and farms.

use crate::inventory::{Diagnostic, Span};
use crate::layout::Layout;
use crate::resolve::{FarmSpace, Host};
use std::path::{Component, Path, PathBuf};

/// Sectors at most in a farm: indices are 16 bits, and the last is not used (farming §8).
const SECTORS_MAX: u16 = primitives::farms::MAX_SECTORS;

/// A directory, where the inventory says so, and what for.
struct Taken<'a> {
    path: &'a Path,
    span: Span,
    what: String,
}

pub(super) fn check(host: &Host, findings: &mut Vec<Diagnostic>) {
    let taken = taken(host);
    for farm in host.storage.iter().flat_map(|storage| &storage.farms) {
        if let FarmSpace::Sectors(sectors) = farm.space.value
            && sectors > SECTORS_MAX
        {
            let message = format!("a farm has at most {SECTORS_MAX} sectors, not {sectors}");
            let finding = Diagnostic::error("sectors", farm.space.span, message);
            findings.push(finding.hint("make a second farm of the rest, in a directory of its own"));
        }
    }
    let own = own_directories(host);
    for (index, this) in taken.iter().enumerate() {
        check_form(this, findings);
        if let Some(inside) =
            own.iter().find(|own| this.path.starts_with(own)).filter(|_| this.span != host.name.span)
        {
            let message =
                format!("{} would be in {}, where provision keeps its own", this.what, inside.display());
            let finding = Diagnostic::error("duplicate-path", this.span, message);
            findings.push(finding.hint("give it a directory of its own"));
        }
        let clash = taken[..index]
            .iter()
            .find(|other| this.path.starts_with(other.path) || other.path.starts_with(this.path));
        if let Some(other) = clash {
            let relation = match this.path == other.path {
                true => "the same directory as",
                false => "nested with the directory of",
            };
            let message = format!("{} has {relation} {}", this.what, other.what);
            let finding = Diagnostic::error("duplicate-path", this.span, message).label(this.what.clone());
            findings
                .push(finding.also(other.span, other.what.clone()).hint("give each a directory of its own"));
        }
    }
}

fn taken(host: &Host) -> Vec<Taken<'_>> {
    let mut taken = Vec::new();
    if let Some(plotter) = &host.plotter {
        for (cache, what) in [
            (&plotter.sharded_cache, "sharded-cache"),
            (&plotter.full_piece_cache, "full-piece-sharded-cache"),
        ] {
            taken.push(Taken { path: &cache.path.value, span: cache.path.span, what: what.to_string() });
        }
        for (index, server) in plotter.plot_servers.iter().enumerate() {
            let what = format!("plot-server {index}");
            taken.push(Taken { path: &server.path.value, span: server.path.span, what });
        }
    }
    for (index, farm) in host.storage.iter().flat_map(|storage| &storage.farms).enumerate() {
        taken.push(Taken { path: &farm.path.value, span: farm.path.span, what: format!("farm {index}") });
    }
    taken
}

/// What lies below a prefix beside the roles' data, and the data that has no setting.
fn own_directories(host: &Host) -> Vec<PathBuf> {
    let layout = Layout::of(host);
    let mut own =
        vec![layout.bin(), layout.packages(), layout.etc(), layout.logs(), layout.state(), layout.run()];
    own.push(layout.prefix.join("artifacts"));
    own.extend(["nats", "dev-node", "controller"].map(|name| layout.data().join(name)));
    own.push(host.dev_srs_cache.clone());
    own
}

fn check_form(this: &Taken<'_>, findings: &mut Vec<Diagnostic>) {
    if this.path.components().any(|part| part == Component::ParentDir) {
        let message =
            format!("{}: `..` in {} hides which directory is meant", this.what, this.path.display());
        findings.push(Diagnostic::error("path", this.span, message).hint("write the path without `..`"));
    }
    let names = this.path.iter().filter_map(|part| part.to_str());
    if let Some(name) = names.into_iter().find(|name| is_namespace_zero(name)) {
        let message =
            format!("{}: `{name}` exists on no machine, NVMe namespaces are counted from 1", this.what);
        let hint = format!("do you mean `{}1`? `lsblk` lists the disks", &name[..name.len() - 1]);
        findings.push(Diagnostic::warning("nvme-namespace", this.span, message).hint(hint));
    }
}

/// `nvme1n0`.
fn is_namespace_zero(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("nvme").and_then(|rest| rest.strip_suffix("n0")).is_some_and(digits)
}

#[cfg(test)]
mod tests {
    use super::is_namespace_zero;

    #[test]
    fn namespaces_of_nvme_begin_at_one() {
        for none in ["nvme1n0", "nvme12n0"] {
            assert!(is_namespace_zero(none), "{none}");
        }
        for good in ["nvme0n1", "nvme1n10", "nvme0", "nvmen0", "n0", "nvme1n0p1"] {
            assert!(!is_namespace_zero(good), "{good}");
        }
    }
}
