#!/bin/bash
# A value changes at the provider, nobody touches the host, and the container has the new one: 50 workloads of root and
# one of a user, on a real host. Then what must restart nothing: an outage, a drill, a mass removal. `make deb` comes
# before.
. "$(dirname "$(readlink -f "$0")")/host.sh"

count=50
jq --argjson count $count '.projects[0].secrets.prod = ([range(1; $count + 1) | {key: "/w\(.)", value: {VALUE: "one"}}]
    + [{key: "/anna", value: {VALUE: "one"}}, {key: "/many", value: {A: "1", B: "2", C: "3", D: "4"}}] | from_entries)' \
    "$here/files/seed.json" >"$work/seed.json"
start_fake "$work/seed.json"

busybox_image
{
    sed "s,http://10.0.3.2:PORT,$url,; /^\[workloads/,\$d" "$here/files/config.toml"
    workload() { printf '[workloads.%s]\nprovider = "infisical"\non_change = "restart"\non_change_jitter = "%s"\n%s\nsecrets = [{ project = "vm", path = "/%s" }]\n' "$1" "$2" "${3:-}" "$1"; }
    for n in $(seq $count); do workload "w$n" 0s; done
    workload anna 0s 'user = "anna"'
    workload many 0s
} | sed 's/^backend = "tpm"/&\nrefresh_interval = "1m"\nrefresh_jitter = "0s"/' >"$work/config.toml"

start_afresh
"$vm" push "$(the_package)" "$work/busybox.tar" "$work/config.toml" /root/
guest "id -u anna >/dev/null 2>&1 || useradd -m -s /bin/bash anna
    cp -r /root/.ssh /home/anna/ && chown -R anna: /home/anna && loginctl enable-linger anna
    podman import -q /root/busybox.tar localhost/busybox:1 >/dev/null
    cp /root/busybox.tar /home/anna/ && chown anna: /home/anna/busybox.tar
    mkdir -p /etc/containers/systemd"
container() { printf '[Container]\nImage=localhost/busybox:1\nContainerName=%s\nNetwork=none\nStopSignal=KILL\nExec=sleep 1000000\n[Install]\nWantedBy=multi-user.target default.target\n' "$1"; }
for n in $(seq $count); do container "w$n" >"$work/w$n.container"; done
container many >"$work/many.container"
container anna >"$work/anna.container"
"$vm" push "$work"/w*.container "$work/many.container" /etc/containers/systemd/
guest 'dpkg -i /root/psid_*.deb >/dev/null 2>&1; install -m 0640 -g psi /root/config.toml /etc/psi/config.toml
    printf vm-client-secret | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs= --name=infisical-client-secret - /etc/psi/infisical-client-secret.cred
    psid check && psictl cache init --backend tpm >/dev/null && systemctl restart psid psid.socket psid-users.socket 2>/dev/null || systemctl start psid
    psictl install >/dev/null && psictl setup >/dev/null' >/dev/null || bad 'the setup of root'
guest 'systemctl restart user@$(id -u anna).service'
within 60 as anna 'systemctl --user is-active -q basic.target' || bad 'anna has no systemd'
"$vm" push "$work/anna.container" /tmp/
as anna 'podman import -q ~/busybox.tar localhost/busybox:1 >/dev/null; mkdir -p ~/.config/containers/systemd
    cp /tmp/anna.container ~/.config/containers/systemd/ && psictl install >/dev/null && psictl setup >/dev/null && systemctl --user daemon-reload && systemctl --user start anna' || bad "anna's container"
units=$(for n in $(seq $count); do printf 'w%s ' "$n"; done)
guest "systemctl daemon-reload && systemctl start $units many" || bad 'the containers start'
ok "$count containers of root and one of anna run"
same 'psi-apply-changes.path is enabled by the package' "$(guest 'systemctl is-active psi-apply-changes.path')" active

