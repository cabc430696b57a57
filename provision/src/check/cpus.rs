//! CPU lists that a host's inventory gives by hand. What its machine has is known later: `plan::problems`.

use crate::derive::placement::by_hand;
use crate::inventory::Diagnostic;
use crate::resolve::Host;
use crate::topology::cpu_list;

pub(super) fn check(host: &Host, findings: &mut Vec<Diagnostic>) {
    let Some(plotter) = &host.plotter else { return };
    let lists: Vec<_> = by_hand(plotter).collect();
    for (index, (what, cpus)) in lists.iter().enumerate() {
        let shared =
            |(_, other): &&(String, &crate::inventory::Spanned<_>)| !cpus.value.is_disjoint(&other.value);
        let Some((first, other)) = lists[..index].iter().find(shared) else { continue };
        let both = cpu_list(&(&cpus.value & &other.value));
        let message = format!("{first} and {what} of host `{}` both get CPUs {both}", host.name.value);
        let finding = Diagnostic::error("cpus", cpus.span, message).label(what.clone());
        let hint = "give each its own, or leave `cpus:` out: they are then divided by the GPUs' NUMA nodes";
        findings.push(finding.also(other.span, first.clone()).hint(hint));
    }
}
