//! The guides' command lines parse as they stand, and what does not parse says why.
#![allow(missing_docs, clippy::unwrap_used)]

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use farmer::cli::{CacheItemType, Cli, Command, Role, Space, Utility};
use farmer::roles::context::load_reference_string;

/// What the guides put before every role, the repeated server included.
const CLUSTER: &str = "autonomys-farmer cluster --nats-server nats://192.168.1.1:4222 --nats-server \
                       nats://192.168.1.2:4222 --nats-server nats://192.168.1.2:4222";

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn role(arguments: &str) -> Role {
    match parse(&format!("{CLUSTER} {arguments}"))
        .unwrap_or_else(|error| panic!("{arguments}: {error}"))
        .command
    {
        Command::Cluster(cluster) => {
            assert_eq!(cluster.nats.nats_servers.len(), 3);
            cluster.role
        }
        Command::Util(_) => panic!("{arguments} is no role"),
    }
}

#[test]
fn definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn roles_of_the_guides() {
    let Role::Controller(controller) = role("controller --tmp --node-rpc-url ws://10.30.1.2:9944") else {
        panic!()
    };
    assert!(controller.tmp && controller.node_rpc_url == "ws://10.30.1.2:9944");
    assert!(matches!(role("proof-server"), Role::ProofServer(_)));
    let Role::ShardedCache(cache) = role("sharded-cache path=/var/autonomys-sharded-cache") else { panic!() };
    assert_eq!((cache.paths.len(), cache.listen.port()), (1, 9950));
    let full = role("full-piece-sharded-cache --tmp path=/var/autonomys-full-piece");
    let Role::FullPieceShardedCache(cache) = full else { panic!() };
    assert_eq!((cache.tmp, cache.listen.port()), (true, 9951));
    for port in 9966..=9969 {
        let line = format!("plot-server --priority-cache --listen-port {port} /var/plot-server/base-path-0");
        let Role::PlotServer(server) = role(&line) else { panic!() };
        assert!(server.priority_cache && server.listen_port == port);
    }
    let client = role(
        "plot-client --reward-address stBR..S8V path=/mnt/nvme0n1/,sectors=8000 path=/mnt/nvme0n2/,sectors=8000 \
         path=/mnt/nvme1n0/,sectors=8000 path=/mnt/nvme1n1/,sectors=8000",
    );
    let Role::PlotClient(client) = client else { panic!() };
    assert!(client.farms.len() == 4 && client.farms.iter().all(|farm| farm.space == Space::Sectors(8000)));
}

#[test]
fn utilities_of_the_guides() {
    for flag in ["--nats-server", "--nats-servers"] {
        let line = format!(
            "autonomys-farmer util reinitialization-cache {flag} nats://192.168.200.6:4222 --delay 0"
        );
        let Command::Util(util) = parse(&line).unwrap().command else { panic!() };
        assert_eq!(util.nats.nats_servers, ["nats://192.168.200.6:4222"]);
        let Utility::ReinitializationCache(arguments) = util.utility else { panic!() };
        assert!(arguments.delay.is_zero());
    }
    let line = "autonomys-farmer util sharded-cache-benchmark --nats-servers nats://192.168.0.2:4222 --sectors 256 \
                --epoch 1 --cache-item-type split-parity-piece";
    let Command::Util(util) = parse(line).unwrap().command else { panic!() };
    let Utility::ShardedCacheBenchmark(arguments) = util.utility else { panic!() };
    assert_eq!((arguments.sectors.get(), arguments.epoch.get()), (256, 1));
    assert_eq!(arguments.cache_item_type, CacheItemType::SplitParityPiece);
    // As the maker's readme has it: in the directory in which the export ran.
    let line = "autonomys-farmer util verify-piece --nats-server nats://192.168.1.1:4222 --nats-server \
                nats://192.168.1.2:4222 --nats-server nats://192.168.1.3:4222";
    let Command::Util(util) = parse(line).unwrap().command else { panic!() };
    assert_eq!(util.nats.nats_servers.len(), 3);
    let Utility::VerifyPiece(arguments) = util.utility else { panic!() };
    assert_eq!(arguments.stores, [std::path::Path::new("full-cache-tmp")]);
}

#[test]
fn wrong_command_lines_of_utilities_are_refused() {
    for (arguments, kind) in [
        ("sharded-cache-benchmark --sectors 0", ErrorKind::ValueValidation),
        ("sharded-cache-benchmark --cache-item-type sector", ErrorKind::InvalidValue),
        ("scrub", ErrorKind::MissingRequiredArgument),
        ("info", ErrorKind::MissingRequiredArgument),
        ("benchmark", ErrorKind::MissingSubcommand),
        ("benchmark plot /a", ErrorKind::InvalidSubcommand),
        ("benchmark audit --audits 0 /a", ErrorKind::ValueValidation),
    ] {
        let line = format!("autonomys-farmer util {arguments}");
        let error = parse(&line).err().unwrap_or_else(|| panic!("{arguments} parses"));
        assert_eq!(error.kind(), kind, "{arguments}: {error}");
    }
}

#[tokio::test]
async fn two_reference_strings_are_refused_wherever_they_stand() {
    for arguments in [
        "cluster --srs /a --dev-srs-cache /b controller --tmp",
        "cluster --srs /a controller --tmp --dev-srs-cache /b",
        "cluster controller --tmp --dev-srs-cache /b --srs /a",
    ] {
        let Command::Cluster(cluster) = parse(&format!("autonomys-farmer {arguments}")).unwrap().command
        else {
            panic!("{arguments} is no role")
        };
        let error = load_reference_string(cluster.srs).await.expect_err(arguments).to_string();
        assert!(
            ["two", "/a", "/b", "give one"].iter().all(|word| error.contains(word)),
            "{arguments}: {error}"
        );
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    for (arguments, kind) in [
        ("controller --node-rpc-url ws://127.0.0.1:9944", ErrorKind::MissingRequiredArgument),
        ("controller --tmp --base-path /a", ErrorKind::ArgumentConflict),
        ("controller --tmp --unknown", ErrorKind::UnknownArgument),
        ("sharded-cache", ErrorKind::MissingRequiredArgument),
        ("sharded-cache path=/a,sectors=1", ErrorKind::ValueValidation),
        ("plot-server --listen-port 70000 /a", ErrorKind::ValueValidation),
        ("plot-client path=/a,sectors=1", ErrorKind::MissingRequiredArgument),
        ("plot-client --reward-address x path=/a,sectors=65535", ErrorKind::ValueValidation),
        ("plot-client --reward-address x path=/a", ErrorKind::ValueValidation),
        ("miner", ErrorKind::InvalidSubcommand),
    ] {
        let error =
            parse(&format!("{CLUSTER} {arguments}")).err().unwrap_or_else(|| panic!("{arguments} parses"));
        assert_eq!(error.kind(), kind, "{arguments}: {error}");
    }
}
