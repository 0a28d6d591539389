# PCR 7 is another one at the next boots: psid starts degraded, says why and serves live; the recovery key
# brings the cache and the literals back.
# shellcheck shell=bash
pcr7() { guest 'tpm2_pcrread sha256:7 | tail -n 1'; }

before=$(pcr7)
vm push "$here/files/psi-vm-pcr.service" /etc/systemd/system/
guest 'systemctl -q enable psi-vm-pcr'
vm reboot
[ "$(pcr7)" != "$before" ] || fail 'PCR 7 has changed' "$before"
ok 'PCR 7 has changed'
within 30 is_active psid || fail 'psid starts'
why=$(degraded)
[[ $why == *cache.key* ]] || fail 'psid says why it is degraded' "$why"
ok 'psid starts degraded, and says why' "$why"
within 60 is_active web worker@1 || fail 'containers with secrets of Infisical start, live'
ok 'containers with secrets of Infisical start, live' "$(guest 'psictl cache status' | grep ^lookups)"
said=$(guest 'psictl get literal 2>&1' || true)
[[ $said == *key* ]] || fail 'the literal is refused, and why is said' "$said"
ok 'the literal is refused, and why is said' "$said"
recover || fail 'cache recover'
within 30 is_clean || fail 'cache recover brings the cache back' "$(degraded)"
ok 'cache recover brings the cache back' "$(tr '|\n' '  ' <"$VM_LAB/recover.out")"
guest 'systemctl reset-failed; systemctl start vault'
containers_run 'every container runs'

vm net block
vm reboot
containers_run 'every container starts after a reboot with nothing in reach'
same 'psid is not degraded' "$(degraded)" ''
vm net on

# And back.
guest 'systemctl -q disable psi-vm-pcr'
vm reboot
recover || fail 'cache recover, with the former PCR 7'
guest 'systemctl reset-failed; systemctl start web vault worker@1'
containers_run 'and the same with the former PCR 7'
