#!/bin/bash
# measure-demo.sh [SUITE]: `make demo` on a fresh machine of this kind: a new Debian root made from this machine's
# mirror, with this machine's Rust toolchain and its downloaded crates. Each line is printed with the seconds since the
# begin; at the end, the seconds of each part. As root; it needs mmdebstrap.
set -euo pipefail
top=$(readlink -f "$(dirname "$(readlink -f "$0")")/..")
suite=${1:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
mirror=$("$top/tests/mirror.sh")
root=$(mktemp -d /var/tmp/psi-fresh.XXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
rustc=$(rustc --print sysroot) cargo=${CARGO_HOME:-$HOME/.cargo}

echo "a new root: Debian $suite, from $mirror" >&2
mmdebstrap --mode=root --variant=apt --quiet --include=ca-certificates,make "$suite" "$root" "deb $mirror $suite main"
mkdir -p "$root/src" "$root/rust" "$root/cargo"
git -C "$top" archive HEAD | tar -C "$root/src" -x
cp -a "$cargo/registry" "$root/cargo/"
for file in /etc/apt/apt.conf.d/*proxy* /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

# The mounts belong to this namespace, and end with it.
inside() {
    unshare --mount --pid --fork --propagation private sh -eu -c '
        root=$1 rust=$2
        # The root of a machine is a mount.
        mount --bind "$root" "$root"
        for directory in dev sys; do mount --rbind "/$directory" "$root/$directory"; done
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/run"
        mount -t tmpfs tmpfs "$root/tmp"
        mount --bind "$rust" "$root/rust"
        exec chroot "$root" env -i PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CARGO_HOME=/cargo LANG=C.UTF-8 \
            sh -c "cd /src && exec make demo"' sh "$root" "$rustc"
}
begin=$EPOCHREALTIME
status=0
inside 2>&1 | while IFS= read -r line; do
    printf '%6.1f  %s\n' "$(bc <<<"$EPOCHREALTIME - $begin")" "$line"
done || status=$?
total=$(bc <<<"scale=1; ($EPOCHREALTIME - $begin) / 1")
times >"$root/times"
echo "make demo: $total s, exit status $status; user and system CPU time: $(tail -n 1 "$root/times")"
exit $status
