#!/bin/bash
# From the package to a quadlet's container with a secret, on a real host: by `psictl init` at a terminal, again by
# flags, and without a TPM. It counts the commands typed, the words read and the seconds. `make deb` comes before.
. "$(dirname "$(readlink -f "$0")")/host.sh"

"$top/target/debug/fake-infisical" --seed "$here/files/seed.json" >"$work/fake.out" 2>"$work/fake.log" &
fake=$!
trap 'kill $fake 2>/dev/null || true; cleanup' EXIT
within 10 test -s "$work/fake.out"
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$work/fake.out")
url=http://10.0.3.2:${url##*:}
seeded() { jq -r "$1" "$here/files/seed.json"; }
client=$(seeded '.identities[0].clientId') secret=$(seeded '.identities[0].clientSecrets[0].secret')
project=$(seeded '.projects[0].id') environment=$(seeded '.projects[0].environments[0]')
path=$(seeded ".projects[0].secrets.$environment | keys[0]")
key=$(seeded ".projects[0].secrets.$environment[\"$path\"] | keys[0]")
value=$(seeded ".projects[0].secrets.$environment[\"$path\"][\"$key\"]")

busybox_image
cat >"$work/myapp.container" <<UNIT
[Container]
Image=localhost/busybox:1
ContainerName=myapp
Network=none
Exec=sh -c 'test -n "\$\$$key" && sleep 1000000'
UNIT
prepare() {
    [ -z "$started" ] || "$vm" stop
    start_afresh
    "$vm" push "$(the_package)" "$work/busybox.tar" "$work/myapp.container" /root/
    guest 'podman import -q /root/busybox.tar localhost/busybox:1 >/dev/null
        install -D -m 0644 -t /etc/containers/systemd /root/myapp.container
        dpkg -i /root/psid_*.deb >/root/dpkg.log 2>&1' || bad "dpkg -i: $(guest 'cat /root/dpkg.log')"
}
serves() {
    guest 'systemctl restart myapp' || bad "myapp: $(guest 'journalctl -u myapp -n 20 --no-pager')"
    same "the secret in the quadlet's container" "$(guest "podman exec myapp sh -c 'printf %s \"\$$key\"'")" "$value"
    same 'psictl status' "$(guest 'psictl status >/dev/null; echo $?')" 0
}

echo '# at a terminal'
prepare
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
cat >"$work/typist" <<'TYPIST'
# Types the answers at a terminal, and the recovery key that is shown. The screen is /root/screen.
mkfifo /root/keys
: >/root/screen
script -qefc 'psictl init --allow-http' /root/screen </root/keys >/dev/null &
exec 3>/root/keys
seen=0
expect() {
    until tail -c "+$((seen + 1))" /root/screen | grep -qF -e "$1"; do
        kill -0 $! 2>/dev/null || exit 1
        sleep 0.2
    done
    seen=$(stat -c %s /root/screen)
}
while IFS='|' read -r question answer; do
    expect "$question"
    printf '%s\n' "$answer" >&3
done </root/answers
expect 'Recovery key: '
grep -oE '[a-z]{8}(-[a-z]{8}){7}' /root/screen | head -n 1 >&3
wait $!
TYPIST
"$vm" push "$work/answers" "$work/typist" /root/
begin=$EPOCHREALTIME
guest 'bash /root/typist' || bad "psictl init: $(guest 'cat /root/screen')"
took=$(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1")
serves
ok "commands typed after the installation: psictl init, systemctl restart myapp; words read: $(guest 'wc -w </root/screen'); $took s"
same 'the client secret on the screen' "$(guest "grep -c '$secret' /root/screen" || true)" 0
same 'config, and who reads it' "$(guest 'stat -c "%a %U %G" /etc/psi/config.toml')" '640 root psi'
"$vm" reboot
same 'after a reboot' "$(guest "psi-driver get myapp--$key")" "$value"

echo '# by flags'
prepare
guest "umask 077; printf %s '$secret' >/root/client-secret"
flags="--yes --allow-http --api-url $url --client-id $client --client-secret-file /root/client-secret --project myproject=$project:$environment --workload myapp=myproject:$path --recovery-key-file /root/recovery-key"
begin=$EPOCHREALTIME
guest "psictl init $flags >/root/init.out" || bad "psictl init: $(guest 'cat /root/init.out')"
ok "by flags: $(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1") s"
serves
same 'a second run changes' "$(guest "psictl init $flags --json" | jq .changed)" false

echo '# without a TPM'
"$vm" stop
"$vm" start --fresh --no-tpm
"$vm" push "$(the_package)" /root/
guest "dpkg -i /root/psid_*.deb >/dev/null 2>&1; umask 077; printf %s '$secret' >/root/client-secret"
said=$(guest "psictl init $flags 2>&1" && echo 0 || true)
[[ $said == *'switch the TPM on in the firmware; without a TPM, `--seal-with host`'* ]] || bad "no TPM: $said"
ok "no TPM: $(tail -n 1 <<<"$said")"
guest "psictl init $flags --seal-with host >/dev/null"
same 'a secret without a TPM' "$(guest "psi-driver get myapp--$key")" "$value"
echo 'all is well'
