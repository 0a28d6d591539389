#!/bin/bash
# Eight users with a workload each, beside root, on the system's psid: rootless podman and quadlets, a reboot in an
# outage, and TRIES tries of each user at what belongs to the others. Run `make deb` and
# `cargo build -p fake-infisical -p psi-probes` first.
. "$(dirname "$(readlink -f "$0")")/host.sh"
tries=${TRIES:-200}
users=(web1 web2 web3 web4 web5 web6 web7 web8)
project=6f2d1b0e-0000-4000-8000-00000000000a

# A directory for each user and for root, with a value of its own; and a literal of its own, from elsewhere.
declare -A value literal
for user in root "${users[@]}"; do value[$user]=value-of-$user literal[$user]=literal-of-$user; done
directories=$(for user in root "${users[@]}"; do printf '{"/%s": {"TOKEN": "%s", "OTHER": "x"}}\n' "$user" "${value[$user]}"; done | jq -s add)
jq --argjson all "$directories" '.projects[0].secrets.prod = $all' "$here/files/seed.json" >"$work/seed.json"
start_fake "$work/seed.json"

{
    sed "s,http://10.0.3.2:PORT,$url,; /^\[workloads/,\$d" "$here/files/config.toml"
    printf '[workloads.root]\nprovider = "infisical"\nsecrets = [{ project = "vm", path = "/root" }]\n'
    for user in "${users[@]}"; do
        printf '[workloads.app-%s]\nprovider = "infisical"\nuser = "%s"\nsecrets = [{ project = "vm", path = "/%s" }]\n' "$user" "$user" "$user"
    done
} >"$work/config.toml"
cat >"$work/app.container" <<'UNIT'
[Container]
Image=localhost/busybox:1
Network=none
StopSignal=KILL
Secret=literal,type=env,target=LITERAL
Exec=sh -c 'echo "has $TOKEN $LITERAL"; exec sleep 1000000'
[Install]
WantedBy=multi-user.target default.target
UNIT
busybox_image

start_afresh
cp "$(the_package)" "$work/psid.deb"
"$vm" push "$work/psid.deb" "$work/busybox.tar" "$work/app.container" "$work/config.toml" /tmp/
"$vm" push "$top/target/debug/psi-intruder" /usr/local/bin/
guest 'chmod -R a+rX /tmp/*; dpkg -i /tmp/psid.deb >/tmp/dpkg.log 2>&1' || bad "dpkg -i: $(guest 'cat /tmp/dpkg.log')"
guest "for user in ${users[*]} carl; do useradd -m -s /bin/bash \$user; cp -r /root/.ssh /home/\$user/; chown -R \$user: /home/\$user; loginctl enable-linger \$user; done"

echo "# root's psid"
guest 'install -m 0640 -g psi /tmp/config.toml /etc/psi/config.toml
    printf vm-client-secret | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs= --name=infisical-client-secret - /etc/psi/infisical-client-secret.cred 2>/dev/null
    psictl cache init --backend tpm >/dev/null && systemctl start psid && psictl install >/dev/null
    podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null'
same 'the sockets' "$(guest 'systemctl is-enabled psid.socket psid-users.socket; systemctl is-active psid.socket psid-users.socket' | xargs)" 'enabled enabled active active'
same 'their modes' "$(guest 'stat -c "%n %U:%G %a" /run/psi/psid.sock /run/psi/users.sock' | xargs)" \
    '/run/psi/psid.sock root:root 600 /run/psi/users.sock root:psi-users 660'
# By the user's own systemd, which keeps the groups that it started with.
by_manager() { guest "systemd-run --user -M $1@.host -q --wait --pipe psi-driver list"; }
refused() {
    local what=$1 words=$2 said is=0
    shift 2
    said=$("$@" 2>&1) || is=$?
    [ "$is" = 77 ] || bad "$what: exit $is instead of 77: $said"
    [[ $said == *$words* ]] || bad "$what: '$said' without '$words'"
    ok "$what: exit 77, $said"
}
refused 'a user before psictl setup' 'psictl setup' guest 'runuser -u web1 -- psi-driver list'
said=$(guest 'psictl setup 2>&1') || bad "psictl setup: $said"
for user in "${users[@]}"; do
    [[ $said == *"added $user to the group psi-users"*"systemctl restart user@$(guest "id -u $user").service"* ]] || bad "psictl setup: $said"
