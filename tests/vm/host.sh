# The common part of the checks of a whole host: each sources it and uses a host of its own.
# VMTOOL drives it (default: vm beside this file); KEEP=1 leaves it running, with its fake, and `resume` takes them over.
# Prints a line for each check and stops at the first failure.
# shellcheck shell=bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
vm=${VMTOOL:-$here/vm}
work=$(mktemp -d)
started=''
fake=''
kept_host=${VM_LAB:-$top/target/vm}/kept-${VM:-a}
cleanup() {
    rm -rf "$work"
    if [ -n "${KEEP:-}" ]; then
        echo "$fake ${url:-} ${CONTROL:-}" >"$kept_host"
    else
        [ -z "$fake" ] || kill "$fake" 2>/dev/null || true
        [ -z "$started" ] || "$vm" stop
    fi
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

# USER COMMAND: the command as this user of the guest.
as() { local user=$1; shift; "$vm" run -u "$user" "$@" </dev/null; }
# WHAT CODE WORDS USER COMMAND: the command must fail with this status and these words.
fails() {
    local what=$1 code=$2 words=$3 user=$4 said is
    shift 4
    is=0
    said=$(as "$user" "$@" 2>&1) || is=$?
    [ "$is" = "$code" ] || bad "$what: exit $is instead of $code: $said"
    [[ $said == *$words* ]] || bad "$what: '$said' without '$words'"
    ok "$what: exit $code, $said"
}

# SEED: the fake on this machine; $url is the guest's, $CONTROL is for this machine.
start_fake() {
    "$top/target/debug/fake-infisical" --seed "$1" >"$work/fake.out" 2>"$work/fake.log" &
    fake=$!
    within 10 test -s "$work/fake.out"
    url=$(jq -r .url "$work/fake.out") CONTROL=$(jq -r .control "$work/fake.out")
    url=http://10.0.3.2:${url##*:}
}

start_afresh() {
    started=yes
    "$vm" start --fresh
}
resume() {
    read -r fake url CONTROL <"$kept_host"
    started=yes
}
# Writes an image of this machine's busybox to $work/busybox.tar: no registry is needed.
busybox_image() {
    local applet
    mkdir -p "$work/image/bin" "$work/image/etc" "$work/image/tmp"
    cp "$(command -v busybox)" "$work/image/bin/busybox"
    for applet in sh cat sleep echo test; do ln -s busybox "$work/image/bin/$applet"; done
    tar -C "$work/image" -cf "$work/busybox.tar" .
}
