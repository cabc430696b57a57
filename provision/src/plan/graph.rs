//! Plans as a graph in the language of Graphviz (DOT). Pure.

use super::{Phase, Plan, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The plans of a cluster's hosts: a cluster a host, a node a step, and an edge for what waits for what. Steps that change
/// nothing are dashed; between two phases stands a gate that waits for all hosts. The same plans give the same text.
pub fn graph(plans: &[Plan]) -> String {
    let name = plans.first().map_or("", |plan| &plan.cluster);
    let mut out = format!("digraph {} {{\n  node [shape=box];\n", quoted(name));
    for plan in plans {
        let host = &plan.host;
        let _ = writeln!(out, "  subgraph {} {{", quoted(&format!("cluster_{host}")));
        let _ = writeln!(out, "    label={};", quoted(host));
        for step in &plan.steps {
            let style = if step.changes() { "" } else { ", style=dashed" };
            let _ = writeln!(out, "    {} [label={}{style}];", node(plan, step), quoted(&step.title));
        }
        out.push_str("  }\n");
    }
    let edges = Edges::of(plans);
    for gate in &edges.gates {
        let _ = writeln!(out, "  {} [shape=diamond];", quoted(gate));
    }
    for ((from, to), label) in &edges.edges {
        let label = if label.is_empty() { String::new() } else { format!(" [label={}]", quoted(label)) };
        let _ = writeln!(out, "  {from} -> {to}{label};");
    }
    out + "}\n"
}

/// What waits for what.
#[derive(Default)]
struct Edges {
    gates: Vec<String>,
    /// By their ends: why, where it is not the plain order.
    edges: BTreeMap<(String, String), &'static str>,
}

/// Why a host waits for another one.
const ONE_BY_ONE: &str = "one host after the other";

impl Edges {
    fn of(plans: &[Plan]) -> Self {
        let mut edges = Self::default();
        // Within a host the order of the plan holds, whatever else does.
        for plan in plans {
            for pair in plan.steps.windows(2) {
                edges.add(node(plan, &pair[0]), node(plan, &pair[1]), "");
            }
        }
        // Hosts that are stopped as a whole go alone, after all others.
        let (whole, together): (Vec<_>, Vec<_>) = plans.iter().partition(|plan| plan.stops_everything());
        let mut before = edges.phases(&together);
        for plan in whole {
            let (Some(first), Some(end)) = (plan.steps.first(), plan.steps.last()) else { continue };
            for earlier in std::mem::take(&mut before) {
                edges.add(earlier, node(plan, first), ONE_BY_ONE);
            }
            before = vec![node(plan, end)];
        }
        edges
    }

    fn add(&mut self, from: String, to: String, why: &'static str) {
        self.edges.entry((from, to)).or_insert(why);
    }

    /// Gates between the phases of hosts that go side by side; gives the nodes of the last phase.
    fn phases(&mut self, plans: &[&Plan]) -> Vec<String> {
        let steps = |phase: Phase| {
            plans.iter().filter_map(move |plan| {
                let mut of_phase = plan.steps.iter().filter(move |step| Phase::of(step) == phase);
                let first = of_phase.next()?;
                Some((*plan, first, of_phase.next_back().unwrap_or(first)))
            })
        };
        let phases: BTreeSet<Phase> = plans.iter().flat_map(|plan| &plan.steps).map(Phase::of).collect();
        let mut gate: Option<String> = None;
        let mut ends = Vec::new();
        for (index, phase) in phases.iter().enumerate() {
            ends.clear();
            let mut earlier: Option<String> = None;
            for (plan, first, last) in steps(*phase) {
                if let Some(gate) = &gate {
                    self.add(gate.clone(), node(plan, first), "");
                }
                ends.push(node(plan, last));
                if plan.restarts(*phase)
                    && let Some(earlier) = earlier.replace(node(plan, last))
                {
                    self.add(earlier, node(plan, first), ONE_BY_ONE);
                }
            }
            if index + 1 < phases.len() && plans.len() > 1 {
                let name = gate_name(*phase);
                for end in &ends {
                    self.add(end.clone(), quoted(&name), "");
                }
                self.gates.push(name.clone());
                gate = Some(quoted(&name));
            }
        }
        ends
    }
}

/// What holds when all hosts are through a phase.
fn gate_name(phase: Phase) -> String {
    match phase {
        Phase::Prepare => "every host is prepared".to_string(),
        Phase::Start(role) => format!("every {} is ready", role.name()),
        Phase::Wait => "everything runs".to_string(),
    }
}

fn node(plan: &Plan, step: &Step) -> String {
    quoted(&format!("{}/{}", plan.host, step.id))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
