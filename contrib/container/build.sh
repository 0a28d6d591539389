#!/bin/sh
# Builds the image localhost/psi:VERSION from the three programs and this machine's libc, without a registry or a
# network. DIST is the directory of the programs; BUILDER is podman or buildah, with its arguments.
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
dist=${DIST:-target/dist}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
chmod 0755 "$context"
root=$context/rootfs
mkdir -p "$root/etc/psi" "$root/run/psi" "$root/run/psid" "$root/var/lib/psi" "$root/tmp"

install -D -m 0755 -t "$root/usr/bin" "$dist/psid" "$dist/psi-driver" "$dist/psictl"
# psid's shared libraries, with the loader, and the ones that libc loads to resolve names.
libraries=$(ldd "$dist/psid" | grep -o '/[^ ]*')
for library in $libraries; do
    install -D -m 0755 "$library" "$root$library"
done
libc=$(echo "$libraries" | grep '/libc\.so')
for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
    from=$(dirname "$libc")/$library
    [ ! -e "$from" ] || install -D -m 0755 "$from" "$root$from"
done
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
echo 'root:x:0:0:root:/:/usr/sbin/nologin' > "$root/etc/passwd"
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -e "$certificates" ] || install -D -m 0644 "$certificates" "$root$certificates"

cp contrib/container/Containerfile "$context/"
${BUILDER:-podman} build --network none -t "localhost/psi:$version" -t localhost/psi:latest "$context"
