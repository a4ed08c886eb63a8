# Runs in the fresh root file system: what a virtual machine needs beyond Debian's packages.
set -eu

: >/etc/resolv.conf
: >/etc/machine-id # the kernel's command line brings it, and the host's name
rm -f /var/lib/dbus/machine-id /etc/hostname
: >/etc/fstab # the kernel mounts the root
echo '127.0.0.1 localhost' >/etc/hosts
for index in 0 1; do
    address=$((10 + index))
    echo "192.168.0.$address host$index" >>/etc/hosts
    printf '[Match]\nMACAddress=52:54:00:00:00:%02x\n[Network]\nAddress=192.168.0.%d/24\nIPv6AcceptRA=no\n' \
        "$address" "$address" >"/etc/systemd/network/host$index.network"
done
rm -rf /var/log/apt /var/cache/apt /var/lib/apt/lists/* /boot/initrd* /usr/lib/modules/*/kernel/sound

cat >/etc/systemd/system/agent.service <<'END'
[Unit]
DefaultDependencies=no
Wants=dev-virtio\x2dports-agent.device
After=dev-virtio\x2dports-agent.device systemd-remount-fs.service
[Service]
ExecStart=/usr/local/sbin/agent
Restart=always
KillMode=process
OOMScoreAdjust=-900
[Install]
WantedBy=sysinit.target
END

# Emulated, everything takes ten times as long, and the emulator may be stopped for a while.
wait=/etc/systemd/system/systemd-networkd-wait-online.service.d
mkdir -p /etc/systemd/system.conf.d /etc/systemd/journald.conf.d $wait
printf '[Service]\nExecStart=\nExecStart=/usr/lib/systemd/systemd-networkd-wait-online --timeout=900\n' >$wait/slow.conf
printf '[Manager]\nDefaultTimeoutStartSec=15min\nDefaultTimeoutStopSec=15min\n' >/etc/systemd/system.conf.d/slow.conf
# An attach gives up after ten seconds. Quadlet's containers try again by themselves.
again=/etc/systemd/system/podman-restart.service.d
mkdir -p $again
printf '[Service]\nRestart=on-failure\nRestartSec=5\n' >$again/slow.conf
printf '[Journal]\nStorage=persistent\n' >/etc/systemd/journald.conf.d/keep.conf

# A tenth of a second each on hardware; here the first attach would spend its ten seconds on loading them.
printf '%s\n' veth overlay vport-geneve nft_fib_inet nft_chain_nat nft_masq nft_nat nft_ct nft_reject_inet \
    >/etc/modules-load.d/attach.conf

cat >/etc/containers/storage.conf <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = ["/usr/lib/lab/images"]
END

systemctl enable --quiet agent.service systemd-networkd.service
# What a machine without terminals, updates and other hardware has no use for; each costs seconds of a boot.
systemctl disable --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    e2scrub_all.timer e2scrub_reap.service systemd-pstore.service netavark-dhcp-proxy.socket
systemctl mask --quiet getty@tty1.service serial-getty@ttyS0.service getty-static.service modprobe@drm.service \
    systemd-firstboot.service
mkdir -p /usr/lib/lab
ldconfig
touch /etc/.updated /var/.updated # newer than /usr: the first boot need not bring them up to date
