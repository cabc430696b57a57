//! How plans are shown, compared, drawn and kept, and what drift is.
#![allow(clippy::unwrap_used, missing_docs)]

mod machines;

use machines::{applied, bare};
use proptest::prelude::*;
use provision::drift::{self, Drift, HostDrift};
use provision::facts::{GpuFacts, HostFacts, OwnProcess, ProgramFacts};
use provision::inventory::{self, Source};
use provision::output::{self, Paint};
use provision::plan::saved::{SavedHost, SavedPlan};
use provision::plan::{self, Action, Basis, FileDiff, Plan, Step, Texts};
use provision::render::{self, RenderedFile};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use provision::supervisor::ProcessState;
use provision::{Error, derive};
use std::path::{Path, PathBuf};

/// The guides' seven hosts, changed in the text.
fn seven(from: &str, to: &str) -> Cluster {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("inventories/guide.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}");
    let source = Source { name: "guide.yaml".into(), text: text.replace(from, to) };
    resolve(&inventory::parse(&source).unwrap(), &Overrides::default(), &Surroundings::default())
}

fn guide() -> Cluster {
    seven("", "")
}

fn all_applied(cluster: &Cluster) -> Vec<HostFacts> {
    cluster.hosts.iter().map(|host| applied(cluster, host)).collect()
}

fn plans(cluster: &Cluster, facts: &[HostFacts]) -> Vec<Plan> {
    let hosts = cluster.hosts.iter().zip(facts);
    hosts.map(|(host, facts)| plan::plan(cluster, host, facts).unwrap()).collect()
}

/// What stands in the files of an applied host.
fn texts(cluster: &Cluster, host: usize) -> Texts {
    let host = &cluster.hosts[host];
    let (mut programs, _) = derive::programs(cluster, host, &bare());
    let files = render::files(cluster, host, &mut programs).unwrap();
    files.into_iter().map(|file| (file.path, Ok(file.text.into_bytes()))).collect()
}

fn diffs(plans: &[Plan], old: &Cluster) -> Vec<Vec<FileDiff>> {
    plans.iter().enumerate().map(|(index, plan)| plan::diff(plan, &texts(old, index))).collect()
}

fn diffs_text(plans: &[Plan], diffs: &[Vec<FileDiff>], paint: Paint) -> String {
    output::diffs_text(plans.iter().map(|plan| &*plan.host).zip(diffs.iter().map(Vec::as_slice)), paint)
}

#[test]
fn hosts_with_the_same_steps_are_told_together() {
    let cluster = guide();
    let mut facts = vec![bare(); 7];
    insta::assert_snapshot!("seven_bare_hosts", output::plans_text(&plans(&cluster, &facts)));

    // One storage host is done, and a plotter lost a program and has another one too many.
    facts = all_applied(&cluster);
    facts[5] = bare();
    let programs = &mut facts[4].supervisor.as_mut().unwrap().programs;
    programs.get_mut("autonomys-sharded-cache").unwrap().state = ProcessState::Exited;
    programs.insert("mine".into(), ProgramFacts { state: ProcessState::Running, pid: Some(7) });
    insta::assert_snapshot!("some_hosts_differ", output::plans_text(&plans(&cluster, &facts)));

    let nothing = plans(&cluster, &all_applied(&cluster));
    assert_eq!(output::plans_text(&nothing), "Cluster guide: nothing to do on 7 hosts\n");
    assert_eq!(output::plans_text(&nothing[..1]), "Cluster guide: nothing to do\n");
}

