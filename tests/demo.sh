#!/bin/bash
# The demo: a secret from Infisical in a podman container; Infisical is killed, the daemon restarted, and the
# container started again. Podman's store, the software TPM and the fake Infisical are in one temporary
# directory. The host is not changed.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
DIST=$PWD/target/dist FAKE=$PWD/target/debug/fake-infisical
W=$(mktemp -d /tmp/psi-demo.XXXX)
chmod 700 "$W"
PIDS=()

cleanup() {
    P rm -fa -t 0 >/dev/null 2>&1 || true
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    umount "$W/root/overlay" 2>/dev/null || true
    rm -rf "$W"
}
trap cleanup EXIT

if [ -t 1 ]; then B=$'\e[1m' G=$'\e[32m' D=$'\e[2m' N=$'\e[0m'; else B='' G='' D='' N=''; fi
step() { printf '\n%s== %s%s\n' "$B" "$*" "$N"; }
show() { printf '%s$ %s%s\n' "$D" "$*" "$N"; }
ok()   { printf '%s   ok: %s%s\n' "$G" "$*" "$N"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; tail -n 20 "$W"/*.log >&2 || true; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; ok "$1"; }
until_true() { for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; fail "timed out: $*"; }

# --- the environment --------------------------------------------------------------------------------
# Read by psi-driver, psictl, psid and systemd-creds; on a real host none of these is set.
export PSI_CONFIG=$W/config.toml PSI_STATE_DIR=$W/state PSI_SOCKET=$W/psid.sock PSI_RUN_DIR=$W/psid
export SYSTEMD_TPM2_DEVICE=swtpm:path=$W/tpm.sock CONTAINERS_CONF=$W/containers.conf
P() { podman --root "$W/root" --runroot "$W/run" --cgroup-manager cgroupfs --events-backend file --runtime runc "$@"; }
run() { P run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@"; }
ctl() { "$DIST/psictl" "$@"; }

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
psid_on()  { "$DIST/psid" >>"$W/psid.log" 2>&1 & PSID=$!; PIDS+=("$PSID"); until_true "$DIST/psi-driver" health; }
psid_off() { kill "$PSID"; wait "$PSID" 2>/dev/null || true; }
requests() { python3 -c "import json,urllib.request;print(len(json.load(urllib.request.urlopen('$CONTROL/log'))))"; }

cat >"$W/seed.json" <<'JSON'
{"identities": [{"id": "i-1", "name": "web-host", "clientId": "demo-client", "clientSecrets": [{"id": "s-1", "secret": "demo-client-secret"}]}],
 "projects": [{"id": "6f2d1b0e-0000-4000-8000-00000000000a", "name": "My project", "environments": ["prod"],
  "secrets": {"prod": {"/myapp": {"DB_HOST": "db.internal.example", "TLS_KEY": "-----BEGIN KEY-----\nbXVsdGktbGluZQ==\n-----END KEY-----\n"}}}}]}
JSON
ctl install --stdout --program "$DIST/psi-driver" >"$W/containers.conf"
mkdir -p "$W/image/bin" "$W/image/tmp" "$W/image/etc"
cp "$(command -v busybox)" "$W/image/bin/busybox"
for applet in sh cat echo env sha256sum; do ln -s busybox "$W/image/bin/$applet"; done
tar -C "$W/image" -cf "$W/image.tar" .
P import -q "$W/image.tar" localhost/busybox:demo >/dev/null 2>&1 || fail "podman import: $(P import -q "$W/image.tar" localhost/busybox:demo 2>&1)"
tpm_on
infisical_on

# --- the demo ---------------------------------------------------------------------------------------
step "1. The config: an Infisical project, and a key on the TPM"
cat >"$PSI_CONFIG" <<TOML
[cache]
backend = "tpm"
[providers.infisical]
api_url = "$URL"
[providers.infisical.auth]
method = "universal-auth"
client_id = "demo-client"
client_secret_credential = "infisical-client-secret"
[providers.infisical.projects.myproject]
id = "6f2d1b0e-0000-4000-8000-00000000000a"
environment = "prod"
TOML
cat "$PSI_CONFIG"
printf demo-client-secret | systemd-creds encrypt --with-key=tpm2 --name=infisical-client-secret - "$W/infisical-client-secret.cred" 2>/dev/null
show psid check
"$DIST/psid" check
show psictl cache init --backend tpm
ctl cache init --backend tpm | sed "s,$W,…,g"

step "2. psid runs; podman creates two references and one literal through psi-driver"
tpm_off; tpm_on   # a software TPM has no resource manager: a power cycle frees its sessions
psid_on
for key in DB_HOST TLS_KEY; do
    show "podman secret create myapp--$key -   < {\"provider\":\"infisical\",\"project\":\"myproject\",\"path\":\"/myapp\",\"key\":\"$key\"}"
    printf '{"provider":"infisical","project":"myproject","path":"/myapp","key":"%s"}' "$key" | P secret create "myapp--$key" - >/dev/null
done
show "printf 's3cret\\n\\0binary' | podman secret create db_pw -"
printf 's3cret\n\0binary' | P secret create db_pw - >/dev/null
P secret ls

step "3. A container with the three: one as environment, two as files"
CMD='echo "DB_HOST=$DB_HOST"; cat /run/secrets/myapp--TLS_KEY; sha256sum </run/secrets/db_pw'
SECRETS=(--secret myapp--DB_HOST,type=env,target=DB_HOST --secret myapp--TLS_KEY --secret db_pw)
show "podman run --secret myapp--DB_HOST,type=env,target=DB_HOST --secret myapp--TLS_KEY --secret db_pw …"
FIRST=$(run "${SECRETS[@]}" localhost/busybox:demo sh -c "$CMD") || fail "podman run"
echo "$FIRST"
EXPECTED="DB_HOST=db.internal.example
-----BEGIN KEY-----
bXVsdGktbGluZQ==
-----END KEY-----
$(printf 's3cret\n\0binary' | sha256sum)"
same "every value arrived byte for byte" "$FIRST" "$EXPECTED"

step "4. The outage: Infisical is killed, the host 'reboots' (psid stopped, TPM power-cycled, psid started)"
same "Infisical received a login and one listing, which has the values of both references" "$(requests)" 2
kill "$INFISICAL"; wait "$INFISICAL" 2>/dev/null || true
psid_off; tpm_off; tpm_on; psid_on
show psictl cache status
ctl cache status | sed "s,$W,…,g"

step "5. The same container again, from cache.enc alone"
SECOND=$(run "${SECRETS[@]}" localhost/busybox:demo sh -c "$CMD") || fail "podman run during the outage"
echo "$SECOND"
same "the same values, with Infisical gone" "$SECOND" "$EXPECTED"
infisical_on
same "Infisical, running again, received no request" "$(requests)" 0

step "6. The files on the disk"
show "xxd state/cache.enc | head -3"
(xxd "$W/state/cache.enc" 2>/dev/null || od -A x -t x1z "$W/state/cache.enc") | head -n 3
if grep -r -a -l -e 'db.internal.example' -e 's3cret' -e 'demo-client-secret' -e 'bXVsdGktbGluZQ' "$W/state" "$W"/*.key "$W"/*.cred "$W/psid.log"; then
    fail "a secret in plaintext"
fi
ok "no value, no literal and no client secret in psi's state, keys or log"
printf '\n%sDone.%s The README describes this for a real host.\n' "$B" "$N"
