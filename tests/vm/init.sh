#!/bin/bash
# From the package to a quadlet's container with a secret, on a real host: by `psictl init` at a terminal, again by
# flags, without a TPM, and as a user; and the system's unit with a broken config. At the end it prints, for each way,
# the commands typed, the words read and the seconds of the guest's clock. `make deb` comes before.
. "$(dirname "$(readlink -f "$0")")/host.sh"

start_fake "$here/files/seed.json"
seeded() { jq -r "$1" "$here/files/seed.json"; }
client=$(seeded '.identities[0].clientId') secret=$(seeded '.identities[0].clientSecrets[0].secret')
project=$(seeded '.projects[0].id') environment=$(seeded '.projects[0].environments[0]')
path=$(seeded ".projects[0].secrets.$environment | keys[0]")
key=$(seeded ".projects[0].secrets.$environment[\"$path\"] | keys[0]")
value=$(seeded ".projects[0].secrets.$environment[\"$path\"][\"$key\"]")
table=()

busybox_image
cat >"$work/myapp.container" <<UNIT
[Container]
Image=localhost/busybox:1
ContainerName=myapp
Network=none
StopSignal=KILL
Exec=sh -c 'test -n "\$\$$key" && sleep 1000000'
[Install]
WantedBy=multi-user.target default.target
UNIT
cat >"$work/answers" <<ANSWERS
Infisical's URL|$url
Login method|
Client ID|$client
Project ID|$project
Environment's slug|$environment
Name of the project|
Name of a container's unit|myapp
Directory of its secrets|$path
Client secret:|$secret
Continue?|y
ANSWERS
flags="--yes --allow-http --start --api-url $url --client-id $client --client-secret-file client-secret --project myproject=$project:$environment --workload myapp=myproject:$path --recovery-key-file recovery-key"

# The words that a person reads: without colours, and a line that was overwritten counts once.
words() { as "${2:-root}" "sed '/^Script /d; s/.*\r\(.\)/\1/; s/\x1b[^a-zA-Z]*[a-zA-Z]//g' $1" | wc -w; }
# WAY COMMANDS WORDS SECONDS
measured() { table+=("| $1 | $2 | $3 | $4 |"); ok "$1: $2 commands, $3 words, $4 s"; }
# USER COMMAND: its output is screen2, its seconds are printed.
timed() { as "$1" "begin=\$EPOCHREALTIME; $2 >screen2 2>&1 || exit 1; awk \"BEGIN {printf \\\"%.1f\\n\\\", \$EPOCHREALTIME - \$begin}\""; }
# START...: a new host with podman, the container's image and its quadlet; psi's package lies there.
prepare() {
    [ -z "$started" ] || "$vm" stop
    started=yes
    "$vm" start --fresh "$@"
    "$vm" push "$(the_package)" "$work/busybox.tar" "$work/myapp.container" "$work/answers" "$here/typist" /tmp/
    guest 'mv /tmp/psid_*.deb /tmp/psid.deb; cd /tmp; chmod a+r *; cp answers /root/
        podman import -q busybox.tar localhost/busybox:1 >/dev/null
        install -D -m 0644 -t /etc/containers/systemd myapp.container'
}
# The words and the seconds of apt.
install_package() {
    installed=$(timed root 'apt-get install -y /tmp/psid.deb') || bad "apt install: $(guest cat screen2)"
    installed_words=$(words screen2)
    ok "apt install ./psid.deb: $installed_words words, $installed s"
}
sum() { awk "BEGIN {printf \"%.1f\", $1 + $2}"; }
# USER: the user's container has the secret.
serves() {
    within 60 as "$1" "podman exec myapp sh -c :" || bad "$1: $(as "$1" 'podman ps -a; journalctl -n 20 --no-pager' | tail -n 30)"
    same "the secret in $1's container" "$(as "$1" "podman exec myapp sh -c 'printf %s \"\$$key\"'")" "$value"
    same "psictl status of $1" "$(as "$1" 'psictl status >/dev/null; echo $?')" 0
}

echo '# at a terminal'
prepare
install_package
took=$(guest "bash /tmp/typist answers screen 'psictl init --allow-http'") || bad "psictl init: $(guest cat screen)"
serves root
measured 'apt install, psictl init at a terminal' 2 $((installed_words + $(words screen))) "$(sum "$installed" "$took")"
table+=("| of which psictl init | 1 | $(words screen) | $took |")
guest cat screen | tr -d '\r'
same 'the client secret on the screen' "$(guest "grep -c '$secret' screen" || true)" 0
same 'config, and who reads it' "$(guest 'stat -c "%a %U %G" /etc/psi/config.toml')" '640 root psi'
guest "umask 077; printf %s '$secret' >client-secret"
same 'a second run changes' "$(guest "psictl init --yes --json" | jq .changed)" false
"$vm" reboot
serves root

