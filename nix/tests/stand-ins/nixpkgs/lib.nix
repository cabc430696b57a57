# The functions of nixpkgs' lib that this repository uses, as their documentation describes them.
let
  modules = import ./modules.nix { inherit lib; };
  lib = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      filter
      functionArgs
      head
      isAttrs
      isFunction
      isList
      length
      listToAttrs
      mapAttrs
      ;
    inherit (modules) evalModules types;

    genAttrs =
      names: make:
      builtins.listToAttrs (map (name: lib.nameValuePair name (make name)) names);
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' =
      make: set: builtins.listToAttrs (map (name: make name set.${name}) (builtins.attrNames set));
    mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);
    filterAttrs =
      keep: set:
      builtins.listToAttrs (
        builtins.concatMap (
          name: lib.optional (keep name set.${name}) (lib.nameValuePair name set.${name})
        ) (builtins.attrNames set)
      );
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    concatMapStringsSep =
      separator: make: values:
      builtins.concatStringsSep separator (map make values);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      let
        start = builtins.stringLength text - builtins.stringLength suffix;
      in
      start >= 0 && builtins.substring start (-1) text == suffix;
    removeSuffix =
      suffix: text:
      builtins.substring 0 (builtins.stringLength text - builtins.stringLength suffix) text;
    hasInfix = infix: text: builtins.length (builtins.split infix text) > 1;
    getName = package: package.pname or (builtins.parseDrvName package.name).name;
    getExe = package: "${package}/bin/${package.meta.mainProgram or (lib.getName package)}";
    getExe' = package: name: "${package}/bin/${name}";
    escapeShellArgs = builtins.concatStringsSep " ";
    unique = builtins.foldl' (
      done: value: if builtins.elem value done then done else done ++ [ value ]
    ) [ ];

    mkOption = declaration: declaration // { _type = "option"; };
    mkEnableOption =
      what:
      lib.mkOption {
        type = lib.types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;

    # No file is copied: what has to be there is looked for.
    fileset = {
      maybeMissing = path: { maybe = path; };
      unions = paths: paths;
      toSource =
        { root, fileset }:
        let
          missing = builtins.filter (path: !(path ? maybe) && !builtins.pathExists path) fileset;
        in
        if missing == [ ] then
          toString root
        else
          throw "not in the repository: ${toString missing}";
    };
  };
in
lib
