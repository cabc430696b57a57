# What all roles of a host are told, from `config.services.autonomys`. Files that only root reads come to them as credentials: %d is
# the unit's own directory of them.
{
  of = cfg: {
    inherit (cfg)
      natsServers
      clusterName
      srs
      devSrsCache
      metricsAddress
      natsCa
      address
      ;
    secretFile = if cfg.secretFile == null then null else "%d/cluster-secret";
    tls =
      if cfg.tls == null then
        null
      else
        {
          cert = "%d/tls-cert";
          key = "%d/tls-key";
          ca = "%d/tls-ca";
        };
  };

  credentials =
    cfg:
    if cfg.tls == null then
      { }
    else
      {
        tls-cert = cfg.tls.cert;
        tls-key = cfg.tls.key;
        tls-ca = cfg.tls.ca;
      };

  gate = cfg: metricsPort: [
    "role"
    ((import ./address.nix).withPort cfg.metricsAddress metricsPort)
  ];
}
