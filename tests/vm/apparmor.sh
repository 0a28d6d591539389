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
same 'denials for psid' "$(guest 'journalctl -q -b -u psid -u "psid-creds@*" -o cat | grep -ci "permission denied"' || true)" 0
# The profile is the restriction: the same program under it cannot read other files.
try() { guest "systemd-run -q --wait -p AppArmorProfile=$1 -p StandardError=file:/root/said $2 2>/dev/null" && echo 0 || echo $?; }
guest 'printf "[cache]\n" >/root/config.toml; printf "[cache]\n" >/etc/psi/other.toml'
same "psid reads a config of its directory" "$(try psid '/usr/bin/psid --config /etc/psi/other.toml check')" 0
[ "$(try psid '/usr/bin/psid --config /root/config.toml check')" != 0 ] || bad 'psid read a file of root'
ok "psid does not read root's files: $(guest 'cat /root/said')"
[ "$(try psid-creds '/usr/bin/psid --config /etc/psi/config.toml check')" != 0 ] || bad 'the helper read the config'
ok 'the helper does not read the config'
"$vm" reboot
same 'after a reboot' "$(label)" 'psid (enforce)'
same 'the literal' "$(guest "SECRET_ID=$id psi-driver lookup")" sealed
echo 'all checks passed'
