# The NixOS VM tests by name: `nix build .#checks.x86_64-linux.vm-NAME`. A test is one file beside this one and the scenario of its
# name, which also says what proves the same without Nix (provision/tests/scenarios.rs looks at that).
{ pkgs, module }:
let
  inherit (pkgs) lib;
  support = import ./support { inherit pkgs lib module; };
  isTest = name: type: type == "regular" && name != "default.nix" && lib.hasSuffix ".nix" name;
  files = builtins.attrNames (lib.filterAttrs isTest (builtins.readDir ./.));

  contains = part: text: builtins.replaceStrings [ part ] [ "" ] text != text;
  # Each thing that the scenario says has a part of the script that says it too.
  checked =
    name: scenario: script:
    let
      missing = builtins.filter (held: !contains ''with subtest("${held}"):'' script) scenario.holds;
    in
    if missing == [ ] then
      script
    else
      throw "vm-tests/${name}.nix does not show what vm-tests/scenarios/${name}.json holds: ${builtins.concatStringsSep "; " missing}";

  ofFile =
    file:
    let
      name = lib.removeSuffix ".nix" file;
      scenario = builtins.fromJSON (builtins.readFile (./scenarios + "/${name}.json"));
      test = import (./. + "/${file}") { inherit pkgs lib support; };
    in
    lib.nameValuePair "vm-${name}" (
      pkgs.testers.runNixOSTest (
        test
        // {
          name = "autonomys-${name}";
          testScript = support.python + checked name scenario test.testScript;
        }
      )
    );
in
builtins.listToAttrs (map ofFile files)
