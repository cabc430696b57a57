# Facts of a host in one round trip: POSIX sh, no root needed, changes nothing, prints one JSON object of strings.
# Input: PREFIX, MARKER (NAME=VALUE in the environment of our programs), PORTS ("4222 9944 ..."), PATHS (data paths).
LC_ALL=C
export LC_ALL
fact() {
    printf ',"%s":"' "$1"
    tr -d '\000-\010\013-\037\177' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/	/\\t/g' | awk '{printf "%s\\n", $0}'
    printf '"'
}

printf '{"schema":"1"'
uname -m | fact machine
id -u | fact uid
cat /etc/os-release 2>/dev/null | fact os_release
getconf GNU_LIBC_VERSION 2>/dev/null | fact libc
date +%s | fact unix_time

for python in python3 python3.13 python3.12 python3.11 python3.10 python3.9; do
    "$python" -c '
import sys, importlib.util as u
if sys.version_info < (3, 9): sys.exit(1)
print(sys.executable)
print("%d.%d.%d" % sys.version_info[:3])
print("pip" if u.find_spec("pip") else "-")
print("ensurepip" if u.find_spec("ensurepip") and u.find_spec("venv") else "-")
' </dev/null 2>/dev/null && break
done | fact python
command -v apt-get 2>/dev/null | fact apt_get
command -v numactl 2>/dev/null | fact numactl

# name, where PATH leads, what it says of its version
{
    for name in nats-server supervisord supervisorctl; do
        for path in "$(command -v "$name" 2>/dev/null)" "$PREFIX/bin/$name"; do
            [ -x "$path" ] || continue
            case $name in
                nats-server) version=$("$path" --version </dev/null 2>/dev/null | head -n 1) ;;
                supervisord) version=$("$path" --version </dev/null 2>/dev/null | head -n 1) ;;
                *) version=- ;;
            esac
            printf '%s\t%s\t%s\n' "$name" "$path" "$version"
        done
    done
} | fact tools

cat /sys/devices/system/cpu/online 2>/dev/null | fact cpus_online
for node in /sys/devices/system/node/node[0-9]*; do
    [ -r "$node/cpulist" ] && printf '%s\t%s\n' "${node##*/node}" "$(cat "$node/cpulist")"
done | fact numa_nodes
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    [ -r "$cpu/topology/thread_siblings_list" ] &&
        printf '%s\t%s\n' "${cpu##*/cpu}" "$(cat "$cpu/topology/thread_siblings_list")"
done | fact siblings
ls -d /dev/nvidia[0-9]* 2>/dev/null | fact gpus

# Programs of this cluster, whoever started them: pid, parent, executable
for environ in $(grep -lzxFs -e "$MARKER" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${environ#/proc/}
    pid=${pid%/environ}
    parent=$(sed -e 's/^.*) . //' -e 's/ .*$//' "/proc/$pid/stat" 2>/dev/null)
    [ -n "$parent" ] && printf '%s\t%s\t%s\n' "$pid" "$parent" "$(readlink "/proc/$pid/exe" 2>/dev/null)"
done | fact processes

# Listening sockets on the ports that the cluster wants: port, pid or "-", program
listening=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v ports="$PORTS" '
    BEGIN { n = split(ports, list, " "); for (i = 1; i <= n; i++) wanted[sprintf("%04X", list[i])] = list[i] }
    $4 == "0A" { m = split($2, address, ":"); if (address[m] in wanted) print wanted[address[m]], $10 }' | sort -u)
if [ -n "$listening" ]; then
    set --
    for inode in $(printf '%s\n' "$listening" | awk '{print $2}'); do
        set -- "$@" -o -lname "socket:\[$inode\]"
    done
    shift
    owners=$(find /proc/[0-9]*/fd -maxdepth 1 \( "$@" \) -printf '%h %l\n' 2>/dev/null)
    printf '%s\n' "$listening" | while read -r port inode; do
        pid=$(printf '%s\n' "$owners" | sed -n "s|^/proc/\([0-9]*\)/fd socket:\[$inode\]\$|\1|p" | head -n 1)
        printf '%s\t%s\t%s\n' "$port" "${pid:--}" "$([ -n "$pid" ] && cat "/proc/$pid/comm")"
    done
fi | fact ports

# The prefix: nearest directory that exists, whether it may be written, what lies in it
for path in "$PREFIX" $PATHS; do
    there=$path
    while [ ! -e "$there" ] && [ "$there" != / ]; do there=$(dirname "$there"); done
    kind=other
    [ -d "$there" ] && kind=directory
    writable=no
    [ -w "$there" ] && writable=yes
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$there" "$kind" "$writable" \
        "$(df -Pk "$there" 2>/dev/null | awk 'NR == 2 {print $4 "\t" $6}')" \
        "$(stat -f -c %T "$there" 2>/dev/null)"
done | fact paths
find "$PREFIX/etc" -type f ! -name '.*' -exec sha256sum {} + 2>/dev/null | fact files
for link in "$PREFIX"/bin/*; do
    [ -L "$link" ] && printf '%s\t%s\t%s\n' "${link##*/}" "$(readlink "$link")" "$(readlink -f "$link")"
done | fact links
find "$PREFIX" -maxdepth 3 -type d 2>/dev/null | fact directories
# What the farms take already: path, KiB
for path in $PATHS; do
    [ -d "$path" ] && du -sk "$path" 2>/dev/null
done | fact used
printf '}\n'
