//! How a connection comes about, and what is said when it does not.

use crate::sshd::{Sshd, host};
use provision::output::error_text;
use provision::transport::{Command, Program, Ssh, Transport};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

async fn refused(host: &provision::resolve::Host, program: &Program) -> String {
    match Ssh::connect(host, program).await {
        Ok(_) => panic!("it connects"),
        Err(error) => {
            assert_eq!(error.exit_code() as u8, 5, "{error}");
            error_text(&error)
        }
    }
}

#[tokio::test]
async fn ssh_our_executable_is_brought_to_the_host_once() {
    let sshd = Sshd::start();
    let program = sshd.program();
    let placed = sshd.path("programs").join(&program.digest).join("provision");
    assert!(sshd.connect().await.run(&Command::new("true")).await.unwrap().success());
    let first = placed.metadata().unwrap();
    // Without its debug information it is smaller.
    assert_eq!(first.permissions().mode() & 0o777, 0o755);
    assert!(first.len() <= program.path.metadata().unwrap().len());
    sshd.connect().await;
    let second = placed.metadata().unwrap();
    assert_eq!((first.ino(), first.mtime_nsec()), (second.ino(), second.mtime_nsec()));
    let sessions = sshd.log().matches("Starting session: command").count();
    assert_eq!(sessions, 4, "two to find it missing and start it, one to bring it, one to start it again");
}

#[tokio::test]
async fn ssh_older_executables_are_removed_but_for_two() {
    let sshd = Sshd::start();
    let programs = sshd.path("programs");
    for age in 1..=4_u64 {
        let old = programs.join(format!("old-{age}"));
        std::fs::create_dir_all(&old).unwrap();
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 1000);
        std::fs::File::open(&old).unwrap().set_modified(time).unwrap();
    }
    sshd.connect().await;
    let mut left: Vec<_> = std::fs::read_dir(&programs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut expected = vec![sshd.program().digest, "old-1".to_string(), "old-2".to_string()];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn ssh_a_talkative_login_shell_does_no_harm() {
    let sshd = Sshd::with("ForceCommand echo Welcome; echo to this host >&2; eval \"$SSH_ORIGINAL_COMMAND\"");
    assert!(sshd.connect().await.run(&Command::new("true")).await.unwrap().success());
}

#[tokio::test]
async fn ssh_a_host_key_other_than_the_pinned_one_is_refused() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let settings = sshd.settings().replace(&sshd.host_key(), &other.host_key());
    let text = refused(&host(&settings), &sshd.program()).await;
    assert!(text.contains("is not the one in the inventory"), "{text}");
    assert!(text.contains("host_keys: [") && text.contains("ssh_host_ed25519_key.pub"), "{text}");
}

#[tokio::test]
async fn ssh_a_host_that_nobody_knows_is_refused() {
    let sshd = Sshd::start();
    let settings = format!("{{port: {}, identity_file: {}}}", sshd.port, sshd.path("user_key").display());
    let text = refused(&host(&settings), &sshd.program()).await;
    assert!(text.contains("is not known") && text.contains("host_keys: ["), "{text}");
}

#[tokio::test]
async fn ssh_an_unknown_user_key_is_refused() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let key = |sshd: &Sshd| sshd.path("user_key").display().to_string();
    let text = refused(&host(&sshd.settings().replace(&key(&sshd), &key(&other))), &sshd.program()).await;
    assert!(text.contains("does not let us in") && text.contains("authorized_keys"), "{text}");
}

#[tokio::test]
async fn ssh_a_port_where_nobody_listens_is_told() {
    let sshd = Sshd::start();
    let settings = sshd.settings().replace(&format!("port: {}", sshd.port), "port: 1");
    let text = refused(&host(&settings), &sshd.program()).await;
    assert!(
        text.contains("cannot connect to 127.0.0.1 port 1") && text.contains("Connection refused"),
        "{text}"
    );
}

