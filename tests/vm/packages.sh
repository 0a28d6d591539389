#!/bin/bash
# The Debian package on a real host: installed, upgraded in use, removed, installed again, purged; the upgrade from a
# version that has no psid-users.socket and a config with [access]. Run `make deb` first. OLDER is such a package; without
# it, the units of this one are made like those.
. "$(dirname "$(readlink -f "$0")")/host.sh"

# The same programs as two later versions.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -1)
arch=$(dpkg --print-architecture)
for more in '' +1 +2; do
    VERSION=$version$more OUT=$work "$top/contrib/packaging/deb.sh" >/dev/null
    mv "$work/psid_$version${more}_$arch.deb" "$work/psi$more.deb"
done
# The package without what came with psid-users.socket.
older_deb() {
    local tree=$work/older
    dpkg-deb -R "$work/psi.deb" "$tree"
    rm "$tree/usr/lib/systemd/system/psid-users.socket"
    sed -i '/^g psi-users/d' "$tree/usr/lib/sysusers.d/psi.conf"
    sed -i '/^FileDescriptorName=/d' "$tree/usr/lib/systemd/system/psid.socket"
    sed -i '/^Sockets=/d; s/psid-users.socket //; s/ psid-users.socket$//' "$tree/usr/lib/systemd/system/psid.service"
    sed -i 's/ psid-users.socket//; /^deb-systemd-invoke start psid-users/d' "$tree"/DEBIAN/{postinst,prerm,postrm}
    sed -i 's/^Version: .*/Version: 0.0.9/' "$tree/DEBIAN/control"
    sed -i '/psid-users/d' "$tree/DEBIAN/md5sums"
    ! grep -rn psid-users "$tree/DEBIAN" "$tree/usr/lib" | grep -v -e '!= ' -e ':#' || bad 'the older package has psid-users.socket'
    dpkg-deb -Znone --root-owner-group --build "$tree" "$work/older.deb" >/dev/null
}
older_deb
[ -z "${OLDER:-}" ] || cp "$OLDER" "$work/older.deb"
if command -v lintian >/dev/null; then
    said=$(lintian --allow-root --fail-on error,warning "$work/psi.deb" 2>&1) || bad "lintian: $said"
    ok 'lintian finds no error and no warning'
fi

