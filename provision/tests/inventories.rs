//! Every example inventory is read as it should be, and every wrong one gets the diagnostic beside it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "inventories/schema.rs"]
mod schema;

use provision::check::CODES;
use provision::resolve::Overrides;
use provision::{apply, output};
use std::collections::BTreeSet;
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

/// What `provision check` says of an inventory before it asks a host.
fn shown(path: &Path) -> String {
    let text = match apply::load(path, &overrides()) {
        Err(error) => {
            assert_eq!(error.exit_code() as u8, 3, "{}", path.display());
            output::error_text(&error)
        }
        Ok((_, source, findings)) => {
            assert!(!findings.is_empty(), "{} is not wrong", path.display());
            findings.iter().map(|finding| finding.render(&source)).collect::<Vec<_>>().join("\n")
        }
    };
    text.replace(&format!("{}/", directory().display()), "inventories/")
}

#[test]
fn every_wrong_one_gets_its_diagnostic() {
    let files = yaml_files(&directory().join("invalid"));
    assert!(files.len() >= 80, "only {} wrong inventories are left", files.len());
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        insta::with_settings!({
            snapshot_path => "../../inventories/invalid",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, shown(path));
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

/// The codes in a text: what stands behind one of `marks`, up to its `end`.
fn codes<'a>(text: &'a str, marks: &[&str], end: char) -> BTreeSet<&'a str> {
    let behind =
        marks.iter().flat_map(|mark| text.match_indices(mark).map(|(at, mark)| &text[at + mark.len()..]));
    behind.filter_map(|rest| rest.split_once(end)).map(|(code, _)| code).collect()
}

#[test]
fn every_rule_has_an_example_and_every_example_a_rule() {
    let listed: BTreeSet<&str> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed.len(), CODES.len(), "a code is listed twice");
    let texts: Vec<String> =
        yaml_files(&directory().join("invalid")).iter().map(|path| shown(path)).collect();
    let shown: BTreeSet<&str> =
        texts.iter().flat_map(|text| codes(text, &["error[", "warning["], ']')).collect();
    assert_eq!(shown, listed);
}

/// A rule that nobody listed would need no example.
#[test]
fn every_rule_in_the_code_is_listed() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![sources.join("inventory.rs"), sources.join("check.rs")];
    for directory in ["inventory", "check"] {
        files.extend(std::fs::read_dir(sources.join(directory)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let mut found = 0;
    for file in files {
        let text: String =
            std::fs::read_to_string(&file).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let marks = [
            "Diagnostic::error(\"",
            "Diagnostic::error( \"",
            "Diagnostic::warning(\"",
            "Diagnostic::warning( \"",
        ];
        for code in codes(&text, &marks, '"') {
            found += 1;
            assert!(
                CODES.iter().any(|(listed, _)| *listed == code),
                "{code} of {} is not listed",
                file.display()
            );
        }
    }
    assert!(found >= 30, "only {found} codes found: they are written otherwise now");
}

#[test]
fn no_message_shows_a_secret() {
    let mut secrets = 0;
    for path in yaml_files(&directory().join("invalid")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for secret in ["correct-horse", "battery-staple", "hunter2"] {
            secrets += usize::from(text.contains(secret));
            assert!(!shown(&path).contains(secret), "{}:\n{}", path.display(), shown(&path));
        }
    }
    assert!(secrets >= 5, "only {secrets} secrets to be shown");
    for text in [
        "secret: |\n  hunter2\n",
        "secret: >-\n  hunter2\n  hunter2\nhots: {}\n",
        "secret:\n  hunter2\n",
        "secret: \"a\n  hunter2\"\n",
        "x: &s hunter2\nsecret: *s\n",
        "secret: [hunter2, {a: hunter2}]\n",
        "? secret\n: hunter2\n",
        "nats_servers: [\"nats://\\x68unter2:b@1.2.3.4:4222\"]\n",
        "secret: {a: hunter2, file: a}\n",
        "defaults: {ssh: {Password: hunter2, prot: 22}}\n",
        "secret: hunter2\nb: [\n",
        "secret:\n  hunter2: [\n",
        "a: b: c\nsecret: 'hunter2\n",
    ] {
        let source = provision::inventory::Source { name: "test".into(), text: text.into() };
        for finding in provision::inventory::parse(&source).unwrap_err() {
            let shown = finding.render(&source);
            assert!(!shown.contains("hunter2"), "{text}:\n{shown}");
        }
    }
}

#[test]
fn hosts_addresses_and_farms_by_range() {
    let text = "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
                groups:\n  storages:\n    storage: {farms: [{path: \"/mnt/nvme[0..2]n1/farm\", sectors: 7}]}\n\
                hosts:\n  storage-[08..10]:\n    groups: [storages]\n    tags: [rack-1]\n    \
                address: 192.168.1.[98..100]\n";
    let source = provision::inventory::Source { name: "test".into(), text: text.into() };
    let inventory = provision::inventory::parse(&source).unwrap();
    let cluster = provision::resolve::resolve(&inventory, &overrides(), &Default::default());
    let hosts: Vec<_> =
        cluster.hosts.iter().map(|host| (host.name.value.clone(), host.address.value.to_string())).collect();
    let expected =
        [("storage-08", "192.168.1.98"), ("storage-09", "192.168.1.99"), ("storage-10", "192.168.1.100")];
    assert_eq!(hosts, expected.map(|(name, address)| (name.to_string(), address.to_string())));
    for host in &cluster.hosts {
        assert_eq!(
            (host.groups.as_slice(), host.tags.as_slice()),
            (&["storages".to_string()][..], &["rack-1".to_string()][..])
        );
        let farms: Vec<_> = host
            .storage
            .as_ref()
            .unwrap()
            .farms
            .iter()
            .map(|farm| farm.path.value.to_str().unwrap())
            .collect();
        assert_eq!(farms, ["/mnt/nvme0n1/farm", "/mnt/nvme1n1/farm", "/mnt/nvme2n1/farm"]);
    }
}

#[test]
fn a_thousand_hosts_of_many_farms_are_bounded() {
    let head = "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n";
    let farms = "storage: {farms: [{path: \"/mnt/[1..4000]\", sectors: 1}]}";
    let wrong = |hosts: &str| {
        let source = provision::inventory::Source { name: "test".into(), text: format!("{head}{hosts}") };
        provision::inventory::parse(&source)
            .unwrap_err()
            .iter()
            .map(|finding| finding.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(wrong(&format!("hosts:\n  s-[1..4000]:\n    {farms}\n")), ["range"]);
    assert_eq!(
        wrong(&format!("groups:\n  g:\n    {farms}\nhosts:\n  s-[1..1000]: {{groups: [g]}}\n")),
        ["range"]
    );
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
