//! The alerts under Prometheus's own evaluation: `promtool test rules`.
//!
//! `PROMTOOL` names it, else it is looked for in `PATH`; Debian and Ubuntu have it in their package `prometheus`. `cargo xtask test`
//! leaves these tests out, and says so, where there is none.

use crate::cases::{CASES, Case, STEPS, SWINGS, Series, WELL};
use crate::{files, guide, rules};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

/// Rules for farms whose sectors bring a solution in ten days each.
const MONITORING: &str = "{node_exporter_port: 9100, sector_days_per_solution: 10}";

fn promtool(directory: &std::path::Path, arguments: &[&str]) {
    let program = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let output =
        Command::new(&program).args(arguments).current_dir(directory).output().unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `apt-get install prometheus` has it, or name it in PROMTOOL",
                program.display()
            )
        });
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}:\n{said}", arguments.join(" "));
}

/// Runs promtool's unit tests with the rules of the guides' hosts.
fn test_rules(monitoring: &str, step: u32, tests: &[Value]) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files(&guide(monitoring)) {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let file = json!({"rule_files": ["autonomys.rules.yml"], "evaluation_interval": format!("{step}m"), "tests": tests});
    // JSON is YAML.
    std::fs::write(directory.path().join("tests.yml"), file.to_string()).unwrap();
    promtool(directory.path(), &["test", "rules", "tests.yml"]);
}

