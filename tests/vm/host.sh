# The common part of the checks of a whole host: each sources it and uses a host of its own.
# VMTOOL drives it (default: vm beside this file); KEEP=1 leaves it running.
# Prints a line for each check and stops at the first failure.
# shellcheck shell=bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
vm=${VMTOOL:-$here/vm}
work=$(mktemp -d)
started=''
cleanup() {
    [ -z "$started" ] || [ -n "${KEEP:-}" ] || "$vm" stop
    rm -rf "$work"
}
trap cleanup EXIT

ok() { echo "ok - $*"; }
bad() {
    echo "NOT OK - $*"
    exit 1
}
same() { if [ "$2" = "$3" ]; then ok "$1: $2"; else bad "$1: '$2' instead of '$3'"; fi; }
# A guest's command must not read the script's own input.
guest() { "$vm" run "$@" </dev/null; }

start_afresh() {
    started=yes
    "$vm" start --fresh
}
# Writes an image of this machine's busybox to $work/busybox.tar: no registry is needed.
busybox_image() {
    local applet
    mkdir -p "$work/image/bin" "$work/image/etc" "$work/image/tmp"
    cp "$(command -v busybox)" "$work/image/bin/busybox"
    for applet in sh cat sleep echo test; do ln -s busybox "$work/image/bin/$applet"; done
    tar -C "$work/image" -cf "$work/busybox.tar" .
}
