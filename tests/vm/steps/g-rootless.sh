# Two users with a psid each, under `systemctl --user`; they and root do not see each other's secrets.
# shellcheck shell=bash
as() { vm run -u "$@" </dev/null; }
user_says() { as "$1" 'podman logs mine 2>/dev/null' | sed -n 's/^up [0-9.]* //p' | tail -n 1; }
both_run() { [ "$(user_says anna)" = 'what-anna-has' ] && [ "$(user_says ben)" = 'what ben has' ]; }

guest 'chmod 644 /root/busybox.tar; mv /root/busybox.tar /tmp/; loginctl enable-linger anna ben'
for user in anna ben; do
    as $user 'umask 077; mkdir -p ~/.config/psi ~/.config/containers/systemd; printf "[cache]\nbackend = \"tpm\"\n" >~/.config/psi/config.toml'
done
# Anna's come from Infisical, Ben's is a literal.
as anna 'umask 077; printf vm-client-secret >~/.config/psi/secret'
sed "s,http://10.0.3.2:PORT,$FAKE_SEEN_BY_GUEST,; /^\[cache\]/,/^backend/d; /^\[workloads/,\$d; s,^client_secret_.*,client_secret_file = \"/home/anna/.config/psi/secret\"," \
    "$here/files/config.toml" | vm run -u anna 'cat >>~/.config/psi/config.toml'
for user in anna ben; do
    must "$user: cache init" as $user 'psictl cache init --backend tpm'
    must "$user: systemctl --user start psid" as $user 'systemctl --user enable -q --now psid.socket psid.service'
    must "$user: podman's image and driver" as $user 'podman import -q /tmp/busybox.tar localhost/busybox:vm && psictl install'
    vm run -u $user 'cat >~/.config/containers/systemd/mine.container' <"$here/files/mine.container"
done
must "anna's secret, of Infisical" as anna \
    'echo "{\"provider\":\"infisical\",\"project\":\"vm\",\"path\":\"/user\",\"key\":\"MINE\"}" | podman secret create mine -'
must "ben's secret, a literal" as ben 'printf "what ben has" | podman secret create mine -'
for user in anna ben; do must "$user: a quadlet starts" as $user 'systemctl --user daemon-reload && systemctl --user start mine'; done
within 20 both_run || fail 'each has its own secret' "$(user_says anna) / $(user_says ben)"
ok 'each container has the secret of its own user'

# The ids of each user.
bens=$(as ben 'podman secret inspect -f "{{.ID}}" mine')
roots=$(guest 'podman secret inspect -f "{{.ID}}" literal')
# USER ID: the exit status of a lookup by that user's psid.
lookup() { as "$1" "SECRET_ID=$2 psi-driver lookup" >/dev/null 2>&1 && echo 0 || echo $?; }
same "ben's own psid has his secret" "$(lookup ben "$bens")" 0
same "anna's psid does not have ben's" "$(lookup anna "$bens")" 66
same "anna's psid does not have root's" "$(lookup anna "$roots")" 66
same "root's psid does not have ben's" "$(lookup root "$bens")" 66
same "anna does not get at ben's socket" "$(as anna "PSI_SOCKET=/run/user/1001/psi/psid.sock SECRET_ID=$bens psi-driver lookup" >/dev/null 2>&1 || echo refused)" refused
guest "mkdir -p /etc/systemd/system/psid.socket.d; printf '[Socket]\nSocketMode=0666\n' >/etc/systemd/system/psid.socket.d/open.conf
    systemctl daemon-reload; systemctl stop psid.service psid.socket; systemctl start psid.socket psid.service"
same "nor, with an open socket, at root's secret" \
    "$(as anna "PSI_SOCKET=/run/psi/psid.sock SECRET_ID=$roots psi-driver lookup" >/dev/null 2>"$VM_LAB/refused" || echo $?)" 77
ok 'with this message' "$(cat "$VM_LAB/refused")"
refusals() { guest 'journalctl -q -b -o cat PSI_EVENT=refusal PSI_UID=1000'; }
is_recorded() { [ -n "$(refusals)" ]; }
within 10 is_recorded || fail "root's psid records who was refused" "$(guest 'journalctl -q -b -u psid -o cat | tail -n 3')"
ok "root's psid records who was refused" "$(refusals | tail -n 1)"
guest 'rm -r /etc/systemd/system/psid.socket.d; systemctl daemon-reload; systemctl stop psid.service psid.socket; systemctl start psid.socket psid.service'

vm net block
vm reboot
within 120 both_run || fail 'after a reboot with nothing in reach, both have their secrets' "$(user_says anna) / $(user_says ben)"
ok 'after a reboot with nothing in reach, both have their secrets' "$(status >/dev/null; as anna 'psictl cache status' | grep ^lookups)"
same "lookups that the RAM of anna's psid did not answer" "$(as anna 'psictl cache status --json' | asked)" 0
vm net on