#[test]
fn what_changes_in_files_is_shown_in_full() {
    let (old, new) = (guide(), seven("max_payload: 3MB", "max_payload: 4MB"));
    let mut facts = all_applied(&old);
    // A file that supervisord reads and nobody wants, one that cannot be read, and a secret that is not there.
    let extra = PathBuf::from("/var/lib/autonomys/guide/etc/supervisor.d/mine.conf");
    facts[6].files.insert(extra.clone(), "00".into());
    facts[6].files.insert("/var/lib/autonomys/guide/etc/supervisord.conf".into(), "00".into());
    facts[6].secret = None;
    let plans = plans(&new, &facts);
    let mut diffs = diffs(&plans[..6], &old);
    let there = Texts::from([
        (extra, Ok(b"[program:mine]\ncommand=/bin/mine --token \"s3cr3t s3cr3t\"\n".to_vec())),
        ("/var/lib/autonomys/guide/etc/supervisord.conf".into(), Err("permission denied".into())),
    ]);
    diffs.push(plan::diff(&plans[6], &there));
    let text = diffs_text(&plans, &diffs, Paint::Plain);
    insta::assert_snapshot!("diff", format!("{}\n{text}", output::plans_text(&plans)));
    assert!(!text.contains('\x1b'));
    let coloured = diffs_text(&plans, &diffs, Paint::Colours);
    assert!(coloured.contains("\x1b[31m-max_payload: 3000000\x1b[0m"), "{coloured}");
    insta::assert_json_snapshot!("diff_json", diffs[6]);
    let wanted = plan::replaced(&plans[0]);
    assert_eq!(wanted.len(), 2, "only what is replaced is read: {wanted:?}");
}

#[test]
fn the_graph_shows_order_and_gates() {
    let (old, new) = (guide(), seven("max_payload: 3MB", "max_payload: 4MB"));
    let mut facts = all_applied(&old);
    // A host that is stopped as a whole goes last.
    facts[6].files.insert("/var/lib/autonomys/guide/etc/supervisord.conf".into(), "00".into());
    let plans = plans(&new, &facts);
    let some = [plans[0].clone(), plans[1].clone(), plans[6].clone()];
    let graph = plan::graph(&some);
    insta::assert_snapshot!("graph", graph);
    assert_eq!(graph, plan::graph(&some.clone()), "the same plans give the same graph");
    // Every end of an edge is a node.
    let whole = plan::graph(&plans);
    let (edges, others): (Vec<_>, Vec<_>) = whole.lines().partition(|line| line.contains(" -> "));
    let nodes: Vec<_> = others.iter().filter_map(|line| Some(line.trim().split_once(" [")?.0)).collect();
    assert!(edges.len() > 20);
    for edge in edges {
        let (from, to) = edge.trim().trim_end_matches(';').split_once(" -> ").unwrap();
        for end in [from, to.split(" [").next().unwrap()] {
            assert!(nodes.contains(&end), "{end} is no node");
        }
    }
}

fn save(cluster: &Cluster, facts: &[HostFacts]) -> SavedPlan {
    let plans = plans(cluster, facts);
    let hosts = cluster
        .hosts
        .iter()
        .zip(&plans)
        .zip(facts)
        .map(|((host, plan), facts)| SavedHost::new(plan, Basis::of_facts(host, facts)).unwrap());
    SavedPlan {
        made_by: "0.1.0".into(),
        cluster: cluster.name.clone(),
        inventory: "/x/guide.yaml".into(),
        overrides: Overrides { port_offset: Some(3), ..Overrides::default() },
        basis: Basis::of_inventory(cluster).unwrap(),
        hosts: hosts.collect(),
    }
}

/// What keeps a saved plan from being applied to a host with these facts.
fn differences(saved: &SavedPlan, cluster: &Cluster, host: usize, facts: &HostFacts) -> Vec<String> {
    let (host, plan) = (&cluster.hosts[host], plan::plan(cluster, &cluster.hosts[host], facts).unwrap());
    saved.host(&host.name.value).unwrap().differences(&plan, &Basis::of_facts(host, facts)).unwrap()
}

