# nats-server at the guides' version.
{
  buildGoModule,
  fetchFromGitHub,
  pin,
}:
buildGoModule {
  pname = "nats-server";
  inherit (pin) version vendorHash;
  src = fetchFromGitHub {
    owner = "nats-io";
    repo = "nats-server";
    rev = "v${pin.version}";
    inherit (pin) hash;
  };
  # Its tests open ports and wait for clocks.
  doCheck = false;
  meta.mainProgram = "nats-server";
}
