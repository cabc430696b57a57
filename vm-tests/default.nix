# The NixOS VM tests by name, one behaviour a file. None yet.
{ ... }:
{ }
