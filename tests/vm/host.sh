# What the checks of a whole host have in common: each sources it, and drives a host of its own.
# VMTOOL drives it (default: vm beside this file); KEEP=1 leaves it running.
# A line for each check; the first that fails ends it.
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
# A guest's command must not eat the script's own input.
guest() { "$vm" run "$@" </dev/null; }

start_afresh() {
    started=yes
    "$vm" start --fresh
}
# An image of this machine's busybox, in $work/busybox.tar: a host needs no registry for it.
busybox_image() {
    local applet
    mkdir -p "$work/image/bin" "$work/image/etc" "$work/image/tmp"
    cp "$(command -v busybox)" "$work/image/bin/busybox"
    for applet in sh cat sleep echo test; do ln -s busybox "$work/image/bin/$applet"; done
    tar -C "$work/image" -cf "$work/busybox.tar" .
}
