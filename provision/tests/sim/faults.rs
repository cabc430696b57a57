//! Something goes wrong at any operation of any host: files are old or new, the others go on, the next apply ends where an
//! undisturbed one does, and no output holds the secret.

use crate::support::*;
use proptest::prelude::*;
use provision::error::{Error, ExitCode};
use provision::resolve::Cluster;
use provision::transport::sim::{Fault, Fleet, Left};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

type Hosts = BTreeMap<String, Left>;

/// A fleet before a run that is disturbed, and the cluster that the run applies.
struct Scene {
    control: Control,
    cluster: Cluster,
    shape: Shape,
    changed: bool,
    seed: u64,
}

impl Scene {
    fn new(shape: Shape, changed: bool, seed: u64) -> Self {
        let control = Control::new();
        let cluster = control.cluster(&shape.inventory());
        Self { control, cluster, shape, changed, seed }
    }

    /// A fleet on which the run is to begin: bare, or applied before the inventory and a binary change.
    async fn set(&mut self) -> Fleet {
        self.control.build("autonomys-farmer", "farmer 1");
        let first = self.control.cluster(&self.shape.inventory());
        let fleet = Fleet::new(&first, self.seed);
        if self.changed {
            applied(&fleet, &first, &self.shape.options()).await;
            self.control.build("autonomys-farmer", "farmer 2");
            let text = self.shape.inventory().replace("max_payload: 3MB", "max_payload: 4MB");
            self.cluster = self.control.cluster(&text.replace("/mnt/b, sectors: 1", "/mnt/b, sectors: 2"));
            let file = Path::new(PREFIX).join("etc/supervisord.conf");
            fleet.put("node-1", &file, b"; edited by hand\n");
        }
        fleet
    }
}

/// Each managed file is there as it was, or as it is to be; what is addressed by its contents has them.
fn check_files(old: &Hosts, new: &Hosts, found: &Hosts) -> Result<(), TestCaseError> {
    let etc = Path::new(PREFIX).join("etc");
    for (host, found) in found {
        let sides = [&old[host], &new[host]];
        for (path, (mode, bytes)) in &found.files {
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if path.starts_with(&etc) {
                let known = sides.iter().any(|side| side.files.get(path) == Some(&(*mode, bytes.clone())));
                prop_assert!(
                    known,
                    "{host}: {} is neither old nor new: {}",
                    path.display(),
                    String::from_utf8_lossy(bytes)
                );
            }
            if path.starts_with(Path::new(PREFIX).join("artifacts")) {
                let promised = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                prop_assert!(
                    hex::encode(Sha256::digest(bytes)).starts_with(&promised),
                    "{host}: {}",
                    path.display()
                );
            }
        }
        let kept =
            sides[0].files.keys().filter(|path| path.starts_with(&etc) && sides[1].files.contains_key(*path));
        for path in kept {
            prop_assert!(found.files.contains_key(path), "{host}: {} is gone", path.display());
        }
        for (link, target) in &found.links {
            let known = sides.iter().any(|side| side.links.get(link) == Some(target));
            let hidden = link.file_name().unwrap().to_string_lossy().starts_with('.');
            prop_assert!(known || hidden, "{host}: {} leads to {}", link.display(), target.display());
        }
    }
    Ok(())
}

/// Who failed is who was struck, or waits for it; the verdict is that of what happened.
fn check_verdict(error: &Error, victim: &str, fault: Fault, scene: &Scene) -> Result<(), TestCaseError> {
    if scene.cluster.hosts.len() == 1 {
        return Ok(());
    }
    let failed = failed(error);
    if fault.ends_the_session() {
        let code = failed.get(victim).map(|error| error.exit_code());
        prop_assert_eq!(code, Some(ExitCode::Host), "{}", told(error));
    }
    // Of one node, and of the one that makes the chain, everybody depends.
    if victim == "node-1" || (scene.shape.nodes == 1 && victim.starts_with("node")) {
        return Ok(());
    }
    for (host, error) in failed {
        let waits = matches!(error, Error::Step { message, .. } if message.starts_with("not begun"));
        prop_assert!(host == victim || waits, "{} failed with {}", host, told(error));
    }
    Ok(())
}

