//! A thousand hosts from the text of the inventory to the plans: three node hosts, and half plotters with two plot-servers, half
//! storage hosts with two farms. The facts are those of the simulated fleet, bare and applied.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use provision::apply::{self, Options};
use provision::events::Silent;
use provision::facts::{self, HostFacts};
use provision::inventory::{self, Source};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use provision::transport::sim::Fleet;
use provision::{check, plan};
use std::hint::black_box;

const HOSTS: usize = 1000;

fn inventory_text(hosts: usize) -> String {
    let mut text =
        "version: 1\ncluster: thousand\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
                    secret: generate\nhosts:\n"
            .to_string();
    for host in 0..hosts {
        let address = format!("10.0.{}.{}", host / 250, 1 + host % 250);
        let settings = match host {
            0..3 => "node: {}",
            _ if host % 2 == 0 => "plotter: {plot_servers: [{}, {}]}",
            _ => "storage: {farms: [{path: /mnt/a, sectors: 10}, {path: /mnt/b, sectors: 10}]}",
        };
        text += &format!("  host-{host}: {{address: {address}, {settings}}}\n");
    }
    text
}

/// What every command does before it connects.
fn read(text: &str, overrides: &Overrides) -> Cluster {
    let source = Source { name: "bench.yaml".into(), text: text.into() };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|finding| finding.render(&source)).collect::<String>())
    });
    let cluster = resolve(&inventory, overrides, &Surroundings::default());
    assert!(check::check(&cluster).is_empty());
    cluster
}

/// Checks and plans every host; gives how many steps change something.
fn plan_all(cluster: &Cluster, facts: &[HostFacts]) -> usize {
    let planned = cluster.hosts.iter().zip(facts).map(|(host, facts)| {
        let (problems, _) = plan::problems(cluster, host, facts);
        assert!(problems.is_empty(), "{problems:?}");
        plan::plan(cluster, host, facts).unwrap().changes()
    });
    planned.sum()
}

async fn gathered(fleet: &Fleet, cluster: &Cluster) -> Vec<HostFacts> {
    let binaries = facts::binaries(cluster, &provision::transport::Local).await.unwrap();
    let mut gathered = Vec::new();
    for (host, transport) in fleet.connect(cluster) {
        gathered.push(facts::gather(host, &*transport.unwrap(), &binaries).await.unwrap());
    }
    gathered
}

fn plans(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let binaries = ["autonomys-farmer", "autonomys-dev-node"].map(|name| directory.path().join(name));
    binaries.iter().for_each(|path| std::fs::write(path, "a binary").unwrap());
    let overrides = Overrides { binaries: Some(binaries.into()), ..Overrides::default() };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();

    let text = inventory_text(HOSTS);
    let cluster = read(&text, &overrides);
    let (bare, applied, fleet) = runtime.block_on(async {
        let fleet = Fleet::new(&cluster, 1);
        let bare = gathered(&fleet, &cluster).await;
        let options = Options { forks: 64, ..Options::default() };
        apply::apply(&cluster, fleet.connect(&cluster), &options, &Silent).await.unwrap();
        (bare, gathered(&fleet, &cluster).await, fleet)
    });
    assert!(plan_all(&cluster, &bare) > 10 * HOSTS);
    assert_eq!(plan_all(&cluster, &applied), 0);

    let mut group = criterion.benchmark_group("thousand_hosts");
    group.sample_size(10);
    group.bench_function("inventory read, resolved, checked", |bencher| {
        bencher.iter(|| read(black_box(&text), &overrides))
    });
    group.bench_function("planned, bare", |bencher| bencher.iter(|| plan_all(black_box(&cluster), &bare)));
    group.bench_function("planned, nothing to do", |bencher| {
        bencher.iter(|| plan_all(black_box(&cluster), &applied))
    });
    group.bench_function("all of it with the fleet's facts", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let cluster = read(black_box(&text), &overrides);
                let planned = apply::plan_only(
                    &cluster,
                    fleet.connect(&cluster),
                    &Options { forks: 64, ..Options::default() },
                )
                .await
                .unwrap();
                serde_json::to_string(&planned.into_iter().map(|planned| planned.plan).collect::<Vec<_>>())
                    .unwrap()
                    .len()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
