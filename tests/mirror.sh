#!/bin/sh
# Prints the mirror of this machine's apt; tests download packages of another Debian release from the same
# mirror.
set -eu
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
find_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Release: $codename" 'Component: main' | head -n 1
}
mirror=$(find_mirror)
# Without its lists, apt knows no source.
[ -n "$mirror" ] || { apt-get update -qq >&2 && mirror=$(find_mirror); }
[ -n "$mirror" ] || {
    echo "apt has no source of Debian $codename: add one to /etc/apt/sources.list.d" >&2
    exit 1
}
echo "$mirror"
