//! What is applied stays, and is left alone.

use crate::support::*;
use proptest::prelude::*;
use provision::apply::{Options, plan_only};
use provision::status::status;
use provision::transport::sim::Fleet;

/// Steps that a plan would take on any host.
async fn steps(fleet: &Fleet, cluster: &provision::resolve::Cluster) -> Vec<String> {
    let planned = plan_only(cluster, fleet.connect(cluster), &Options::default())
        .await
        .unwrap_or_else(|error| panic!("{}", told(&error)));
    let steps = planned.iter().map(|planned| &planned.plan).flat_map(|plan| {
        plan.steps.iter().filter(|step| step.changes()).map(|step| format!("{}: {}", plan.host, step.title))
    });
    steps.collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn sim_a_second_apply_changes_and_restarts_nothing(shape in Shape::any(), seed: u64) {
        let control = Control::new();
        let cluster = control.cluster(&shape.inventory());
        in_virtual_time(async {
            let fleet = Fleet::new(&cluster, seed);
            let report = applied(&fleet, &cluster, &shape.options()).await;
            prop_assert!(report.changes > 0);
            let status = status(&cluster, &fleet.connect(&cluster), shape.forks).await;
            prop_assert!(status.healthy(), "{status:?}");

            let (before, history) = (all_left(&fleet, &cluster), fleet.history());
            prop_assert_eq!(steps(&fleet, &cluster).await, Vec::<String>::new());
            let again = applied(&fleet, &cluster, &shape.options()).await;
            prop_assert_eq!(again.changes, 0);
            prop_assert_eq!(fleet.history(), history);
            prop_assert_eq!(differences(&before, &all_left(&fleet, &cluster)), "");
            Ok(())
        })?;
    }

    /// But for the first node: it makes the development chain, and the others follow it.
    #[test]
    fn sim_the_order_of_hosts_in_the_inventory_means_nothing(
        (shape, order) in Shape::any().prop_flat_map(|shape| {
            let hosts = shape.hosts();
            (Just(shape), Just((1..hosts.len()).collect::<Vec<_>>()).prop_shuffle())
        }),
        seed: u64,
    ) {
        let control = Control::new();
        let (cluster, hosts) = (control.cluster(&shape.inventory()), shape.hosts());
        let shuffled: Vec<_> = std::iter::once(0).chain(order).map(|index| hosts[index].clone()).collect();
        let shuffled = control.cluster(&inventory_of(&shuffled));
        in_virtual_time(async {
            let fleet = Fleet::new(&cluster, seed);
            applied(&fleet, &cluster, &shape.options()).await;
            prop_assert_eq!(steps(&fleet, &shuffled).await, Vec::<String>::new());
            Ok(())
        })?;
    }
}

#[test]
fn sim_stop_takes_the_roles_down_in_reverse_and_start_brings_them_back() {
    let control = Control::new();
    let shape = Shape::GUIDE;
    let cluster = control.cluster(&shape.inventory());
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        applied(&fleet, &cluster, &shape.options()).await;
        let (before, since) = (all_left(&fleet, &cluster), fleet.now());
        let sink = Kept::default();
        provision::apply::stop(&cluster, fleet.connect(&cluster), &shape.options(), &sink).await.unwrap();
        let stopped = outages(&fleet, &cluster, since);
        assert_eq!(stopped.len(), before.values().map(|left| left.serving.len()).sum::<usize>());
        let roles: Vec<_> = stopped.iter().map(|outage| outage.role).collect();
        assert!(roles.is_sorted_by(|one, next| one >= next), "{roles:?}");
        provision::apply::start(&cluster, fleet.connect(&cluster), &shape.options(), &sink).await.unwrap();
        assert_eq!(differences(&before, &all_left(&fleet, &cluster)), "");
    });
}
