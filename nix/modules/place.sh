# Runs a program on its share of the cores of the NUMA node that its GPU is at, with memory of that node:
#   place.sh GPU GPU,GPU,... -- PROGRAM ARGUMENTS
# The second list names the GPUs of all programs of this host that are placed so: those at one node divide its physical cores, each
# core whole with its SMT siblings, the first ones one more where they do not divide. Where the card or its node is not known, the
# program runs on all cores, and that is said.
set -eu

gpu=$1 others=$2
shift 3
sys=${PLACE_SYS:-/sys}
drivers=${PLACE_NVIDIA:-/proc/driver/nvidia/gpus}


# GPUs are counted by their PCI address, as CUDA_DEVICE_ORDER=PCI_BUS_ID has it. The directory of a card is named by it.
addresses=()
for directory in "$drivers"/*/; do
  [ -d "$directory" ] && addresses+=("$(basename "$directory")")
done
node_of() {
  local address=${addresses[$1]:-}
  [ -n "$address" ] && cat "$sys/bus/pci/devices/$address/numa_node" 2>/dev/null || echo -1
}

node=$(node_of "$gpu")
if [ "$node" -lt 0 ] || [ ! -r "$sys/devices/system/node/node$node/cpulist" ]; then
  echo "the NUMA node of GPU $gpu is not known: $1 runs on all cores" >&2
  exec "$@"
fi

# "0-3,8" one a line.
expand() {
  local part
  for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}

share=0 rank=0
for other in ${others//,/ }; do
  [ "$(node_of "$other")" = "$node" ] || continue
  [ "$other" -lt "$gpu" ] && rank=$((rank + 1))
  share=$((share + 1))
done

# The physical cores of the node, each as the list of its siblings, in the order of their first CPUs.
cores=()
for cpu in $(expand "$(cat "$sys/devices/system/node/node$node/cpulist")"); do
  siblings=$(cat "$sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$cpu")
  [ "$(expand "$siblings" | head -n 1)" = "$cpu" ] && cores+=("$siblings")
done

count=${#cores[@]}
base=$((count / share)) more=$((count % share))
first=$((rank * base + (rank < more ? rank : more)))
number=$((base + (rank < more ? 1 : 0)))
if [ "$number" -eq 0 ]; then
  echo "NUMA node $node has $count cores for $share programs: $1 runs on all of them" >&2
  exec numactl --cpunodebind="$node" --localalloc "$@"
fi
cpus=$(IFS=,; echo "${cores[*]:first:number}")
exec numactl -C "$cpus" -l "$@"
