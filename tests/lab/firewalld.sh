# firewalld of one host, and the system bus that it answers on.
# usage: sh firewalld.sh start|restart|stop
set -eu

start() {
    mkdir /run/dbus
    dbus-daemon --system --fork
    start_firewalld
}

start_firewalld() {
    firewalld
    for _ in $(seq 100); do
        if firewall-cmd --state >/run/firewalld/state 2>&1; then
            rm /run/firewalld/state
            return 0
        fi
        sleep 0.05
    done
    cat /run/firewalld/state /var/log/firewalld >&2
    return 1
}

# As `systemctl restart firewalld`: the bus stays.
restart() {
    end "$(cat /run/firewalld.pid)"
    start_firewalld
}

stop() {
    end "$(cat /run/firewalld.pid)"
    # The bus starts it when firewalld asks for it, and it ends with the bus.
    polkit=$(owner org.freedesktop.PolicyKit1)
    end "$(cat /run/dbus/pid)"
    gone $polkit
    rm -r /run/dbus /run/firewalld
}

# The pid of the process that has this name on the bus; nothing when there is none.
owner() {
    bus=org.freedesktop.DBus
    answer=$(busctl call $bus /org/freedesktop/DBus $bus GetConnectionUnixProcessID s "$1" 2>/dev/null) || return 0
    echo "${answer#u }"
}

end() {
    kill "$1"
    gone "$1"
}

gone() {
    for pid; do
        for _ in $(seq 100); do
            [ -e "/proc/$pid" ] || continue 2
            sleep 0.05
        done
        echo "pid $pid is still there after 5 s" >&2
        return 1
    done
}

"$@"
