# The TPM is gone; the disk is full; the clock is a year off.
# shellcheck shell=bash

vm net block
vm stop
vm start --no-tpm
within 60 is_active psid || fail 'psid starts without a TPM'
why=$(degraded)
[[ $why == *cache.key* ]] || fail 'psid reports that the key does not open' "$why"
ok 'no TPM: psid starts degraded and reports the reason' "$why"
# In the guest's own seconds.
read -r code seconds < <(guest 'SECONDS=0; psi-driver get web--API_TOKEN >/dev/null 2>/root/said; echo $? $SECONDS')
same 'a lookup of an uncached value exits with 75' "$code" 75
[ "$seconds" -lt 5 ] || fail 'and does not hang' "$seconds s"
ok 'and does not hang' "$seconds s: $(guest 'cat /root/said')"
recover --seal-with host || fail 'cache recover --seal-with host' "$(cat "$VM_LAB/recover.out")"
guest 'systemctl reset-failed; systemctl start web vault worker@1'
containers_run 'cache recover --seal-with host: every container starts'
vm stop
vm start
containers_run 'the TPM is back'
must 'cache rekey --seal-with tpm2' guest 'psictl cache rekey --seal-with tpm2 --tpm2-pcrs 7'
same 'psid is not degraded' "$(degraded)" ''
vm net on

# Root's reserve is left for podman and the journal; psid has none.
guest 'fallocate -l "$(df --output=avail -B1 /var/lib/psi | tail -n 1)" /root/full'
put_secret /worker STORE_KEY store-of-worker-2
guest 'psictl cache refresh' >/dev/null || true
same 'disk full: fetched values are served' "$(guest 'psi-driver get worker--STORE_KEY')" store-of-worker-2
! said=$(guest 'head -c 9000 /dev/urandom | base64 | SECRET_ID=0123456789abcdef012345678 psi-driver store 2>&1') || fail 'disk full: a store is refused'
ok 'disk full: a store is refused' "$said"
within 10 eval '[[ $(degraded) == *written* ]]' || fail 'disk full: psid reports that the cache is not written' "$(degraded)"
ok 'disk full: psid reports that the cache is not written' "$(degraded)"
guest 'systemctl restart psid web vault'
within 30 containers_say || true
same 'disk full: psid and containers restart' "$(says web) $(says vault)" "$WEB the literal"
guest 'rm /root/full'
within 60 is_clean || fail 'space again: psid is not degraded' "$(degraded)"
put_secret /worker STORE_KEY store-of-worker
must 'space again: a refresh is written' guest 'psictl cache refresh && psictl cache status --verify'

vm net block
for year in '1 year' '1 year ago'; do
    vm stop
    VM_QEMU="-rtc base=$(date -u -d "$year" +%FT%T)" vm start
    containers_run "every container starts, with the clock at $(guest 'date -u +%F')"
    same 'psid is not degraded' "$(degraded)" ''
done
vm stop
vm start
vm net on
containers_run 'and with the right clock again'