done
ok "psictl setup of root added ${#users[@]} users to psi-users"
same "workloads that root's setup set up" "$(guest 'ls -d /etc/containers/systemd/*.d' | xargs)" '/etc/containers/systemd/root.container.d'
refused "a user's systemd that is older than its group" "systemctl restart user@" by_manager web1
guest "for user in ${users[*]}; do systemctl restart user@\$(id -u \$user).service; done"
same 'after its restart' "$(by_manager web1; echo $?)" 0
guest 'usermod -aG psi-users carl'
refused 'a member of psi-users that no workload names' 'is not the user of a workload' guest 'runuser -u carl -- psi-driver list'
guest 'cp /tmp/app.container /etc/containers/systemd/root.container; printf %s '"${literal[root]}"' | podman secret create literal - >/dev/null
    systemctl daemon-reload && systemctl start root'

echo '# eight users with rootless podman'
cat >"$work/own" <<'OWN'
set -eu
psictl install >/dev/null
podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null
mkdir -p ~/.config/containers/systemd
cp /tmp/app.container ~/.config/containers/systemd/app-$1.container
psictl setup
printf %s "$2" | podman secret create literal - >/dev/null
printf deleted | podman secret create deleted - >/dev/null
systemctl --user daemon-reload
systemctl --user start app-$1
OWN
"$vm" push "$work/own" /tmp/own
guest 'chmod a+r /tmp/own'
for user in "${users[@]}"; do
    said=$(as "$user" "sh /tmp/own $user ${literal[$user]} 2>&1") || bad "$user: $said"
done
unit_of() { if [ "$1" = root ]; then echo root; else echo "app-$1"; fi; }
# USER: what the container has printed since its last start.
says() { as "$1" "podman logs systemd-$(unit_of "$1") 2>/dev/null | tail -n 1"; }
has_its_own() { [ "$(says "$1")" = "has ${value[$1]} ${literal[$1]}" ]; }
containers_run() {
    local user
    for user in root "${users[@]}"; do
        within 120 has_its_own "$user" || bad "$1: $user's container printed '$(says "$user")': $(as "$user" "journalctl -q -b --no-pager -n 20 | cut -c1-300")"
    done
    ok "$1: root's container and those of ${#users[@]} users have their own secret and their own literal"
}
containers_run 'started'

echo '# what psid knows of the callers'
secrets=$(guest 'psictl secrets --json')
# Rootless podman runs psi-driver as uid 0 of a user namespace; the kernel gives psid the user's own uid.
for user in "${users[@]}"; do
    owners=$(jq -r --arg name "app-$user--TOKEN" '.. | objects | select(.name? == $name) | .owner.uid' <<<"$secrets" | xargs)
    [ "$owners" = "$(guest "id -u $user")" ] || bad "the owner of app-$user--TOKEN: '$owners'"
done
ok "each registration belongs to the user whose podman made it"
ids() { as "$1" "podman secret inspect -f '{{.ID}}' ${*:2}" | jq -R . | jq -sc .; }

echo '# a reboot in an outage'
"$vm" net block
"$vm" reboot
containers_run 'after a reboot with every packet dropped'
same 'psid is not degraded, but for the outage' "$(guest 'psictl cache status --json' | jq -c .degraded)" '[]'
same 'lookups that RAM did not answer' "$(guest 'psictl cache status --json' | jq '.misses + .failed')" 0
for user in "${users[@]}"; do
    uid=$(guest "id -u $user")
    units=$(guest "journalctl -q -b -o json PSI_EVENT=lookup PSI_UID=$uid" | jq -r 'select(.PSI_OUTCOME == "ok").PSI_UNIT' | sort -u)
    [ "$units" = "user@$uid.service/app-$user.service" ] || bad "the trail has lookups of $user by '$units'"
