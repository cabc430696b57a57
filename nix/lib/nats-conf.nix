# nats-server's configuration. The same settings as templates/nats/nats-server.conf.tera, whose comments say why; the tests compare
# the two line by line, comments and blank lines left out.
let
  inherit (import ./address.nix) withPort;
  block =
    name: lines:
    [ "${name} {" ] ++ map (line: "  ${line}") lines ++ [ "}" ];
  quoted = value: ''"${toString value}"'';
  certificates = tls: [
    "cert_file: ${quoted tls.cert}"
    "key_file: ${quoted tls.key}"
    "ca_file: ${quoted tls.ca}"
  ];
in
settings:
let
  inherit (settings) tls cluster;
  # Marks stand for them: the file is of the store, and they are put in when the server is started.
  passwords = settings.passwords or true;
  optionals = condition: values: if condition then values else [ ];
  lines = [
    "server_name: ${quoted settings.serverName}"
    "listen: ${quoted (withPort settings.address settings.port)}"
    "http: ${quoted "127.0.0.1:${toString settings.monitorPort}"}"
    "max_payload: ${toString settings.maxPayloadBytes}"
    "max_pending: 268435456"
    "max_connections: 3000"
    "max_control_line: 4096"
  ]
  ++ optionals passwords (
    block "authorization" [
      "user: ${quoted "autonomys"}"
      "password: ${quoted "NATS-CLIENT-PASSWORD"}"
      "timeout: 2"
    ]
  )
  ++ optionals (tls != null) (block "tls" (certificates tls ++ [ "timeout: 5" ]))
  ++ optionals (cluster != null) (
    block "cluster" (
      [
        "name: ${quoted cluster.name}"
        "listen: ${quoted (withPort settings.address cluster.port)}"
      ]
      ++ optionals passwords (
        block "authorization" [
          "user: ${quoted "autonomys-route"}"
          "password: ${quoted "NATS-ROUTE-PASSWORD"}"
          "timeout: 2"
        ]
      )
      ++ [ "routes: [" ]
      ++ map (route: "  ${quoted route}") cluster.routes
      ++ [ "]" ]
      ++ optionals (tls != null) (
        block "tls" (
          certificates tls
          ++ [
            "verify: true"
            "timeout: 5"
          ]
        )
      )
    )
  )
  ++ block "jetstream" [
    "store_dir: ${quoted settings.storeDir}"
    "max_memory_store: 67108864"
    "max_file_store: 1073741824"
  ];
in
builtins.concatStringsSep "\n" lines + "\n"
