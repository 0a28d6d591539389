#!/bin/bash
# The scenarios on one host: the installation, then each of the steps a to g. STEPS="a c" selects some.
# The table is target/vm/story.md; SEED and CUTS are those of step b, KILLS that of step f.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
STEP=story
. ./lib.sh
steps=${STEPS:-a b c d f g e}
export SEED=${SEED:-$RANDOM} CUTS=${CUTS:-20} KILLS=${KILLS:-50}

fake_on() {
    # Otherwise the output of the last run would be read.
    rm -f "$VM_LAB/fake.out"
    "$top/target/debug/fake-infisical" --seed files/seed.json >"$VM_LAB/fake.out" 2>"$VM_LAB/fake.log" &
    fake=$!
    within 10 test -s "$VM_LAB/fake.out"
    FAKE=$(jq -r .url "$VM_LAB/fake.out") CONTROL=$(jq -r .control "$VM_LAB/fake.out")
    export FAKE CONTROL FAKE_SEEN_BY_GUEST=http://10.0.3.2:${FAKE##*:}
}
cleanup() {
    vm cut
    kill "$fake" 2>/dev/null || true
}

./build.sh
fake_on
trap cleanup EXIT
printf '| step | what | | measured |\n|---|---|---|---|\n' >"$table"

# FILE: runs one step, which reports its own failure.
run_step() {
    local name begin=$SECONDS
    name=${1##*/}
    name=${name%.sh}
    export STEP=${name%%-*}
    echo "== $name" >&2
    if bash -c '. "$0"; . "$1"' ./lib.sh "$1"; then
        measured 'the step' "$((SECONDS - begin)) s"
        return
    fi
    guest 'journalctl -b -u psid -u "psid-creds@*" --no-pager -n 40' >"$VM_LAB/failed-$STEP.log" 2>&1 || true
    row 'the step' FAILED "$((SECONDS - begin)) s; see $VM_LAB/failed-$STEP.log"
    return 1
}

failed=''
is_installed=''
for step in $steps; do
    # After a failed step, the next one needs a new host.
    if [ -z "$is_installed" ]; then
        vm cut
        run_step steps/install.sh || { failed+=' install'; break; }
        is_installed=yes
    fi
    run_step steps/"$step"-*.sh || { failed+=" $step" is_installed=''; }
    # Step e replaces psi's key backend.
    [ "$step" != e ] || is_installed=''
done

echo
cat "$table"
if [ -n "$failed" ]; then
    echo "FAILED:$failed (SEED=$SEED)" >&2
    exit 1
fi
echo "the table is $table"
# A full run writes its table into RESULTS.md.
if [ -z "${STEPS:-}" ]; then
    page=$here/RESULTS.md
    {
        sed '/make vm-test writes from here/q' "$page"
        printf 'By `make vm-test` at %s, %s, SEED=%s:\n\n' "$(git -C "$top" describe --always --dirty)" "$(date -u '+%F %R UTC')" "$SEED"
        cat "$table"
        sed -n '/to here -->/,$p' "$page"
    } >"$VM_LAB/RESULTS.md"
    mv "$VM_LAB/RESULTS.md" "$page"
fi
