# Waits until a program is ready: ready.sh SECONDS (nats ADDRESS | node ADDRESS | role ADDRESS)
# What is asked is what provision asks (provision/src/gates.rs): nats-server's health with JetStream on, a node that is not syncing,
# a role's /ready.
set -u

seconds=$1 kind=$2 address=$3
end=$((SECONDS + seconds))

ask() {
  case $kind in
    nats) curl --fail --silent --show-error --max-time 3 "http://$address/healthz?js-enabled-only=true" ;;
    role) curl --fail --silent --show-error --max-time 3 "http://$address/ready" ;;
    node)
      curl --fail --silent --show-error --max-time 70 --header 'content-type: application/json' \
        --data '{"jsonrpc":"2.0","id":1,"method":"subspace_getFarmerAppInfo","params":[]}' "http://$address" |
        grep -E '"syncing": ?false'
      ;;
    *)
      echo "nats, node or role was expected, $kind was found" >&2
      exit 2
      ;;
  esac
}

while true; do
  answer=$(ask 2>&1) && exit 0
  status=$?
  [ "$kind" = nats ] || [ "$kind" = node ] || [ "$kind" = role ] || exit "$status"
  if [ "$SECONDS" -ge "$end" ]; then
    echo "$kind at $address was not ready within $seconds s: ${answer:-no answer}" >&2
    exit 1
  fi
  sleep 0.5
done
