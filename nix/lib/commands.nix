# From settings to the words of a command line (without the program) and its environment. The same as `derive` of provision/ makes
# of the same inventory: nix/tests/run.nix compares them.
let
  inherit (import ./address.nix) withPort;
  flag =
    name: value:
    if value == null then
      [ ]
    else
      [
        "--${name}"
        (toString value)
      ];
  set =
    name: value:
    if value == null then
      { }
    else
      {
        ${name} = toString value;
      };
  concatFlags = name: builtins.concatMap (flag name);

  # Blocks of memory from 256 KiB on go back to the system when they are freed; provision/src/derive.rs says why it has to be said.
  everyProgram = {
    RUST_BACKTRACE = "1";
    MALLOC_MMAP_THRESHOLD_ = "262144";
  };

  # CUDA counts the fastest card first if it is not told to count as nvidia-smi and the kernel do.
  seeGpu =
    gpu:
    if gpu == null then
      { }
    else
      {
        CUDA_DEVICE_ORDER = "PCI_BUS_ID";
        CUDA_VISIBLE_DEVICES = toString gpu;
      };

  # shared: what all roles of a cluster are told. settings: what this one is.
  role = shared: name: settings: arguments: {
    command = [
      "cluster"
    ]
    ++ concatFlags "nats-server" shared.natsServers
    ++ flag "cluster" shared.clusterName
    ++ flag "cluster-secret-file" shared.secretFile
    ++ flag "tls-cert" (shared.tls.cert or null)
    ++ flag "tls-key" (shared.tls.key or null)
    ++ flag "tls-ca" (shared.tls.ca or null)
    ++ flag "srs" shared.srs
    ++ flag "dev-srs-cache" shared.devSrsCache
    ++ flag "prometheus-listen-on" (withPort shared.metricsAddress settings.metricsPort)
    ++ [ name ]
    ++ arguments;
    environment =
      everyProgram // set "SSL_CERT_FILE" shared.natsCa // seeGpu (settings.gpu or null);
  };

  cache =
    name: shared: settings:
    let
      size = if settings.sizeBytes == null then "" else ",size=${toString settings.sizeBytes}";
    in
    role shared name settings (
      [ "path=${settings.path}${size}" ] ++ flag "listen" (withPort shared.address settings.port)
    );

  farm =
    farm:
    if farm.sectors != null then
      "path=${farm.path},sectors=${toString farm.sectors}"
    else
      "path=${farm.path},size=${toString farm.sizeBytes}";
in
{
  nats = settings: {
    command = [
      "-c"
      (toString settings.configFile)
    ];
    environment = { };
  };

  # The development chain's node.
  devNode = settings: {
    command =
      flag "data" settings.dataDir
      ++ flag "rpc-listen-on" settings.rpcListenOn
      ++ flag "follow" settings.follow
      ++ flag "srs-cache" settings.devSrsCache
      ++ builtins.concatMap (name: flag name settings.chain.${name}) [
        "pieces-in-sector"
        "seed"
        "slot-ms"
        "block-bytes"
        "archive-ahead"
        "confirmation-depth"
        "recent-segments"
        "min-sector-lifetime"
        "slots-per-block"
      ];
    environment = everyProgram;
  };

  # The network's own node: at one address, and for no page of the web, which the guides let act as the farm.
  networkNode = settings: {
    command = [
      "run"
    ]
    ++ flag "base-path" settings.dataDir
    ++ flag "chain" settings.networkChain
    ++ flag "rpc-listen-on" settings.rpcListenOn
    ++ flag "rpc-methods" "unsafe"
    ++ [ "--farmer" ]
    ++ (
      if builtins.any (argument: builtins.match "--sync(=.*)?" argument != null) settings.extraArguments then
        [ ]
      else
        flag "sync" "full"
    )
    ++ settings.extraArguments;
    environment = everyProgram;
  };

  controller =
    shared: settings:
    role shared "controller" settings (
      flag "base-path" settings.basePath ++ flag "node-rpc-url" settings.nodeRpcUrl
    );

  proofServer = shared: settings: role shared "proof-server" settings [ ];

  shardedCache = cache "sharded-cache";
  fullPieceShardedCache = cache "full-piece-sharded-cache";

  plotServer =
    shared: settings:
    let
      base = role shared "plot-server" settings (
        [ "--priority-cache" ] ++ flag "listen-port" settings.port ++ [ settings.path ]
      );
    in
    base
    // {
      environment = base.environment // set "GPU_CONCURRENCY" settings.gpuConcurrency;
    };

  plotClient =
    shared: settings:
    role shared "plot-client" settings (
      flag "reward-address" settings.rewardAddress
      ++ flag "new-segment-delay-max" settings.newSegmentDelayMaxSeconds
      ++ map farm settings.farms
    );
}
