//! What a run says when something is wrong with a host, and that the others get to their end.

use crate::support::*;
use provision::error::{Error, ExitCode};
use provision::events::Silent;
use provision::resolve::Cluster;
use provision::status::status;
use provision::transport::sim::{Fault, Fleet};
use std::time::Duration;

/// Applies to a fleet with something wrong; the error, and how long the run took.
async fn disturbed(fleet: &Fleet, cluster: &Cluster) -> (Error, Duration) {
    let since = fleet.now();
    let (result, _) = apply(fleet, cluster, &Shape::GUIDE.options()).await;
    (result.expect_err("it cannot end well"), fleet.now() - since)
}

fn only_failure<'a>(error: &'a Error, host: &str) -> &'a Error {
    let failed = failed(error);
    assert_eq!(failed.keys().collect::<Vec<_>>(), [host], "{}", told(error));
    failed[host]
}

fn bare() -> (Control, Cluster) {
    let control = Control::new();
    let cluster = control.cluster(&Shape::GUIDE.inventory());
    (control, cluster)
}

#[test]
fn sim_a_host_that_is_down_keeps_nobody_from_the_end() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        fleet.strike("plotter-2", Fault::PowerCut);
        let (error, _) = disturbed(&fleet, &cluster).await;
        let failure = only_failure(&error, "plotter-2");
        assert!(matches!(failure, Error::Connection { .. }));
        assert_eq!(error.exit_code(), ExitCode::Host);
        let status = status(&cluster, &fleet.connect(&cluster), 16).await;
        let unhealthy: Vec<_> =
            status.hosts.iter().filter(|host| !host.healthy()).map(|host| &host.host).collect();
        assert_eq!(unhealthy, ["plotter-2"]);
        fleet.mend();
        applied(&fleet, &cluster, &Shape::GUIDE.options()).await;
    });
}

#[test]
fn sim_a_full_disk_is_named_with_what_to_do() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        fleet.arm("storage-1", 60, Fault::DiskFull { after: 100 });
        let (error, _) = disturbed(&fleet, &cluster).await;
        let failure = only_failure(&error, "storage-1");
        assert_eq!(failure.exit_code(), ExitCode::Host, "{}", told(failure));
        assert!(failure.hint().unwrap().contains("the disk is full"), "{}", told(failure));
    });
}

#[test]
fn sim_a_supervisord_that_hangs_is_named_and_bounded_in_time() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        applied(&fleet, &cluster, &Shape::GUIDE.options()).await;
        fleet.strike("plotter-1", Fault::SupervisordHangs);
        let (error, took) = disturbed(&fleet, &cluster).await;
        let failure = only_failure(&error, "plotter-1");
        assert!(failure.to_string().contains("does not answer"), "{failure}");
        assert_eq!(failure.exit_code(), ExitCode::Host);
        assert!(took < Duration::from_secs(60), "{took:?}");
    });
}

#[test]
fn sim_a_program_that_does_not_start_is_shown_with_its_log() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        fleet.break_program("plotter-1", "autonomys-plot-server-1");
        let (error, _) = disturbed(&fleet, &cluster).await;
        let Error::Gate { what, last, log, .. } = only_failure(&error, "plotter-1") else {
            panic!("{}", told(&error))
        };
        assert_eq!(what, "autonomys-plot-server-1");
        assert!(last.contains("FATAL"), "{last}");
        assert!(log.iter().any(|line| line.contains("something is wrong")), "{log:?}");
        assert_eq!(error.exit_code(), ExitCode::Gate);
    });
}

#[test]
fn sim_a_gate_that_never_opens_ends_at_its_deadline() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        fleet.shut_gate("storage-2", "autonomys-plot-client");
        let (error, took) = disturbed(&fleet, &cluster).await;
        let Error::Gate { seconds, .. } = only_failure(&error, "storage-2") else {
            panic!("{}", told(&error))
        };
        assert_eq!(*seconds, 300);
        assert!((300..900).contains(&took.as_secs()), "{took:?}");
    });
}

#[test]
fn sim_of_two_applies_at_once_one_is_told_who_is_at_work() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        // Both find the same things to do.
        let options = Shape::GUIDE.options();
        let run = || provision::apply::apply(&cluster, fleet.connect(&cluster), &options, &Silent);
        let (one, other) = tokio::join!(run(), run());
        let codes = [&one, &other].map(|result| result.as_ref().err().map(Error::exit_code));
        let refused = [one, other].into_iter().filter_map(Result::err);
        for error in refused {
            for (host, error) in failed(&error) {
                let locked =
                    matches!(error, Error::OnHost { error, .. } if matches!(**error, Error::Locked { .. }));
                assert!(locked, "{host}: {error}");
                assert!(error.to_string().contains("`provision apply` of "), "{error}");
            }
        }
        assert!(codes.contains(&Some(ExitCode::Locked)), "{codes:?}");
        applied(&fleet, &cluster, &options).await;
        assert_eq!(applied(&fleet, &cluster, &options).await.changes, 0);
    });
}

/// A file that is no configuration refuses the whole reread; what runs runs on.
#[test]
fn sim_a_broken_file_of_somebody_else_is_removed_and_disturbs_nothing() {
    let (_control, cluster) = bare();
    in_virtual_time(async {
        let fleet = Fleet::new(&cluster, 1);
        applied(&fleet, &cluster, &Shape::GUIDE.options()).await;
        let (before, history) = (all_left(&fleet, &cluster), fleet.history());
        let file = std::path::Path::new(PREFIX).join("etc/supervisor.d/broken.conf");
        fleet.put("node-2", &file, b"[program:broken]\nenvironment=A=\"%\"\n");
        applied(&fleet, &cluster, &Shape::GUIDE.options()).await;
        assert_eq!(differences(&before, &all_left(&fleet, &cluster)), "");
        assert_eq!(fleet.history(), history);
    });
}