#[test]
fn a_saved_plan_fits_as_long_as_what_it_depends_on_is_so() {
    let (old, new) = (guide(), seven("max_payload: 3MB", "max_payload: 4MB"));
    let facts = all_applied(&old);
    let saved = save(&new, &facts);
    let path = Path::new("x.plan");
    let text = saved.encode().unwrap();
    assert!(SavedPlan::is_in(text.as_bytes(), path).unwrap());
    let saved = SavedPlan::decode(text.as_bytes(), path).unwrap();
    assert_eq!(saved, save(&new, &facts));

    // Volatile: the clock, room, process ids, who listens.
    let mut now = facts[0].clone();
    now.unix_time_ms += 100_000;
    for process in &mut now.processes {
        process.pid += 1000;
    }
    for program in now.supervisor.as_mut().unwrap().programs.values_mut() {
        program.pid = program.pid.map(|pid| pid + 1000);
    }
    now.ports.push(provision::facts::TakenPort { port: 1, pid: None, program: String::new() });
    assert_eq!(differences(&saved, &new, 0, &now), Vec::<String>::new());

    // Of what matters each thing is named.
    let prefix = Path::new("/var/lib/autonomys/guide");
    let mut said = Vec::new();
    let mut change = |what: fn(&mut HostFacts, &Path)| {
        let mut now = facts[0].clone();
        what(&mut now, prefix);
        said.extend(differences(&saved, &new, 0, &now));
    };
    change(|facts, prefix| {
        facts.files.insert(prefix.join("etc/supervisor.d/autonomys-controller.conf"), "cd".repeat(32));
    });
    change(|facts, prefix| {
        facts.files.remove(&prefix.join("etc/nats-server.conf"));
    });
    change(|facts, _| {
        let programs = &mut facts.supervisor.as_mut().unwrap().programs;
        programs.get_mut("autonomys-controller").unwrap().state = ProcessState::Fatal;
    });
    change(|facts, _| facts.supervisor = None);
    change(|facts, _| _ = facts.build.digests.insert("autonomys-farmer".into(), "ef".repeat(32)));
    change(|facts, _| facts.secret = None);
    change(|facts, _| {
        facts.processes.push(OwnProcess { pid: 4711, parent: 1, executable: "/x".into() });
    });
    change(|facts, _| facts.hardware.gpus.push(GpuFacts::default()));
    insta::assert_snapshot!("stale_facts", said.join("\n"));

    // And of the inventory, whichever host's part it is; not comments, tags and order.
    assert!(saved.check_inventory(&new).is_ok());
    let mut tagged = new.clone();
    tagged.hosts[5].tags.push("rack-1".into());
    tagged.hosts[5].groups.push("more".into());
    tagged.hosts.reverse();
    assert!(saved.check_inventory(&tagged).is_ok());
    let error = saved.check_inventory(&old).unwrap_err();
    assert_eq!(error.exit_code() as u8, 13);
    let other = seven("address: 192.168.1.7", "address: 192.168.1.8");
    let further = saved.check_inventory(&other).unwrap_err();
    insta::assert_snapshot!(
        "stale_inventory",
        format!("{}{}", output::error_text(&error), output::error_text(&further))
    );

    // A build that plans otherwise from the same facts.
    let mut plan = plan::plan(&new, &new.hosts[0], &facts[0]).unwrap();
    let basis = Basis::of_facts(&new.hosts[0], &facts[0]);
    plan.steps.pop();
    assert!(saved.hosts[0].differences(&plan, &basis).unwrap()[0].ends_with("is not wanted any more"));
    let Action::WriteFile { file, .. } = &mut plan.steps[0].action else { panic!("{:?}", plan.steps[0]) };
    file.text.push('#');
    assert!(!saved.hosts[0].differences(&plan, &basis).unwrap().is_empty());
}

