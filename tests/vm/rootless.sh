#!/bin/bash
# Rootless: two users and root on one host, each with its own psid and podman.
# Run `make deb` first.
. "$(dirname "$(readlink -f "$0")")/host.sh"

busybox_image

start_afresh
"$vm" push "$(the_package)" "$work/busybox.tar" /tmp/
guest 'chmod 644 /tmp/busybox.tar; dpkg -i /tmp/psid_*.deb >/dev/null 2>&1'
for user in anna ben; do
    guest "id -u $user >/dev/null 2>&1 || useradd -m -s /bin/bash $user
        cp -r /root/.ssh /home/$user/ && chown -R $user: /home/$user && loginctl enable-linger $user"
    within 60 as $user 'systemctl --user is-active -q basic.target' || bad "$user has no systemd"
done

echo '# root and two users'
# A user's credentials are bound to the host's key: systemd lets no user seal to the TPM.
cat >"$work/own" <<'OWN'
set -eu
config=$1 seal=$2 value=$3 systemctl=$4
mkdir -p "$(dirname "$config")"
printf '[cache]\nbackend = "tpm"\n' >"$config"
psictl cache init --backend tpm --seal-with "$seal" >/dev/null
$systemctl enable -q --now psid.socket psid.service
psictl install >/dev/null
podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null
printf %s "$value" | podman secret create mine -
OWN
"$vm" push "$work/own" /tmp/own
guest 'chmod 644 /tmp/own'
root_id=$(guest 'sh /tmp/own /etc/psi/config.toml tpm2 of-root systemctl')
ben_id=$(as ben 'sh /tmp/own ~/.config/psi/config.toml host of-ben "systemctl --user"')
anna_id=$(as anna 'sh /tmp/own ~/.config/psi/config.toml host of-anna "systemctl --user"')
container='podman run --rm --network none --secret mine,type=env,target=MINE --secret mine busybox:1 sh -c "echo \$MINE \$(cat /run/secrets/mine)"'
same "root's container" "$(guest "$container")" 'of-root of-root'
same "ben's container" "$(as ben "$container")" 'of-ben of-ben'
same "anna's container" "$(as anna "$container")" 'of-anna of-anna'
for user in ben anna; do
    same "$user's psid is not degraded" "$(as "$user" 'psictl cache status --json' | jq -c .degraded)" '[]'
done

echo '# the TPM of root'
fails 'a user asks for the TPM' 65 'the key of this host alone' anna \
    'rm -rf /tmp/try && mkdir /tmp/try && XDG_CONFIG_HOME=/tmp/try XDG_STATE_HOME=/tmp/try psictl cache init --backend tpm --seal-with host+tpm2'
warned() { as anna 'psictl doctor' | grep -c 'not bound to the TPM' || true; }
same 'doctor warns anna of a key that is on her disk' "$(warned)" 1
guest 'cd /home/anna/.config/psi && systemd-creds --uid=anna --name=psi-cache-key decrypt cache.key - |
    systemd-creds --uid=anna --name=psi-cache-key --with-key=host+tpm2 --tpm2-pcrs=7 encrypt - sealed 2>/dev/null && cat sealed >cache.key && rm sealed'
same 'root sealed it to the TPM: doctor warns' "$(warned)" 0

echo '# users do not see each other'"'"'s secrets'
fails "anna's secret, for ben" 66 'no such secret' ben "SECRET_ID=$anna_id psi-driver lookup"
fails "root's secret, for ben" 66 'no such secret' ben "SECRET_ID=$root_id psi-driver lookup"
fails "ben's secret, for root" 66 'no such secret' root "SECRET_ID=$ben_id psi-driver lookup"
same 'secrets that root lists' "$(guest 'psi-driver list')" "$root_id"
same 'secrets that anna lists' "$(as anna 'psi-driver list')" "$anna_id"
fails "anna's socket, for ben" 77 'ermission denied' ben "PSI_SOCKET=/run/user/$(as anna 'id -u')/psi/psid.sock psi-driver list"
fails "the system's socket, for ben" 77 'ermission denied' ben 'PSI_SOCKET=/run/psi/psid.sock psi-driver list'
for path in /etc/psi/config.toml /var/lib/psi/secrets "~anna/.local/state/psi/secrets"; do
    ! as ben "ls $path" 2>/dev/null || bad "ben reads $path"
done
same "modes of a user's state" "$(as ben 'cd ~/.local/state/psi && stat -c "%a" . secrets secrets/* cache.enc' | sort -u | xargs)" '600 700'
ok 'no file is readable for another user'
same 'plaintext in the state' "$(guest 'grep -rlE "of-(root|ben|anna)" /var/lib/psi /home/*/.local/state/psi /home/*/.config/psi /etc/psi | wc -l')" 0

echo '# with an open socket, psid refuses a user and records who it was'
guest 'mkdir -p /etc/systemd/system/psid.socket.d && printf "[Socket]\nSocketMode=0666\n" >/etc/systemd/system/psid.socket.d/mode.conf
    systemctl daemon-reload && systemctl stop psid.service psid.socket && systemctl start psid.socket psid.service'
fails "the system's psid, for anna" 77 'may not use this socket' anna "PSI_SOCKET=/run/psi/psid.sock SECRET_ID=$root_id psi-driver lookup"
refusals() { guest 'journalctl -q -b -o cat PSI_EVENT=refusal PSI_UID=$(id -u anna)'; }
is_recorded() { [ -n "$(refusals)" ]; }
within 10 is_recorded || bad "the trail: $(guest 'journalctl -q -b -u psid -o cat | tail -n 3')"
ok "the trail: $(refusals | tail -n 1)"

echo '# after a reboot with nothing in reach'
cat >"$work/mine.container" <<'UNIT'
[Unit]
Wants=psid.socket
After=psid.socket psid.service
[Container]
Image=localhost/busybox:1
ContainerName=mine
Network=none
StopSignal=KILL
Secret=mine,type=env,target=MINE
Exec=sh -c 'echo "mine is $MINE"; exec sleep 1000000'
[Install]
WantedBy=default.target
UNIT
"$vm" push "$work/mine.container" /tmp/
guest 'chmod 644 /tmp/mine.container'
for user in ben anna; do
    as "$user" 'mkdir -p ~/.config/containers/systemd && cp /tmp/mine.container ~/.config/containers/systemd/'
done
"$vm" net block
"$vm" reboot
for user in ben anna; do
    within 120 as "$user" 'systemctl --user is-active mine' || bad "$user's container: $(as "$user" 'systemctl --user status mine' | tail -n 5)"
    within 20 as "$user" "podman logs mine | grep -qx 'mine is of-$user'" || bad "$user's container printed $(as "$user" 'podman logs mine')"
    ok "$user's quadlet has its secret"
    same "$user's psid is not degraded" "$(as "$user" 'psictl cache status --json' | jq -c .degraded)" '[]'
done
"$vm" net on
echo 'all checks passed'
