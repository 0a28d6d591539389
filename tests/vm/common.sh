# The common part of story.sh and the checks of a host.
# shellcheck shell=bash
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../..")

the_package() { find "$top/target" -maxdepth 1 -name 'psid_*.deb' | sort -V | tail -n 1; }

# SECONDS COMMAND...: repeats the command until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$end" ] || return 1
        sleep 0.5
    done
}

# METHOD PATH KEY [VALUE]: asks the fake, whose control is at $CONTROL, for a change of a secret.
change_secret() {
    jq -n --arg path "$2" --arg key "$3" '{project: "6f2d1b0e-0000-4000-8000-00000000000a", environment: "prod", path: $path, key: $key}
        + if $ARGS.positional == [] then {} else {value: $ARGS.positional[0]} end' --args "${@:4}" |
        curl -fsS -X "$1" -H 'content-type: application/json' -d @- "$CONTROL/secret" >/dev/null
}
put_secret() { change_secret PUT "$@"; } # PATH KEY VALUE
delete_secret() { change_secret DELETE "$@"; } # PATH KEY
