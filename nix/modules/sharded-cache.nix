# The sharded cache: holds its share of all pieces and serves them.
import ./cache.nix {
  service = "sharded-cache";
  unit = "autonomys-sharded-cache";
  description = "sharded cache";
  command = (import ../lib).commands.shardedCache;
  port = 9950;
  metricsPort = 9862;
  directory = "sharded-cache";
}
