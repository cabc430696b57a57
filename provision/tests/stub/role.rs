//! Stands in for `autonomys-farmer` and `autonomys-dev-node` in tests of `provision`: it listens where they would and
//! answers as they would, and does nothing else. Compiled by the tests with rustc alone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().position(|word| word == flag).map(|at| arguments[at + 1].clone());
    if arguments.iter().any(|word| word == "verify-piece") {
        println!("all pieces are valid: {}", arguments.last().expect("there are some"));
        return;
    }
    let address = after("--prometheus-listen-on").or_else(|| after("--rpc-listen-on")).expect("an address");
    println!("stub begins: {}", arguments.join(" "));
    if std::path::Path::new("spoil-the-proof-server").exists() && arguments.iter().any(|word| word == "proof-server") {
        println!("this proof-server was told to fail");
        std::process::exit(7);
    }
    if arguments.iter().any(|word| word.contains("sectors=13")) {
        println!("this plot-client fears the number thirteen");
        std::process::exit(7);
    }
    if after("--data").is_some_and(|data| std::path::Path::new(&data).join("db/spoiled").exists()) {
        println!("this database is spoiled");
        std::process::exit(7);
    }
    let listener = TcpListener::bind(&address).expect("the port is free");
    for stream in listener.incoming() {
        let _ = stream.and_then(answer);
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = vec![0; 65536];
    let length = stream.read(&mut request)?;
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let body = if request.contains("dev_stats") {
        r#"{"jsonrpc":"2.0","id":1,"result":{"syncing":false,"bestBlock":7,"segments":{"archived":1},"slots":{"announced":9,"newest":9},"solutions":{"received":3,"accepted":2,"ignored":0,"rejected":{"OutsideRange":1}}}}"#
    } else if request.contains("system_health") {
        r#"{"jsonrpc":"2.0","id":1,"result":{"peers":3,"isSyncing":false,"shouldHavePeers":true}}"#
    } else if request.contains("system_syncState") {
        r#"{"jsonrpc":"2.0","id":1,"result":{"startingBlock":0,"currentBlock":4100000,"highestBlock":4100000}}"#
    } else if request.contains("system_version") {
        r#"{"jsonrpc":"2.0","id":1,"result":"0.0.0-stub"}"#
    } else {
        r#"{"role":"stub","version":"0.0.0-stub","state":"ready","uptime_s":1,"counters":{"segments":5,"slots_seen":9,"solutions_sent":3,"solutions_accepted":2,"node_solutions_rejected":1,"sectors_plotted":4,"pieces_cached":256}}"#
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
