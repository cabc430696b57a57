# The cases that provision/tests/nix.rs writes, one for each host of each inventory:
# { "INVENTORY/HOST" = { document, hostName, programs, nats_conf }; }
let
  files = builtins.attrNames (builtins.readDir ./cases);
  ofFile =
    file:
    let
      case = builtins.fromJSON (builtins.readFile (./cases + "/${file}"));
      inventory = builtins.replaceStrings [ ".json" ] [ "" ] file;
    in
    map (hostName: {
      name = "${inventory}/${hostName}";
      value = case.hosts.${hostName} // {
        inherit (case) document;
        inherit hostName;
      };
    }) (builtins.attrNames case.hosts);
in
builtins.listToAttrs (builtins.concatMap ofFile files)
