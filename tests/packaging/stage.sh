#!/bin/sh
# A host on which packages can be installed and removed: a mount namespace in which /etc, /home, /usr and /var/lib are
# copies on write of this host's, in RAM, and /run is empty. There is no systemd. Podman has its own, empty store.
#
#     unshare --mount --propagation private stage.sh BASE COMMAND...
set -eu
base=$1
shift
mount -t tmpfs -o mode=755 psi-stage "$base"
for directory in etc home usr var/lib; do
    mkdir -p "$base/upper/$directory" "$base/work/$directory"
    mount -t overlay psi-stage \
        -o "lowerdir=/$directory,upperdir=$base/upper/$directory,workdir=$base/work/$directory" "/$directory"
done
mount -t tmpfs -o mode=755 psi-stage /run
rm -rf /var/lib/containers /etc/containers/containers.conf.d
mkdir -p /etc/containers
rm -f /etc/containers/containers.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/containers/storage"\nrunroot = "/run/containers/storage"\n' \
    >/etc/containers/storage.conf
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\nlock_type = "file"\ntmp_dir = "/run/podman-tmp"\n' \
    >/etc/containers/containers.conf
exec "$@"
