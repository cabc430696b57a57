# Addresses with ports, as command lines and URLs want them.
{
  # "192.168.1.1" -> 4222 -> "192.168.1.1:4222"; an address of IPv6 stands in brackets.
  withPort =
    address: port:
    if builtins.match ".*:.*" address == null then
      "${address}:${toString port}"
    else
      "[${address}]:${toString port}";
}
