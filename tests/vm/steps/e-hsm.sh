# The same with a token, Kryoptic, in place of the TPM: a reboot without a network; the token removed and inserted.
# shellcheck shell=bash
module=/usr/lib/psi-vm/kryoptic.so
vm push "$top/target/kryoptic/release/libkryoptic_pkcs11.so" /root/kryoptic.so
cat <<'TOKEN' | vm run "bash -eus $module" >"$VM_LAB/token.log" 2>&1 || fail 'a token' "see $VM_LAB/token.log"
install -D -m 644 /root/kryoptic.so "$1"
# Where psid's unit may write.
install -d -o psi -g psi -m 700 /var/lib/psi/token
printf '[[slots]]\nslot = 1\ndbtype = "sqlite"\ndbargs = "/var/lib/psi/token/token.sql"\n' >/etc/kryoptic.conf
export KRYOPTIC_CONF=/etc/kryoptic.conf
module=$1
tool() { setpriv --reuid psi --regid psi --clear-groups pkcs11-tool --module "$module" "$@"; }
tool --init-token --slot 1 --label psi --so-pin 12345678
tool --token-label psi --login --login-type so --so-pin 12345678 --init-pin --pin 1234
tool --token-label psi --login --pin 1234 --keypairgen --key-type rsa:2048 --label podman-secrets --id 02 --usage-sign --usage-decrypt
printf 1234 | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs= --name=hsm-pin - /etc/psi/hsm-pin.cred
install -D -m 644 /usr/share/psi/psid.service.d/hsm.conf /etc/systemd/system/psid.service.d/hsm.conf
printf '[Service]\nEnvironment=KRYOPTIC_CONF=/etc/kryoptic.conf\n' >/etc/systemd/system/psid.service.d/token.conf
systemctl daemon-reload
TOKEN
ok 'a token, with a key of its own'
said=$(guest 'systemd-analyze verify psid.service 2>&1' | grep -v 'Command .man' || true)
same "systemd-analyze verify accepts the token's drop-in" "$said" ''

# A psi with another backend, without the former state.
guest 'systemctl stop web vault worker@1; podman secret rm --all >/dev/null; systemctl stop psid
    rm -rf /var/lib/psi/cache.enc /var/lib/psi/generation /var/lib/psi/recovery.enc /var/lib/psi/secrets /var/lib/psi/deleted
    sed -i "s/^backend = .*/backend = \"hsm\"/" /etc/psi/config.toml'
printf '[providers.pkcs11]\npkcs11_module = "%s"\ntoken_label = "psi"\npin_credential = "hsm-pin"\n' "$module" | vm run 'cat >>/etc/psi/config.toml'
must 'hsm preflight' guest 'KRYOPTIC_CONF=/etc/kryoptic.conf psictl hsm preflight'
must 'cache init --backend hsm' guest 'KRYOPTIC_CONF=/etc/kryoptic.conf psictl cache init --backend hsm'
must 'setup, and a literal' guest 'systemctl start psid && psictl setup && printf "the literal" | podman secret create literal -'
guest 'systemctl daemon-reload; systemctl start web vault worker@1'
containers_run 'three quadlets have their secrets'

vm net block
vm reboot
containers_run 'every container starts after a reboot with nothing in reach'
same 'lookups that RAM did not answer' "$(status | asked)" 0
same 'psid has its key from the token' "$(status | jq -r .backend) $(degraded)" 'hsm '

guest 'systemctl stop psid; mv /var/lib/psi/token/token.sql /root/; systemctl start psid'
why=$(degraded)
[ -n "$why" ] || fail 'the token is gone: psid starts degraded' "$why"
ok 'the token is gone: psid starts degraded and reports the reason' "$why"
vm net on
within 60 eval '[ "$(guest "psi-driver get web--API_TOKEN")" = token-of-web ]' || fail 'and serves live'
ok 'and serves live'
guest 'mv /root/token.sql /var/lib/psi/token/'
within 60 is_clean || fail 'the token is back: psid opens its key by itself' "$(degraded)"
ok 'the token is back: psid opens its key by itself'
