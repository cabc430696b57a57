# Facts of a host in one round trip: POSIX sh, no root needed, changes nothing. Prints sections, each a line of RS and its
# name, then what stands in it; the first is `schema`, the last `end`. Nothing forks once for each CPU, device or path.
# Input: PREFIX, MARKER (NAME=VALUE in the environment of our programs), PORTS ("4222 9944 ..."), PATHS (data paths),
# FACTS_ROOT (where /sys, /proc/driver and the like are: empty but in tests).
LC_ALL=C
export LC_ALL
section() {
    printf '\036%s\n' "$1"
}
sys=$FACTS_ROOT/sys

# What the driver says: it may have to start each GPU first, so it is asked beside everything else.
ask_smi() {
    smi=$(command -v nvidia-smi 2>/dev/null)
    section smi_gpus
    [ -n "$smi" ] && timeout 20 "$smi" --query-gpu=index,pci.bus_id,name,memory.total,driver_version \
        --format=csv,noheader,nounits </dev/null 2>/dev/null | head -c 65536
    section smi_topology
    [ -n "$smi" ] && timeout 20 "$smi" topo -m </dev/null 2>/dev/null | head -c 262144
}

# A Python of at least 3.9, what it has, and which Supervisor; takes longer to start than the rest takes.
ask_python() {
    for python in python3 python3.13 python3.12 python3.11 python3.10 python3.9; do
        "$python" -c '
import sys, importlib.util as u
if sys.version_info < (3, 9): sys.exit(1)
print(sys.executable)
print("%d.%d.%d" % sys.version_info[:3])
print("pip" if u.find_spec("pip") else "-")
print("ensurepip" if u.find_spec("ensurepip") and u.find_spec("venv") else "-")
try: print(open(u.find_spec("supervisor").submodule_search_locations[0] + "/version.txt").read().strip())
except Exception: pass
' </dev/null 2>/dev/null && break
    done
}

