# Tests of what needs no package set: `nix eval --raw --file nix/tests/run.nix`.
let
  pure = import ../lib;
  check = import ./check.nix;
  cases = import ./cases.nix;

  # What an error is said with cannot be caught in Nix; that there is one can.
  fails = value: !(builtins.tryEval (builtins.deepSeq value true)).success;
  is = got: wanted: { inherit got wanted; };

  trimmed = line: builtins.head (builtins.match " *(.*)" line);
  linesOf =
    text:
    map trimmed (builtins.filter (line: builtins.isString line && line != "") (builtins.split "\n" text));

  asText = program: program // { cpus = present program.cpus pure.cpuList.toText; };
  present =
    value: make:
    if value == null then
      null
    else
      make value;

  # Each program's words, environment and CPUs, and nats-server's configuration, are those that provision derives.
  ofCase =
    name: case:
    let
      settings = pure.cluster { inherit (case) document hostName; };
    in
    [
      {
        name = "${name} programs";
        value = is (map asText (pure.programs settings)) case.programs;
      }
      {
        name = "${name} nats-server.conf";
        value = is (present settings.nats (nats: linesOf (pure.natsConf nats))) case.nats_conf;
      }
    ];
  caseTests = builtins.listToAttrs (
    builtins.concatLists (map (name: ofCase name cases.${name}) (builtins.attrNames cases))
  );

  inherit (cases."by-hand/storage-1") document;
  withFarm =
    farm:
    let
      change =
        host:
        if host.name == "storage-1" then
          host
          // {
            storage = host.storage // {
              farms = [ farm ];
            };
          }
        else
          host;
    in
    pure.cluster {
      document = document // {
        cluster = document.cluster // {
          hosts = map change document.cluster.hosts;
        };
      };
      hostName = "storage-1";
    };
in
let
  # A cluster that farms for a network, as far as `provision resolve` says it.
  live =
    let
      case = cases."ssh/farm-1";
    in
    pure.cluster {
      inherit (case) hostName;
      document = case.document // {
        cluster = case.document.cluster // {
          network = {
            chain = "mainnet";
            arguments = [
              "--name"
              "my-farm"
            ];
            reference_string = "live";
          };
        };
      };
    };
  wordsOf =
    name:
    builtins.concatStringsSep " "
      (builtins.head (builtins.filter (program: program.name == name) (pure.programs live))).command;
in
check (
  caseTests
  // {
    "a host that is not in the inventory is an error" = is (fails (
      pure.cluster {
        inherit document;
        hostName = "nobody";
      }
    )) true;
    "another version of the document is an error" = is (fails (
      pure.cluster {
        document = document // {
          version = 2;
        };
        hostName = "storage-1";
      }
    )) true;
    "a farm of as many sectors as fit is an error" = is (fails (
      withFarm {
        path = "/mnt/a";
        space = "max";
      }
    )) true;
    "a farm of 10 sectors is none" = is (fails (
      withFarm {
        path = "/mnt/a";
        space.sectors = 10;
      }
    )) false;
    "a network's node" =
      is (wordsOf "autonomys-node")
        "run --base-path /var/lib/autonomys/remote/data/node --chain mainnet --rpc-listen-on 192.168.1.4:9944 --rpc-methods unsafe --farmer --sync full --name my-farm";
    "a role under the live reference string" =
      is (wordsOf "autonomys-proof-server")
        "cluster --nats-server nats://192.168.1.4:4222 --cluster remote --cluster-secret-file /var/lib/autonomys/remote/etc/cluster-secret --srs /var/lib/autonomys/remote/bin/eth-public-parameters.bin --prometheus-listen-on 127.0.0.1:9861 proof-server";
    "lists of CPUs" = is (map pure.cpuList.toText [
      [ ]
      [ 3 ]
      [
        5
        0
        1
        2
        2
      ]
    ]) [ "" "3" "0-2,5" ];
    "addresses of both families" = is [
      (pure.withPort "10.0.0.1" 1)
      (pure.withPort "fd00::3" 1)
    ] [ "10.0.0.1:1" "[fd00::3]:1" ];
    "words that systemd would read otherwise" = is (map pure.execWord [
      "path=/mnt/a,sectors=1"
      "path=/mnt/100%full"
      "two words"
      "$HOME"
      "%d/cluster-secret"
      ""
    ]) [ "path=/mnt/a,sectors=1" "path=/mnt/100%%full" "\"two words\"" "$$HOME" "%d/cluster-secret" "\"\"" ];
    "a compiler that is new enough" = is [
      (pure.toolchain.assertRustc "1.91.0" "1.91")
      (pure.toolchain.assertRustc "1.100.0" "1.91")
    ] [ true true ];
    "a compiler that is too old is an error" = is [
      (fails (pure.toolchain.assertRustc "1.90.0" "1.91"))
      (fails (pure.toolchain.assertRustc "1.86.0" pure.workspace.rust-version))
    ] [ true true ];
    "the crates of others are in the bill of materials" =
      is
        (pure.sbom.ofLock {
          version = "1";
          lock.package = [
            {
              name = "own";
              version = "1";
            }
            {
              name = "foreign";
              version = "2";
              source = "registry";
              checksum = "ab";
            }
          ];
        }).components
        [
          {
            type = "library";
            name = "foreign";
            version = "2";
            purl = "pkg:cargo/foreign@2";
            hashes = [
              {
                alg = "SHA-256";
                content = "ab";
              }
            ];
          }
        ];
    "every crate of the lock file has what the bill says" = is (fails (
      pure.sbom.ofLock {
        lock = builtins.fromTOML (builtins.readFile ../../Cargo.lock);
        inherit (pure.workspace) version;
      }
    )) false;
  }
)
