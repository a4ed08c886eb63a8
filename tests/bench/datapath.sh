# Two hosts inside one virtual machine: network namespaces with an Open vSwitch each, on the kernel's datapath, which
# every network namespace has one of; and the networks that the plugin's is compared with.
# usage: sh datapath.sh FUNCTION ARGUMENT...
set -eu
hosts=/run/hosts

# usage: on HOST COMMAND...
on() {
    pid=$(cat "$hosts/$1")
    shift
    nsenter --target="$pid" --net --mount -- "$@"
}

# A host's /run is its own: the sockets of its switch, and what Podman and netavark lock.
start_host() {
    mkdir -p $hosts
    setsid unshare --net --mount --propagation private sh -ec '
        mount -t tmpfs etc /etc/openvswitch
        mount -t tmpfs networks /etc/containers/networks
        mount -t tmpfs -o mode=755 run /run
        mkdir /run/openvswitch /run/netns /run/lock
        exec sleep infinity' </dev/null >/dev/null 2>&1 &
    echo $! >"$hosts/$1"
    until on "$1" test -d /run/lock; do sleep 0.1; done
    on "$1" ip link set lo up
    on "$1" ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
    on "$1" ovsdb-server --remote=punix:/run/openvswitch/db.sock --no-chdir --detach --pidfile
    on "$1" ovs-vsctl --no-wait init
    on "$1" ovs-vswitchd --no-chdir --detach --pidfile
}

# usage: boot; the underlay is a NIC that knows nothing of tunnels
boot() {
    systemctl stop openvswitch-switch ovs-vswitchd ovsdb-server
    modprobe -a openvswitch vport-geneve vxlan
    mkdir -p /etc/containers/networks
    start_host 0
    start_host 1
    ip link add underlay netns "$(cat $hosts/0)" type veth peer name underlay netns "$(cat $hosts/1)"
    for host in 0 1; do
        on $host ethtool -K underlay gro on tso off gso off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off
        on $host ip address add 192.168.0.1$host/24 dev underlay
        on $host ip link set underlay up
    done >&2
}

# A network namespace that stands for a container. usage: guest HOST NAME
guest() {
    on "$1" ip netns add "$2"
    on "$1" ip -netns "$2" link set lo up
}

# Attached to a Linux bridge, with the settings that netavark's driver makes. usage: plug HOST NAME BRIDGE ADDRESS
plug() {
    guest "$1" "$2"
    on "$1" ip link add "$2" mtu 1450 type veth peer name eth0 mtu 1450 netns "$2"
    on "$1" ip link set "$2" master "$3" addrgenmode none up
    on "$1" nsenter --net="/run/netns/$2" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv4.conf.eth0.rp_filter=2
    on "$1" ip -netns "$2" address add "$4/24" dev eth0
    on "$1" ip -netns "$2" link set eth0 up
}

# The layout of the procedure by hand. usage: manual HOST PEER
manual() {
    on "$1" ip link add lbr type bridge
    on "$1" ip link add veth0 type veth peer name veth1
    on "$1" ip link set veth0 master lbr
    on "$1" ovs-vsctl add-br ovs_manual -- add-port ovs_manual veth1 -- \
        add-port ovs_manual to_peer -- set Interface to_peer type=geneve "options:remote_ip=$2"
    for link in lbr veth0 veth1 ovs_manual; do on "$1" ip link set $link up; done
}

# usage: vxlan HOST PEER
vxlan() {
    on "$1" ip link add vbr type bridge
    on "$1" ip link add vx0 type vxlan id 7 remote "$2" dstport 4789 dev underlay
    on "$1" ip link set vx0 master vbr
    for link in vbr vx0; do on "$1" ip link set $link up; done
}

"$@"
