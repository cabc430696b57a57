//! A network of machines that is none: one network namespace a host, joined by a bridge, inside user, mount, process and
//! network namespaces of the test's own. All of it is gone with the test, however that ends; nothing outside is touched.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

/// Says to the test that it runs inside; the value is the process that went in.
const INSIDE: &str = "AUTONOMYS_FLEET_INSIDE";
/// Options of `unshare`.
const UNSHARE: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// A user namespace, too: whoever is root there needs not be it outside.
pub const WITHOUT_ROOT: &[&str] = &["--user", "--map-root-user"];
/// The namespaces' names stand in a directory of the test's own; descriptors up to what the system allows.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && ulimit -n \"$(ulimit -Hn)\" && exec \"$@\"";

/// Runs the test `name` of this binary again inside namespaces, `more` of them than those above; false when this is inside already.
pub fn ran_inside(name: &str, more: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let status = Command::new("unshare")
        .args(more)
        .args(UNSHARE)
        .args(["sh", "-c", SCRIPT, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, std::process::id().to_string())
        .stdin(Stdio::null())
        .status()
        .expect("unshare, of util-linux, runs");
    assert!(
        status.success(),
        "{name}: {status}. Where the reason above is unshare's or mount's, this system has no namespaces for the fleet: \
         allow unprivileged user namespaces, or leave such tests out, as `cargo xtask test` does"
    );
    true
}

/// Runs `ip` or `tc`, of iproute2; gives what it says.
fn run(program: &str, arguments: &str) -> Vec<u8> {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, of iproute2, does not run: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

/// A bridge and the hosts on it; the test itself is at `192.168.1.254`.
pub struct Network {
    run: String,
}

impl Network {
    /// Address of a host.
    pub fn address(host: u8) -> IpAddr {
        Ipv4Addr::new(192, 168, 1, host).into()
    }

    /// Makes hosts `1..=hosts`.
    pub fn new(hosts: u8) -> Self {
        let network = Self { run: std::env::var(INSIDE).expect("this runs inside") };
        let bridge = network.link(0);
        ip("link set lo up");
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add {}/24 dev {bridge}", Self::address(254)));
        ip(&format!("link set {bridge} up"));
        for host in 1..=hosts {
            let (name, link) = (network.name(host), network.link(host));
            ip(&format!("netns add {name}"));
            ip(&format!("link add {link} type veth peer name eth0 netns {name}"));
            ip(&format!("link set {link} master {bridge}"));
            ip(&format!("link set {link} up"));
            ip(&format!("-n {name} addr add {}/24 dev eth0", Self::address(host)));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        network
    }

    fn name(&self, host: u8) -> String {
        format!("host-{}-{host}", self.run)
    }

    fn link(&self, host: u8) -> String {
        format!("h{}-{host}", self.run)
    }

    /// The command that runs `program` on a host; it becomes the program, so that signals reach that.
    pub fn command(&self, host: u8, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name(host))).arg(program);
        command
    }

    /// From now on nothing reaches the host, and nothing comes from it.
    pub fn cut(&self, host: u8) {
        ip(&format!("link set {} down", self.link(host)));
    }

    /// From now on the host receives 8 Mbit/s at most: a sector of 4 MiB takes four seconds.
    pub fn slow_down(&self, host: u8) {
        run("tc", &format!("qdisc add dev {} root tbf rate 8mbit burst 64kb latency 400ms", self.link(host)));
    }

    /// Bytes that the host has received.
    pub fn received(&self, host: u8) -> u64 {
        let output = run("ip", &format!("-json -statistics link show dev {}", self.link(host)));
        let links: serde_json::Value = serde_json::from_slice(&output).unwrap();
        links[0]["stats64"]["tx"]["bytes"].as_u64().expect("ip counts bytes")
    }

    /// Undoes [`Self::slow_down`].
    pub fn speed_up(&self, host: u8) {
        run("tc", &format!("qdisc del dev {} root", self.link(host)));
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, host: u8) {
        ip(&format!("link set {} up", self.link(host)));
    }
}
