//! What the NixOS VM tests show is shown without Nix, too: each scenario of `vm-tests/scenarios` names the tests of this workspace
//! that run it, and these are there.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Names of the files of a directory that end so, without the ending.
fn names(directory: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_str().unwrap().strip_suffix(ending).map(String::from)
    };
    entries.filter_map(name).filter(|name| name != "default").collect()
}

/// Whether this file of the workspace has a test of this name.
fn is_test(path: &str, name: &str) -> bool {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let begins = [format!("fn {name}("), format!("async fn {name}(")];
    // Attributes stand between: ignored ones would be none of the gate's.
    lines.iter().enumerate().any(|(index, line)| {
        let attributes = lines[..index].iter().rev().take_while(|line| line.starts_with("#["));
        let attributes: Vec<_> = attributes.collect();
        begins.iter().any(|begin| line.starts_with(begin))
            && attributes.iter().any(|line| line.contains("test]"))
            && !attributes.iter().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_scenario_of_the_vm_tests_has_tests_without_nix() {
    let directory = root().join("vm-tests");
    let scenarios = names(&directory.join("scenarios"), ".json");
    assert!(scenarios.len() >= 11, "{scenarios:?}");
    assert_eq!(scenarios, names(&directory, ".nix"), "each VM test has a scenario, and the other way round");
    for name in scenarios {
        let text = std::fs::read_to_string(directory.join(format!("scenarios/{name}.json"))).unwrap();
        let scenario: Value = serde_json::from_str(&text).unwrap();
        let keys: BTreeSet<_> = scenario.as_object().unwrap().keys().map(String::as_str).collect();
        let known = BTreeSet::from(["behaviour", "gap", "holds", "in_a_container", "without_nix"]);
        assert!(keys.is_subset(&known), "{name}: {keys:?}");
        let texts = |key: &str| -> Vec<String> {
            scenario[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
        };
        assert!(!texts("holds").is_empty() && scenario["behaviour"].is_string(), "{name}");
        let tests = texts("without_nix");
        assert!(!tests.is_empty(), "{name} is shown by no test without Nix");
        for test in tests {
            let (path, function) = test.split_once("::").unwrap();
            assert!(
                is_test(path, function),
                "{name} names {test}, which is no test that the gate or `xtask drills` runs"
            );
        }
    }
}

#[test]
fn a_test_that_is_not_there_is_found_out() {
    assert!(is_test("provision/tests/scenarios.rs", "a_test_that_is_not_there_is_found_out"));
    assert!(!is_test("provision/tests/scenarios.rs", "names"));
    assert!(!is_test("provision/tests/scenarios.rs", "nobody"));
    assert!(!is_test("provision/tests/ssh/transfer.rs", "transfer_beside_scp"));
}
