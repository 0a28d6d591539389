#!/bin/sh
# Packs the files of `make install` as a Debian package, target/psid_VERSION_ARCH.deb. The programs must be built;
# it needs only dpkg-deb and readelf. VERSION, OUT, COMPRESS (of dpkg-deb -Z) and DIST, the directory of the
# programs, are for tests. Its name is psid: Debian's and Fedora's own psi is an XMPP client, of a higher
# version.
set -eu
cd "$(dirname "$0")/../.."
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
arch=$(dpkg --print-architecture)
maintainer=${DEB_MAINTAINER:-$(git log -1 --format='%an <%ae>' 2>/dev/null || echo 'psi developers <root@localhost>')}
# The package is reproducible.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
# Otherwise dpkg would give / the mode of mktemp.
chmod 0755 "$root"

make -s install DESTDIR="$root" PREFIX=/usr DIST="${DIST:-target/dist}"
# Not a conffile: dpkg would ask at each upgrade that changes a comment. postinst creates a missing config from
# /usr/share/psi/psi.toml.
rm -r "$root/etc"
share=$root/usr/share
mv "$share/doc/psid/LICENSE" "$share/doc/psid/copyright"
mkdir -p "$share/lintian/overrides"
cp contrib/packaging/deb/lintian-overrides "$share/lintian/overrides/psid"
cat > "$share/doc/psid/changelog" <<CHANGELOG
psid ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- $maintainer  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
gzip -9n "$share"/man/man*/* "$share/doc/psid/changelog"
find "$root" -type d -exec chmod 0755 {} +

# The newest libc version of psid's symbols; psi-driver and psictl are linked statically.
libc=$(readelf --version-info --wide "$root/usr/bin/psid" | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
mkdir "$root/DEBIAN"
install -m 0755 contrib/packaging/deb/postinst contrib/packaging/deb/prerm contrib/packaging/deb/postrm "$root/DEBIAN/"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
chmod 0644 "$root/DEBIAN/md5sums"
cat > "$root/DEBIAN/control" <<CONTROL
Package: psid
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: admin
Priority: optional
Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1, systemd (>= 252), init-system-helpers (>= 1.52)
Recommends: ca-certificates, podman (>= 4.3), libtss2-esys-3.0.2-0t64 | libtss2-esys-3.0.2-0, libtss2-rc0t64 | libtss2-rc0, libtss2-tcti-device0t64 | libtss2-tcti-device0
Suggests: opensc, pcscd
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Description: secret driver for podman that outlives an outage
 Podman fetches containers' secrets from psi: out of RAM, from Infisical where
 it must, and from a cache that is sealed to the host's TPM when Infisical is
 out of reach.
CONTROL
out=${OUT:-target}
mkdir -p "$out"
dpkg-deb --build --root-owner-group "-Z${COMPRESS:-xz}" "$root" "$out/psid_${version}_$arch.deb"