# What a tool says of its version. Supervisor takes a tenth of a second to say it: what our directory is called, or the
# Python that it runs with and that was asked above, says it sooner.
version_of() {
    target=$(readlink -f "$2")
    case $1:$target in
        supervisorctl:*) version=- ;;
        *:"$PREFIX"/packages/*-[0-9]*/bin/*)
            version=${target%/bin/*}
            version=${version##*-}
            ;;
        supervisord:*)
            { read -r line <"$target"; } 2>/dev/null
            python=${found%%
*}
            version=${found##*
}
            interpreter=${line#'#!'}
            interpreter=${interpreter%% *}
            if ! { [ "$interpreter" != "$line" ] && [ "$interpreter" -ef "$python" ]; } ||
                [ "${version#[0-9]*.}" = "$version" ]; then
                version=$("$2" --version </dev/null 2>/dev/null | head -n 1)
            fi
            ;;
        *) version=$("$2" --version </dev/null 2>/dev/null | head -n 1) ;;
    esac
}

# Everything else; Python's answer comes in by standard input, the driver's by descriptor 3.
ask_host() {
    section schema
    echo 2
    section unix_time
    date +%s.%N
    section machine
    uname -m
    section uid
    id -u
    section os_release
    cat /etc/os-release 2>/dev/null
    section libc
    getconf GNU_LIBC_VERSION 2>/dev/null

    section apt_get
    command -v apt-get 2>/dev/null
    section numactl
    command -v numactl 2>/dev/null

    section cpus
    grep -s . "$sys"/devices/system/cpu/online "$sys"/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list \
        "$sys"/devices/system/node/node[0-9]*/cpulist /dev/null
    grep -s _allowed_list "$FACTS_ROOT"/proc/self/status /dev/null
    section memory
    grep -s MemTotal "$FACTS_ROOT"/proc/meminfo "$sys"/devices/system/node/node[0-9]*/meminfo /dev/null
    grep -s . "$sys"/fs/cgroup/memory.max /dev/null

    # NVIDIA's display and 3D controllers: PCI address, class, NUMA node, CPUs nearby
    section gpus
    for vendor in $(grep -lsx 0x10de "$sys"/bus/pci/devices/*/vendor); do
        device=${vendor%/vendor}
        { read -r class <"$device/class"; } 2>/dev/null
        case $class in
            0x0300* | 0x0302*)
                node= cpus=
                { read -r node <"$device/numa_node"; } 2>/dev/null
                { read -r cpus <"$device/local_cpulist"; } 2>/dev/null
                printf '%s\t%s\t%s\t%s\n' "${device##*/}" "$class" "$node" "$cpus"
                ;;
        esac
    done
    section gpu_driver
    if [ -d "$FACTS_ROOT/proc/driver/nvidia" ]; then
        grep -s NVRM "$FACTS_ROOT"/proc/driver/nvidia/version
        grep -s '^Model\|^Device Minor' "$FACTS_ROOT"/proc/driver/nvidia/gpus/*/information /dev/null
    fi
    ls -d "$FACTS_ROOT"/dev/nvidia[0-9]* 2>/dev/null

    # Mbit/s of each network interface, then the addresses
    section network
    grep -s . "$sys"/class/net/*/speed /dev/null
    ip -o addr show 2>/dev/null

    # Programs of this cluster, whoever started them: pid, parent; then the executables
    section processes
    set --
    for environ in $(grep -lzxFs -e "$MARKER" /proc/[0-9]*/environ 2>/dev/null); do
        pid=${environ#/proc/}
        pid=${pid%/environ}
        stat=
        { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || continue
        parent=${stat##*) ? }
        printf '%s\t%s\n' "$pid" "${parent%% *}"
        set -- "$@" "/proc/$pid/exe"
    done
    section executables
    [ $# -gt 0 ] && find "$@" -maxdepth 0 -printf '%h\t%l\n' 2>/dev/null

    # Listening sockets on the ports that the cluster wants: port, pid or "-", program
    section ports
    listening=$(awk -v ports="$PORTS" '
        BEGIN { n = split(ports, list, " "); for (i = 1; i <= n; i++) wanted[sprintf("%04X", list[i])] = list[i] }
        $4 == "0A" { m = split($2, address, ":"); if (address[m] in wanted && !seen[$10]++) print wanted[address[m]], $10 }
        ' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    if [ -n "$listening" ]; then
        set --
        for inode in $(printf '%s\n' "$listening" | awk '{print $2}'); do
            set -- "$@" -o -lname "socket:\[$inode\]"
        done
        shift
        owners=$(find /proc/[0-9]*/fd -maxdepth 1 \( "$@" \) -printf '%h %l\n' 2>/dev/null)
        printf '%s\n' "$listening" | while read -r port inode; do
            pid=- program=
            case $owners in
                *" socket:[$inode]"*)
                    pid=${owners%%"/fd socket:[$inode]"*}
                    pid=${pid##*/proc/}
                    { read -r program <"/proc/$pid/comm"; } 2>/dev/null
                    ;;
            esac
            printf '%s\t%s\t%s\n' "$port" "$pid" "$program"
        done
    fi

    # The prefix and the paths of data: nearest directory that exists, whether it may be written
    section paths
    set --
    for path in "$PREFIX" $PATHS; do
        there=$path
        while [ ! -e "${there:-/}" ]; do
            case $there in */*) there=${there%/*} ;; *) there=. ;; esac
        done
        there=${there:-/}
        kind=other
        [ -d "$there" ] && kind=directory
        writable=no
        [ -w "$there" ] && writable=yes
        printf '%s\t%s\t%s\t%s\n' "$path" "$there" "$kind" "$writable"
        set -- "$@" "$there"
    done
    # Their file systems: path, type, bytes of a block, blocks, free ones, those of them that are not reserved
    section file_systems
    stat -f --printf '%n\t%T\t%S\t%b\t%f\t%a\n' "$@" 2>/dev/null
    # Where those are mounted: path, mount point; then of each mount point the device, its type, whether its disk turns
    section mounts
    mounts=$(stat --printf '%n\t%m\n' "$@" 2>/dev/null)
    printf '%s\n' "$mounts"
    section devices
    MOUNTS=$mounts awk '
        BEGIN { n = split(ENVIRON["MOUNTS"], line, "\n"); for (i = 1; i <= n; i++) { split(line[i], m, "\t"); wanted[m[2]] } }
        $5 in wanted { for (i = 7; i < NF && $i != "-"; i++) {} print $3, $5, $(i + 1) }
        ' /proc/self/mountinfo 2>/dev/null | while read -r device mount type; do
        turns=-
        for queue in "/sys/dev/block/$device/queue" "/sys/dev/block/$device/../queue"; do
            [ -r "$queue/rotational" ] && { read -r turns <"$queue/rotational"; } 2>/dev/null && break
        done
        printf '%s\t%s\t%s\n' "$mount" "$type" "$turns"
    done

    section files
    find "$PREFIX/etc" -type f ! -name '.*' -exec sha256sum {} + 2>/dev/null
    section links
    for link in "$PREFIX"/bin/*; do
        [ -L "$link" ] && printf '%s\t%s\t%s\n' "${link##*/}" "$(readlink "$link")" "$(readlink -f "$link")"
    done
    section directories
    find "$PREFIX" -maxdepth 3 -type d 2>/dev/null
    # What the data takes already: KiB, path
    set --
    for path in $PATHS; do
        [ -d "$path" ] && set -- "$@" "$path"
    done
    section used
    [ $# -gt 0 ] && du -sk "$@" 2>/dev/null
    # What the farms say they may take
    section farms
    set --
    for path in $PATHS; do
        [ -f "$path/single_disk_farm.json" ] && set -- "$@" "$path/single_disk_farm.json"
    done
    [ $# -gt 0 ] && head -c 4096 "$@" /dev/null 2>/dev/null

    section python
    found=$(cat)
    printf '%s\n' "$found"
    # Name, where PATH leads, what it says of its version
    section tools
    for name in nats-server supervisord supervisorctl; do
        last=
        for path in "$(command -v "$name" 2>/dev/null)" "$PREFIX/bin/$name"; do
            [ -x "$path" ] || continue
            [ -n "$last" ] && [ "$path" -ef "$last" ] || version_of "$name" "$path"
            last=$path
            printf '%s\t%s\t%s\n' "$name" "$path" "$version"
        done
    done
    cat <&3
    section end
}

ask_smi | {
    exec 3<&0
    ask_python | ask_host
}