/// The labels of a target of the guides' hosts.
fn spelled_out(series: &str) -> String {
    let (metric, rest) = series.split_once('{').unwrap();
    let (kind, more) = rest.split_once([',', '}']).unwrap();
    let (host, role, program) = match kind {
        "controller" => ("node-1", "controller", "autonomys-controller"),
        "controller-2" => ("node-2", "controller", "autonomys-controller"),
        "proof-server" => ("node-1", "proof-server", "autonomys-proof-server"),
        "sharded-cache" => ("plotter-1", "sharded-cache", "autonomys-sharded-cache"),
        "plot-server" => ("plotter-1", "plot-server", "autonomys-plot-server-0"),
        "plot-client" => ("storage-1", "plot-client", "autonomys-plot-client"),
        "host" => {
            let of_host = r#"cluster="guide",host="storage-1",job="autonomys-hosts""#;
            return format!("{metric}{{{of_host},{}}}", more.trim_end_matches('}'));
        }
        other => panic!("{other}"),
    };
    let of_role =
        format!(r#"cluster="guide",host="{host}",role="{role}",program="{program}",job="autonomys""#);
    format!("{metric}{{{of_role},{}}}", more.trim_end_matches('}'))
}

fn course(name: &str, step: u32, series: &[Series], expectations: Vec<Value>) -> Value {
    let series: Vec<_> = series
        .iter()
        .map(|(series, values)| json!({"series": spelled_out(series), "values": values}))
        .collect();
    json!({"name": name, "interval": format!("{step}m"), "input_series": series, "promql_expr_test": expectations})
}

/// At `minute` the alert fires, or does not.
fn fires(alert: &str, minute: u32, fires: bool) -> Value {
    let expression = format!(r#"count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0"#);
    let samples = if fires { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
    json!({"expr": expression, "eval_time": format!("{minute}m"), "exp_samples": samples})
}

/// Up to `minute` no alert of these has ever fired.
fn never_fired(alerts: &str, minute: u32) -> Value {
    let expression = format!(r#"count_over_time(ALERTS{{alertname=~"{alerts}",alertstate="firing"}}[30d])"#);
    json!({"expr": expression, "eval_time": format!("{minute}m"), "exp_samples": []})
}

fn courses(case: &Case) -> Vec<Value> {
    let Case { alert, step, bad, by, good, blip } = case;
    let mut courses = vec![
        course(&format!("{alert}: bad"), *step, bad, vec![fires(alert, by * step, true)]),
        course(&format!("{alert}: good"), *step, good, vec![never_fired(alert, STEPS * step)]),
    ];
    if let Some(blip) = blip {
        courses.push(course(&format!("{alert}: blip"), *step, blip, vec![never_fired(alert, STEPS * step)]));
    }
    courses
}

#[test]
fn every_alert_has_its_case() {
    let alerts: BTreeSet<_> = rules().into_iter().filter_map(|rule| rule.alert).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.alert.to_string()).collect();
    assert_eq!(alerts, cases);
    let swings: BTreeSet<_> = SWINGS.iter().map(|swing| swing.alert.to_string()).collect();
    let two_thresholds = rules().into_iter().filter(|rule| rule.expression.contains("ALERTS{"));
    assert_eq!(swings, two_thresholds.filter_map(|rule| rule.alert).collect());
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    for monitoring in ["{}", MONITORING] {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files(&guide(monitoring)) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        promtool(directory.path(), &["check", "config", "prometheus.yml"]);
    }
}

#[test]
fn promtool_alerts_fire_on_what_is_bad_and_sit_a_blip_out() {
    for step in [1, 5] {
        let of_step = CASES.iter().filter(|case| case.step == step);
        test_rules(MONITORING, step, &of_step.flat_map(courses).collect::<Vec<_>>());
    }
    assert!(CASES.iter().all(|case| [1, 5].contains(&case.step)));
}

#[test]
fn promtool_alerts_end_below_a_lower_threshold_than_they_begin_above() {
    let swing = |swing: &crate::cases::Swing| {
        let expectations =
            vec![fires(swing.alert, swing.still, true), fires(swing.alert, swing.ended, false)];
        course(&format!("{}: swing", swing.alert), 1, swing.series, expectations)
    };
    test_rules(MONITORING, 1, &SWINGS.iter().map(swing).collect::<Vec<_>>());
}

#[test]
fn promtool_damage_is_told_and_then_forgotten() {
    let damage = ["AutonomysSectorsDamaged", "AutonomysPiecesDamaged"];
    let told = CASES.iter().filter(|case| damage.contains(&case.alert)).map(|case| {
        course(case.alert, 1, case.bad, vec![fires(case.alert, 60, true), fires(case.alert, 400, false)])
    });
    test_rules(MONITORING, 1, &told.collect::<Vec<_>>());
}

#[test]
fn promtool_a_cluster_that_is_well_is_silent() {
    test_rules(MONITORING, 1, &[course("well", 1, WELL, vec![never_fired(".*", STEPS)])]);
}

/// Whatever becomes of a storage host, no node of it is to blame.
#[test]
fn promtool_a_host_without_a_node_has_no_alert_of_nodes() {
    let storage: Vec<Series> = CASES
        .iter()
        .filter(|case| case.step == 1 && case.bad.iter().all(|(series, _)| series.contains("{plot-client")))
        .filter(|case| case.alert == "AutonomysNoSlots" || case.alert == "AutonomysAuditErrors")
        .flat_map(|case| case.bad.iter().copied())
        .collect();
    let silent = never_fired("AutonomysNode.*|AutonomysNoLeader|AutonomysCache.*", 30);
    test_rules(
        MONITORING,
        1,
        &[course("storage", 1, &storage, vec![fires("AutonomysNoSlots", 17, true), silent])],
    );
}

/// Without a figure in the inventory, what sectors brought within the last days is what is expected of them.
#[test]
fn promtool_expectation_from_the_past() {
    let alert = "AutonomysNoSolutions";
    // Four solutions an hour for a day, then none.
    let series = [
        ("autonomys_sectors_plotted{plot-client}", "1000+0x650"),
        ("autonomys_solutions_accepted_total{plot-client}", "0+0.3333x288 96+0x350"),
    ];
    // A farm that has never won anything has no past.
    let new = [
        ("autonomys_sectors_plotted{plot-client}", "1000+0x650"),
        ("autonomys_solutions_accepted_total{plot-client}", "0+0x650"),
    ];
    let hours = |hours: u32| hours * 60;
    test_rules(
        "{node_exporter_port: 9100}",
        5,
        &[
            course("stopped", 5, &series, vec![never_fired(alert, hours(36)), fires(alert, hours(50), true)]),
            course("new", 5, &new, vec![never_fired(alert, hours(50))]),
        ],
    );
}
