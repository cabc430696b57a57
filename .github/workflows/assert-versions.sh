#!/usr/bin/env bash
# Prints the versions that the flake evaluates to, and fails if they are not those of the lock file and of Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/../.."

versions=$(nix eval --json .#lib.versions.x86_64-linux)
jq . <<< "$versions"

expect() {
  local found
  found=$(jq --raw-output --arg name "$1" '.[$name]' <<< "$versions")
  if [ "$found" != "$2" ]; then
    echo "$1: $2 was expected, $found was found" >&2
    exit 1
  fi
}
for input in nixpkgs crane; do
  expect "$input" "$(jq --raw-output --arg input "$input" '.nodes[$input].locked.rev' flake.lock)"
done
expect rustc_min "$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
expect nats-server_2_10_22 2.10.22
expect nvrtc 12.4.127

rustc=$(jq --raw-output .rustc <<< "$versions")
minimum=$(jq --raw-output .rustc_min <<< "$versions")
if [ "$(printf '%s\n%s\n' "$minimum" "$rustc" | sort --version-sort | head -n 1)" != "$minimum" ]; then
  echo "rustc: $minimum or newer was expected, $rustc was found" >&2
  exit 1
fi
