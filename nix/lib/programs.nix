# The programs of a host, in the order of their start, from its settings (cluster.nix): name, role, words, environment, CPUs. What
# the pure tests compare with provision.
let
  commands = import ./commands.nix;
in
settings:
let
  inherit (settings) shared;
  one =
    name: role: given: make:
    if given == null then
      [ ]
    else
      [
        (
          {
            inherit name role;
            cpus = given.cpus or null;
          }
          // make given
        )
      ];
in
one "nats-server" "nats-server" settings.nats (
  _:
  commands.nats {
    configFile = "${shared.stateDir}/etc/nats-server.conf";
  }
)
++ (
  if settings.node != null && settings.node.isNetworks then
    one "autonomys-node" "node" settings.node commands.networkNode
  else
    one "autonomys-dev-node" "dev-node" settings.node commands.devNode
)
++ one "autonomys-controller" "controller" settings.controller (commands.controller shared)
++ one "autonomys-proof-server" "proof-server" settings.proofServer (commands.proofServer shared)
++ one "autonomys-sharded-cache" "sharded-cache" settings.shardedCache (
  commands.shardedCache shared
)
++ one "autonomys-full-piece" "full-piece-sharded-cache" settings.fullPieceShardedCache (
  commands.fullPieceShardedCache shared
)
++ builtins.concatMap (
  server: one server.name "plot-server" server (commands.plotServer shared)
) settings.plotServers
++ one "autonomys-plot-client" "plot-client" settings.plotClient (commands.plotClient shared)