# What its own process was started with: podman reads secrets again for an exec.
value() { guest "podman exec $1 cat /proc/1/environ | tr '\0' '\n' | sed -n 's/^VALUE=//p'"; }
invocations() { guest "for unit in $units many; do echo \"\$unit \$(systemctl show -P InvocationID \$unit)\"; done"; }
# The number of units that were restarted since the list was made.
restarted() { diff <(printf '%s\n' "$1") <(invocations) | grep -c '^>' || true; }
# VALUE UNITS...
have() { local expected=$1 unit; shift; for unit in "$@"; do [ "$(value "$unit")" = "$expected" ] || return 1; done; }

echo '# one value changes'
before=$(invocations)
begin=$EPOCHREALTIME
put_secret /w1 VALUE two
within 900 have two w1 || bad "w1 has $(value w1): $(guest 'journalctl -q -o cat -u psi-apply-changes -u psid | tail -n 5')"
ok "from the change to the container's answer, with refresh_interval = 1m: $(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1") s"
same 'units restarted' "$(restarted "$before")" 1

echo '# ten of fifty change'
before=$(invocations)
changed=''
for n in 3 7 11 15 19 23 27 31 35 39; do
    put_secret "/w$n" VALUE three
    changed+=" w$n"
done
# shellcheck disable=SC2086
within 900 have three $changed || bad 'not all have the new value'
same 'units restarted' "$(restarted "$before")" 10
overlaps=$(guest "for unit in $changed; do echo \"\$(systemctl show -P InactiveExitTimestampMonotonic \$unit) \$(systemctl show -P ActiveEnterTimestampMonotonic \$unit)\"; done | sort -n | awk 'NR > 1 && \$1 < last {n++} {last = \$2} END {print n + 0}'")
same 'restarts that began before the one before was active' "$overlaps" 0
same 'outdated units' "$(guest 'psictl status --json || true' | jq '.outdated_units | length')" 0

echo '# of a user'
put_secret /anna VALUE two
anna_has() { [ "$(as anna "podman exec anna cat /proc/1/environ | tr '\0' '\n' | sed -n 's/^VALUE=//p'")" = two ]; }
within 900 anna_has || bad "anna's container: $(guest 'journalctl -q -o cat -u psi-apply-changes | tail -n 5')"
ok "the user's unit was restarted in the user's manager"

echo '# what restarts nothing'
before=$(invocations)
guest 'systemd-run -q psictl drill --for 75s'
put_secret /w2 VALUE two
guest "sleep 70"
same 'units restarted in a drill' "$(restarted "$before")" 0
within 900 have two w2 || bad 'after the drill, w2 has the former value'
ok 'after the drill, the change is applied'
before=$(invocations)
"$vm" net block
put_secret /w4 VALUE two
guest "sleep 80"
same 'units restarted in an outage' "$(restarted "$before")" 0
"$vm" net on
within 900 have two w4 || bad 'after the outage, w4 has the former value'
ok 'after the outage, the change is applied'
before=$(invocations)
for key in A B C D; do delete_secret /many "$key"; done
guest 'psictl cache refresh || true' >/dev/null
guest "sleep 20"
same 'units restarted by a mass removal' "$(restarted "$before")" 0

echo '# a unit that does not come back ends the run'
guest "mkdir -p /run/systemd/system/w5.service.d && printf '[Service]\nExecStartPre=/bin/false\n' >/run/systemd/system/w5.service.d/no.conf && systemctl daemon-reload"
before=$(invocations)
for n in 5 6; do put_secret "/w$n" VALUE two; done
guest 'psictl cache refresh' >/dev/null
within 60 guest 'systemctl is-failed psi-apply-changes.service' || bad 'the run did not fail'
[[ $(guest 'journalctl -q -o cat -b -u psi-apply-changes | tail -n 4') == *'w5.service'* ]] || bad 'w5 is not named'
guest 'rm -r /run/systemd/system/w5.service.d; systemctl daemon-reload; systemctl reset-failed; systemctl start w5; psictl apply-changes'
have two w5 w6 || bad 'w5 and w6 have the former value'
ok 'it is named, and psictl apply-changes goes on by hand'
echo 'all checks passed'
