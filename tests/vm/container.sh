#!/bin/bash
# psid as a container on a real host: its quadlet behind psid.socket, with a key of the TPM.
# `make deb` and `make image` come before; PODMAN is the podman that has the image.
. "$(dirname "$(readlink -f "$0")")/host.sh"

${PODMAN:-podman} save -q -o "$work/psi.tar" localhost/psi:latest
start_afresh
"$vm" push "$(the_package)" "$work/psi.tar" "$top/contrib/container/psid.container" /root/
# psi-driver, psictl and psid.socket are the package's; the quadlet takes the place of its psid.service.
guest 'dpkg -i /root/psid_*.deb >/dev/null 2>&1 && podman load -q -i /root/psi.tar >/dev/null
    mkdir -p /etc/containers/systemd && cp /root/psid.container /etc/containers/systemd/
    printf "[cache]\nbackend = \"tpm\"\n" >/etc/psi/config.toml
    head -c 32 /dev/urandom | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs=7 --name=psi-cache-key - /etc/psi/cache.key
    systemctl daemon-reload'
same 'before the first call' "$(guest 'systemctl is-active psid.socket psid.service' | xargs || true)" 'active inactive'
guest 'psictl install >/dev/null'
# Podman holds its lock of secrets while psid is started, by podman.
guest 'printf of-the-container | timeout 60 podman secret create mine - >/dev/null' || bad 'podman secret create'
id=$(guest 'podman secret inspect -f "{{.ID}}" mine')
same 'a secret, of a psid that the socket started' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
same 'psid is' "$(guest 'podman ps --format "{{.Names}} {{.Image}}"')" 'psid localhost/psi:latest'
guest 'systemctl restart psid'
same 'after a restart' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
"$vm" reboot
same 'after a reboot' "$(guest "SECRET_ID=$id psi-driver lookup")" of-the-container
same 'what it keeps for a boot' "$(guest 'stat -c %a /run/psid /run/psid/boot' | xargs)" '700 600'
same 'what is degraded' "$(guest 'psictl cache status --json' | jq -c .degraded)" '[]'
same 'plaintext in the state' "$(guest 'grep -rl of-the-container /var/lib/psi | wc -l')" 0
echo 'all is well'
