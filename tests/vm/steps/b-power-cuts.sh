# The power goes at random moments during stores, deletions, refreshes and rekeys. After each boot, with
# nothing in reach, what was acknowledged is there, what was not is whole or absent, and nothing is set aside.
# shellcheck shell=bash
said=$VM_LAB/cuts.out
: >"$said"
guest 'psi-driver list' | sort >"$VM_LAB/before.ids"
# A TPM counts a loss of power after a key was opened as a guess at it, and locks itself after some: this
# software one after 3, until 1000 s have passed. Others take 32 or so.
guest 'tpm2_dictionarylockout --setup-parameters --max-tries=1000 --recovery-time=1 --lockout-recovery-time=1'
# The containers have no part in this, and take time to start.
guest 'systemctl stop web vault worker@1; mv /etc/containers/systemd /root/quadlets; mkdir /etc/containers/systemd; systemctl daemon-reload'
vm push "$here/files/cut-load.sh" /root/
# Or the first cut takes it away.
guest sync
control=http://10.0.3.2:${CONTROL##*:}

# VERB: what was said to be done, one a line.
of() { sed -n "s/^$1 \(.*\) \.\$/\1/p" "$said" | sort; }
all_values() { guest 'for id in $(psi-driver list); do echo "$id $(SECRET_ID=$id psi-driver lookup | tr "\n" " ")"; done' | sort; }
# ROUND: what must hold after a cut.
judge() {
    local round=$1 kept found
    within 60 is_clean || fail "cut $round: psid is not degraded" "$(degraded)"
    [ "$(guest 'ls -A /var/lib/psi | grep -c bad- || true')" = 0 ] || fail "cut $round: nothing is set aside" "$(guest 'ls /var/lib/psi')"
    all_values | grep -vFf "$VM_LAB/before.ids" >"$VM_LAB/found" || true
    comm -23 <(of stored | grep -vFf <(of deleting)) "$VM_LAB/found" >"$VM_LAB/lost"
    [ ! -s "$VM_LAB/lost" ] || fail "cut $round: what was acknowledged is there" "lost: $(wc -l <"$VM_LAB/lost"), see $VM_LAB/lost"
    comm -13 <(of storing) "$VM_LAB/found" >"$VM_LAB/wrong"
    [ ! -s "$VM_LAB/wrong" ] || fail "cut $round: nothing is corrupt" "see $VM_LAB/wrong"
    comm -12 <(of deleted) <(cut -d' ' -f1 "$VM_LAB/found") >"$VM_LAB/risen"
    [ ! -s "$VM_LAB/risen" ] || fail "cut $round: what was deleted is gone" "see $VM_LAB/risen"
    kept=$(of kept | sort -n | tail -n 1)
    found=$(guest 'psi-driver get worker--STORE_KEY')
    [ "${found//[!0-9]/0}" -ge "${kept:-0}" ] || fail "cut $round: what a refresh wrote is there" "$found, and $kept was kept"
}

has_said() { [ "$(wc -l <"$VM_LAB/cut.out")" -ge "$1" ]; }
is_rekeying() { [ "$(grep '^rekey.* \.$' "$VM_LAB/cut.out" | tail -n 1)" = 'rekeying .' ]; }

RANDOM=$SEED
rekeys_cut=0
for round in $(seq "$CUTS"); do
    lines=$((RANDOM % 40 + 3)) pause=0.$((RANDOM % 10))
    vm run "bash /root/cut-load.sh $round $control" </dev/null >"$VM_LAB/cut.out" 2>"$VM_LAB/cut.log" &
    load=$!
    # So much was said, and a moment more: a machine that is busy does less in a second.
    within 180 has_said "$lines" || fail "cut $round: something to interrupt" "$(tail -n 3 "$VM_LAB/cut.log")"
    # Every third one while a rekey is under way, which a moment of all would rarely meet.
    [ $((round % 3)) != 0 ] || within 60 is_rekeying || fail "cut $round: a rekey to interrupt" "$(tail -n 3 "$VM_LAB/cut.log")"
    sleep "$pause"
    vm cut
    wait "$load" || true
    grep ' \.$' "$VM_LAB/cut.out" >>"$said" || true
    [ "$(grep -c '^rekeying \.' "$VM_LAB/cut.out")" = "$(grep -c '^rekeyed \.' "$VM_LAB/cut.out")" ] || rekeys_cut=$((rekeys_cut + 1))
    vm net block
    vm start
    judge "$round"
    vm net on
    echo "cut $round after $lines lines and $pause s: $(grep -c '^stored' "$said") stored so far, nothing lost" >&2
done
ok "power cuts, each followed by a boot with nothing in reach (SEED=$SEED)" "$CUTS"
for what in stored deleted kept rekeyed; do
    count=$(grep -c "^$what\( \|$\)" "$said" || true)
    [ "$count" -gt 0 ] || fail "$what, acknowledged" 0
    # Of a rekey, what was kept and stored shows that its key opens.
    if [ "$what" = rekeyed ]; then ok 'rekeyed, acknowledged' "$count"; else ok "$what, acknowledged and there" "$count"; fi
done
measured 'cuts in the middle of a rekey' "$rekeys_cut"

cut -d' ' -f1 "$VM_LAB/found" | vm run 'while read -r id; do SECRET_ID=$id psi-driver delete; done'
put_secret /worker STORE_KEY store-of-worker
guest 'psictl cache refresh >/dev/null; cp -r /root/quadlets/. /etc/containers/systemd; rm -r /root/quadlets
    systemctl daemon-reload; systemctl start web vault worker@1'
containers_run 'the containers start again'
