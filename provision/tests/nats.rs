//! What is written for nats-server is what nats-server takes: checked by `nats-server -t`, and run with TLS.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::facts::HostFacts;
use provision::inventory::{self, Source};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use provision::{check, derive, render};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Three node hosts of this machine's own addresses, a plotter and a storage host; `tls` with a `{}` for each node's number.
fn inventory(prefix: &Path, tls: &str) -> String {
    let mut text =
        "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
                    defaults: {connection: ssh}\nhosts:\n"
            .to_string();
    for node in 1..=3 {
        let tls = tls.replace("{}", &node.to_string());
        text += &format!(
            "  node-{node}:\n    address: 127.0.0.{node}\n    prefix: {}/{node}\n    \
             node: {{nats: {{port: 14322, monitor_port: {}, cluster_port: 14348{tls}}}}}\n",
            prefix.display(),
            18322 + node
        );
    }
    text + "  plotter:\n    address: 127.0.0.4\n    plotter: {}\n  storage:\n    address: 127.0.0.5\n    \
            storage: {farms: [{path: /f, sectors: 1}]}\n"
}

fn cluster(text: &str) -> Cluster {
    let source = Source { name: "test.yaml".into(), text: text.into() };
    let shown = |findings: Vec<inventory::Diagnostic>| -> String {
        findings.iter().map(|finding| finding.render(&source)).collect()
    };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| panic!("{}", shown(findings)));
    let cluster = resolve(&inventory, &Overrides::default(), &Surroundings::default());
    let findings = check::check(&cluster);
    assert!(findings.is_empty(), "{}", shown(findings));
    cluster
}

fn nats_server() -> PathBuf {
    if let Some(program) = std::env::var_os("NATS_SERVER") {
        return program.into();
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools");
    provision::packages::install_tools(&directory).unwrap();
    directory.join("bin/nats-server")
}

/// Writes each nats-server's configuration and has it checked.
fn configure(cluster: &Cluster) -> Vec<PathBuf> {
    let nodes = cluster.hosts.iter().filter(|host| host.node.is_some());
    let write = |host| {
        let (mut programs, _) = derive::programs(cluster, host, &HostFacts::default());
        let files = render::files(cluster, host, &mut programs).unwrap();
        let file = files.iter().find(|file| file.path.ends_with("etc/nats-server.conf")).unwrap();
        std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        std::fs::write(&file.path, &file.text).unwrap();
        let output = Command::new(nats_server()).arg("-t").arg("-c").arg(&file.path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", file.text);
        file.path.clone()
    };
    nodes.map(write).collect()
}

/// An authority and a certificate for each of the three addresses.
fn certify(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
    for node in 1..=3 {
        let mut params = CertificateParams::new([format!("127.0.0.{node}")]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let own = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        std::fs::write(directory.join(format!("{node}.pem")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{node}.key")), own.serialize_pem()).unwrap();
    }
}

fn with_tls(directory: &Path) -> String {
    let at = directory.display();
    format!(", tls: {{cert: {at}/{{}}.pem, key: {at}/{{}}.key, ca: {at}/ca.pem}}")
}

#[test]
fn nats_server_takes_what_is_rendered() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    for tls in [String::new(), with_tls(directory.path())] {
        let configurations = configure(&cluster(&inventory(directory.path(), &tls)));
        assert_eq!(configurations.len(), 3);
    }
    // A server that is alone.
    let alone = "version: 1\ncluster: c\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
                 hosts:\n  here:\n    connection: local\n    prefix: PREFIX\n    node: {}\n    plotter: {}\n    \
                 storage: {farms: [{path: f, sectors: 1}]}\n";
    configure(&cluster(&alone.replace("PREFIX", &directory.path().join("alone").display().to_string())));
}

#[test]
fn roles_speak_tls_to_servers_that_do() {
    let directory = tempfile::tempdir().unwrap();
    for (tls, url, authority) in [
        (String::new(), "nats://127.0.0.2:14322", None),
        (with_tls(Path::new("/etc/nats")), "tls://127.0.0.2:14322", Some("/etc/nats/ca.pem")),
    ] {
        let cluster = cluster(&inventory(directory.path(), &tls));
        for host in &cluster.hosts {
            let (programs, _) = derive::programs(&cluster, host, &HostFacts::default());
            for program in programs.iter().filter(|program| program.role.binary() == "autonomys-farmer") {
                assert!(program.command.iter().any(|word| word == url), "{:?}", program.command);
                assert_eq!(program.environment.get("SSL_CERT_FILE").map(String::as_str), authority);
            }
        }
    }
}

/// A nats-server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number that `/varz` or `/routez` of the node's server has under this name.
fn counted(node: u16, page: &str, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", 18322 + node)).ok()?;
    write!(stream, "GET /{page} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text[text.find("\r\n\r\n")?..]).ok()?;
    json[name].as_u64()
}

#[test]
fn servers_with_tls_find_each_other_and_ask_it_of_clients() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let configurations = configure(&cluster(&inventory(directory.path(), &with_tls(directory.path()))));
    let start = |path: &PathBuf| {
        let mut command = Command::new(nats_server());
        Server(command.arg("-c").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let _servers: Vec<_> = configurations.iter().map(start).collect();
    let end = Instant::now() + Duration::from_secs(60);
    while !(1..=3).all(|node| counted(node, "routez", "num_routes").is_some_and(|routes| routes >= 2)) {
        assert!(Instant::now() < end, "the servers found no routes to each other");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut info = String::new();
    BufReader::new(TcpStream::connect("127.0.0.1:14322").unwrap()).read_line(&mut info).unwrap();
    assert!(info.contains(r#""tls_required":true"#), "{info}");
    assert_eq!(counted(1, "varz", "max_payload"), Some(3_000_000));
    assert_eq!(counted(1, "varz", "max_connections"), Some(3000));
}
