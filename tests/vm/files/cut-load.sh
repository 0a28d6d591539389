# shellcheck shell=bash
# cut-load.sh ROUND CONTROL: stores, refreshes and rekeys without end. Each change is recorded before the call
# and after its acknowledgement; a complete line ends with a dot. Each loop pauses, because the processor is
# emulated and a rekey would never run.
round=$1 control=$2
stores() {
    local n id value
    for n in $(seq 1000); do
        id=$(head -c 32 /dev/urandom | sha256sum | cut -c1-25)
        value=$(head -c 300 /dev/urandom | base64 -w0)
        echo "storing $id $value ."
        printf %s "$value" | SECRET_ID=$id psi-driver store && echo "stored $id $value ."
        if [ $((n % 3)) = 0 ]; then
            echo "deleting $id ."
            SECRET_ID=$id psi-driver delete && echo "deleted $id ."
        fi
        sleep 0.3
    done
}
refreshes() {
    local n version
    for n in $(seq 1000); do
        version=$((round * 1000 + n))
        curl -fsS -X PUT -H 'content-type: application/json' "$control/secret" >/dev/null -d '{"project": "6f2d1b0e-0000-4000-8000-00000000000a",
            "environment": "prod", "path": "/worker", "key": "STORE_KEY", "value": "'$version'"}'
        psictl cache refresh >/dev/null && echo "refreshed $version ."
        # A refresh is written up to 100 ms after its answer; --verify waits for the write.
        psictl cache status --verify >/dev/null && echo "kept $version ."
        sleep 0.5
    done
}
rekeys() {
    while :; do
        sleep "0.$((RANDOM % 10))"
        echo 'rekeying .'
        psictl cache rekey >/dev/null && echo 'rekeyed .'
    done
}
stores &
refreshes &
rekeys &
wait
