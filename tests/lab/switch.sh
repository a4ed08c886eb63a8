# Open vSwitch of one host, and the host's underlay behind it.
# usage: sh switch.sh FUNCTION ARGUMENT...    environment: NAME, INDEX, MTU, IPV4, IPV6 (with prefix lengths)
set -eu
run=/run/openvswitch

# Started at once, without ovs-ctl, which wants a kernel module; paths are all the defaults.
start_ovsdb() {
    ovsdb-server /etc/openvswitch/conf.db --remote=punix:$run/db.sock --no-chdir --detach \
        --remote=db:Open_vSwitch,Open_vSwitch,manager_options --pidfile --log-file
}

start_vswitchd() {
    ovs-vswitchd unix:$run/db.sock --no-chdir --detach --pidfile --log-file
    # When vswitchd ends, the devices of its userspace datapath stay behind, but down.
    ovs-vsctl --timeout=20 set Interface br-phy "mtu_request=$MTU"
    sysctl -qw net.ipv6.conf.br-phy.accept_dad=0
    ip link set br-phy mtu "$MTU" up
    ip address replace "$IPV4" dev br-phy
    ip -6 address replace "$IPV6" dev br-phy
}

# Userspace tunnels leave through an Open vSwitch bridge, so the underlay is one.
prepare() {
    mkdir -p $run
    ip link set lo up
    # It only carries frames. An IPv6 address of its own would chatter, and without "arp off" it would
    # answer for br-phy's address, whose tunnels then send to the wrong MAC.
    ip link set underlay addrgenmode none arp off up
    start_ovsdb
    mac=$(printf '02:00:c0:a8:00:%02x' $((10 + INDEX)))
    ovs-vsctl --no-wait init -- set Open_vSwitch . "external_ids:hostname=$NAME" \
        "external_ids:system-id=$NAME" "ovs_version=$(ovs-vswitchd --version | sed -n '1s/.* //p')" \
        -- add-br br-phy -- set Bridge br-phy datapath_type=netdev "other_config:hwaddr=\"$mac\"" \
        -- set Interface br-phy "mtu_request=$MTU" \
        -- add-port br-phy underlay
}

boot() {
    prepare
    start_vswitchd
}

# usage: signal DAEMON SIGNAL
signal() { kill "-$2" "$(cat "$run/$1.pid")"; }

# usage: end DAEMON SIGNAL
end() {
    pid=$(cat "$run/$1.pid")
    signal "$@"
    for _ in $(seq 100); do
        [ -e "/proc/$pid" ] || return 0
        sleep 0.05
    done
    echo "$1 (pid $pid) is still there 5 s after signal $2" >&2
    return 1
}

"$@"
