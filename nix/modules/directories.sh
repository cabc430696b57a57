# Gives directories to a service: directories.sh USER GROUP (--make DIRECTORY | --existing DIRECTORY)...
# What is --existing has to be there: where a disk is not mounted, its mount point must not fill up in its place. Only the directory
# itself changes hands; what lies in it stays whose it is.
set -eu

user=$1 group=$2
shift 2
while [ $# -gt 0 ]; do
  kind=$1 directory=$2
  shift 2
  if [ "$kind" = --make ]; then
    mkdir -p "$directory"
  elif [ ! -d "$directory" ]; then
    echo "$directory is not there: mount its disk and make the directory, or take the farm out of the configuration" >&2
    exit 1
  fi
  chown "$user:$group" "$directory"
  chmod 0750 "$directory"
done
