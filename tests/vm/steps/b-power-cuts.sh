# Power cuts at random moments of stores, deletions, refreshes and rekeys. After each boot without a network,
# acknowledged changes are present, others are complete or absent, and no file is set aside.
# shellcheck shell=bash
said=$VM_LAB/cuts.out
: >"$said"
guest 'psi-driver list' | sort >"$VM_LAB/before.ids"
# A TPM counts a power loss after an opened key as a failed authorization, and locks itself after some: this
# software TPM after 3, for 1000 s; others after about 32.
guest 'tpm2_dictionarylockout --setup-parameters --max-tries=1000 --recovery-time=1 --lockout-recovery-time=1'
# The containers are not needed here, and take time to start.
guest 'systemctl stop web vault worker@1; mv /etc/containers/systemd /root/quadlets; mkdir /etc/containers/systemd; systemctl daemon-reload'
vm push "$here/files/cut-load.sh" /root/
# Otherwise the first cut may lose it.
guest sync
control=http://10.0.3.2:${CONTROL##*:}

# VERB: the records of this kind, one per line.
of() { sed -n "s/^$1 \(.*\) \.\$/\1/p" "$said" | sort; }
all_values() { guest 'for id in $(psi-driver list); do echo "$id $(SECRET_ID=$id psi-driver lookup | tr "\n" " ")"; done' | sort; }
# ROUND: the checks after a cut.
check_round() {
    local round=$1 kept found
    within 60 is_clean || fail "cut $round: psid is not degraded" "$(degraded)"
    [ "$(guest 'ls -A /var/lib/psi | grep -c bad- || true')" = 0 ] || fail "cut $round: nothing is set aside" "$(guest 'ls /var/lib/psi')"
    all_values | grep -vFf "$VM_LAB/before.ids" >"$VM_LAB/found" || true
    comm -23 <(of stored | grep -vFf <(of deleting)) "$VM_LAB/found" >"$VM_LAB/lost"
    [ ! -s "$VM_LAB/lost" ] || fail "cut $round: acknowledged values are present" "lost: $(wc -l <"$VM_LAB/lost"), see $VM_LAB/lost"
    comm -13 <(of storing) "$VM_LAB/found" >"$VM_LAB/wrong"
    [ ! -s "$VM_LAB/wrong" ] || fail "cut $round: nothing is corrupt" "see $VM_LAB/wrong"
    comm -12 <(of deleted) <(cut -d' ' -f1 "$VM_LAB/found") >"$VM_LAB/risen"
    [ ! -s "$VM_LAB/risen" ] || fail "cut $round: deleted values are absent" "see $VM_LAB/risen"
    kept=$(of kept | sort -n | tail -n 1)
    found=$(guest 'psi-driver get worker--STORE_KEY')
    [ "${found//[!0-9]/0}" -ge "${kept:-0}" ] || fail "cut $round: values of a refresh are present" "$found, and $kept was kept"
}

has_said() { [ "$(wc -l <"$VM_LAB/cut.out")" -ge "$1" ]; }
is_rekeying() { [ "$(grep '^rekey.* \.$' "$VM_LAB/cut.out" | tail -n 1)" = 'rekeying .' ]; }

RANDOM=$SEED
rekeys_cut=0
for round in $(seq "$CUTS"); do
    lines=$((RANDOM % 40 + 3)) pause=0.$((RANDOM % 10))
    vm run "bash /root/cut-load.sh $round $control" </dev/null >"$VM_LAB/cut.out" 2>"$VM_LAB/cut.log" &
    load=$!
    # After this many lines, and a moment more: a busy machine does less in a second.
    within 180 has_said "$lines" || fail "cut $round: something to interrupt" "$(tail -n 3 "$VM_LAB/cut.log")"
    # Every third cut is during a rekey, which a random moment would rarely hit.
    [ $((round % 3)) != 0 ] || within 60 is_rekeying || fail "cut $round: a rekey to interrupt" "$(tail -n 3 "$VM_LAB/cut.log")"
    sleep "$pause"
    vm cut
    wait "$load" || true
    grep ' \.$' "$VM_LAB/cut.out" >>"$said" || true
    [ "$(grep -c '^rekeying \.' "$VM_LAB/cut.out")" = "$(grep -c '^rekeyed \.' "$VM_LAB/cut.out")" ] || rekeys_cut=$((rekeys_cut + 1))
    vm net block
    vm start
    check_round "$round"
    vm net on
    echo "cut $round after $lines lines and $pause s: $(grep -c '^stored' "$said") stored so far, nothing lost" >&2
done
ok "power cuts, each followed by a boot with nothing in reach (SEED=$SEED)" "$CUTS"
for what in stored deleted kept rekeyed; do
    count=$(grep -c "^$what\( \|$\)" "$said" || true)
    [ "$count" -gt 0 ] || fail "$what, acknowledged" 0
    # The present values show that the key of a rekey opens.
    if [ "$what" = rekeyed ]; then ok 'rekeyed, acknowledged' "$count"; else ok "$what, acknowledged and present" "$count"; fi
done
measured 'cuts in the middle of a rekey' "$rekeys_cut"

cut -d' ' -f1 "$VM_LAB/found" | vm run 'while read -r id; do SECRET_ID=$id psi-driver delete; done'
put_secret /worker STORE_KEY store-of-worker
guest 'psictl cache refresh >/dev/null; cp -r /root/quadlets/. /etc/containers/systemd; rm -r /root/quadlets
    systemctl daemon-reload; systemctl start web vault worker@1'
containers_run 'the containers start again'