#[test]
fn a_file_that_is_no_whole_plan_is_refused() {
    let cluster = guide();
    let text = save(&cluster, &all_applied(&cluster)).encode().unwrap();
    let path = Path::new("x.plan");
    let refused = |bytes: &[u8]| match SavedPlan::decode(bytes, path) {
        Err(error @ Error::PlanFile { .. }) => {
            assert_eq!(error.exit_code() as u8, 13);
            output::error_text(&error)
        }
        other => panic!("{other:?}"),
    };
    // Cut off anywhere, also in the header, it is seen as a plan and refused.
    for length in (2..200).chain((200..text.len() - 1).step_by(997)) {
        let cut = &text.as_bytes()[..length];
        assert!(SavedPlan::is_in(cut, path).unwrap(), "{length}");
        refused(cut);
    }
    // A bit that flipped, anywhere behind the magic.
    for at in (20..text.len() - 1).step_by(1009) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        refused(&bytes);
    }
    let newer = text.replacen("\"provision_plan\":1", "\"provision_plan\":2", 1);
    let printed = serde_json::to_string(&plans(&cluster, &all_applied(&cluster))).unwrap();
    let foreign = SavedPlan::is_in(printed.as_bytes(), path).unwrap_err();
    insta::assert_snapshot!(
        "refused_files",
        [refused(newer.as_bytes()), refused(&text.as_bytes()[..500]), output::error_text(&foreign)].join("")
    );
    // An inventory is none, whichever form of YAML it has.
    for inventory in
        ["version: 1\n", "{\"version\": 1, \"cluster\": \"x\"}", "", "{", "# {\"provision_plan\":"]
    {
        assert!(!SavedPlan::is_in(inventory.as_bytes(), path).unwrap(), "{inventory}");
    }
}

#[test]
fn what_differs_is_found_and_what_only_follows_is_not_told() {
    let cluster = guide();
    let mut facts = all_applied(&cluster);
    let prefix = PathBuf::from("/var/lib/autonomys/guide");
    let conf = |name: &str| prefix.join(format!("etc/supervisor.d/{name}.conf"));
    // By hand: a changed file, one that is gone, one too many.
    facts[0].files.insert(conf("autonomys-controller"), "00".into());
    facts[0].files.remove(&conf("nats-server"));
    facts[0].files.insert(conf("mine"), "00".into());
    // Programs: one that does not run, one that is unknown, one with an older binary, one with an older configuration.
    let supervisor = facts[3].supervisor.as_mut().unwrap();
    supervisor.programs.get_mut("autonomys-sharded-cache").unwrap().state = ProcessState::Fatal;
    supervisor.programs.get_mut("autonomys-sharded-cache").unwrap().pid = None;
    supervisor.programs.insert("mine".into(), ProgramFacts { state: ProcessState::Running, pid: Some(7) });
    supervisor.stale.insert("autonomys-full-piece".into());
    facts[3].processes[2].executable = "/old/autonomys-farmer".into();
    // The same on two hosts: another binary.
    for host in [1, 2] {
        let link = facts[host].links.get_mut("autonomys-dev-node").unwrap();
        link.target = prefix.join("artifacts/0123456789abcdef/autonomys-dev-node");
    }
    facts[5].supervisor = None;
    facts[5].secret = None;
    facts[5].directories.remove(&prefix.join("log"));

    let mut hosts: Vec<HostDrift> = plans(&cluster, &facts)
        .iter()
        .zip(&facts)
        .map(|(plan, facts)| HostDrift {
            host: plan.host.clone(),
            error: None,
            differences: drift::differences(plan, facts),
            diff: None,
        })
        .collect();
    hosts[6] = HostDrift {
        host: "storage-2".into(),
        error: Some("storage-2: no answer within 10 s".into()),
        differences: Vec::new(),
        diff: None,
    };
    let drift = Drift { version: drift::DRIFT_VERSION, cluster: "guide".into(), hosts };
    assert!(drift.is_found() && !drift.is_whole());
    insta::assert_snapshot!("drift", output::drift_text(&drift, Paint::Plain));
    insta::assert_json_snapshot!("drift_json", drift);

    let facts = all_applied(&cluster);
    for (plan, facts) in plans(&cluster, &facts).iter().zip(&facts) {
        assert_eq!(drift::differences(plan, facts), Vec::new());
    }
    let none = Drift {
        hosts: vec![HostDrift { error: None, differences: vec![], diff: None, host: "a".into() }],
        ..drift
    };
    let expected = "Cluster guide: no difference; 1 of 1 host as the inventory wants\n";
    assert_eq!(output::drift_text(&none, Paint::Plain), expected);
}

