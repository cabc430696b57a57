//! A development node as a process of its own, that can hang.

use super::small_farm::{BLOCK_BYTES, LONG, PIECES_IN_SECTOR, SLOT_MS};
use crate::roles_support::{free_address, signal, srs_cache};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct NodeProcess {
    child: Child,
    address: SocketAddr,
}

impl NodeProcess {
    /// A node on `data` that follows the one at `followed`, with the parameters of the small farm's nodes; gives it back
    /// once it listens.
    pub fn follow(data: &Path, followed: SocketAddr) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_autonomys-farmer")).with_file_name("autonomys-dev-node");
        assert!(binary.is_file(), "autonomys-dev-node is not built: run the tests with `cargo xtask test`");
        let address = free_address();
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let child = Command::new(binary)
            .arg("--data")
            .arg(data)
            .arg("--srs-cache")
            .arg(srs_cache())
            .args(["--rpc-listen-on", &address.to_string(), "--follow", &format!("ws://{followed}")])
            .args(["--pieces-in-sector", &PIECES_IN_SECTOR.to_string(), "--slot-ms", &SLOT_MS.to_string()])
            .args(["--block-bytes", &BLOCK_BYTES.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut node = Self { child, address };
        let deadline = Instant::now() + LONG;
        while TcpStream::connect(address).is_err() {
            assert!(node.child.try_wait().unwrap().is_none(), "it ended: see {}", data.display());
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        node
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGSTOP: from now on it hangs.
    pub fn suspend(&self) {
        signal(&self.child, "-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(&self.child, "-CONT");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Nothing is to be done about a child that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
