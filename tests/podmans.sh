#!/bin/sh
# Unpacks the podmans of several Debian releases, which are not installed: each has a tree with its libraries,
# target/tools/podmans/RELEASE, which tests/podman/containers_conf makes the root of its processes. By itself the stable
# releases, which the tests require; `podmans.sh all` also the newest podmans, of sid and experimental. And Docker
# Compose, target/tools/docker-compose, which needs only libc.
set -eu
cd "$(dirname "$0")/.."

tools=${CARGO_TARGET_DIR:-target}/tools
trees=$tools/podmans
mirror=$(tests/mirror.sh)

# PACKAGES SUITE...: downloads the packages of the last suite and what they need, into $work/cache/archives
download() {
    packages=$1
    shift
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$work/sources.list"
    : >"$work/status"
    cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/nonexistent";
Dir::Etc::preferencesparts "/nonexistent";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
END
    # shellcheck disable=SC2086
    APT_CONFIG="$work/apt.conf" apt-get update -qq &&
        APT_CONFIG="$work/apt.conf" apt-get install -qq --yes --download-only -t "$suite" $packages >"$work/log" 2>&1
}

# NAME: reports that it is not to be had
failed() {
    echo "no $1: $(grep -m 1 '^E: ' "$work/log" 2>/dev/null || echo 'apt-get update failed')" >&2
    rm -rf "$work"
    return 1
}

# RELEASE SUITE...: the newest podman of the last suite
unpack() {
    release=$1
    shift
    # dash and crun are what podman runs; uidmap is for users who are not root.
    if download 'podman conmon crun uidmap dash' "$@"; then
        # As Debian's base-files has it.
        for directory in bin sbin lib lib64; do
            mkdir -p "$work/tree/usr/$directory"
            ln -s "usr/$directory" "$work/tree/$directory"
        done
        for package in "$work"/cache/archives/*.deb; do
            dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/tree" --keep-directory-symlink \
                --exclude './usr/share/*' --exclude './usr/lib/cni/*' --exclude './usr/lib/*/gconv/*'
        done
        mkdir -p "$work/tree/usr/share/containers"
        ln -sf dash "$work/tree/bin/sh"
        mkdir -p "$trees"
        rm -rf "$trees/$release"
        mv "$work/tree" "$trees/$release"
        rm -rf "$work"
        return
    fi
    failed "podman of Debian's $release"
}

unpack_compose() {
    download docker-compose trixie || failed 'Docker Compose' || return 1
    dpkg-deb --fsys-tarfile "$work"/cache/archives/docker-compose_*.deb |
        tar -x -C "$work" ./usr/libexec/docker/cli-plugins/docker-compose
    mv "$work/usr/libexec/docker/cli-plugins/docker-compose" "$tools/docker-compose"
    rm -rf "$work"
}

[ -e "$trees/bookworm" ] || unpack bookworm bookworm
[ -e "$trees/trixie" ] || unpack trixie trixie
[ -x "$tools/docker-compose" ] || unpack_compose
[ "${1:-}" = all ] || exit 0
[ -e "$trees/sid" ] || unpack sid sid
[ -e "$trees/experimental" ] || unpack experimental sid experimental
