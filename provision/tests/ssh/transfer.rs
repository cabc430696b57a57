//! Large files: gone on with where they broke off, checked, and never more than the disk holds.

use crate::sshd::{Sshd, until};
use provision::Error;
use provision::transfer::{Delivery, Origin};
use provision::transport::{Local, Transport};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const SIZE: usize = 24 << 20;

/// Bytes that are not the same anywhere near each other.
fn write_file(path: &Path, seed: u64) {
    let mut state = seed;
    let bytes: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()
        })
        .collect();
    std::fs::write(path, bytes).unwrap();
}

fn delivery(source: &Path, target: &Path) -> Delivery {
    Delivery {
        origin: Origin::File(source.to_path_buf()),
        path: target.to_path_buf(),
        sha256: None,
        copies: 1,
        rate: None,
    }
}

#[tokio::test]
async fn ssh_a_transfer_that_is_cut_goes_on_and_sends_nothing_twice() {
    let sshd = Sshd::start();
    let (source, target) = (sshd.path("source"), sshd.path("there/file"));
    write_file(&source, 1);
    // Slow enough to be cut in its middle.
    let slow = Delivery { rate: Some(16 << 20), ..delivery(&source, &target) };
    let arrived = AtomicU64::new(0);
    let ssh = sshd.connect().await;
    let error = {
        let mut on_progress = |bytes, _| arrived.store(bytes, SeqCst);
        let cut = async {
            until("some of it is there", || arrived.load(SeqCst) >= 4 << 20).await;
            sshd.cut();
        };
        tokio::join!(ssh.deliver(&slow, &mut on_progress), cut).0.expect_err("cut")
    };
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    until("the host's side ends", || sshd.served().is_empty()).await;
    let kept = std::fs::metadata(&target).unwrap().len();
    assert!(kept >= 4 << 20 && kept < SIZE as u64, "{kept} bytes");

    let ssh = sshd.connect().await;
    let mut first = None;
    let mut on_progress = |bytes, of| {
        assert_eq!(of, SIZE as u64);
        first.get_or_insert(bytes);
    };
    let digest = ssh.deliver(&delivery(&source, &target), &mut on_progress).await.unwrap();
    assert_eq!(first, Some(kept), "what is there is not sent again");
    assert_eq!(Local.digest(&source).await.unwrap().as_deref(), Some(digest.as_str()));
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
}

#[tokio::test]
async fn ssh_the_beginning_of_another_file_is_not_gone_on_with() {
    let sshd = Sshd::start();
    let (source, target) = (sshd.path("source"), sshd.path("there/file"));
    let ssh = sshd.connect().await;
    write_file(&source, 1);
    let first = ssh.deliver(&delivery(&source, &target), &mut |_, _| {}).await.unwrap();
    write_file(&source, 2);
    let second = ssh.deliver(&delivery(&source, &target), &mut |_, _| {}).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
    // Whole and the same: only its digest goes over the line.
    let mut told = Vec::new();
    ssh.deliver(&delivery(&source, &target), &mut |bytes, _| told.push(bytes)).await.unwrap();
    assert!(told.iter().all(|bytes| *bytes == SIZE as u64), "{told:?}");
}

#[tokio::test]
async fn ssh_a_file_with_another_digest_than_was_said_is_removed() {
    let sshd = Sshd::start();
    let (source, target) = (sshd.path("source"), sshd.path("there/file"));
    write_file(&source, 1);
    let wrong = Delivery { sha256: Some("00".repeat(32)), ..delivery(&source, &target) };
    let ssh = sshd.connect().await;
    let error = ssh.deliver(&wrong, &mut |_, _| {}).await.expect_err("refused");
    assert!(error.to_string().contains("instead of 0000"), "{error}");
    assert_eq!(error.exit_code() as u8, 8);
    assert_eq!(std::fs::read_dir(sshd.path("there")).unwrap().count(), 0);
}

/// A disk of a few MiB: a tmpfs in user and mount namespaces of its own, seen through `/proc`.
struct SmallDisk {
    holder: std::process::Child,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// None where the system lets nobody mount one.
    fn mount(mebibytes: u32) -> Option<Self> {
        use std::io::BufRead;
        let directory = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$1\" && echo mounted && exec cat");
        let mut holder = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .arg(directory.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = String::new();
        std::io::BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self { holder, directory };
        (said == "mounted\n").then_some(disk)
    }

