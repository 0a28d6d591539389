#!/bin/sh
# Installs what the demo and the tests need and this machine lacks. Debian's packages only.
set -eu

need=''
# COMMAND PACKAGE...: the packages, when there is no such command
want() {
    command -v "$1" >/dev/null 2>&1 || { shift; need="$need $*"; }
}
want cc gcc libc6-dev
want podman podman conmon uidmap
want runc runc
want busybox busybox-static
want systemd-creds systemd
want swtpm swtpm
want tpm2_pcrextend tpm2-tools
want strace strace
want setpriv util-linux
want python3 python3 python3-venv
want node nodejs
want npm npm
# systemd-creds and tpm2-tools load these at run time; no command tells that they are there.
for library in libtss2-tcti-swtpm0 libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-mu0; do
    dpkg -s "$library" >/dev/null 2>&1 || dpkg -s "${library}t64" >/dev/null 2>&1 || need="$need $library"
done
[ -n "$need" ] || exit 0

echo "installing:$need"
if [ "$(id -u)" != 0 ]; then
    echo "this takes root: run it as root, or 'apt-get install$need'" >&2
    exit 1
fi
log=$(mktemp)
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"
