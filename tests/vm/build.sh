#!/bin/bash
# Builds the test host's image in target/vm/image: Debian trixie with systemd 257, podman 5.4, the TPM's
# libraries and PKCS#11 tools. As root, on Debian; it installs what it lacks.
#
#   build.sh         build the stages that are missing or out of date
#   build.sh clean   delete everything, downloaded packages too
#
# Three stages, each kept until its inputs change: the packages (debs/), the root file system
# (rootfs.tar), and the disk with guest/ laid over it (base.raw, a kernel and root's ssh key beside it).
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
image=${VM_LAB:-$here/../../target/vm}/image
suite=trixie
size=4G # the file is sparse
mirror=${VM_MIRROR:-$("$here/../mirror.sh")}

# Recommended packages are not installed, so the needed ones are listed. systemd loads the TPM's libraries
# at run time; rootless podman needs passt, uidmap and the user's bus.
packages=(
    systemd systemd-sysv libpam-systemd dbus-user-session udev kmod mount iproute2 procps less ca-certificates
    curl jq openssh-server nftables strace
    libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64 libtss2-tcti-device0t64 tpm2-tools
    podman crun conmon netavark aardvark-dns passt uidmap catatonit fuse-overlayfs containers-storage
    golang-github-containers-common
    opensc libsqlite3-0
)

say() { printf '[%4s s] %s\n' "$SECONDS" "$*" >&2; }

