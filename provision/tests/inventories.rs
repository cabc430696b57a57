//! Every example inventory is read as it should be, and every wrong one gets the diagnostic beside it.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::resolve::Overrides;
use provision::{apply, output};
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("inventories")
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

/// Neither home nor state directory of this machine may stand in a snapshot.
fn overrides() -> Overrides {
    Overrides { prefix: Some("/var/lib/autonomys/test".into()), ..Overrides::default() }
}

#[test]
fn every_example_is_accepted() {
    let files = yaml_files(&directory());
    assert!(!files.is_empty());
    for path in files {
        let (_, source, findings) = apply::load(&path, &overrides()).unwrap_or_else(|error| {
            panic!("{}:\n{}", path.display(), output::error_text(&error));
        });
        let shown: String = findings.iter().map(|finding| finding.render(&source)).collect();
        assert!(findings.is_empty(), "{}:\n{shown}", path.display());
    }
}

#[test]
fn every_wrong_one_gets_its_diagnostic() {
    let files = yaml_files(&directory().join("invalid"));
    assert!(files.len() >= 30, "only {} wrong inventories are left", files.len());
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let error = apply::load(path, &overrides()).expect_err(&name);
        assert_eq!(error.exit_code() as u8, 3, "{name}");
        let shown =
            output::error_text(&error).replace(&format!("{}/", directory().display()), "inventories/");
        insta::with_settings!({
            snapshot_path => "../../inventories/invalid",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, shown);
        });
    }
    // A diagnostic whose inventory is gone checks nothing.
    for entry in std::fs::read_dir(directory().join("invalid")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "snap") {
            assert!(files.contains(&path.with_extension("yaml")), "{} has no inventory", path.display());
        }
    }
}

#[test]
fn a_missing_inventory_is_told_by_name() {
    let error = apply::load(Path::new("no/such.yaml"), &overrides()).expect_err("not there");
    assert_eq!(error.exit_code() as u8, 3);
    assert!(error.to_string().contains("no/such.yaml"), "{error}");
}

#[test]
fn defaults_groups_and_host_are_laid_over_each_other() {
    let text = "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
                defaults:\n  connection: local\n  node: {rpc_port: 1000, nats: {port: 1001}}\n\
                groups:\n  all:\n    node: {rpc_port: 2000}\n    plotter:\n\
                hosts:\n  here:\n    groups: [all]\n    node: {nats: {monitor_port: 3000}}\n    \
                storage: {farms: [{path: f, sectors: 1}]}\n";
    let source = provision::inventory::Source { name: "test".into(), text: text.into() };
    let inventory = provision::inventory::parse(&source).unwrap();
    let cluster = provision::resolve::resolve(&inventory, &overrides(), &Default::default());
    let node = cluster.hosts[0].node.as_ref().unwrap();
    let ports = (node.rpc_port.value, node.nats.port.value, node.nats.monitor_port.value);
    assert_eq!(ports, (2000, 1001, 3000));
    assert_eq!(cluster.hosts[0].plotter.as_ref().unwrap().plot_servers.len(), 1);
}