echo '# a broken config'
guest 'cp -a /etc/psi/config.toml good; printf "[cahce]\n" >>/etc/psi/config.toml'
line=$(guest 'wc -l </etc/psi/config.toml')
guest 'systemctl restart psid' && bad 'psid starts with a broken config'
within 10 guest 'systemctl is-failed -q psid.service' || bad "psid.service is $(guest 'systemctl is-active psid.service')"
text=$(guest 'systemctl show -P StatusText psid.service')
[[ $text == *"/etc/psi/config.toml:$line:"* ]] || bad "the status text: $text"
ok "systemctl status: $text"
same 'systemctl --failed lists' "$(guest 'systemctl --failed --plain --no-legend' | awk '{print $1}' | xargs)" psid.service
sleep 5
same 'starts after the one that failed' "$(guest 'systemctl show -P NRestarts psid.service')" 0
said=$(guest "psi-driver get myapp--$key 2>&1" || true)
[[ $said == *"config.toml:$line"*'psid check'* ]] || bad "psi-driver: $said"
ok "psi-driver: $said"
said=$(guest 'psictl init --yes 2>&1 >/dev/null' || true)
[[ $said == *"config.toml:$line"* ]] || bad "psictl init: $said"
guest 'cp -a good /etc/psi/config.toml && systemctl restart psid'
serves root

echo '# a unit that is masked'
guest 'systemctl stop psid.service psid.socket; systemctl mask -q psid.service'
said=$(guest 'psictl init --yes 2>&1 >/dev/null' || true)
[[ $said == *masked* ]] || bad "masked: $said"
ok "masked: $said"
guest 'systemctl unmask -q psid.service; psictl init --yes >/dev/null'
serves root

echo '# by flags'
prepare
install_package
guest "umask 077; printf %s '$secret' >client-secret"
took=$(timed root "psictl init $flags") || bad "psictl init: $(guest cat screen2)"
serves root
measured 'apt install, psictl init by flags' 2 $((installed_words + $(words screen2))) "$(sum "$installed" "$took")"
table+=("| of which psictl init | 1 | $(words screen2) | $took |")
same 'a second run changes' "$(guest "psictl init ${flags/--recovery-key-file recovery-key/}  --json" | jq .changed)" false

echo '# as a user'
user_has() { as anna "mkdir -p .config/containers/systemd; cp /tmp/myapp.container .config/containers/systemd/; podman import -q /tmp/busybox.tar localhost/busybox:1 >/dev/null; cp /tmp/answers ."; }
user_has
said=$(guest "runuser -u anna -- env HOME=/home/anna psictl init --yes 2>&1 >/dev/null" || true)
[[ $said == *'systemd'*'enable-linger anna'* ]] || bad "without a session: $said"
ok "without a session: $said"
took=$(as anna "bash /tmp/typist answers screen 'psictl init --allow-http'") || bad "anna: $(as anna 'cat screen')"
serves anna
measured 'psictl init as a user, at a terminal' 1 "$(words screen anna)" "$took"
as anna cat screen | tr -d '\r'
[[ $(as anna 'cat screen') == *'loginctl enable-linger anna'* ]] || bad 'lingering is not named'
same 'the config of anna' "$(as anna 'stat -c "%a %U" .config/psi/config.toml')" '600 anna'
same "root's container, meanwhile" "$(guest "podman exec myapp sh -c 'printf %s \"\$$key\"'")" "$value"
same 'a second run changes' "$(as anna 'psictl init --yes --json' | jq .changed)" false
guest 'loginctl enable-linger anna'
"$vm" net block
"$vm" reboot
serves root
serves anna
"$vm" net on

echo '# without a TPM'
prepare --no-tpm
guest "apt-get install -y /tmp/psid.deb >/dev/null 2>&1; umask 077; printf %s '$secret' >client-secret"
said=$(guest "psictl init $flags 2>&1 >/dev/null" || true)
[[ $said == *'switch the TPM on in the firmware; without a TPM, `--seal-with host`'* ]] || bad "no TPM: $said"
ok "no TPM: $said"
guest "psictl init $flags --seal-with host >/dev/null"
serves root
user_has
as anna "umask 077; printf %s '$secret' >client-secret; psictl init $flags >screen2 2>&1" || bad "anna: $(as anna 'cat screen2')"
serves anna

printf '\n| way | commands typed | words read | seconds |\n| --- | --- | --- | --- |\n'
printf '%s\n' "${table[@]}"
echo 'all is well'
