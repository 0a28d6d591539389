#!/bin/sh
# Installs the missing packages of Debian that the tests need, and builds one software token. `deps.sh demo` installs
# those of the demo, and builds nothing.
set -eu
cd "$(dirname "$0")/.."

install_packages() {
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
}
need=''
# COMMAND PACKAGE...: adds the packages if the command is missing
want() {
    command -v "$1" >/dev/null 2>&1 || { shift; need="$need $*"; }
}
want cc gcc libc6-dev
want podman podman conmon
want runc runc
want systemd-creds systemd
want swtpm swtpm
want tpm2_flushcontext tpm2-tools
want curl curl
want setpriv util-linux
want make make
# systemd-creds and tpm2-tools load it at run time, and no command tells that it is there. The other
# libraries of the TPM come with tpm2-tools, under names that differ from one Debian to the next.
library=libtss2-tcti-swtpm0
dpkg -s "$library" >/dev/null 2>&1 || dpkg -s "${library}t64" >/dev/null 2>&1 || need="$need $library"
# Debian's busybox is linked with libc, and an image of it alone runs nothing.
dpkg -s busybox-static >/dev/null 2>&1 || need="$need busybox-static"
# psid's TLS client does not start without the system's CAs, for plain http either.
[ -e /etc/ssl/certs/ca-certificates.crt ] || need="$need ca-certificates"
# The demo needs no more.
if [ "${1:-}" = demo ]; then
    [ -z "$need" ] || install_packages
    exit
fi
want c++ g++
want zsh zsh
want fish fish
want newuidmap uidmap
want strace strace
want ip iproute2
want iptables iptables
want python3 python3 python3-venv
want valgrind valgrind
want node nodejs
want npm npm
want rpmbuild rpm
want checkmodule checkpolicy
want semodule_unpackage semodule-utils
want apparmor_parser apparmor
want softhsm2-util softhsm2
want pkcs11-tool opensc
# tests/kryoptic is built with these: bindgen loads libclang, of whatever version, and reads the headers.
want pkg-config pkg-config
# The policy for psi's SELinux module has no command either.
for library in libssl-dev libsqlite3-dev libclang-dev selinux-policy-dev; do
    dpkg -s "$library" >/dev/null 2>&1 || need="$need $library"
done

[ -z "$need" ] || install_packages

# A PKCS#11 token with RSA-OAEP and SHA-256, for the tests only. It has its own target directory, so that psi's
# build neither waits for it nor rebuilds it.
kryoptic=${CARGO_TARGET_DIR:-target}/kryoptic
[ -e "$kryoptic/release/libkryoptic_pkcs11.so" ] || echo "building Kryoptic, a token for the tests: a minute or two"
CARGO_TARGET_DIR=$kryoptic ${CARGO:-cargo} build --quiet --locked --release --manifest-path tests/kryoptic/Cargo.toml

# Quadlet generates units from psi's drop-ins since podman 5.0. Debian 13's needs only libc, so it runs here.
tests/podmans.sh
tools=${CARGO_TARGET_DIR:-target}/tools
[ -x "$tools/quadlet" ] || cp "$tools/podmans/trixie/usr/libexec/podman/quadlet" "$tools/quadlet"