start_afresh
busybox_image
"$vm" push "$work"/*.deb "$work/busybox.tar" /root/
guest 'podman import -q /root/busybox.tar localhost/busybox:1 >/dev/null'

echo '# installed'
guest 'dpkg -i /root/psi.deb >/root/dpkg.log 2>&1' || bad "dpkg -i: $(guest 'cat /root/dpkg.log')"
same 'the sockets are active, and psid starts with the first call' \
    "$(guest 'systemctl is-active psid.socket psid-users.socket psid-creds.socket psid.service' | xargs)" 'active active active inactive'
same 'units start at boot' \
    "$(guest 'systemctl is-enabled psid.socket psid-users.socket psid-creds.socket psid.service' | xargs)" 'enabled enabled enabled enabled'
same 'the sockets are in a directory of root, and psid has its own' \
    "$(guest 'stat -c "%n %U:%G %a" /run/psi /run/psid' | xargs)" '/run/psi root:root 755 /run/psid psi:psi 700'
same "the sockets' modes" "$(guest 'stat -c "%n %U:%G %a" /run/psi/psid.sock /run/psi/users.sock' | xargs)" \
    '/run/psi/psid.sock root:root 600 /run/psi/users.sock root:psi-users 660'
same 'modes of the config' "$(guest 'stat -c "%a %U %G" /etc/psi /etc/psi/config.toml' | xargs)" '1770 root psi 640 root psi'
guest 'printf x | podman secret create before - >/dev/null'
same "podman's driver is not changed" "$(guest 'podman secret inspect -f "{{.Spec.Driver.Name}}" before')" file

echo '# an older version, without psid-users.socket'
guest 'dpkg -P psid >/root/dpkg.log 2>&1 && groupdel psi-users && dpkg -i /root/older.deb >>/root/dpkg.log 2>&1' || bad "dpkg: $(guest 'cat /root/dpkg.log')"
same "it has no socket for users" "$(guest 'systemctl is-active psid.socket psid-users.socket; ls /run/psi' | xargs)" 'active inactive creds.sock psid.sock'
guest 'printf "[cache]\nbackend = \"tpm\"\n" >/etc/psi/config.toml'
guest 'psictl cache init --backend tpm >/dev/null && systemctl start psid && psictl install >/dev/null'
guest 'printf kept-value | podman secret create kept - >/dev/null'
id=$(guest 'podman secret inspect -f "{{.ID}}" kept')
lookup() { guest "SECRET_ID=$id psi-driver lookup"; }
same 'a secret of the TPM' "$(lookup)" kept-value
same "the file of the boot id" "$(guest 'stat -c "%U:%G %a" /run/psid/boot')" 'psi:psi 600'
same 'psid writes to /run/psi' "$(guest 'setpriv --reuid psi --regid psi --clear-groups touch /run/psi/x 2>/dev/null' || echo no)" no

echo '# upgraded in use'
for n in 1 2 3 4; do
    guest "podman run -d --name c$n --network none --secret kept,type=env,target=KEPT --health-cmd 'test \"\$KEPT\" = kept-value' \
        --health-interval 5s --health-retries 1 --health-timeout 30s --health-on-failure kill localhost/busybox:1 sleep 1000000 >/dev/null"
done
containers() { guest 'podman ps --no-trunc --format "{{.Names}} {{.ID}} {{.StartedAt}}" | sort'; }
before=$(containers)
same 'containers that a failed health check kills' "$(wc -l <<<"$before")" 4
"$vm" run 'cat >/root/load' <<'LOAD'
# Two clients that look up all the time: the counts of lookups and failures, and the longest lookup in milliseconds.
one() {
    trap 'echo "$lookups $failed $longest"; exit' TERM
    lookups=0 failed=0 longest=0
    while :; do
        begin=$(date +%s%N)
        [ "$(psi-driver lookup 2>>/root/load.err)" = kept-value ] || failed=$((failed + 1))
        took=$((($(date +%s%N) - begin) / 1000000)) lookups=$((lookups + 1))
        [ "$took" -le "$longest" ] || longest=$took
    done
}
one
LOAD
guest "for n in 1 2; do systemd-run -q --unit=load\$n -p Environment=SECRET_ID=$id -p StandardOutput=file:/root/load\$n.out -p KillMode=process bash /root/load; done"
socket_of() { guest 'systemctl show psid.socket -P ActiveEnterTimestampMonotonic; stat -c %i /run/psi/psid.sock' | xargs; }
pid() { guest 'systemctl show psid -P MainPID'; }
socket=$(socket_of) config=$(guest 'sha256sum /etc/psi/config.toml')
guest 'printf "[access]\nallow_uids = [0]\nallow_gids = []\n" >>/etc/psi/config.toml' # as older versions shipped it
upgrades=0
# PACKAGE VERSION
upgrade() {
    local pid
    pid=$(pid)
    guest "dpkg -i /root/$1 >/root/dpkg.log 2>&1" || bad "dpkg -i: $(guest 'cat /root/dpkg.log')"
    same 'the version' "$(guest "dpkg-query -W -f '\${Version}' psid")" "$2"
    [ "$(pid)" != "$pid" ] || bad 'psid was not restarted'
    within 30 guest 'systemctl -q is-active psid' || bad 'psid is not up again'
    upgrades=$((upgrades + 1))
}
upgrade psi.deb "$version"
same 'the older version'"'"'s upgrade started psid-users.socket' \
    "$(guest 'systemctl is-enabled psid-users.socket; systemctl is-active psid-users.socket; stat -c "%n %U:%G %a" /run/psi/users.sock' | xargs)" \
    'enabled active /run/psi/users.sock root:psi-users 660'
same 'psid has both sockets' "$(guest 'psi-driver health >/dev/null && setpriv --reuid 4711 --regid psi-users --clear-groups env PSI_SOCKET=/run/psi/users.sock psi-driver list >/dev/null 2>&1; echo $?')" 77
for next in +1 +2 ''; do upgrade "psi$next.deb" "$version$next"; done
same 'the socket was never closed' "$(socket_of)" "$socket"
same 'the config' "$(guest 'sha256sum /etc/psi/config.toml')" "$config"
sleep 6 # each container is checked under the last version
guest 'systemctl stop load1 load2'
within 10 guest 'test -s /root/load1.out -a -s /root/load2.out' || bad 'the clients did not end'
read -r lookups failed longest < <(guest 'cat /root/load1.out /root/load2.out' | awk '{a += $1; b += $2; if ($3 > c) c = $3} END {print a, b, c}')
[ "$lookups" -gt 50 ] || bad "too few lookups: $lookups"
same "failed lookups, of $lookups during $upgrades upgrades (the longest took $longest ms)" "$failed" 0
same 'containers died or were started again' "$(diff <(echo "$before") <(containers) | wc -l)" 0
checks=$(guest 'journalctl -q -b -o cat | grep "container health_status" | grep -c "health_status=healthy"')
[ "$checks" -ge 8 ] || bad "too few health checks: $checks"
same "failed health checks, of $checks" "$(guest 'journalctl -q -b -o cat | grep "container health_status" | grep -c "health_status=unhealthy"' || true)" 0

echo '# removed'
state() { guest 'cd / && find etc/psi var/lib/psi -type f | sort | xargs sha256sum'; }
guest 'podman rm -fat0 >/dev/null; systemctl stop psid'
kept=$(state)
if guest 'dpkg -r psid >/root/dpkg.log 2>&1'; then bad 'dpkg -r removed what a secret depends on'; fi
same 'the removal is refused, with the number of secrets' "$(guest 'grep -o "psi serves 1 secret of" /root/dpkg.log')" 'psi serves 1 secret of'
same 'the package is still installed' "$(guest "dpkg-query -W -f '\${db:Status-Status}' psid")" installed
guest 'PSI_REMOVE=force dpkg -r psid >/root/dpkg.log 2>&1' || bad "dpkg -r: $(guest 'cat /root/dpkg.log')"
same 'nothing of it runs' "$(guest 'pgrep -c psid; ls /run/psi/*.sock 2>/dev/null | wc -l' | xargs)" '0 0'
same 'config, keys and secrets are kept' "$(state)" "$kept"
guest 'printf x | podman secret create after - >/dev/null'
same 'podman uses its former driver' "$(guest 'podman secret inspect -f "{{.Spec.Driver.Name}}" after')" file
same 'units that failed' "$(guest 'systemctl --failed --plain --no-legend' | awk '{print $1}' | xargs)" ''

echo '# installed again'
guest 'dpkg -i /root/psi+2.deb >/root/dpkg.log 2>&1' || bad "dpkg -i: $(guest 'cat /root/dpkg.log')"
same 'the old secret' "$(lookup)" kept-value
guest 'printf x | podman secret create again - >/dev/null'
same "psi is podman's driver again" "$(guest 'podman secret inspect -f "{{.Spec.Driver.Name}}" again')" shell
"$vm" reboot
same 'the old secret after a reboot' "$(lookup)" kept-value

echo '# a disabled unit stays disabled'
guest 'systemctl disable -q --now psid.service && dpkg -i /root/psi+1.deb >/dev/null 2>&1'
same 'psid.service' "$(guest 'systemctl is-enabled psid.service' || true)" disabled
guest 'systemctl enable -q psid.service'

echo '# purged'
guest 'PSI_REMOVE=force dpkg -P psid >/root/dpkg.log 2>&1' || bad "dpkg -P: $(guest 'cat /root/dpkg.log')"
same 'files left' "$(guest 'find / -xdev \( -path /proc -o -path /root -o -path /home \) -prune -o \( -name "*psid*" -o -name "psi" -o -name "psi.*" -o -name "psi-*" -o -name "50-psi*" \) -print' | grep -v -e /var/log/ -e psi-vm || true)" ''
same 'directories left in /run' "$(guest 'ls -d /run/psi /run/psid 2>/dev/null' || true)" ''
same "dpkg's status" "$(guest "dpkg-query -W -f '\${Status}' psid 2>/dev/null" || true)" ''
guest 'dpkg -i /root/psi.deb >/dev/null 2>&1'
same 'a new installation serves' "$(guest 'psi-driver list; echo $?')" 0
echo 'all checks passed'