done
ok "the trail names the unit of each user's lookups, such as $units"
seen=$(as web1 'psictl secrets')
[[ $seen == *app-web1--TOKEN* ]] || bad "psictl secrets of web1: $seen"
same "secrets of others that web1 sees" "$(grep -cE 'web[2-8]|root' <<<"$seen" || true)" 0
same "psictl exec of web1" "$(as web1 "psictl exec -w app-web1 -- sh -c 'echo \$TOKEN' 2>/dev/null")" "${value[web1]}"
fails "psictl exec of web1 for another's workload" 65 'has no workload app-web2' web1 'psictl exec -w app-web2 -- true'
fails "psictl render of web1 for another's workload" 65 'has no workload app-web2' web1 \
    'mkdir -m 700 $XDG_RUNTIME_DIR/files && psictl render -w app-web2 $XDG_RUNTIME_DIR/files'
same "psictl render of web1" "$(as web1 'psictl render -w app-web1 $XDG_RUNTIME_DIR/files >/dev/null 2>&1; cat $XDG_RUNTIME_DIR/files/TOKEN')" "${value[web1]}"
"$vm" net on

echo "# $tries tries of each kind by each user at what belongs to root and the other users"
# USER: what it has, as psi-intruder reads it. Two secrets are deleted: one is restored by its user, one is tried by others.
describe() {
    local user=$1 unit
    unit=$(unit_of "$user")
    as "$user" "for name in gone left; do printf x | podman secret create \$name - >/dev/null; done"
    jq -nc --arg workload "$unit" --arg reference '{"provider":"infisical","project":"vm","path":"/'"$user"'","key":"TOKEN"}' \
        --argjson ids "$(ids "$user" "$unit--TOKEN" literal)" --argjson deleted "$(ids "$user" gone left)" \
        --argjson values "[\"${value[$user]}\", \"${literal[$user]}\"]" \
        '{workload: $workload, key: "TOKEN", reference: $reference, ids: $ids, deleted: $deleted, values: $values}'
    as "$user" 'podman secret rm gone left >/dev/null'
}
for user in root "${users[@]}"; do describe "$user" >"$work/$user.has"; done
pids=()
for user in "${users[@]}"; do
    jq -nc --slurpfile own "$work/$user.has" --slurpfile others <(for other in root "${users[@]}"; do [ "$other" = "$user" ] || cat "$work/$other.has"; done) \
        '{own: ($own[0] | .deleted |= .[:1]), others: ($others | map(.deleted |= .[1:]))}' >"$work/$user.tries"
    "$vm" run -u "$user" "psi-intruder /run/psi/users.sock $tries" <"$work/$user.tries" >"$work/$user.counts" 2>"$work/$user.err" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
summary=$(cat "$work"/*.counts | jq -rs '
    group_by(.kind)[] | {
        kind: .[0].kind, users: length, tries: map(.tries) | add, revealing: map(.revealing) | add,
        compared: map(.compared) | add, distinguishable: map(.distinguishable) | add,
        answers: (map(.answers | to_entries[]) | group_by(.key) | map("\(.[0].key) \(map(.value) | add)") | join(", "))
    } | "| \(.kind) | \(.users) | \(.tries) | \(.answers) | \(.revealing) | \(.distinguishable) of \(.compared) |"')
printf '\n| kind of try | users | tries | answers | with something of others | unlike those for something unknown |\n| --- | --- | --- | --- | --- | --- |\n%s\n\n' "$summary"
[ -z "${failed:-}" ] || bad "tries: $(cat "$work"/*.counts | jq -c 'select(.wrong)' | cut -c1-600; tail -n 3 "$work"/web*.err)"
same 'kinds of tries' "$(wc -l <<<"$summary")" 17

peak=$(guest 'systemctl show psid -P MemoryPeak')
ok "psid's peak of memory during the tries: $((peak / 1048576)) MiB"
for user in root "${users[@]}"; do
    for secret in "$(unit_of "$user")--TOKEN" literal; do
        id=$(as "$user" "podman secret inspect -f '{{.ID}}' $secret")
        case $secret in literal) expected=${literal[$user]} ;; *) expected=${value[$user]} ;; esac
        found=$(as "$user" "SECRET_ID=$id psi-driver lookup") || true
        [ "$found" = "$expected" ] || bad "after the tries, $secret of $user is '$found'"
    done
done
ok 'after the tries, each secret of root and of the users has its value'
guest 'systemctl restart root'
for user in "${users[@]}"; do as "$user" "systemctl --user restart app-$user"; done
containers_run 'after the tries'
echo 'all checks passed'
