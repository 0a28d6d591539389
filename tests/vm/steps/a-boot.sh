# A reboot with nothing in reach: every container starts, and Infisical is not asked.
# shellcheck shell=bash
vm net block
! reaches_fake || fail 'egress is dropped' 'the fake still answers'
ok 'egress is dropped'
begin=$EPOCHREALTIME
vm reboot
measured 'the reboot' "$(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1") s"
containers_run 'every container starts, with its values'
same 'lookups that RAM did not answer' "$(status | asked)" 0
same 'psid is not degraded' "$(degraded)" ''

# The kernel traces each program that is started, with the time since its own start.
first_run() {
    guest "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; grep -m1 'filename=$1 ' /sys/kernel/tracing/trace" |
        grep -oE '[0-9]+\.[0-9]+: sched' | cut -d: -f1
}
since_kernel() { guest "systemctl show $1 -P $2Monotonic" | awk '{printf "%.1f", $1 / 1000000}'; }
measured 'kernel to psid started' "$(since_kernel psid ExecMainStartTimestamp) s"
measured 'kernel to psid ready' "$(since_kernel psid ActiveEnterTimestamp) s"
measured 'kernel to the first lookup' "$(printf '%.1f' "$(first_run /usr/bin/psi-driver)") s"
last=$(for unit in web vault worker@1; do started "$unit"; done | sort -n | tail -n 1)
measured 'kernel to the last container' "$last s"
vm net on
