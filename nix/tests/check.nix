# Runs tests: { NAME = { got, wanted }; } -> a line for success, or an error that names every failure.
tests:
let
  names = builtins.attrNames tests;
  failed = builtins.filter (name: tests.${name}.got != tests.${name}.wanted) names;
  # Of two lists only the members that differ, and not more than a screen of anything.
  short = value: builtins.substring 0 2000 (builtins.toJSON value);
  differing =
    { got, wanted }:
    if builtins.isList got && builtins.isList wanted && builtins.length got == builtins.length wanted then
      let
        indexes = builtins.filter (
          index: builtins.elemAt got index != builtins.elemAt wanted index
        ) (builtins.genList (index: index) (builtins.length got));
      in
      {
        got = map (builtins.elemAt got) indexes;
        wanted = map (builtins.elemAt wanted) indexes;
      }
    else
      { inherit got wanted; };
  show =
    name:
    let
      difference = differing tests.${name};
    in
    "${name}:\n  wanted ${short difference.wanted}\n  got    ${short difference.got}";
in
if failed == [ ] then
  "${toString (builtins.length names)} tests passed"
else
  throw "${toString (builtins.length failed)} of ${toString (builtins.length names)} tests failed\n${
    builtins.concatStringsSep "\n" (map show failed)
  }"
