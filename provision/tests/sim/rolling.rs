//! A change of a fleet that runs: one program of a role at a time, JetStream never without quorum, nothing restarted that the
//! change does not concern.

use crate::support::*;
use proptest::prelude::*;
use proptest::sample::subsequence;
use provision::derive::Role;
use provision::error::{Error, ExitCode};
use provision::transport::sim::{Fault, Fleet};
use std::collections::BTreeSet;
use std::path::Path;

/// What is different at the second apply.
#[derive(Debug, Clone)]
enum Change {
    /// nats-server's own configuration.
    Payload,
    /// A new autonomys-farmer.
    Farmer,
    /// A new autonomys-dev-node.
    DevNode,
    /// Somebody edited supervisord's file on these hosts.
    SupervisordFile(Vec<usize>),
    /// supervisord died on these hosts.
    SupervisordDied(Vec<usize>),
}

fn change() -> impl Strategy<Value = Change> {
    let hosts = || subsequence((0..7).collect::<Vec<usize>>(), 1..=7);
    prop_oneof![
        Just(Change::Payload),
        Just(Change::Farmer),
        Just(Change::DevNode),
        hosts().prop_map(Change::SupervisordFile),
        hosts().prop_map(Change::SupervisordDied),
    ]
}

impl Change {
    /// Whether a program of a host is to be restarted.
    fn concerns(&self, host: usize, role: Role) -> bool {
        match self {
            Self::Payload => role == Role::NatsServer,
            Self::Farmer => role.binary() == "autonomys-farmer",
            Self::DevNode => role == Role::DevNode,
            Self::SupervisordFile(hosts) | Self::SupervisordDied(hosts) => hosts.contains(&host),
        }
    }

    /// Makes it; gives the inventory that is to be applied.
    fn make(&self, control: &Control, fleet: &Fleet, hosts: &[String]) -> String {
        let inventory = Shape::GUIDE.inventory();
        match self {
            Self::Payload => return inventory.replace("max_payload: 3MB", "max_payload: 4MB"),
            Self::Farmer => control.build("autonomys-farmer", "farmer 2"),
            Self::DevNode => control.build("autonomys-dev-node", "dev-node 2"),
            Self::SupervisordFile(edited) => {
                let file = Path::new(PREFIX).join("etc/supervisord.conf");
                for host in edited {
                    let (_, bytes) = fleet.left(&hosts[*host]).files[&file].clone();
                    fleet.put(&hosts[*host], &file, &[&bytes[..], b"\n; edited\n"].concat());
                }
            }
            Self::SupervisordDied(hosts_) => {
                hosts_.iter().for_each(|host| fleet.strike(&hosts[*host], Fault::SupervisordDies));
            }
        }
        inventory
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn sim_a_rolling_change_takes_down_one_program_of_a_role_at_a_time(
        change in change(),
        forks in 1_usize..17,
        seed: u64,
    ) {
        let control = Control::new();
        let shape = Shape { forks, ..Shape::GUIDE };
        let cluster = control.cluster(&shape.inventory());
        let hosts = names(&cluster);
        in_virtual_time(async {
            let fleet = Fleet::new(&cluster, seed);
            applied(&fleet, &cluster, &shape.options()).await;
            let before = all_left(&fleet, &cluster);
            let since = fleet.now();
            let cluster = control.cluster(&change.make(&control, &fleet, &hosts));
            applied(&fleet, &cluster, &shape.options()).await;

            // With three servers, JetStream's quorum is lost as soon as two are down.
            let outages = outages(&fleet, &cluster, since);
            let whole_hosts = matches!(change, Change::SupervisordFile(_) | Change::SupervisordDied(_));
            prop_assert_eq!(overlap(&outages, whole_hosts), None);
            let restarted: BTreeSet<_> = outages.iter().map(|outage| (&outage.host, &outage.program)).collect();
            prop_assert_eq!(restarted.len(), outages.len(), "something was restarted twice");
            let running = before.iter().flat_map(|(host, left)| left.serving.keys().map(move |program| (host, program)));
            let role_of = |host: &str, program: &str| {
                let index = hosts.iter().position(|name| name == host).unwrap();
                let (programs, _) = provision::derive::programs(&cluster, &cluster.hosts[index], &Default::default());
                (index, programs.iter().find(|derived| derived.name == program).unwrap().role)
            };
            let concerned: BTreeSet<_> = running
                .filter(|(host, program)| {
                    let (index, role) = role_of(host, program);
                    change.concerns(index, role)
                })
                .collect();
            prop_assert_eq!(restarted, concerned);
            prop_assert_eq!(applied(&fleet, &cluster, &shape.options()).await.changes, 0);
            Ok(())
        })?;
    }
}

/// A build that ends at once takes one program of one host down, and the run says so.
#[test]
fn sim_a_change_that_does_not_come_back_goes_no_further() {
    let control = Control::new();
    let shape = Shape::GUIDE;
    let cluster = control.cluster(&shape.inventory());
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 7);
        applied(&fleet, &cluster, &shape.options()).await;
        let since = fleet.now();
        control.build("autonomys-farmer", "farmer 2, ends at once");
        let (result, _) = apply(&fleet, &cluster, &shape.options()).await;
        let error = result.expect_err("it does not come back");
        assert_eq!(error.exit_code(), ExitCode::TakenBack, "{}", told(&error));
        for role in Role::ALL {
            let down: Vec<_> =
                outages(&fleet, &cluster, since).into_iter().filter(|outage| outage.role == role).collect();
            assert!(down.len() <= 1, "{down:?}");
        }
        let failed = failed(&error);
        let not_begun =
            |error: &&Error| matches!(error, Error::Step { message, .. } if message.starts_with("not begun"));
        let broken: Vec<_> = failed.iter().filter(|(_, error)| !not_begun(error)).collect();
        for (host, error) in &broken {
            let Error::TakenBack { error, problem: None } = error else { panic!("{host}: {error:?}") };
            assert!(matches!(&**error, Error::Gate { log, .. } if !log.is_empty()), "{host}: {error:?}");
        }
        assert_eq!(failed["node-1"].exit_code(), ExitCode::TakenBack);

        // With a good build everything comes back.
        control.build("autonomys-farmer", "farmer 3");
        applied(&fleet, &cluster, &shape.options()).await;
        assert_eq!(applied(&fleet, &cluster, &shape.options()).await.changes, 0);
    });
}
