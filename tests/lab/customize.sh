# Runs in the fresh root file system: what a host needs beyond Debian's packages.
set -eu

# Names and resolvers of the machine that built this are no business of the hosts.
: >/etc/resolv.conf
: >/etc/machine-id
echo localhost >/etc/hostname
{
    echo 127.0.0.1 localhost
    echo ::1 localhost
    # All that there can ever be, so that a host that joins changes nobody else's file.
    for index in 0 1 2 3 4 5 6 7; do
        echo "192.168.0.$((10 + index)) host$index"
        echo "fd00:192:168::$((10 + index)) host$index"
    done
} >/etc/hosts
rm -rf /var/log/apt /var/cache/apt /var/lib/apt/lists/*
useradd --create-home --shell /bin/bash user # comes with subordinate ids, for rootless Podman

cat >/etc/containers/containers.conf <<'END'
# There is no systemd and no cgroup of our own in here; all else is as Debian has it.
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
# Podman's default ones and NET_RAW, for busybox ping.
default_capabilities = [
  "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW",
  "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END

cat >/etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = ["/usr/lib/lab/images"]
END
# Rootless Podman takes no image store from the file above.
su user -c 'mkdir -p ~/.config/containers ~/.local/share/containers'
cat >/home/user/.config/containers/storage.conf <<'END'
[storage]
driver = "overlay"
[storage.options]
additionalimagestores = ["/usr/lib/lab/images"]
END

ovsdb-tool create /var/lib/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema

# Mount points.
mkdir -p /var/lib/containers /usr/lib/lab/images /opt/netavark-geneve
