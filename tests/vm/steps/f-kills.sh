# psid is killed repeatedly under load, beside ten containers that a failed health check kills: each check
# looks up two env secrets, and psid.socket must hold every lookup until psid is back.
# shellcheck shell=bash
workers=$(printf 'worker@%s ' 1 2 3 4 5 6 7 8 9 10)
guest "systemctl start $workers"
ids() { guest 'podman ps --no-trunc --filter name=worker --format "{{.Names}} {{.ID}} {{.StartedAt}}" | sort'; }
before=$(ids)
same 'containers with env secrets and --health-on-failure=kill' "$(wc -l <<<"$before")" 10

# Two clients that look up all the time; each counts its failures and its longest lookup, in milliseconds.
cat <<'LOAD' | vm run 'cat >/root/load.sh'
trap 'echo "$lookups $failed $longest"; exit' TERM
lookups=0 failed=0 longest=0
while :; do
    begin=$(date +%s%N)
    [ "$(psi-driver lookup 2>>/root/load.err)" = key-of-worker ] || failed=$((failed + 1))
    took=$((($(date +%s%N) - begin) / 1000000))
    lookups=$((lookups + 1))
    [ "$took" -le "$longest" ] || longest=$took
    sleep 0.5
done
LOAD
id=$(guest 'podman secret inspect -f "{{.ID}}" worker--QUEUE_KEY')
guest "for n in 1 2; do systemd-run -q --unit=load\$n -p Environment=SECRET_ID=$id -p StandardOutput=file:/root/load\$n.out -p KillMode=process bash /root/load.sh; done"
# The next kill comes when psid has been up for a random time of at least three seconds: a lookup waits for 10 s,
# a start takes 6 s on this emulated host, and the answers to all waiting lookups take another second or two. Two
# kills in one lookup are more than psi promises.
cat <<'KILL' | vm run "bash -s $KILLS $SEED" >"$VM_LAB/kills.out"
RANDOM=$2
for n in $(seq "$1"); do
    pid=$(systemctl show psid -P MainPID)
    kill -KILL "$pid"
    until [ "$(systemctl show psid -P MainPID)" -gt 0 ] && [ "$(systemctl show psid -P MainPID)" != "$pid" ] &&
        systemctl -q is-active psid; do sleep 0.3; done
    sleep "$((RANDOM % 2 + 3)).$((RANDOM % 10))"
done
systemctl show psid -P NRestarts
KILL
same 'psid was killed, and started again by systemd' "$(tail -n 1 "$VM_LAB/kills.out")" "$KILLS"
checks=$(guest 'journalctl -q -b -o cat | grep -c "container health_status .*name=worker"')
same 'containers that died or were started again' "$(diff <(echo "$before") <(ids) | wc -l)" 0
same 'containers that are healthy' "$(guest 'podman ps --filter name=worker --filter health=healthy --format "{{.Names}}"' | wc -l)" 10
same 'health checks that failed' "$(guest 'journalctl -q -b -o cat | grep "container health_status .*name=worker" | grep -c health_status=unhealthy' || true)" 0
[ "$checks" -ge "$KILLS" ] || fail 'health checks meanwhile' "$checks"
measured 'health checks meanwhile' "$checks"
guest 'systemctl stop load1 load2; sleep 1'
read -r lookups failed longest < <(guest 'cat /root/load1.out /root/load2.out' | awk '{a += $1; b += $2; if ($3 > c) c = $3} END {print a, b, c}')
[ "$failed" = 0 ] || fail "lookups that failed, of $lookups meanwhile" "$failed: $(guest 'tail -n 1 /root/load.err')"
ok "lookups that failed, of $lookups meanwhile" 0
measured 'the longest lookup over a kill' "$longest ms"
guest "systemctl stop ${workers#worker@1 }"
