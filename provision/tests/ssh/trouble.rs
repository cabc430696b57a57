//! Connections that are lost, hosts that hang.

use crate::sshd::{Sshd, signal, sleeper, until};
use provision::Error;
use provision::transport::{Command, Transport};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn assert_lost(error: &Error, why: &str) {
    let text = provision::output::error_text(error);
    assert!(matches!(error, Error::Connection { host, .. } if host == "here"), "{text}");
    assert!(text.contains("here: the connection was lost") && text.contains(why), "{text}");
    assert!(text.contains("apply again to go on"), "{text}");
}

#[tokio::test]
async fn ssh_a_lost_connection_fails_every_call_at_once() {
    let sshd = Sshd::start();
    let ssh = Arc::new(sshd.connect().await);
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let (command, runs) = sleeper(100 + number);
            let ssh = Arc::clone(&ssh);
            (tokio::spawn(async move { ssh.run(&command).await }), runs)
        })
        .collect();
    for (_, runs) in &calls {
        until("it runs", runs).await;
    }
    sshd.cut();
    for (call, runs) in calls {
        let ended = tokio::time::timeout(Duration::from_secs(10), call).await.expect("quickly").unwrap();
        assert_lost(&ended.expect_err("lost"), "");
        until("nothing goes on on the host", || !runs()).await;
    }
    assert_lost(&ssh.run(&Command::new("true")).await.expect_err("still lost"), "");
}

#[tokio::test]
async fn ssh_a_host_that_hangs_is_given_up() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let served = sshd.served();
    assert_eq!(served.len(), 1);
    signal(served[0], "-STOP");
    let error = ssh.read(&PathBuf::from("/etc/hostname"), 100).await.expect_err("it hangs");
    signal(served[0], "-CONT");
    assert_lost(&error, "silent for 20 s");
}

#[tokio::test]
async fn ssh_a_host_whose_process_dies_says_so() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    signal(sshd.served()[0], "-KILL");
    assert_lost(&ssh.run(&Command::new("true")).await.expect_err("dead"), "the other end closed it");
}

#[tokio::test]
async fn ssh_a_lock_excludes_others_and_ends_with_its_connection() {
    let sshd = Sshd::start();
    let (first, second) = (sshd.connect().await, sshd.connect().await);
    let path = sshd.path("lock");
    let held = first.lock(&path, "the first").await.unwrap();
    let error = second.lock(&path, "the second").await.map(|_| ()).expect_err("held");
    assert_eq!(error.exit_code() as u8, 10);
    assert!(error.to_string().contains("the first"), "{error}");
    drop(held);
    // Given up behind the back of the calls: the host hears of it a moment later.
    let mut again = None;
    for _ in 0..100 {
        again = second.lock(&path, "the second").await.ok();
        if again.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(again.is_some());
    assert!(first.lock(&path, "the first").await.is_err());
    sshd.cut();
    until("the host's side ends", || sshd.served().is_empty()).await;
    sshd.connect().await.lock(&path, "the third").await.unwrap();
}

/// A file that takes a while, and where it goes.
fn large_file(sshd: &Sshd) -> (PathBuf, PathBuf) {
    let source = sshd.path("large");
    std::fs::write(&source, vec![7; 128 << 20]).unwrap();
    (source, sshd.path("there/large"))
}

#[tokio::test]
async fn ssh_an_upload_that_is_given_up_leaves_nothing() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let (source, target) = large_file(&sshd);
    let half = target.with_file_name(".large.new");
    {
        let place = |_: &str| target.clone();
        let call = ssh.install(&source, &place);
        tokio::pin!(call);
        tokio::select! {
            ended = &mut call => panic!("it ended: {ended:?}"),
            () = until("it has begun", || half.metadata().is_ok_and(|half| half.len() > 0)) => {}
        }
    }
    until("the half file is gone", || !half.exists()).await;
    assert!(!target.exists());
    // The channel lives on, and the whole file comes through.
    let digest = ssh.install(&source, &|_| target.clone()).await.unwrap();
    assert_eq!(provision::transport::Local.digest(&target).await.unwrap(), Some(digest));
}

#[tokio::test]
async fn ssh_an_upload_that_is_cut_off_leaves_nothing() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let (source, target) = large_file(&sshd);
    let half = target.with_file_name(".large.new");
    let place = |_: &str| target.clone();
    let cut = async {
        until("it has begun", || half.metadata().is_ok_and(|half| half.len() > 0)).await;
        sshd.cut();
    };
    let (ended, ()) = tokio::join!(ssh.install(&source, &place), cut);
    assert_lost(&ended.expect_err("cut"), "");
    until("the half file is gone", || !half.exists()).await;
    assert!(!target.exists());
}
