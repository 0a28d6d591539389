#!/bin/bash
# psid as a container on a real host: its quadlet behind psid.socket, with a key of the TPM.
# VMTOOL drives the host (default: vm beside this file), which is started afresh; `make deb` and `make image`
# come before, and PODMAN is the podman that has the image.
# A line for each check; the first that fails ends it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
top=$(readlink -f "$here/../..")
vm=${VMTOOL:-$here/vm}
work=$(mktemp -d)

ok() { echo "ok - $*"; }
bad() { echo "NOT OK - $*"; exit 1; }
guest() { "$vm" run "$@" </dev/null; }
same() { if [ "$2" = "$3" ]; then ok "$1: $2"; else bad "$1: '$2' instead of '$3'"; fi; }
started=''
cleanup() {
    [ -z "$started" ] || [ -n "${KEEP:-}" ] || "$vm" stop
    rm -rf "$work"
}
trap cleanup EXIT

${PODMAN:-podman} save -q -o "$work/psi.tar" localhost/psi:latest
started=yes
"$vm" start --fresh
"$vm" push "$(ls "$top"/target/psi_*.deb | sort -V | tail -n 1)" "$work/psi.tar" "$top/contrib/container/psid.container" /root/
# psi-driver and psid.socket are the package's; the quadlet takes the place of its psid.service.
guest 'dpkg -i /root/psi_*.deb >/dev/null 2>&1 && podman load -q -i /root/psi.tar >/dev/null
    mkdir -p /etc/containers/systemd && cp /root/psid.container /etc/containers/systemd/
    printf "[cache]\nbackend = \"tpm\"\n" >/etc/psi/config.toml
    head -c 32 /dev/urandom | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs=7 --name=psi-cache-key - /etc/psi/cache.key
    psi-driver install >/dev/null; systemctl daemon-reload'
same 'before the first call' "$(guest 'systemctl is-active psid.socket psid.service' | xargs || true)" 'active inactive'
# Podman holds its lock of secrets while psid is started, by podman.
guest 'printf of-the-container | timeout 60 podman secret create mine - >/dev/null' || bad 'podman secret create'
id=$(guest 'podman secret inspect -f "{{.ID}}" mine')
same 'a secret, of a psid that the socket started' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
same 'psid is' "$(guest 'podman ps --format "{{.Names}} {{.Image}}"')" 'psid localhost/psi:latest'
guest 'systemctl restart psid'
same 'after a restart' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
"$vm" reboot
same 'after a reboot' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
same 'what is degraded' "$(guest 'psi-driver cache status --json' | jq -c .degraded)" '[]'
same 'plaintext in the state' "$(guest 'grep -rl of-the-container /var/lib/psi | wc -l')" 0
echo 'all is well'
