# PCR 7 differs at the next boots: psid starts degraded, reports the reason and serves live; the recovery key
# restores the cache and the literals.
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
[[ $why == *cache.key* ]] || fail 'psid reports why it is degraded' "$why"
ok 'psid starts degraded and reports the reason' "$why"
within 60 is_active web worker@1 || fail 'containers with secrets of Infisical start, live'
ok 'containers with secrets of Infisical start, live' "$(guest 'psictl cache status' | grep ^lookups)"
said=$(guest 'psictl get literal 2>&1' || true)
[[ $said == *key* ]] || fail 'the literal is refused with the reason' "$said"
ok 'the literal is refused with the reason' "$said"
recover || fail 'cache recover'
within 30 is_clean || fail 'cache recover restores the cache' "$(degraded)"
ok 'cache recover restores the cache' "$(tr '|\n' '  ' <"$VM_LAB/recover.out")"
guest 'systemctl reset-failed; systemctl start vault'
containers_run 'every container runs'

vm net block
vm reboot
containers_run 'every container starts after a reboot with nothing in reach'
same 'psid is not degraded' "$(degraded)" ''
vm net on

# The former PCR 7 again.
guest 'systemctl -q disable psi-vm-pcr'
vm reboot
recover || fail 'cache recover, with the former PCR 7'
guest 'systemctl reset-failed; systemctl start web vault worker@1'
containers_run 'and the same with the former PCR 7'