    fn path(&self) -> std::path::PathBuf {
        let below = self.directory.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(below)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[tokio::test]
async fn full_disk_ends_a_transfer_early_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(32) else {
        eprintln!("SKIPPED: this system mounts no tmpfs in a user namespace of its own");
        return;
    };
    let sshd = Sshd::start();
    let (source, target) = (sshd.path("source"), disk.path().join("import/archive"));
    write_file(&source, 1);
    let ssh = sshd.connect().await;

    // The archive and what is in it do not fit together: said before a byte is sent.
    let twice = Delivery { copies: 2, ..delivery(&source, &target) };
    let error =
        ssh.deliver(&twice, &mut |bytes, _| panic!("{bytes} bytes were sent")).await.expect_err("no room");
    let text = provision::output::error_text(&error);
    assert!(text.contains("needs 50.3 MB, and 33.6 MB are free there"), "{text}");
    assert_eq!(error.exit_code() as u8, 4);

    // Somebody else takes the room while it comes; when there is room again, it comes whole. How much of it comes twice is
    // not promised: on a full disk there may be no room to note how much had come.
    let foreign = disk.path().join("foreign");
    let slow = Delivery { rate: Some(16 << 20), ..delivery(&source, &target) };
    let taken = std::sync::atomic::AtomicBool::new(false);
    let error = ssh
        .deliver(&slow, &mut |bytes, _| {
            if bytes >= 4 << 20 && !taken.swap(true, SeqCst) {
                std::fs::write(&foreign, vec![1; 16 << 20]).unwrap();
            }
        })
        .await
        .expect_err("full");
    assert!(provision::output::error_text(&error).contains("the disk is full"), "{error}");
    std::fs::remove_file(&foreign).unwrap();
    let digest = ssh.deliver(&delivery(&source, &target), &mut |_, _| {}).await.unwrap();
    assert_eq!(Local.digest(&source).await.unwrap(), Some(digest));
    std::fs::remove_dir_all(target.parent().unwrap()).unwrap();

    // A small archive that becomes large.
    let bomb = disk.path().join("bomb");
    let tar = sshd.path("bomb.tar");
    std::fs::create_dir_all(sshd.path("x/db")).unwrap();
    std::fs::File::create(sshd.path("x/db/zeros")).unwrap().set_len(256 << 20).unwrap();
    let mut packing = std::process::Command::new("tar");
    packing.arg("-czf").arg(&tar).arg("-C").arg(sshd.path("x")).arg("db");
    assert!(packing.status().unwrap().success());
    std::fs::copy(&tar, &bomb).unwrap();
    let into = disk.path().join("unpacked");
    let error = ssh.unpack(&bomb, &into, &["db".to_string()], &mut |_, _| {}).await.expect_err("no room");
    assert!(
        matches!(&error, Error::OnHost { error, .. } if matches!(**error, Error::NoRoom { .. })),
        "{error}"
    );
    assert!(!into.exists());
}

/// User and system time of this process and of all that it has waited for, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|n| n.parse().unwrap())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

/// Of sshd and all below it.
fn serving_seconds(sshd: &Sshd) -> f64 {
    let of = |pid: u32| -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields =
            stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().ok());
        Some(fields.sum::<Option<f64>>()? / 100.0)
    };
    sshd.processes().into_iter().filter_map(of).sum()
}

/// The same file over the same sshd with `scp` and with `deliver`: for `docs/book/node-db.md`.
#[tokio::test]
#[ignore = "a measurement, no test"]
async fn transfer_beside_scp() {
    const MEASURED: u64 = 1 << 30;
    let sshd = Sshd::with("Subsystem sftp internal-sftp");
    let source = sshd.path("source");
    {
        use std::io::Write;
        let mut file = std::fs::File::create(&source).unwrap();
        for part in 0..MEASURED >> 20 {
            file.write_all(&vec![part as u8; 1 << 20]).unwrap();
        }
    }
    let rate = |started: std::time::Instant| MEASURED as f64 / started.elapsed().as_secs_f64() / 1e6;
    for round in 1..=3 {
        let (target, before) = (sshd.path(&format!("scp-{round}")), processor_seconds());
        let started = std::time::Instant::now();
        let status = std::process::Command::new("scp")
            .args(["-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-P"])
            .arg(sshd.port.to_string())
            .arg("-i")
            .arg(sshd.path("user_key"))
            .arg(&source)
            .arg(format!("127.0.0.1:{}", target.display()))
            .status()
            .unwrap();
        assert!(status.success());
        let (scp, scp_seconds) = (rate(started), processor_seconds() - before);
        std::fs::remove_file(&target).unwrap();

        let ssh = sshd.connect().await;
        let (target, before, serving) =
            (sshd.path(&format!("ours-{round}")), processor_seconds(), serving_seconds(&sshd));
        let started = std::time::Instant::now();
        ssh.deliver(&delivery(&source, &target), &mut |_, _| {}).await.unwrap();
        let (ours, own_seconds) = (rate(started), processor_seconds() - before);
        let serving = serving_seconds(&sshd) - serving;
        std::fs::remove_file(&target).unwrap();
        println!(
            "round {round}: scp {scp:.0} MB/s ({scp_seconds:.1} s of its own processor time), deliver {ours:.0} MB/s \
             ({own_seconds:.1} s here without ssh, {serving:.1} s of sshd and the host's side)"
        );
    }
}
