#!/bin/sh
# run.sh SECONDS [TARGET...]: fuzzes each named target, or every target, for this time.
#
# On a stable toolchain: libfuzzer-sys has libFuzzer's source, and the coverage comes from a pass of the
# compiler's own LLVM. Only the address sanitizer would need nightly, and psi has hardly any unsafe code.
set -eu
cd "$(dirname "$0")/../.."
seconds=$1
shift
[ $# -gt 0 ] || set -- $(ls tests/fuzz/seeds)
for target in "$@"; do
    [ -d "tests/fuzz/seeds/$target" ] || { echo "tests/fuzz/seeds has no target $target" >&2; exit 2; }
done

work=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0'
# --target keeps the flags away from build scripts and macros.
RUSTFLAGS=$(echo $coverage) ${CARGO:-cargo} build --locked --profile fuzz --target "$host" \
    --target-dir "$work/build" -p psi-fuzz --features libfuzzer --bin libfuzzer
program=$work/build/$host/fuzz/libfuzzer

fuzz() {
    # psi-driver writes to stdout and stderr.
    case $1 in driver) mask=3 ;; *) mask=0 ;; esac
    # The corpus of an earlier run is kept. A proxy would be between psid's client and the target's server.
    env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY RUST_BACKTRACE=1 PSI_FUZZ_TARGET="$1" \
        TMPDIR="$work/tmp" PSI_SOCKET="$work/tmp/psid.sock" PSI_RUN_DIR="$work/tmp/psid" SECRET_ID=0f1e2d3c4b5a69788796a5b4c \
        "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -close_fd_mask="$mask" \
        -print_final_stats=1 -dict="tests/fuzz/dictionaries/$1" -artifact_prefix="$work/crashes/$1-" \
        "$work/corpus/$1" "tests/fuzz/seeds/$1" tests/vectors >"$work/$1.log" 2>&1
}

# report TARGET SECONDS: one line from its log
report() {
    last() { sed -n "s/.*$1.*/\1/p" "$work/$2.log" | tail -n 1; }
    printf '%-9s %10s executions in %4s s, %6s edges of %s covered, %5s inputs kept, at most %s MB\n' "$1" \
        "$(last 'number_of_executed_units: *\([0-9]*\)' "$1")" "$2" "$(last ' cov: \([0-9]*\) ' "$1")" \
        "$(last '(\([0-9]*\) inline 8-bit counters)' "$1")" "$(last ' corp: \([0-9]*\)' "$1")" \
        "$(last 'peak_rss_mb: *\([0-9]*\)' "$1")"
}

mkdir -p "$work/crashes"
failed=''
for target in "$@"; do
    rm -rf "$work/tmp"
    mkdir -p "$work/tmp" "$work/corpus/$target"
    began=$(date +%s)
    fuzz "$target" || failed="$failed $target"
    report "$target" $(($(date +%s) - began))
done
[ -n "$failed" ] || exit 0
for target in $failed; do
    echo "$target failed: see $work/$target.log; the input is kept as"
    sed -n 's/.*Test unit written to /    /p' "$work/$target.log"
done >&2
echo "Fix the defect, and add the input to tests/fuzz/seeds/TARGET, which \`cargo test -p psi-fuzz\` runs." >&2
exit 1
