# Where nixpkgs has the key pair of its tests.
pkgs: {
  snakeOilEd25519PrivateKey = pkgs.writeText "key" "a private key";
  snakeOilEd25519PublicKey = "ssh-ed25519 AAAA test";
}
