//! The rules and the dashboard against the book, the inventory and the command line; needs no tool.

use crate::expressions::{Known, labels};
use crate::{INVENTORY, Rule, cluster, files, guide, root, rules};
use clap::Parser;
use promql_parser::parser;
use provision::cli::Cli;
use provision::derive::Role;
use provision::monitoring;
use std::collections::BTreeSet;

#[test]
fn every_rule_names_metrics_that_exist() {
    for monitoring in ["{node_exporter_port: 9100}", "{sector_days_per_solution: 700}"] {
        let rules = crate::rules_of(&files(&guide(monitoring))[1].1);
        let known = Known::new(&rules);
        for rule in &rules {
            known.check(&parser::parse(&rule.expression).unwrap(), true);
        }
    }
}

/// The check above can fail.
#[test]
fn what_does_not_exist_is_found() {
    let known = Known::new(&[]);
    for (wrong, why) in [
        ("autonomys_slots_seen", "no metric"),
        (r#"autonomys_slots_seen_total{rool="controller"}"#, "no label"),
        (r#"autonomys_leads{role="plot-client"}"#, "no such metric"),
        ("rate(autonomys_slots_seen_total[5m])", "of which role"),
        (r#"autonomys_sectors_plotted{farm_id="x"}"#, "no label"),
    ] {
        let found =
            std::panic::catch_unwind(|| known.check(&parser::parse(wrong).unwrap(), true)).unwrap_err();
        let found = found.downcast_ref::<String>().unwrap();
        assert!(found.contains(why), "{wrong}: {found}");
    }
}

#[test]
fn every_panel_names_metrics_that_exist() {
    let [_, _, (name, text)] = files(&guide("{node_exporter_port: 9100}"));
    assert_eq!(name, "dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let known = Known::new(&rules());
    let mut ids = BTreeSet::new();
    let mut places: Vec<(u64, u64, u64, u64)> = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one id");
        let side = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(x + w <= 24, "{panel}");
        let free =
            |(a, b, c, d): &(u64, u64, u64, u64)| x >= a + c || *a >= x + w || y >= b + d || *b >= y + h;
        assert!(places.iter().all(free), "{} lies on another", panel["title"]);
        places.push((x, y, w, h));
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(panel["type"] == "row", targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let parsed = parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            known.check(&parsed, false);
            assert!(expression.contains(r#"cluster="$cluster""#), "{expression}");
            let carried = known.result(&parsed);
            for label in named(target["legendFormat"].as_str().unwrap(), "{{", "}}") {
                assert!(carried.contains(&label), "{expression} has no label {label}");
            }
        }
    }
    assert!(ids.len() > 20);
}

/// What stands between two marks.
fn named(text: &str, open: &str, close: &str) -> Vec<String> {
    let parts = text.split(open).skip(1);
    parts.filter_map(|part| part.split_once(close)).map(|(name, _)| name.trim().to_string()).collect()
}

#[test]
fn every_alert_says_what_where_and_what_to_type() {
    let rules = rules();
    let known = Known::new(&rules);
    let alerts: Vec<&Rule> = rules.iter().filter(|rule| rule.alert.is_some()).collect();
    assert!(alerts.len() >= 20);
    for rule in alerts {
        let name = rule.alert.as_deref().unwrap();
        assert!(matches!(rule.severity.as_deref(), Some("warning" | "critical")), "{name}");
        // A counter of damage is no measurement that swings: what it counted once has happened.
        let happened = name.ends_with("Damaged");
        assert_eq!(rule.holds_for.is_none(), happened, "{name}");
        assert!(rule.keeps_firing_for.is_some(), "{name}");
        let keys: Vec<_> = rule.annotations.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["summary", "description", "run"], "{name}");
        let carried = known.result(&parser::parse(&rule.expression).unwrap());
        for (key, text) in &rule.annotations {
            assert!(!text.is_empty() && !text.contains('\n') && !text.contains("{%"), "{name}: {text:?}");
            for label in named(text, "$labels.", "}}") {
                assert!(carried.contains(&label), "{name}: {key} names {label}, the alert has {carried:?}");
            }
        }
        check_command(name, &rule.annotations[2].1);
    }
}

/// The command line is one that this program takes, and its roles are roles.
fn check_command(alert: &str, command: &str) {
    let command = command.replace("{{ $labels.role }}", "controller");
    let command = command.replace("{{ $labels.program }}", "autonomys-plot-server-0");
    let words: Vec<_> = command.split(' ').collect();
    Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{alert}: {command}: {error}"));
    assert_eq!(words[2], INVENTORY, "{alert}: {command}");
    for word in words.iter().skip(3).filter(|word| words[1] == "logs" && !word.starts_with("autonomys-")) {
        assert!(Role::ALL.iter().any(|role| role.name() == *word), "{alert}: there is no role {word}");
    }
}

#[test]
fn every_role_with_metrics_is_scraped_on_its_host_and_no_other() {
    let guide = guide("{node_exporter_port: 9100}");
    let targets = monitoring::targets(&guide);
    let of = |host: &str| {
        let of_host = targets.iter().filter(|target| target.host == host);
        of_host.map(|target| (target.role.unwrap(), target.address.to_string())).collect::<Vec<_>>()
    };
    let expected = [("controller", "192.168.1.1:9860"), ("proof-server", "192.168.1.1:9861")];
    assert_eq!(of("node-1"), expected.map(|(role, address)| (role, address.to_string())));
    assert_eq!(of("storage-2"), [("plot-client", "192.168.1.7:9864".to_string())]);
    let plotter = [
        "sharded-cache",
        "full-piece-sharded-cache",
        "plot-server",
        "plot-server",
        "plot-server",
        "plot-server",
    ];
    assert_eq!(of("plotter-1").into_iter().map(|(role, _)| role).collect::<Vec<_>>(), plotter);
    assert_eq!(targets.len(), 3 * 2 + 2 * 6 + 2);
    let known = Known::new(&[]);
    let roles: BTreeSet<_> =
        known.0.values().flat_map(|metric| metric.tables.iter().flatten()).cloned().collect();
    assert_eq!(roles, labels(targets.iter().filter_map(|target| target.role)), "the book's roles");

    let [(_, prometheus), ..] = files(&guide);
    assert_eq!(prometheus.matches("- targets: [").count(), targets.len() + guide.hosts.len());
    assert!(prometheus.contains(r#"targets: ["192.168.1.7:9100"]"#));
    let [(_, without), ..] = files(&self::guide("{}"));
    assert!(!without.contains("autonomys-hosts"));
}

#[test]
fn roles_serve_where_they_are_scraped() {
    use provision::{derive, facts::HostFacts};
    let flag = |cluster: &provision::resolve::Cluster| {
        let (programs, _) = derive::programs(cluster, &cluster.hosts[0], &HostFacts::default());
        let controller = programs.iter().find(|program| program.role == Role::Controller).unwrap();
        let place = controller.command.iter().position(|word| word == "--prometheus-listen-on").unwrap();
        controller.command[place + 1].clone()
    };
    assert_eq!(flag(&guide("{}")), "192.168.1.1:9860");

    // Without `monitoring:` a host keeps them to itself, and nobody is told to scrape what cannot be reached.
    let text = std::fs::read_to_string(root().join("inventories/guide.yaml")).unwrap();
    let text = text.lines().filter(|line| !line.starts_with("monitoring:")).collect::<Vec<_>>().join("\n");
    let closed = cluster(&text);
    assert_eq!(flag(&closed), "127.0.0.1:9860");
    let call = monitoring::Call { provision: "provision".into(), inventory: INVENTORY.into() };
    let error = monitoring::files(&closed, &call).unwrap_err();
    assert_eq!(error.exit_code() as u8, 4);
    insta::assert_snapshot!(provision::output::error_text(&error));
    // A machine that watches itself needs none.
    let local = cluster(&std::fs::read_to_string(root().join("inventories/local.yaml")).unwrap());
    assert!(monitoring::files(&local, &call).is_ok());
}

#[test]
fn a_path_that_alerts_cannot_carry_is_refused() {
    for inventory in ["a{{ .Bad }}.yaml", "a\nb.yaml"] {
        let call = monitoring::Call { provision: "provision".into(), inventory: inventory.into() };
        let error = monitoring::files(&guide("{}"), &call).unwrap_err();
        assert!(error.to_string().contains("cannot carry"), "{error}");
    }
}

#[test]
fn golden_monitoring() {
    let golden = root().join("templates/golden/monitoring");
    for (name, text) in files(&guide("{node_exporter_port: 9100, sector_days_per_solution: 700}")) {
        let path = golden.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&golden).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
    }
}
