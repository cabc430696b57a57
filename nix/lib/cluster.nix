# From what `provision resolve` prints of an inventory to the settings of one host's services. Pure: the modules put these into
# `services.autonomys.*`, and nix/tests/run.nix compares what follows from them with what provision derives.
{ document, hostName }:
let
  inherit (import ./address.nix) withPort;
  version =
    if document.version or null == 1 then
      1
    else
      throw "services.autonomys.cluster: this is no output of `provision resolve` (version 1 was expected, ${
        builtins.toJSON (document.version or null)
      } was found): write it again with the provision of this flake";
  inherit (document) cluster;
  named = builtins.filter (host: host.name == hostName) cluster.hosts;
  host =
    if named != [ ] then
      builtins.head named
    else
      throw "services.autonomys.cluster: there is no host `${hostName}` in the inventory of cluster `${cluster.name}`; hosts are ${
        builtins.concatStringsSep ", " (map (host: host.name) cluster.hosts)
      }: set services.autonomys.cluster.host, or networking.hostName";
  present =
    value: make:
    if value == null then
      null
    else
      make value;
  data = name: "${host.prefix}/data/${name}";
  rpcOf = host: withPort host.address host.node.rpc_port;
  nodeHosts = builtins.filter (host: host.node != null) cluster.hosts;
  firstRpc = rpcOf (builtins.head nodeHosts);
  # Of all hosts one authority, as the check of the inventory sees to it.
  authorities = builtins.concatMap (
    host: if host.node.nats ? tls then [ host.node.nats.tls.ca ] else [ ]
  ) nodeHosts;
  isWatched = cluster ? monitoring;
  # Without a network the cluster farms for a development chain.
  network = cluster.network or null;
  isLive = network != null && network.reference_string or "development" != "development";

  ofCache = cache: {
    inherit (cache) port path cpus;
    metricsPort = cache.metrics_port;
    sizeBytes = cache.size;
  };
  ofFarm =
    farm:
    {
      inherit (farm) path;
      sectors = null;
      sizeBytes = null;
    }
    // (
      if farm.space == "max" then
        throw "services.autonomys.cluster: the farm ${farm.path} of host `${hostName}` has `sectors: max`, which is decided by what its disk has free: Nix cannot look. Write the number that `provision explain ${hostName}` gives, or a size"
      else if farm.space ? sectors then
        { inherit (farm.space) sectors; }
      else
        { sizeBytes = farm.space.bytes; }
    );
in
assert version == 1;
{
  shared = {
    inherit (host) address;
    natsServers = document.nats_servers;
    clusterName = cluster.name;
    secretFile = "${host.prefix}/etc/cluster-secret";
    srs = if isLive then "${host.prefix}/bin/eth-public-parameters.bin" else null;
    tls = null;
    devSrsCache = if isLive then null else host.dev_srs_cache;
    natsCa = if authorities == [ ] then null else builtins.head authorities;
    metricsAddress = if isWatched then host.address else "127.0.0.1";
    stateDir = host.prefix;
  };

  nats = present host.node (
    node:
    let
      inherit (node) nats;
    in
    {
      serverName = nats.server_name;
      inherit (host) address;
      inherit (nats) port;
      monitorPort = nats.monitor_port;
      maxPayloadBytes = nats.max_payload;
      storeDir = data "nats";
      tls = nats.tls or null;
      cluster =
        if nats ? cluster_port then
          {
            inherit (cluster) name;
            port = nats.cluster_port;
            routes = document.nats_routes;
          }
        else
          null;
    }
  );

  node = present host.node (node: {
    isNetworks = network != null;
    networkChain = network.chain or "mainnet";
    extraArguments = network.arguments or [ ];
    dataDir = data (if network == null then "dev-node" else "node");
    rpcListenOn = rpcOf host;
    rpcPort = node.rpc_port;
    # The first development node makes the chain, the others replicate it.
    follow = if network != null || rpcOf host == firstRpc then null else "ws://${firstRpc}";
    devSrsCache = host.dev_srs_cache;
    chain = {
      pieces-in-sector = document.pieces_in_sector;
      inherit (cluster.dev_chain) seed;
      slot-ms = cluster.dev_chain.slot_ms;
      block-bytes = cluster.dev_chain.block_bytes;
      archive-ahead = cluster.dev_chain.archive_ahead;
      confirmation-depth = cluster.dev_chain.confirmation_depth;
      recent-segments = cluster.dev_chain.recent_segments;
      min-sector-lifetime = cluster.dev_chain.min_sector_lifetime;
      slots-per-block = cluster.dev_chain.slots_per_block;
    };
  });

  controller = present host.node (node: {
    metricsPort = node.controller.metrics_port;
    basePath = data "controller";
    nodeRpcUrl = "ws://${node.node_rpc_url or (rpcOf host)}";
  });

  proofServer = present host.node (node: {
    metricsPort = node.proof_server.metrics_port;
    inherit (node.proof_server) gpu;
  });

  shardedCache = present host.plotter (plotter: ofCache plotter.sharded_cache);
  fullPieceShardedCache = present host.plotter (plotter: ofCache plotter.full_piece_cache);

  plotServers =
    if host.plotter == null then
      [ ]
    else
      map (server: {
        inherit (server)
          name
          port
          path
          gpu
          ;
        metricsPort = server.metrics_port;
        gpuConcurrency = server.gpu_concurrency;
        cpus = server.cpus or null;
      }) host.plotter.plot_servers;

  plotClient = present host.storage (storage: {
    metricsPort = storage.metrics_port;
    rewardAddress = cluster.reward_address;
    newSegmentDelayMaxSeconds = storage.new_segment_delay_max_s or null;
    farms = map ofFarm storage.farms;
  });

  # Port of the exporter of the host's own metrics, where the inventory has one watched.
  exporter = if isWatched then cluster.monitoring.node_exporter_port or null else null;

  # From whom the ports of the cluster take connections: its hosts.
  peers = builtins.sort builtins.lessThan (map (host: host.address) cluster.hosts);
}
