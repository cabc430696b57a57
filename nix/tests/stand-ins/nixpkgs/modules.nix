# A small module system: options, definitions with conditions and priorities, submodules. An option that is defined and not
# declared is an error, as in the real one.
{ lib }:
let
  ofType = type: value: builtins.isAttrs value && (value._type or null) == type;
  isOption = ofType "option";
  show = builtins.concatStringsSep ".";
  defaultPriority = 100;

  # Definitions of one option, conditions resolved: [ { priority, value } ].
  resolve =
    priority: value:
    if ofType "if" value then
      (if value.condition then resolve priority value.content else [ ])
    else if ofType "merge" value then
      builtins.concatMap (resolve priority) value.contents
    else if ofType "override" value then
      resolve value.priority value.content
    else
      [ { inherit priority value; } ];

  # Definitions of a set of options, conditions handed down to its members: nothing of a set may depend on a condition but its
  # values, or a condition could not ask for another option of the set.
  handDown =
    value:
    if ofType "if" value then
      map (builtins.mapAttrs (_: content: lib.mkIf value.condition content)) (handDown value.content)
    else if ofType "merge" value then
      builtins.concatMap handDown value.contents
    else if ofType "override" value then
      map (builtins.mapAttrs (_: lib.mkOverride value.priority)) (handDown value.content)
    else
      [ value ];

  # The strongest definitions, merged by the type; null in `found` when there are none.
  mergeAll =
    path: type: values:
    let
      definitions = builtins.concatMap (resolve defaultPriority) values;
      strongest = builtins.foldl' (
        least: definition: if definition.priority < least then definition.priority else least
      ) 9999 definitions;
      kept = builtins.filter (definition: definition.priority == strongest) definitions;
    in
    {
      found = kept != [ ];
      value = type.merge path (map (definition: definition.value) kept);
    };

  evalOption =
    path: option: values:
    let
      given = mergeAll path option.type (
        values ++ lib.optional (option ? default) (lib.mkOverride 1500 option.default)
      );
      value =
        if given.found then
          given.value
        else
          throw "the option `${show path}` is used but not defined";
    in
    (option.apply or (value: value)) value;

  evalSet =
    path: options: definitions:
    let
      sets = builtins.concatMap handDown definitions;
      unknown = builtins.concatMap (
        set: builtins.filter (name: !(options ? ${name})) (builtins.attrNames set)
      ) sets;
      member =
        name: option:
        let
          here = path ++ [ name ];
          values = builtins.concatMap (set: lib.optional (set ? ${name}) set.${name}) sets;
        in
        if isOption option then evalOption here option values else evalSet here option values;
    in
    if unknown == [ ] then
      builtins.mapAttrs member options
    else
      throw "the option `${show (path ++ [ (builtins.head unknown) ])}` does not exist";

  mergeDeclarations =
    path: left: right:
    left
    // builtins.mapAttrs (
      name: option:
      let
        here = path ++ [ name ];
      in
      if !(left ? ${name}) then
        option
      else if isOption option || isOption left.${name} then
        throw "the option `${show here}` is declared twice"
      else
        mergeDeclarations here left.${name} option
    ) right;

  evalModules =
    {
      modules,
      specialArgs ? { },
      path ? [ ],
    }:
    let
      load =
        module:
        let
          value = if builtins.isPath module || builtins.isString module then import module else module;
          applied = if builtins.isFunction value then value arguments else value;
          isStructured = applied ? options || applied ? config;
        in
        builtins.concatMap load (applied.imports or [ ])
        ++ [
          {
            options = applied.options or { };
            config =
              if isStructured then applied.config or { } else builtins.removeAttrs applied [ "imports" ];
          }
        ];
      loaded = builtins.concatMap load modules;
      options = builtins.foldl' (mergeDeclarations path) { } (map (module: module.options) loaded);
      config = evalSet path options (map (module: module.config) loaded);
      arguments = specialArgs // {
        inherit lib config options;
      };
    in
    {
      inherit config options;
    };

  one =
    name: check:
    lib.types.custom name (
      path: values:
      let
        value = builtins.head values;
      in
      if !check value then
        throw "`${show path}` is no ${name}: ${builtins.toJSON value}"
      else if builtins.all (other: other == value) values then
        value
      else
        throw "`${show path}` is defined twice, differently"
    );
in
{
  inherit evalModules;

  types = {
    custom = name: merge: { inherit name merge; };
    bool = one "boolean" builtins.isBool;
    str = one "string" builtins.isString;
    int = one "integer" builtins.isInt;
    ints.positive = one "positive integer" (value: builtins.isInt value && value > 0);
    ints.unsigned = one "unsigned integer" (value: builtins.isInt value && value >= 0);
    port = one "port" (value: builtins.isInt value && value >= 0 && value <= 65535);
    path = one "absolute path" (
      value:
      builtins.isPath value || (builtins.isString value && builtins.substring 0 1 value == "/")
    );
    package = one "package" (value: value ? outPath);
    enum = values: one "one of ${builtins.toJSON values}" (value: builtins.elem value values);
    raw = lib.types.custom "anything" (_: builtins.head);
    lines = lib.types.custom "lines" (_: builtins.concatStringsSep "\n");
    either =
      first: second:
      lib.types.custom "${first.name} or ${second.name}" (
        path: values:
        if builtins.isAttrs (builtins.head values) then second.merge path values else first.merge path values
      );
    nullOr =
      type:
      lib.types.custom "null or ${type.name}" (
        path: values: if builtins.all (value: value == null) values then null else type.merge path values
      );
    listOf =
      type:
      lib.types.custom "list of ${type.name}" (
        path: values:
        let
          items = builtins.concatLists values;
          item = index: (mergeAll (path ++ [ (toString index) ]) type [ (builtins.elemAt items index) ]).value;
        in
        builtins.genList item (builtins.length items)
      );
    attrsOf =
      type:
      lib.types.custom "set of ${type.name}" (
        path: values:
        let
          names = lib.unique (builtins.concatMap builtins.attrNames values);
          ofName =
            name:
            mergeAll (path ++ [ name ]) type (
              builtins.concatMap (set: lib.optional (set ? ${name}) set.${name}) values
            );
          merged = lib.genAttrs names ofName;
        in
        builtins.mapAttrs (_: member: member.value) (lib.filterAttrs (_: member: member.found) merged)
      );
    submodule =
      module:
      lib.types.custom "submodule" (
        path: values:
        (evalModules {
          modules = [ module ] ++ map (config: { inherit config; }) values;
          specialArgs.name = builtins.elemAt path (builtins.length path - 1);
          inherit path;
        }).config
      );
    # Sets by their members, lists one after the other, all else equal.
    anything = lib.types.custom "anything" (
      path: values:
      let
        isSet = value: builtins.isAttrs value && !(value ? outPath);
      in
      if builtins.all isSet values then
        (lib.types.attrsOf lib.types.anything).merge path values
      else if builtins.all builtins.isList values then
        builtins.concatLists values
      else if builtins.all builtins.isFunction values then
        builtins.head values
      else
        (one "value" (_: true)).merge path values
    );
  };
}
