# The full-piece cache: holds every piece and serves them; an exported directory is one.
import ./cache.nix {
  service = "full-piece-sharded-cache";
  unit = "autonomys-full-piece";
  description = "full-piece cache";
  command = (import ../lib).commands.fullPieceShardedCache;
  port = 9951;
  metricsPort = 9863;
  directory = "full-piece";
}
