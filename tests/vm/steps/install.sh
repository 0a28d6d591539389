# The package, a key on the TPM, podman's secrets and three quadlets, as in the README.
# shellcheck shell=bash
busybox_image() {
    local tree applet
    tree=$(mktemp -d)
    mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for applet in sh cat cut sleep echo test sha256sum; do ln -s busybox "$tree/bin/$applet"; done
    tar -C "$tree" -c .
    rm -r "$tree"
}

begin=$EPOCHREALTIME
vm start --fresh
measured 'power on to ready' "$(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1") s"
busybox_image >"$VM_LAB/busybox.tar"
cp "$(the_package)" "$VM_LAB/psid.deb"
vm push "$VM_LAB/psid.deb" "$VM_LAB/busybox.tar" /root/
guest 'mkdir -p /etc/containers/systemd && podman import -q /root/busybox.tar localhost/busybox:vm' >/dev/null
vm push "$here"/files/*.container /etc/containers/systemd/

must 'the package installs' guest 'dpkg -i /root/psid.deb'
sed "s,http://10.0.3.2:PORT,$FAKE_SEEN_BY_GUEST," "$here/files/config.toml" | vm run 'cat >/etc/psi/config.toml'
# Not bound to PCR 7: a host whose PCR 7 has changed must still be able to log in to Infisical.
guest 'printf vm-client-secret | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs= --name=infisical-client-secret - /etc/psi/infisical-client-secret.cred'
must 'psid check' guest 'psid check'
guest 'psictl cache init --backend tpm' >"$VM_LAB/init.out"
grep -oE '[a-z]{8}(-[a-z]{8}){7}' "$VM_LAB/init.out" >"$recovery_key" || fail 'cache init shows a recovery key'
ok 'cache init --backend tpm, PCR 7'
must 'psid starts' guest 'systemctl start psid'
must 'psictl install and setup, and a literal' \
    guest 'psictl install && psictl setup && printf "the literal" | podman secret create literal -'
guest 'systemctl daemon-reload && systemctl start web vault worker@1'
containers_run 'three quadlets have their secrets'
same 'a reboot now would survive an outage' "$(status | jq .survives_outage)" true
# The guest has no man(1), the only permitted complaint.
said=$(guest 'systemd-analyze verify psid.service psid.socket psid-creds.socket psid-creds@x.service /run/systemd/generator/web.service 2>&1' | grep -v 'Command .man' || true)
same 'systemd-analyze verify accepts the units' "$said" ''
for unit in psid psid-creds@x; do
    score=$(guest "systemd-analyze security $unit.service --no-pager" | grep -o 'level for [^:]*: [0-9.]*' | grep -o '[0-9.]*$')
    if [ "$(bc <<<"$score <= 2.0")" = 1 ]; then ok "systemd-analyze security $unit, of at most 2.0" "$score"; else fail "systemd-analyze security $unit" "$score"; fi
done
guest sync
