# shellcheck shell=bash
# In the guest of rotate.sh: what the units of workloads run with, read without podman, which reads secrets again for an
# exec, and which is slow in an emulated host.

# UNIT [USER]: the value that the first process of its container was started with.
value() {
    local main children
    if [ -n "${2:-}" ]; then main=$(systemctl --user -M "$2@" show -P MainPID "$1"); else main=$(systemctl show -P MainPID "$1"); fi
    children=$(cat /proc/"$main"/task/*/children)
    tr '\0' '\n' </proc/"${children%% *}"/environ | sed -n 's/^VALUE=//p'
}
# VALUE UNITS...
have() {
    local expected=$1 unit
    shift
    for unit in "$@"; do [ "$(value "$unit" 2>/dev/null)" = "$expected" ] || return 1; done
}
# USER VALUE: the user's container, which has the user's name.
user_has() { [ "$(value "$1" "$1" 2>/dev/null)" = "$2" ]; }
# SECONDS COMMAND...: repeats the command until it succeeds, by the guest's clock.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt "$end" ] || return 1
        sleep 2
    done
}
# UNITS...: a line for each, with its current start.
invocations() {
    local unit
    for unit in "$@"; do echo "$unit $(systemctl show -P InvocationID "$unit")"; done
}
# The seconds since the boot.
now() { cut -d' ' -f1 /proc/uptime; }
# PROPERTY UNIT: the same of a time that systemd has of a unit.
at() { awk '{printf "%.1f\n", $1 / 1e6}' <<<"$(systemctl show -P "$1TimestampMonotonic" "$2")"; }
# UNITS...: how many began to stop before the one before was active again.
overlaps() {
    local unit
    for unit in "$@"; do
        echo "$(systemctl show -P ActiveExitTimestampMonotonic "$unit") $(systemctl show -P ActiveEnterTimestampMonotonic "$unit")"
    done | sort -n | awk 'NR > 1 && $1 < last {n++} {last = $2} END {print n + 0}'
}
