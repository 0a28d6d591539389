# The common part of the steps; story.sh sources it, and each step runs with it.
# shellcheck shell=bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
export VM=${VM:-story} VM_LAB=${VM_LAB:-$top/target/vm}
table=$VM_LAB/story.md
recovery_key=$VM_LAB/recovery-key

vm() { "$here/vm" "$@"; }
# A guest's command must not read the script's own input.
guest() { vm run "$@" </dev/null; }

# A line of the table: the check, and its value.
row() { printf '| %s | %s | %s | %s |\n' "$STEP" "$1" "$2" "$3" | tee -a "$table"; }
ok() { row "$1" ok "${2:-}"; }
measured() { row "$1" measured "$2"; }
fail() {
    row "$1" FAILED "${2:-}"
    exit 1
}
# WHAT COMMAND...: the command must succeed.
must() {
    local what=$1
    shift
    if "$@" >"$VM_LAB/must.log" 2>&1; then ok "$what"; else
        tail -n 20 "$VM_LAB/must.log" >&2
        fail "$what" "see the lines above"
    fi
}
same() { if [ "$2" = "$3" ]; then ok "$1" "$2"; else fail "$1" "'$2' instead of '$3'"; fi; }

# --- the fake, on this machine; FAKE and CONTROL are its URLs ---
reaches_fake() { guest "curl -fsS -m 3 $FAKE_SEEN_BY_GUEST/api/status" >/dev/null 2>&1; }

# --- psi in the guest ---
# It exits with 1 if something is degraded; that is a report here, not a failure.
status() { guest 'psictl cache status --json || [ $? = 1 ]'; }
degraded() { status | jq -r '.degraded | join("; ")'; }
recover() { vm run "psictl cache recover $*" <"$recovery_key" >"$VM_LAB/recover.out"; }
is_clean() { [ "$(status | jq '.degraded | length')" = 0 ]; }
# Lookups that RAM did not answer, by psid's own count.
asked() { jq '.misses + .stale + .failed'; }
# The output of a container since its unit was last started.
output() { guest "journalctl -q -o cat _SYSTEMD_INVOCATION_ID=\$(systemctl show $1 -P InvocationID)"; }
# The last line of it, without the time of the container's start.
says() { output "$1" | sed -n 's/^up [0-9.]* //p' | tail -n 1; }
started() { output "$1" | sed -n 's/^up \([0-9.]*\) .*/\1/p' | tail -n 1; }
is_active() { guest "systemctl is-active $*" >/dev/null; }

WEB="pass-of-web token-of-web $(printf -- '-----BEGIN KEY-----\nbXVsdGktbGluZQ==\n-----END KEY-----\n' | sha256sum | cut -c1-16)"
WORKER='key-of-worker store-of-worker'
# WHAT: the three containers run, and have their values.
containers_run() {
    within 90 is_active web vault worker@1 || fail "$1" "$(guest 'systemctl is-active web vault worker@1' | tr '\n' ' ')"
    # A container's output reaches the journal a moment later.
    within 20 containers_say || fail "$1" "$(says web) / $(says vault) / $(says worker@1)"
    ok "$1"
}
containers_say() { [ "$(says web)" = "$WEB" ] && [ "$(says vault)" = 'the literal' ] && [ "$(says worker@1)" = "$WORKER" ]; }
