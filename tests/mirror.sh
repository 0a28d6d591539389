#!/bin/sh
# Prints the mirror that this machine's apt takes Debian from; what a test fetches of another Debian comes from
# the same place.
set -eu
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
find_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Release: $codename" 'Component: main' | head -n 1
}
mirror=$(find_mirror)
# Without its lists, apt names no source.
[ -n "$mirror" ] || { apt-get update -qq >&2 && mirror=$(find_mirror); }
[ -n "$mirror" ] || {
    echo "apt has no source of Debian $codename: add one to /etc/apt/sources.list.d" >&2
    exit 1
}
echo "$mirror"
