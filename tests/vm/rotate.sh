#!/bin/bash
# A value changes at the provider, nobody touches the host, and the container has the new one: COUNT workloads of root
# (default: 50), one of a user, one of a user with an own psid, and one that is reloaded, on a real host. Then what must
# restart nothing: an outage, a drill, a mass removal. Run `make deb` and `cargo build -p fake-infisical` first.
#
# CHECKS="one user" makes some of the checks below. After KEEP=1, RESUME=1 goes on with the same host: it is set up already.
. "$(dirname "$(readlink -f "$0")")/host.sh"
count=${COUNT:-50}
units=$(seq -f 'w%g' -s ' ' "$count")
others='many anna conf'

configuration() {
    local name
    workload() { printf '[workloads.%s]\nprovider = "infisical"\n%s\nsecrets = [{ project = "vm", path = "/%s" }]\n' "$1" "$2" "$1"; }
    sed "s,http://10.0.3.2:PORT,$url,; /^\[workloads/,\$d; s/^backend = \"tpm\"/&\nrefresh_interval = \"1m\"\nrefresh_jitter = \"0s\"/" "$here/files/config.toml"
    for name in $units many anna; do
        workload "$name" "on_change = \"restart\"
on_change_jitter = \"0s\"$([ "$name" != anna ] || printf '\nuser = "anna"')"
    done
    workload conf 'on_change = "reload"'
}
# NAME: writes its quadlet.
container() {
    printf '[Container]\nImage=localhost/busybox:1\nContainerName=%s\nNetwork=none\nStopSignal=KILL\nExec=sleep 1000000\n[Install]\nWantedBy=multi-user.target default.target\n' "$1" >"$work/$1.container"
}
# It is no container, keeps its process, and reads its file at the start and when it is reloaded.
conf_unit() {
    cat <<'UNIT'
[Unit]
Wants=psi-render@conf.service
After=psi-render@conf.service
[Service]
ExecStartPre=cp /run/psi/render/conf/VALUE /run/conf.has
ExecStart=sleep 1000000
ExecReload=cp /run/psi/render/conf/VALUE /run/conf.has
UNIT
}
# USER: gets a quadlet of the same name.
has_quadlet() {
    container "$1"
    "$vm" push "$work/$1.container" /tmp/
    as "$1" "podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null; install -D -m 0644 -t .config/containers/systemd /tmp/$1.container" || bad "the quadlet of $1"
}
set_up() {
    local name
    jq --arg names "$units $others" '.projects[0].secrets.prod = ($names | split(" ") | map({key: "/\(.)", value: {VALUE: "one"}}) | from_entries)
        | .projects[0].secrets.prod["/many"] = {A: "1", B: "2", C: "3", D: "4"}' "$here/files/seed.json" >"$work/seed.json"
    start_fake "$work/seed.json"
    busybox_image
    configuration >"$work/config.toml"
    for name in $units many; do container "$name"; done
    conf_unit >"$work/conf.service"
    start_afresh
    "$vm" push "$(the_package)" "$work/busybox.tar" "$work/config.toml" "$work/conf.service" "$here/files/rotate.sh" /root/
    guest 'loginctl enable-linger anna; loginctl enable-linger ben; mkdir -p /etc/containers/systemd
        cp /root/conf.service /etc/systemd/system/; install -m 0644 /root/busybox.tar /tmp/
        podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null'
    "$vm" push "$work"/w*.container "$work/many.container" /etc/containers/systemd/
    guest 'dpkg -i /root/psid_*.deb >/dev/null 2>&1; install -m 0640 -g psi /root/config.toml /etc/psi/config.toml
        printf vm-client-secret | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs= --name=infisical-client-secret - /etc/psi/infisical-client-secret.cred
        psid check && psictl cache init --backend tpm && { systemctl restart psid psid.socket psid-users.socket 2>/dev/null || systemctl start psid; } &&
        psictl install && psictl setup' >"$work/said" 2>&1 || bad "the setup of root: $(tail -n 5 "$work/said")"
    guest 'systemctl restart user@$(id -u anna).service'
    within 60 as anna 'systemctl --user is-active -q basic.target' || bad 'anna has no systemd'
    has_quadlet anna
    as anna 'psictl install >/dev/null && psictl setup >/dev/null && systemctl --user daemon-reload && systemctl --user start anna' || bad "anna's container"
    guest "systemctl daemon-reload && systemctl start $units many conf" || bad 'the units start'
    ok "$count containers of root and one of anna run"
}

