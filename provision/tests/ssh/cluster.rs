//! A whole cluster of stubs on a host that is reached over SSH.

#[path = "../live/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of local clusters use the rest")]
mod support;

use crate::sshd::Sshd;
use provision::apply::{self, Options};
use provision::status;
use provision::transport::{Local, Transport};
use std::sync::Arc;
use support::{Fixture, Kept};

#[tokio::test]
async fn ssh_a_cluster_is_applied_once_and_then_left_alone() {
    let sshd = Sshd::start();
    let fixture = Fixture::new().await;
    let reached = format!(
        "connection: ssh\n    ssh: {}\n    prefix: {}\n    port_offset: {}",
        sshd.settings(),
        fixture.prefix.display(),
        fixture.port_offset
    );
    fixture.edit("connection: local", &reached);
    let cluster = fixture.cluster();
    let ssh: Arc<dyn Transport> = Arc::new(sshd.connect().await);
    let connected = || vec![(&cluster.hosts[0], Ok(Arc::clone(&ssh)))];

    let planned = apply::plan_only(&cluster, connected(), &Options::default()).await.unwrap();
    assert!(planned[0].plan.changes() > 10, "{planned:?}");
    let (options, sink) = (Options::default(), Kept::default());
    let first = apply::apply(&cluster, connected(), &options, &sink).await.unwrap();
    assert!(first.changes > 10, "{first:?}");
    let again = apply::apply(&cluster, connected(), &options, &sink).await.unwrap();
    assert_eq!(again.changes, 0, "{again:?}");

    let over_ssh = status::status(&cluster, &connected(), 1).await;
    assert!(over_ssh.healthy(), "{over_ssh:?}");
    let mut lines = 0;
    let programs = ["nats-server".to_string()];
    provision::logs::show(&fixture.layout(), &programs, 5, false, &*ssh, &mut |_, _| lines += 1)
        .await
        .unwrap();
    assert!(lines > 0);
    // The programs belong to supervisord, not to the connection.
    drop(ssh);
    crate::sshd::until("the host's side ends", || sshd.served().is_empty()).await;
    let here: Arc<dyn Transport> = Arc::new(Local);
    assert!(status::status(&cluster, &[(&cluster.hosts[0], Ok(here))], 1).await.healthy());
}