/// Puts a script where our executable is looked for.
fn impostor(sshd: &Sshd, script: &str) -> Program {
    let program = sshd.program();
    let directory = sshd.path("programs").join(&program.digest);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("provision"), format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(directory.join("provision"), std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn ssh_an_older_c_library_is_told() {
    let sshd = Sshd::start();
    let said =
        "provision: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.99` not found (required by provision)";
    let program = impostor(&sshd, &format!("echo '{said}' >&2; exit 1"));
    let text = refused(&sshd.host(), &program).await;
    assert!(text.contains(said) && text.contains("build provision on the oldest system"), "{text}");
}

#[tokio::test]
async fn ssh_another_version_of_the_protocol_is_told() {
    let sshd = Sshd::start();
    let hello = r#"{"hello":{"protocol":99,"build":"9.9.9"}}"#;
    let program = impostor(
        &sshd,
        &format!(r"printf '\000\000\000\{:03o}\000\000\000\000%s' '{hello}'; cat >/dev/null", hello.len()),
    );
    let text = refused(&sshd.host(), &program).await;
    assert!(
        text.contains("provision 0.1.0 speaks protocol ") && text.contains("(9.9.9) speaks 99"),
        "{text}"
    );
}

#[tokio::test]
async fn ssh_a_file_that_is_no_program_here_is_told() {
    let sshd = Sshd::start();
    let program = impostor(&sshd, "");
    let placed = sshd.path("programs").join(&program.digest).join("provision");
    std::fs::write(&placed, b"\x7fELF\x02\x01\x01 of a strange machine").unwrap();
    let text = refused(&sshd.host(), &program).await;
    assert!(text.contains("does not start there") && text.contains("the same architecture"), "{text}");
}

#[tokio::test]
async fn ssh_sudo_that_asks_for_a_password_is_told() {
    let sshd = Sshd::with("SetEnv PATH=DIR/bin:/usr/bin:/bin");
    std::fs::create_dir(sshd.path("bin")).unwrap();
    let sudo = sshd.path("bin/sudo");
    std::fs::write(&sudo, "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = sshd.settings().replace('}', ", sudo: true}");
    let text = refused(&host(&settings), &sshd.program()).await;
    assert!(text.contains("a password is required") && text.contains("NOPASSWD"), "{text}");
    // One that does not ask is used, with `-n`.
    std::fs::write(&sudo, "#!/bin/sh\n[ \"$1\" = -n ] && shift && BECAME=root exec \"$@\"\n").unwrap();
    let ssh = Ssh::connect(&host(&settings), &sshd.program()).await.unwrap();
    let output = ssh.run(&Command::new("sh").args(["-c", "echo $BECAME"])).await.unwrap();
    assert_eq!(output.stdout, b"root\n");
}

#[tokio::test]
async fn ssh_a_place_that_cannot_be_written_is_told() {
    let sshd = Sshd::start();
    let program = Program { directory: Some(Path::new("/proc/nowhere").to_path_buf()), ..sshd.program() };
    let text = refused(&sshd.host(), &program).await;
    assert!(text.contains("cannot be brought to the host") && text.contains("/proc/nowhere"), "{text}");
}

#[tokio::test]
async fn ssh_connections_that_sshd_turns_away_are_tried_again() {
    // Of two connections that are not authenticated yet, every further one is dropped.
    let sshd = Sshd::with("MaxStartups 1:100:2");
    sshd.connect().await;
    let connections: Vec<_> = (0..6)
        .map(|_| {
            let (host, program) = (sshd.host(), sshd.program());
            tokio::spawn(async move { Ssh::connect(&host, &program).await.map(|_| ()) })
        })
        .collect();
    for connection in connections {
        connection.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn ssh_nothing_is_left_behind() {
    let sshd = Sshd::start();
    // Only this test's: others run beside it.
    let controls = || {
        let port = format!("Port {}\n", sshd.port);
        std::fs::read_dir(std::env::temp_dir())
            .unwrap()
            .flatten()
            .filter(|entry| {
                std::fs::read_to_string(entry.path().join("config"))
                    .is_ok_and(|config| config.contains(&port))
            })
            .count()
    };
    let ssh = sshd.connect().await;
    assert_eq!((controls(), sshd.served().len()), (1, 1));
    drop(ssh);
    assert_eq!(controls(), 0);
    crate::sshd::until("the host's side ends", || sshd.served().is_empty()).await;
}