in_guest() { guest ". /root/rotate.sh; $*"; }
log() { guest 'journalctl -q -o cat -b -u psi-apply-changes -u psid | tail -n 8'; }
# A value that none of the secrets had.
new_value() { value=v$(date +%s%N); }
invocations() { in_guest "invocations $units many"; }
# The number of root's units that were started again since this list was made.
restarted() { diff <(printf '%s\n' "$1") <(invocations) | grep -c '^>' || true; }
# UNIT: puts a new value for it and waits until its process has it.
change_and_wait() {
    put_secret "/$1" VALUE "$value"
    in_guest "within 600 have $value $1" || bad "$1 has $(in_guest "value $1"): $(log)"
}
seconds() { awk "BEGIN {printf \"%.1f\", $2 - $1}"; }

check_one() {
    local before begin
    before=$(invocations) begin=$(in_guest now)
    new_value
    change_and_wait w1
    ok "from the change until the container has it, with refresh_interval = 1m: $(seconds "$begin" "$(in_guest at ActiveEnter w1)") s; of which its restart: $(seconds "$(in_guest at ActiveExit w1)" "$(in_guest at ActiveEnter w1)") s"
    same 'units restarted' "$(restarted "$before")" 1
    same 'psictl status names outdated units' "$(guest 'psictl status --json || true' | jq '.outdated_units | length')" 0
}
check_ten() {
    local before begin n changed=''
    before=$(invocations) begin=$(in_guest now)
    new_value
    for n in $(seq 10); do
        changed+=" w$((n * count / 10))"
        put_secret "/w$((n * count / 10))" VALUE "$value"
    done
    in_guest "within 1200 have $value $changed" || bad "not all have the new value: $(log)"
    ok "from the changes until the last of ten has its own: $(seconds "$begin" "$(in_guest "for unit in $changed; do at ActiveEnter \$unit; done" | sort -n | tail -n 1)") s"
    same "units restarted, of $((count + 1))" "$(restarted "$before")" 10
    same 'restarts that began before the one before was active' "$(in_guest "overlaps $changed")" 0
    same 'outdated units' "$(guest 'psictl status --json || true' | jq '.outdated_units | length')" 0
}
# USER: puts a new value for the user's container and waits until it has it.
change_of_user() {
    local before
    before=$(invocations)
    new_value
    put_secret "/$1" VALUE "$value"
    in_guest "within 600 user_has $1 $value" || bad "$1's container: $(log; as "$1" 'journalctl -q -o cat -b | tail -n 8')"
    same 'units of root restarted' "$(restarted "$before")" 0
}
logins() { guest "journalctl -q -b | grep -c 'session opened for user anna' || true"; }
check_user() {
    local before
    change_of_user anna
    ok "the user's unit is restarted in the user's manager"
    before=$(logins)
    guest 'psictl status >/dev/null; psictl metrics >/dev/null'
    same 'login sessions of the user by reports afterwards' "$(($(logins) - before))" 0
}
# The psid is the user's own, and so is what applies its changes.
check_own() {
    put_secret /ben VALUE one
    has_quadlet ben
    as ben "umask 077; printf vm-client-secret >client-secret; psictl init --yes --allow-http --start --api-url $url --client-id vm-client --client-secret-file client-secret \
        --project vm=6f2d1b0e-0000-4000-8000-00000000000a:prod --workload ben=vm:/ben --recovery-key-file recovery-key" >"$work/said" 2>&1 || bad "psictl init of ben: $(tail -n 5 "$work/said")"
    as ben "sed -i '/^\[cache\]/a refresh_interval = \"1m\"\nrefresh_jitter = \"0s\"
/^\[workloads.ben\]/a on_change = \"restart\"\non_change_jitter = \"0s\"' .config/psi/config.toml && systemctl --user restart psid && systemctl --user enable -q --now psi-apply-changes.path" || bad "psid of ben"
    change_of_user ben
    ok "the unit of a user with an own psid is restarted by the user's psi-apply-changes"
}
check_reload() {
    local before pid
    before=$(invocations) pid=$(guest 'systemctl show -P MainPID conf')
    new_value
    put_secret /conf VALUE "$value"
    in_guest "within 600 grep -qsx $value /run/conf.has" || bad "the reloaded unit has $(guest 'cat /run/conf.has /run/psi/render/conf/VALUE'): $(log)"
    ok 'the file is rendered, then the unit reloaded'
    same 'its process is the same' "$(guest 'systemctl show -P MainPID conf')" "$pid"
    same 'units restarted' "$(restarted "$before")" 0
    same 'outdated units' "$(guest 'psictl status --json || true' | jq '.outdated_units | length')" 0
}
# psid has seen the change of w3, and the run of apply-changes finds the drill.
check_drill() {
    local before
    before=$(invocations)
    new_value
    guest 'systemctl stop psi-apply-changes.path'
    put_secret /w3 VALUE "$value"
    guest 'psictl cache refresh >/dev/null; for n in $(seq 30); do [ ! -e /run/psid/changed/w3 ] || break; sleep 1; done; [ -e /run/psid/changed/w3 ]' || bad "no mark: $(log)"
    guest 'systemd-run -q psictl drill --for 75s; sleep 3; systemctl start psi-apply-changes.path'
    put_secret /w2 VALUE "$value"
    guest 'sleep 65'
    [[ $(log) == *deferred*w3.service* ]] || bad "nothing is deferred: $(log)"
    same 'units restarted in a drill' "$(restarted "$before")" 0
    in_guest "within 600 have $value w2 w3" || bad "after the drill: $(log)"
    same 'units restarted after the drill' "$(restarted "$before")" 2
}
check_outage() {
    local before
    before=$(invocations)
    new_value
    "$vm" net block
    put_secret /w4 VALUE "$value"
    guest 'sleep 150'
    same 'units restarted in an outage' "$(restarted "$before")" 0
    "$vm" net on
    in_guest "within 900 have $value w4" || bad "after the outage: $(log)"
    same 'units restarted after the outage' "$(restarted "$before")" 1
}
check_removal() {
    local before key
    before=$(invocations)
    for key in A B C D; do delete_secret /many "$key"; done
    [[ $(guest 'psictl cache refresh 2>&1') == *'kept 4 values'* ]] || bad 'the removal is not withheld'
    guest 'sleep 150'
    same 'units restarted by a mass removal' "$(restarted "$before")" 0
}
check_failing() {
    guest "mkdir -p /run/systemd/system/w5.service.d && printf '[Service]\nExecStartPre=/bin/false\n' >/run/systemd/system/w5.service.d/no.conf && systemctl daemon-reload"
    new_value
    for n in 5 6; do put_secret "/w$n" VALUE "$value"; done
    guest 'psictl cache refresh' >/dev/null
    in_guest 'within 120 systemctl is-failed -q psi-apply-changes.service' || bad "the run did not fail: $(log)"
    [[ $(guest 'journalctl -q -o cat -b -u psi-apply-changes | tail -n 8') == *FAILED*w5.service*'not tried'*w6.service* ]] || bad "w5 is not named: $(log)"
    guest 'rm -r /run/systemd/system/w5.service.d; systemctl daemon-reload; systemctl reset-failed; systemctl start w5; psictl apply-changes >/dev/null' || bad "by hand: $(log)"
    in_guest "have $value w5 w6" || bad 'w5 and w6 have the former value'
    ok 'a unit that does not come back ends the run, which names it; psictl apply-changes goes on by hand'
}

if [ -n "${RESUME:-}" ]; then resume; else set_up; fi
guest 'rm -f /root/rotate.sh' && "$vm" push "$here/files/rotate.sh" /root/
same 'psi-apply-changes.path is enabled by the package' "$(guest 'systemctl is-active psi-apply-changes.path')" active
for check in ${CHECKS:-one ten user own reload drill outage removal failing}; do
    echo "# $check"
    "check_$check"
done
echo 'all checks passed'
