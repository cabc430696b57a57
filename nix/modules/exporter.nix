# The host's own metrics: disks, memory, units. The roles serve theirs by themselves; `provision monitoring` makes what reads both.
{ config, lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
  shared = config.services.autonomys;
  cfg = shared.exporter;
in
{
  options.services.autonomys.exporter = {
    enable = mkEnableOption "the exporter of the host's metrics";
    port = mkOption {
      type = types.port;
      default = 9100;
      description = "Port of /metrics, at the roles' metricsAddress.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.prometheus.exporters.node = {
      enable = true;
      listenAddress = shared.metricsAddress;
      inherit (cfg) port;
      # Which of our units fail, and how often they were started again.
      enabledCollectors = [ "systemd" ];
      extraFlags = [ "--collector.systemd.unit-include=autonomys-.*" ];
    };
  };
}
