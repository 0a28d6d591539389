#!/bin/bash
# psid and its helper under AppArmor, enforced by a real kernel, and the score of their sandboxes.
# Run `make deb` first.
. "$(dirname "$(readlink -f "$0")")/host.sh"

# The guest's apparmor_parser, from its own Debian; nothing is installed on this machine.
fetch_parser() {
    local mirror
    mirror=$("$top/tests/mirror.sh")
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/nonexistent";
Dir::State::lists "$work/lists";
Dir::State::status "/dev/null";
Dir::Cache "$work";
APT::Sandbox::User "root";
CONF
    (export APT_CONFIG="$work/apt.conf"; apt-get update -qq && cd "$work" && apt-get download -qq apparmor)
}

fetch_parser
start_afresh
"$vm" push "$(the_package)" "$work"/apparmor_*.deb /root/
guest 'dpkg -i --force-depends /root/apparmor_*.deb >/dev/null 2>&1; dpkg -i /root/psid_*.deb >/dev/null 2>&1'
guest 'printf "[cache]\nbackend = \"tpm\"\n" >/etc/psi/config.toml && psictl cache init --backend tpm >/dev/null && systemctl start psid'

echo '# the sandboxes'
for unit in psid.service psid-creds@x.service; do
    score=$(guest "systemd-analyze security $unit --no-pager" | grep -o 'level for [^:]*: [0-9.]*' | grep -o '[0-9.]*$')
    awk -v score="$score" 'BEGIN { exit !(score != "" && score <= 2.0) }' || bad "systemd-analyze security $unit: '$score'"
    ok "systemd-analyze security $unit: $score"
done

echo '# AppArmor'
label() { guest "cat /proc/\$(systemctl show psid -P MainPID)/attr/current"; }
same 'without the profiles psid is unconfined' "$(label)" unconfined
guest 'install -m 0644 /usr/share/psi/apparmor/psid /etc/apparmor.d/ && apparmor_parser -r /etc/apparmor.d/psid && systemctl restart psid'
same 'psid is confined' "$(label)" 'psid (enforce)'
same 'the confined helper opened its key' "$(guest 'psictl cache status --json' | jq -c .degraded)" '[]'
id=0123456789abcdef012345678
guest "printf sealed | SECRET_ID=$id psi-driver store"
helper() {
    guest 'psictl cache rekey >/dev/null & while kill -0 $! 2>/dev/null; do
        for pid in $(pgrep -f "^/usr/bin/psid creds"); do cat /proc/$pid/attr/current; done; sleep 0.02
    done 2>/dev/null | sort -u'
}
same 'the helper is confined, to another profile' "$(helper)" 'psid-creds (enforce)'
guest 'systemctl restart psid'
same 'a literal, over a rekey and a restart' "$(guest "SECRET_ID=$id psi-driver lookup")" sealed

echo '# a user that a workload names, by the name service'
cat >"$work/more.toml" <<'CONF'
[providers.infisical]
api_url = "https://127.0.0.1:9"
[providers.infisical.auth]
method = "universal-auth"
client_id = "x"
client_secret_file = "/etc/psi/client-secret"
[providers.infisical.projects.p]
id = "6f2d1b0e-0000-4000-8000-00000000000a"
environment = "prod"
[workloads.of-anna]
provider = "infisical"
user = "anna"
secrets = [{ project = "p", path = "/anna" }]
CONF
"$vm" run 'cat >>/etc/psi/config.toml' <"$work/more.toml"
guest 'printf x >/etc/psi/client-secret; chown psi: /etc/psi/client-secret; chmod 600 /etc/psi/client-secret
    usermod -aG psi-users anna && systemctl restart psid'
by_anna() { guest "systemd-run -q --wait --pipe -u of-anna-$1 -p User=anna -p Environment=SECRET_ID=abcdef0123456789abcdef012 sh -c '$2'"; }
by_anna store 'printf %s of-anna | psi-driver store'
same "anna's secret, at the users' socket" "$(by_anna lookup 'psi-driver lookup')" of-anna
same "root's secret, for anna" "$(guest "runuser -u anna -- env SECRET_ID=$id psi-driver lookup >/dev/null 2>&1; echo \$?")" 66
same "the trail's unit" "$(guest 'journalctl -q -b -o json PSI_EVENT=lookup PSI_UID=$(id -u anna)' | jq -r 'select(.PSI_OUTCOME == "ok").PSI_UNIT')" of-anna-lookup.service
same 'denials for psid' "$(guest 'journalctl -q -b -u psid -u "psid-creds@*" -o cat | grep -ci "permission denied"' || true)" 0
# The profile is the restriction: the same program and user without it can read any other file that all may read.
# PROFILE FILE: the status of `psid check`.
try() { guest "systemd-run -q --wait -p User=psi -p AppArmorProfile=$1 -p StandardError=file:/run/psid/said /usr/bin/psid --config $2 check >/dev/null 2>&1" && echo 0 || echo $?; }
guest 'for file in /etc/psi/other.toml /opt/config.toml; do printf "[cache]\nbackend = \"tpm\"\n" >$file; chmod 644 $file; done'
same "psid reads a config of its directory" "$(try psid /etc/psi/other.toml)" 0
same 'without the profile it reads another file' "$(try '' /opt/config.toml)" 0
for profile in psid psid-creds; do
    [ "$(try $profile /opt/config.toml)" != 0 ] || bad "$profile reads another file"
    said=$(guest 'cat /run/psid/said')
    [[ $said == *'/opt/config.toml'*'ermission denied'* ]] || bad "$profile: $said"
    ok "$profile does not read another file: $said"
done
"$vm" reboot
same 'after a reboot' "$(label)" 'psid (enforce)'
same 'the literal' "$(guest "SECRET_ID=$id psi-driver lookup")" sealed
echo 'all checks passed'