/// The secret is in nothing that is shown, and on no disk but in its file.
fn check_secret(fleet: &Fleet, cluster: &Cluster, shown: &str) -> Result<(), TestCaseError> {
    let mut secrets = Vec::new();
    for host in names(cluster) {
        secrets.extend(fleet.left(&host).files.get(&secret_path()).map(|(_, bytes)| bytes.clone()));
    }
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        let raw = String::from_utf8_lossy(&secret).into_owned();
        let numbers: String = secret.iter().map(|byte| format!("{byte}, ")).collect();
        for form in
            [raw.as_str(), &hex::encode(&secret), &hex::encode_upper(&secret), numbers.trim_end_matches(", ")]
        {
            prop_assert!(!shown.contains(form), "the secret is shown");
        }
        prop_assert!(
            !fleet.commands().iter().any(|command| command.contains(&raw)),
            "the secret is in a process list"
        );
        for host in names(cluster) {
            for (path, (mode, bytes)) in fleet.left(&host).files {
                let holds = bytes.windows(secret.len()).any(|window| window == secret);
                let own = path.parent() == secret_path().parent()
                    && path.to_string_lossy().contains("cluster-secret");
                prop_assert!(
                    !holds || (own && mode == 0o600),
                    "{host}: the secret is in {}, mode {mode:o}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn sim_a_fault_at_any_step_leaves_files_old_or_new_and_the_next_apply_mends_it(
        shape in Shape::any(),
        changed: bool,
        seed: u64,
        place in (0_usize..64, 0.0_f64..1.0),
        fault in any::<u64>().prop_map(Fault::by_chance),
    ) {
        let mut scene = Scene::new(shape, changed, seed);
        in_virtual_time(async {
            // What an undisturbed run leaves, and how many operations it takes.
            let fleet = scene.set().await;
            let old = all_left(&fleet, &scene.cluster);
            let names = names(&scene.cluster);
            let before: Vec<_> = names.iter().map(|name| fleet.operations(name)).collect();
            applied(&fleet, &scene.cluster, &shape.options()).await;
            let new = all_left(&fleet, &scene.cluster);
            let victim = place.0 % names.len();
            let operations = fleet.operations(&names[victim]) - before[victim];
            let victim = &names[victim];

            let fleet = scene.set().await;
            fleet.arm(victim, 1 + (place.1 * operations as f64) as u64, fault);
            let (result, kept) = apply(&fleet, &scene.cluster, &shape.options()).await;
            let mut shown = kept.text();
            if let Err(error) = &result {
                shown += &told(error);
                check_verdict(error, victim, fault, &scene)?;
            }
            check_files(&old, &new, &all_left(&fleet, &scene.cluster))?;

            fleet.mend();
            // What was started when the connection broke has come up by the time that somebody looks again.
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            let planned = provision::apply::plan_only(&scene.cluster, fleet.connect(&scene.cluster), &shape.options()).await;
            shown += &serde_json::to_string(&planned.unwrap().iter().map(|planned| &planned.plan).collect::<Vec<_>>()).unwrap();
            let (result, kept) = apply(&fleet, &scene.cluster, &shape.options()).await;
            shown += &kept.text();
            prop_assert!(result.is_ok(), "{}\n{}", told(&result.unwrap_err()), kept.text());
            let found = all_left(&fleet, &scene.cluster);
            prop_assert_eq!(differences(&new, &found), "");
            let secrets: std::collections::BTreeSet<_> =
                names.iter().map(|name| fleet.left(name).files[&secret_path()].clone()).collect();
            prop_assert_eq!(secrets.len(), 1, "hosts have different secrets");
            check_secret(&fleet, &scene.cluster, &shown)?;
            prop_assert_eq!(applied(&fleet, &scene.cluster, &shape.options()).await.changes, 0);
            Ok(())
        })?;
    }
}