# The commands of this script and ./vm, as COMMAND:PACKAGE.
tools=(
    mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils swtpm:swtpm
    socat:socat ssh:openssh-client ssh-keygen:openssh-client curl:curl jq:jq bc:bc xz:xz-utils busybox:busybox-static
)
missing_tools() {
    local pair
    for pair in "${tools[@]}"; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
    done
}
# Twice, because the first installation may remove a package: qemu-system-x86 replaces a qemu-utils of the backports.
install_tools() {
    local need
    for _ in 1 2; do
        mapfile -t need < <(missing_tools)
        [ ${#need[@]} != 0 ] || return 0
        say "installing: ${need[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
    done
    mapfile -t need < <(missing_tools)
    [ ${#need[@]} = 0 ] || { say "still missing: ${need[*]}"; return 1; }
}

# is_made FILE KEY: whether FILE exists and was made from the inputs of KEY.
is_made() { [ -f "$1" ] && [ "$(cat "$1.key" 2>/dev/null)" = "$2" ]; }

make_rootfs() {
    local tar=$image/rootfs.tar key
    key=$({ echo "$suite ${packages[*]}"; declare -f make_rootfs; } | sha256sum)
    ! is_made "$tar" "$key" || return 0
    say "the root file system: mmdebstrap $suite, from $mirror"
    mkdir -p "$image/debs"
    mmdebstrap --mode=root --format=tar --variant=apt --quiet --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --skip=download/empty --skip=essential/unlink --skip=cleanup/apt/cache \
        --setup-hook='mkdir -p "$1"/var/cache/apt/archives' \
        --setup-hook="cp -a '$image'/debs/. \"\$1\"/var/cache/apt/archives/ 2>/dev/null || true" \
        --customize-hook="find \"\$1\"/var/cache/apt/archives -name '*.deb' -exec mv -f -t '$image/debs' {} +" \
        --customize-hook="chroot \"\$1\" sh -c 'cd /tmp && apt-get -qq download \$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/.*Depends: //p\" | head -1)' && mv \"\$1\"/tmp/linux-image-*.deb '$image/kernel.deb'" \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/tmp/*' \
        "$suite" "$tar.new" "deb $mirror $suite main" >&2
    mv "$tar.new" "$tar"
    echo "$key" >"$tar.key"
}

make_disk() {
    local disk=$image/base.raw tree=$image/tree key
    [ -f "$image/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C psi-vm -f "$image/id_ed25519"
    key=$({
        cat "$image/rootfs.tar.key" "$image/id_ed25519.pub"
        echo "$size"
        declare -f make_disk unpack_kernel set_up_guest mask_units
        find "$here/guest" -type f -print0 | sort -z | xargs -0 cat
    } | sha256sum)
    ! is_made "$disk" "$key" || return 0
    say "the disk: unpacking"
    rm -rf "$tree"
    mkdir "$tree"
    tar -C "$tree" --xattrs --xattrs-include='*' -xf "$image/rootfs.tar"
    mount --bind /proc "$tree/proc"
    # shellcheck disable=SC2064 # the tree of now
    trap "umount '$tree/proc'" EXIT
    unpack_kernel "$tree"
    set_up_guest "$tree"
    umount "$tree/proc"
    trap - EXIT
    say "the disk: mkfs.ext4"
    rm -f "$disk"
    truncate -s "$size" "$disk"
    mkfs.ext4 -q -F -L psi-vm -E lazy_itable_init=1,lazy_journal_init=1 -d "$tree" "$disk"
    rm -rf "$tree"
    echo "$key" >"$disk.key"
}

# Debian's cloud kernel has NVMe, ext4, the TPM and virtio built in: it needs no initramfs, and QEMU loads it.
unpack_kernel() {
    local tree=$1 version
    dpkg -x "$image/kernel.deb" "$tree/.kernel"
    version=$(basename "$tree"/.kernel/usr/lib/modules/*)
    mv "$tree/.kernel/boot/vmlinuz-$version" "$image/vmlinuz"
    mkdir -p "$tree/usr/lib/modules"
    mv "$tree/.kernel/usr/lib/modules/$version" "$tree/usr/lib/modules/"
    rm -rf "$tree/.kernel"
    # xz is slow where everything is emulated.
    find "$tree/usr/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -P2 -n50 xz -d
    chroot "$tree" depmod "$version"
}

# Copies guest/, and makes the settings that are no files.
set_up_guest() {
    local tree=$1 user uid
    rm -f "$tree/etc/fstab" # root= names it
    cp -r --no-preserve=ownership "$here/guest/." "$tree/"
    echo psi-vm >"$tree/etc/hostname"
    printf '127.0.0.1 localhost psi-vm\n10.0.3.2 outside\n' >"$tree/etc/hosts"
    : >"$tree/etc/machine-id" # each disk gets its own
    install -d -m 700 "$tree/root/.ssh"
    install -m 600 "$image/id_ed25519.pub" "$tree/root/.ssh/authorized_keys"
    uid=1000
    for user in anna ben; do
        chroot "$tree" useradd -m -s /bin/bash -u "$uid" "$user"
        install -d -m 700 -o "$uid" -g "$uid" "$tree/home/$user/.ssh"
        install -m 600 -o "$uid" -g "$uid" "$image/id_ed25519.pub" "$tree/home/$user/.ssh/authorized_keys"
        uid=$((uid + 1))
    done
    chroot "$tree" systemctl -q enable psi-vm-net.service psi-vm-ready.service
    mask_units "$tree"
    # Otherwise the first boot runs ldconfig, sysusers and others again.
    chroot "$tree" /usr/lib/systemd/systemd-update-done
}

# Units that only delay an emulated boot.
mask_units() {
    chroot "$1" systemctl -q mask getty@tty1.service serial-getty@ttyS0.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
        podman-auto-update.timer podman-clean-transient.service podman-restart.service \
        systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
        systemd-network-generator.service systemd-udev-load-credentials.service sys-kernel-config.mount \
        modprobe@configfs.service netavark-dhcp-proxy.socket netavark-dhcp-proxy.service dev-hugepages.mount \
        dev-mqueue.mount sys-kernel-debug.mount modprobe@drm.service modprobe@efi_pstore.service \
        ldconfig.service systemd-hwdb-update.service systemd-journal-catalog-update.service \
        wtmpdb-update-boot.service sshd-vsock.socket 2>/dev/null || true
}

if [ "${1:-}" = clean ]; then
    rm -rf "$image"
    exit
fi
mkdir -p "$image"
install_tools
make_rootfs
make_disk
say "the image: $(du -h "$image/base.raw" | cut -f1), $image/base.raw"
