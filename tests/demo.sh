#!/bin/bash
# The demo: `psictl init` sets psi up, and a podman container gets secrets from Infisical; Infisical is killed, the host
# "reboots", and the container starts again. It runs on a host inside this one (tests/init/stage/enter), which is not
# changed.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
DIST=${DIST:-$PWD/target/dist} FAKE=$PWD/target/debug/fake-infisical
if [ "${1:-}" != staged ]; then
    [ "$(id -u)" = 0 ] || { echo "run it as root: it starts containers" >&2; exit 1; }
    W=$(mktemp -d /tmp/psi-demo.XXXX)
    trap 'rm -rf "$W"' EXIT
    mkdir "$W/host"
    export SYSTEMD_TPM2_DEVICE=swtpm:path=$W/tpm.sock
    unshare --mount --propagation private tests/init/stage/enter "$W/host" "$DIST" "$PWD/tests/demo.sh" staged "$W"
    exit
fi
W=$2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
PIDS=()

cleanup() {
    podman rm -fa -t 0 >/dev/null 2>&1 || true
    systemctl disable --now psid.service psid.socket psid-creds.socket >/dev/null 2>&1 || true
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap cleanup EXIT

if [ -t 1 ]; then B=$'\e[1m' G=$'\e[32m' D=$'\e[2m' N=$'\e[0m'; else B='' G='' D='' N=''; fi
step() { printf '\n%s== %s%s\n' "$B" "$*" "$N"; }
show() { printf '%s# %s%s\n' "$D" "$*" "$N"; }
ok()   { printf '%s   ok: %s%s\n' "$G" "$*" "$N"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; tail -n 20 "$W"/*.log /run/stage/*.log >&2 || true; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; ok "$1"; }
until_true() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; fail "timed out: $*"; }

# --- the environment --------------------------------------------------------------------------------
tpm_on() {
    mkdir -p "$W/tpm"
    swtpm socket --tpm2 --tpmstate "dir=$W/tpm" --server "type=unixio,path=$W/tpm.sock" \
        --ctrl "type=unixio,path=$W/tpm.sock.ctrl" --flags not-need-init,startup-clear >"$W/tpm.log" 2>&1 &
    TPM=$!; PIDS+=("$TPM")
    until_true test -S "$W/tpm.sock.ctrl"
}
tpm_off() { kill "$TPM"; wait "$TPM" 2>/dev/null || true; rm -f "$W"/tpm.sock*; }
infisical_on() {
    "$FAKE" --listen "127.0.0.1:${PORT:-0}" --seed "$W/seed.json" >"$W/fake.out" 2>"$W/fake.log" &
    INFISICAL=$!; PIDS+=("$INFISICAL")
    until_true test -s "$W/fake.out"
    URL=$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$W/fake.out"); CONTROL=$(sed 's/.*"control":"\([^"]*\)".*/\1/' "$W/fake.out")
    PORT=${URL##*:}
}
requests() { curl -sf "$CONTROL/log" | grep -o '"method":' | wc -l; }
UNITS=(psid.service psid.socket psid-creds.socket)
reboot_host() {
    systemctl stop "${UNITS[@]}"
    rm -f /run/psid/*
    tpm_off; tpm_on
    systemctl start "${UNITS[@]}"
}

cat >"$W/seed.json" <<'JSON'
{"identities": [{"id": "i-1", "name": "web-host", "clientId": "demo-client", "clientSecrets": [{"id": "s-1", "secret": "demo-client-secret"}]}],
 "projects": [{"id": "6f2d1b0e-0000-4000-8000-00000000000a", "name": "My project", "environments": ["prod"],
  "secrets": {"prod": {"/myapp": {"DB_HOST": "db.internal.example", "TLS_KEY": "-----BEGIN KEY-----\nbXVsdGktbGluZQ==\n-----END KEY-----\n"}}}}]}
JSON
mkdir -p "$W/image/bin" "$W/image/tmp" "$W/image/etc"
cp "$(command -v busybox)" "$W/image/bin/busybox"
for applet in sh cat echo env sha256sum; do ln -s busybox "$W/image/bin/$applet"; done
tar -C "$W/image" -cf "$W/image.tar" .
podman import -q "$W/image.tar" localhost/busybox:demo >/dev/null 2>"$W/import.log" || fail "podman import"
tpm_on
infisical_on

# --- the demo ---------------------------------------------------------------------------------------
step "1. One command, from the installed package to served secrets"
printf demo-client-secret >"$W/client-secret"
cat <<END
# psictl init --yes --api-url $URL --client-id demo-client --client-secret-file client-secret \\
    --project myproject=6f2d1b0e-0000-4000-8000-00000000000a:prod --workload myapp=myproject:/myapp \\
    --recovery-key-file recovery-key
END
psictl init --yes --api-url "$URL" --client-id demo-client --client-secret-file "$W/client-secret" \
    --project myproject=6f2d1b0e-0000-4000-8000-00000000000a:prod --workload myapp=myproject:/myapp \
    --recovery-key-file "$W/recovery-key" || fail "psictl init"
rm "$W/client-secret" "$W/recovery-key"

step "2. A container with the workload's secrets and a literal"
show "printf 's3cret\\n\\0binary' | podman secret create db_pw -"
printf 's3cret\n\0binary' | podman secret create db_pw - >/dev/null
podman secret ls
CMD='echo "DB_HOST=$DB_HOST"; cat /run/secrets/myapp--TLS_KEY; sha256sum </run/secrets/db_pw'
SECRETS=(--secret myapp--DB_HOST,type=env,target=DB_HOST --secret myapp--TLS_KEY --secret db_pw)
show "podman run --secret myapp--DB_HOST,type=env,target=DB_HOST --secret myapp--TLS_KEY --secret db_pw …"
run() { podman run --rm "${SECRETS[@]}" localhost/busybox:demo sh -c "$CMD"; }
FIRST=$(run) || fail "podman run"
echo "$FIRST"
EXPECTED="DB_HOST=db.internal.example
-----BEGIN KEY-----
bXVsdGktbGluZQ==
-----END KEY-----
$(printf 's3cret\n\0binary' | sha256sum)"
same "every value arrived byte for byte" "$FIRST" "$EXPECTED"

step "3. The outage: Infisical is killed, the host 'reboots' (psid stopped, TPM power-cycled, psid started)"
kill "$INFISICAL"; wait "$INFISICAL" 2>/dev/null || true
reboot_host
show psictl status
psictl status || true

step "4. The same container again, from cache.enc alone"
SECOND=$(run) || fail "podman run during the outage"
echo "$SECOND"
same "the same values, with Infisical gone" "$SECOND" "$EXPECTED"
infisical_on
same "Infisical, running again, received no request" "$(requests)" 0

step "5. The files on the disk"
show "od -A x -t x1z /var/lib/psi/cache.enc | head -3"
od -A x -t x1z /var/lib/psi/cache.enc | head -n 3
if grep -r -a -l -e 'db.internal.example' -e 's3cret' -e 'demo-client-secret' -e 'bXVsdGktbGluZQ' /var/lib/psi /etc/psi /run/psid /run/stage; then
    fail "a secret in plaintext"
fi
ok "no value, no literal and no client secret in psi's state, keys or log"
printf '\n%sDone.%s The README describes this for a real host.\n' "$B" "$N"
