//! What an expression of PromQL names, and which labels its result has.

use crate::{Rule, root};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::token::{T_LAND, T_LOR, T_LUNLESS};
use promql_parser::parser::{self, Expr, LabelModifier, VectorMatchCardinality, VectorSelector};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Labels = BTreeSet<String>;

/// Labels that the scrape configuration gives to everything of a role.
const OF_TARGETS: [&str; 6] = ["cluster", "host", "role", "program", "instance", "job"];
/// What is not a role's own: Prometheus's, and prometheus-node-exporter's
/// (<https://github.com/prometheus/node_exporter>, collector `filesystem`).
const OF_OTHERS: [(&str, &[&str]); 5] = [
    ("up", &OF_TARGETS),
    ("ALERTS", &["alertname", "alertstate", "severity", "cluster", "host", "role", "program", "farm_id"]),
    (
        "node_filesystem_avail_bytes",
        &["cluster", "host", "job", "instance", "device", "fstype", "mountpoint"],
    ),
    ("node_filesystem_size_bytes", &["cluster", "host", "job", "instance", "device", "fstype", "mountpoint"]),
    ("node_filesystem_readonly", &["cluster", "host", "job", "instance", "device", "fstype", "mountpoint"]),
];

pub(crate) fn labels<'a>(names: impl IntoIterator<Item = &'a str>) -> Labels {
    names.into_iter().map(String::from).collect()
}

/// A metric: the roles that have it (none when it is no role's), each table counting as one, and its labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metric {
    pub(crate) tables: BTreeSet<Vec<String>>,
    pub(crate) labels: Labels,
}

/// Every metric there is: those of the book's reference, those of others, and what `rules` record.
pub(crate) struct Known(pub(crate) BTreeMap<String, Metric>);

impl Known {
    /// Reads the book.
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut known = Self(BTreeMap::new());
        let book = std::fs::read_to_string(root().join("docs/book/metrics.md")).unwrap();
        let mut roles = Vec::new();
        for line in book.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                roles = title.split(", ").map(String::from).collect();
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
                let (name, kind, label) = (cells[0], cells[2], cells[3]);
                let own = Some(label).filter(|label| !label.is_empty());
                match kind {
                    "histogram" => {
                        known.add(&format!("{name}_bucket"), &roles, Some("le"));
                        known.add(&format!("{name}_sum"), &roles, None);
                        known.add(&format!("{name}_count"), &roles, None);
                    }
                    "counter" | "gauge" => known.add(name, &roles, own),
                    other => panic!("{name} is a {other}"),
                }
            }
        }
        for (name, of_it) in OF_OTHERS {
            known.0.insert(
                name.into(),
                Metric { tables: BTreeSet::new(), labels: labels(of_it.iter().copied()) },
            );
        }
        for rule in rules {
            if let Some(record) = &rule.record {
                let labels = known.result(&parser::parse(&rule.expression).unwrap());
                known.0.insert(record.clone(), Metric { tables: BTreeSet::new(), labels });
            }
        }
        known
    }

    fn add(&mut self, name: &str, roles: &[String], label: Option<&str>) {
        let metric = self.0.entry(name.into()).or_default();
        metric.tables.insert(roles.to_vec());
        metric.labels.extend(labels(OF_TARGETS));
        metric.labels.extend(label.map(String::from));
    }

    fn selected(&self, selector: &VectorSelector) -> &Metric {
        let name = selector.name.as_deref().expect("every selector names its metric");
        self.0.get(name).unwrap_or_else(|| panic!("there is no metric {name}"))
    }

    /// Labels of an expression's result; empty for a number.
    pub(crate) fn result(&self, expression: &Expr) -> Labels {
        match expression {
            Expr::VectorSelector(selector) => self.selected(selector).labels.clone(),
            Expr::MatrixSelector(matrix) => self.selected(&matrix.vs).labels.clone(),
            Expr::Subquery(subquery) => self.result(&subquery.expr),
            Expr::Paren(paren) => self.result(&paren.expr),
            Expr::Unary(unary) => self.result(&unary.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Labels::new(),
            Expr::Call(call) => {
                let all: Labels = call.args.args.iter().flat_map(|argument| self.result(argument)).collect();
                all.into_iter()
                    .filter(|label| call.func.name != "histogram_quantile" || label != "le")
                    .collect()
            }
            Expr::Aggregate(aggregate) => {
                let inner = self.result(&aggregate.expr);
                match &aggregate.modifier {
                    None => Labels::new(),
                    Some(LabelModifier::Include(by)) => {
                        let by = labels(by.labels.iter().map(String::as_str));
                        assert!(by.is_subset(&inner), "{expression}: by {by:?} of {inner:?}");
                        by
                    }
                    Some(LabelModifier::Exclude(without)) => {
                        inner.into_iter().filter(|label| !without.labels.contains(label)).collect()
                    }
                }
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.result(&binary.lhs), self.result(&binary.rhs));
                let is = |token| binary.op.id() == token;
                let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
                let on = match matching {
                    Some(LabelModifier::Include(on)) => {
                        let on = labels(on.labels.iter().map(String::as_str));
                        assert!(on.is_subset(&left) && on.is_subset(&right), "{expression}: on {on:?}");
                        Some(on)
                    }
                    _ => None,
                };
                let many = binary.modifier.as_ref().map(|modifier| &modifier.card);
                if is(T_LAND) || is(T_LUNLESS) || matches!(many, Some(VectorMatchCardinality::ManyToOne(_))) {
                    left
                } else if is(T_LOR) || (!left.is_empty() && !right.is_empty() && on.is_none()) {
                    left.intersection(&right).cloned().collect()
                } else {
                    on.unwrap_or_else(|| left.union(&right).cloned().collect())
                }
            }
            Expr::Extension(_) => panic!("the parser makes none"),
        }
    }

    /// Checks every selector: its metric is there, has the labels that are asked for, and, asked for by role, is of that role.
    pub(crate) fn check(&self, expression: &Expr, role_must_be_clear: bool) {
        for selector in selectors(expression) {
            let metric = self.selected(selector);
            assert!(selector.matchers.or_matchers.is_empty(), "{selector}");
            for Matcher { name, .. } in &selector.matchers.matchers {
                assert!(metric.labels.contains(name), "{selector} has no label {name}");
            }
            let role = selector.matchers.matchers.iter().find(|matcher| matcher.name == "role");
            if let Some(Matcher { op: MatchOp::Equal, value, .. }) = role {
                let has =
                    metric.tables.is_empty() || metric.tables.iter().flatten().any(|role| role == value);
                assert!(has, "{selector}: the role has no such metric");
            }
            // A name that two kinds of role count means another thing for each.
            if role_must_be_clear && role.is_none() && metric.tables.len() > 1 {
                panic!("{selector}: of which role?");
            }
        }
    }
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    match expression {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        Expr::Subquery(subquery) => selectors(&subquery.expr),
        Expr::Paren(paren) => selectors(&paren.expr),
        Expr::Unary(unary) => selectors(&unary.expr),
        Expr::Call(call) => call.args.args.iter().flat_map(|argument| selectors(argument)).collect(),
        Expr::Aggregate(aggregate) => selectors(&aggregate.expr),
        Expr::Binary(binary) => {
            [&binary.lhs, &binary.rhs].into_iter().flat_map(|side| selectors(side)).collect()
        }
        _ => Vec::new(),
    }
}
