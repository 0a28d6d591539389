#!/bin/sh
# Packs what `make install` installs as a Debian package, target/psi_VERSION_ARCH.deb. Binaries are built
# already; dpkg-deb is all it takes.
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
arch=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# dpkg would give / the mode that mktemp gives.
chmod 0755 "$root"

make -s install DESTDIR="$root" PREFIX=/usr
# An example, not a config: psid starts when there is one, and dpkg must not ask about ours at each upgrade.
mkdir -p "$root/usr/share/doc/psi"
install -m 0644 "$root/etc/psi/config.toml" "$root/usr/share/doc/psi/config.toml"
rm -r "$root/etc"
cp LICENSE "$root/usr/share/doc/psi/copyright"
cp README.md CHANGELOG.md "$root/usr/share/doc/psi/"
gzip -9n "$root"/usr/share/man/man*/*

mkdir "$root/DEBIAN"
install -m 0755 contrib/packaging/deb/postinst contrib/packaging/deb/prerm contrib/packaging/deb/postrm "$root/DEBIAN/"
cat > "$root/DEBIAN/control" <<CONTROL
Package: psi
Version: $version
Architecture: $arch
Maintainer: psi developers <psi@example.org>
Section: admin
Priority: optional
Depends: libc6 (>= 2.34), systemd (>= 252)
Recommends: podman (>= 4.3), libtss2-esys-3.0.2-0 | libtss2-esys-3.0.2-0t64, libtss2-rc0 | libtss2-rc0t64, libtss2-tcti-device0 | libtss2-tcti-device0t64
Suggests: opensc, pcscd
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Description: secret driver for podman that outlives an outage
 Podman fetches containers' secrets from psi: out of RAM, from Infisical where
 it must, and from a cache that is sealed to the host's TPM when Infisical is
 out of reach.
CONTROL
mkdir -p target
dpkg-deb --build --root-owner-group -Zxz "$root" "target/psi_${version}_$arch.deb"