/// A text with a secret at a place where a template may have one.
fn with_secret(secret: &str, place: usize) -> String {
    match place {
        0 => format!("authorization {{\n  user: \"farm\"\n  password: \"{secret}\"\n}}\n"),
        1 => format!("authorization {{ token: {secret} }}\n"),
        2 => format!("[program:x]\nenvironment=A=\"1\",NATS_PASSWORD=\"{secret}\",B=\"2\"\n"),
        3 => format!("[program:x]\ncommand=/bin/x --nats-token {secret} role\n"),
        4 => format!("cluster {{\n  routes: [\n    \"nats://route:{secret}@10.0.0.1:4248\"\n  ]\n}}\n"),
        _ => format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"),
    }
}

proptest! {
    /// No output in any form shows a secret: not a new one, not the one that stood there before.
    #[test]
    fn no_secret_is_in_any_output(
        secrets in prop::array::uniform3("[A-Za-z0-9!#%&*+.=?_~-]{16,48}"),
        places in prop::array::uniform2(0..6usize),
    ) {
        let [new, old, whole] = &secrets;
        let prefix = Path::new("/p");
        let file = |path: &str, text: String| RenderedFile { path: prefix.join(path), text, mode: 0o600 };
        let steps = [
            (file("etc/nats-server.conf", with_secret(new, places[0])), Some("00".to_string())),
            (file("etc/new.conf", with_secret(new, places[1])), None),
            (file("etc/cluster-secret", whole.clone()), Some("00".to_string())),
            (file("etc/tls/host.key", whole.clone()), None),
        ];
        let steps = steps.map(|(file, replaces)| Step {
            id: format!("file:{}", file.path.display()),
            title: format!("write {}", file.path.display()),
            action: Action::WriteFile { file, replaces },
        });
        let gone = prefix.join("etc/supervisor.d/old.conf");
        let remove = Step {
            id: "file:old".into(),
            title: "remove old".into(),
            action: Action::RemoveFile { path: gone.clone() },
        };
        let plan = Plan {
            version: 1,
            cluster: "c".into(),
            host: "h".into(),
            prefix: prefix.into(),
            steps: steps.into_iter().chain([remove]).collect(),
            notes: vec![],
        };
        let there: Texts = [
            (prefix.join("etc/nats-server.conf"), Ok(with_secret(old, places[1]).into_bytes())),
            (prefix.join("etc/cluster-secret"), Ok(old.clone().into_bytes())),
            (gone, Ok(with_secret(old, places[0]).into_bytes())),
        ].into();
        let asked = plan::replaced(&plan);
        prop_assert!(!asked.iter().any(|path| path.ends_with("cluster-secret")), "a secret is not even read");
        let facts = HostFacts {
            files: [(prefix.join("etc/cluster-secret"), "5e".repeat(32))].into(),
            ..HostFacts::default()
        };
        let cluster = guide();
        let basis = Basis::of_facts(&cluster.hosts[0], &facts);
        let diff = plan::diff(&plan, &there);
        let drift = Drift {
            version: 1,
            cluster: "c".into(),
            hosts: vec![HostDrift {
                host: "h".into(),
                error: None,
                differences: drift::differences(&plan, &facts),
                diff: Some(diff.clone()),
            }],
        };
        let saved = SavedPlan { hosts: vec![SavedHost::new(&plan, basis).unwrap()], ..save(&cluster, &[]) };
        let one = std::slice::from_ref(&plan);
        let outputs = [
            output::plans_text(one),
            diffs_text(one, std::slice::from_ref(&diff), Paint::Colours),
            output::drift_text(&drift, Paint::Plain),
            plan::graph(one),
            serde_json::to_string(&plan).unwrap(),
            serde_json::to_string(&diff).unwrap(),
            serde_json::to_string(&drift).unwrap(),
            saved.encode().unwrap(),
            format!("{plan:?}"),
        ];
        for output in outputs {
            for secret in [new, old, whole, &"5e".repeat(32)] {
                prop_assert!(!output.contains(secret.as_str()), "{secret} in {output}");
            }
        }
        // That something changed is seen all the same.
        prop_assert!(diff[0].unified.contains("***") || diff[0].unified.contains("PRIVATE"), "{diff:?}");
    }
}
