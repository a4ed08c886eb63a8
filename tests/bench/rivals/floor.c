/*
 * The floor of the benchmark: what an attach to an Open vSwitch bridge costs at the least.
 *
 * The kernel's work and ovs-vswitchd's, with next to nothing on top. So it speaks rtnetlink and OVSDB (RFC 7047)
 * itself, checks no more than it must to notice a failure, and takes nothing back after one.
 */
#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define USAGE                                                                                                          \
    "usage: [ask ADDRESS]... add NETNS IFNAME BRIDGE PORT MAC ADDRESS/PLEN GATEWAY MTU [DB_SOCK], "                    \
    "or del BRIDGE PORT [DB_SOCK]"
#define DB_SOCK "/run/openvswitch/db.sock"
#define TIMEOUT 10 /* seconds without a word from ovsdb-server */

void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("floor: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Several requests, sent at once: the kernel works through all of them in one system call. */
struct batch {
    _Alignas(NLMSG_ALIGNTO) char bytes[1024]; /* enough for any of the batches below */
    size_t length;
    struct nlmsghdr *last;
    unsigned requests;
};

static void *append(struct batch *batch, const void *data, size_t length)
{
    char *place = batch->bytes + batch->length;

    memcpy(place, data, length);
    batch->length += NLMSG_ALIGN(length); /* the buffer is zero, and so is the padding */
    batch->last->nlmsg_len = batch->bytes + batch->length - (char *)batch->last;
    return place;
}

static void begin(struct batch *batch, unsigned short type, unsigned short flags, const void *body, size_t length)
{
    struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags};

    batch->last = (struct nlmsghdr *)(batch->bytes + batch->length);
    append(batch, &header, sizeof header);
    append(batch, body, length);
    batch->requests++;
}

static struct rtattr *put(struct batch *batch, unsigned short type, const void *data, size_t length)
{
    struct rtattr head = {.rta_type = type, .rta_len = RTA_LENGTH(length)};
    struct rtattr *attribute = append(batch, &head, sizeof head);

    append(batch, data, length);
    return attribute;
}

static void put_text(struct batch *batch, unsigned short type, const char *text)
{
    put(batch, type, text, strlen(text) + 1);
}

static struct rtattr *nest(struct batch *batch, unsigned short type) { return put(batch, type, "", 0); }

static void end_nest(struct batch *batch, struct rtattr *attribute)
{
    attribute->rta_len = batch->bytes + batch->length - (char *)attribute;
}

/* A request that goes by the interface's name, and may set flags of it, such as "up". */
static void begin_link(struct batch *batch, unsigned short type, unsigned short flags, unsigned set, const char *name)
{
    struct ifinfomsg link = {.ifi_flags = set, .ifi_change = set};

    begin(batch, type, flags, &link, sizeof link);
    put_text(batch, IFLA_IFNAME, name);
}

/* A socket of the network namespace that we are in now. */
static int open_netlink(void)
{
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

    if (netlink < 0)
        fail("no netlink socket: %s", strerror(errno));
    return netlink;
}

static void perform(int netlink, const struct batch *batch, const char *what)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr result;
        char request[sizeof batch->bytes]; /* comes back with an error */
    } answer;

    if (send(netlink, batch->bytes, batch->length, 0) < 0)
        fail("cannot ask the kernel to %s: %s", what, strerror(errno));
    for (unsigned left = batch->requests; left; left--) {
        if (recv(netlink, &answer, sizeof answer, 0) < 0 || answer.header.nlmsg_type != NLMSG_ERROR)
            fail("no answer of the kernel to: %s", what);
        if (answer.result.error)
            fail("the kernel does not %s: %s", what, strerror(-answer.result.error));
    }
}

struct attachment {
    const char *netns, *interface, *bridge, *port;
    unsigned char mac[6], prefix;
    struct in_addr address, gateway;
    unsigned mtu;
};

/*
 * The pair, its far end born where it belongs: a move would cost the kernel one more wait for RCU. Promiscuous, as
 * ovs-vswitchd's userspace datapath wants it: to make it so it would write back all flags, as they were before "up".
 */
static void create_veth(int netlink, const struct attachment *it, int netns)
{
    struct batch batch = {.length = 0};

    begin_link(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, IFF_PROMISC, it->port);
    put(&batch, IFLA_MTU, &it->mtu, sizeof it->mtu);
    struct rtattr *info = nest(&batch, IFLA_LINKINFO);
    put_text(&batch, IFLA_INFO_KIND, "veth");
    struct rtattr *data = nest(&batch, IFLA_INFO_DATA);
    struct rtattr *peer = nest(&batch, VETH_INFO_PEER);
    append(&batch, &(struct ifinfomsg){.ifi_family = AF_UNSPEC}, sizeof(struct ifinfomsg));
    put_text(&batch, IFLA_IFNAME, it->interface);
    put(&batch, IFLA_MTU, &it->mtu, sizeof it->mtu);
    put(&batch, IFLA_ADDRESS, it->mac, sizeof it->mac);
    put(&batch, IFLA_NET_NS_FD, &netns, sizeof netns);
    end_nest(&batch, peer);
    end_nest(&batch, data);
    end_nest(&batch, info);
    perform(netlink, &batch, "create a veth pair");
}

/* A bridge port needs no IPv6 address; having one, it would chatter. The mode counts only if set before "up". */
static void raise_host_end(int netlink, const char *port)
{
    struct batch batch = {.length = 0};
    unsigned char mode = IN6_ADDR_GEN_MODE_NONE;

    begin_link(&batch, RTM_NEWLINK, 0, 0, port);
    struct rtattr *families = nest(&batch, IFLA_AF_SPEC);
    struct rtattr *family = nest(&batch, AF_INET6);
    put(&batch, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
    end_nest(&batch, family);
    end_nest(&batch, families);
    begin_link(&batch, RTM_NEWLINK, 0, IFF_UP, port);
    perform(netlink, &batch, "set the host end up");
}

/* From inside the container's network namespace. */
static void configure_container_end(int netlink, const struct attachment *it)
{
    struct batch batch = {.length = 0};
    unsigned index = if_nametoindex(it->interface);
    struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = it->prefix, .ifa_index = index};
    struct rtmsg route = {AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST};

    begin_link(&batch, RTM_NEWLINK, 0, IFF_UP, it->interface);
    begin(&batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address, sizeof address);
    put(&batch, IFA_LOCAL, &it->address, sizeof it->address);
    put(&batch, IFA_ADDRESS, &it->address, sizeof it->address);
    begin(&batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
    put(&batch, RTA_GATEWAY, &it->gateway, sizeof it->gateway);
    put(&batch, RTA_OIF, &index, sizeof index);
    perform(netlink, &batch, "configure the container's end");
}

static void delete_veth(int netlink, const char *port)
{
    struct batch batch = {.length = 0};

    begin_link(&batch, RTM_DELLINK, 0, 0, port);
    perform(netlink, &batch, "delete the veth pair");
}

static int database;
static char heard[65536]; /* all that ovsdb-server has said; it writes no blanks, so searches for text will do */

static void connect_database(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = TIMEOUT};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    database = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (setsockopt(database, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) ||
        setsockopt(database, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) ||
        connect(database, (struct sockaddr *)&address, sizeof address))
        fail("cannot reach ovsdb-server at %s: %s", path, strerror(errno));
}

/* The format is JSON with ' for ", to stay readable. */
__attribute__((format(printf, 1, 2))) static void ask(const char *format, ...)
{
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *quote = text; (quote = strchr(quote, '\''));)
        *quote = '"';
    if (send(database, text, length, MSG_NOSIGNAL) != length)
        fail("cannot ask ovsdb-server: %s", strerror(errno));
}

static void receive(void)
{
    size_t known = strlen(heard);
    ssize_t length = recv(database, heard + known, sizeof heard - 1 - known, 0);

    if (length <= 0)
        fail(length ? "no answer within %d s; is ovs-vswitchd running?" : "ovsdb-server has hung up", TIMEOUT);
    heard[known + length] = 0;
    for (const char *error = heard; (error = strstr(error, "\"error\":")); error++)
        if (error[8] && error[8] != 'n') /* not null: of a request, or of an operation in a transaction */
            fail("ovsdb-server refuses: %.200s", error);
}

/* The last number after `key`, or -1. One at the very end may not have arrived whole. */
static long number_after(const char *key)
{
    long value = -1;

    for (char *found = heard; (found = strstr(found, key));) {
        long number = strtol(found + strlen(key), &found, 10);
        if (*found)
            value = number;
    }
    return value;
}

/* Until the transaction stands. */
static void await_database(void)
{
    while (number_after("\"next_cfg\":") < 0)
        receive();
}

/* Until ovs-vswitchd says that it has done what the transaction asked for: only then do packets pass. */
static void await_switch(void)
{
    await_database();
    while (number_after("\"new\":{\"cur_cfg\":") < number_after("\"next_cfg\":"))
        receive();
}

#define MONITOR "{'id':0,'method':'monitor','params':['Open_vSwitch',null,{'Open_vSwitch':{'columns':['cur_cfg']}}]}"
#define MONITOR_PORT                                                                                                   \
    "{'id':2,'method':'monitor_cond','params':['Open_vSwitch','port',"                                                 \
    "{'Interface':[{'where':[['name','==','%s']],'columns':['ofport']}]}]}"
#define TRANSACT "{'id':1,'method':'transact','params':['Open_vSwitch',"
#define NEXT_CFG                                                                                                       \
    "{'op':'mutate','table':'Open_vSwitch','where':[],'mutations':[['next_cfg','+=',1]]},"                             \
    "{'op':'select','table':'Open_vSwitch','where':[],'columns':['next_cfg']}"

static void add_port(const char *bridge, const char *port)
{
    ask(MONITOR MONITOR_PORT TRANSACT /* to mutate a row that is not there is no error, but to wait for it is */
        "{'op':'wait','timeout':0,'table':'Bridge','where':[['name','==','%s']],'columns':['name'],"
        "'until':'==','rows':[{'name':'%s'}]},"
        "{'op':'insert','table':'Interface','uuid-name':'i','row':{'name':'%s'}},"
        "{'op':'insert','table':'Port','uuid-name':'p','row':{'name':'%s','interfaces':['named-uuid','i']}},"
        "{'op':'mutate','table':'Bridge','where':[['name','==','%s']],"
        "'mutations':[['ports','insert',['named-uuid','p']]]}," NEXT_CFG "]}",
        port, bridge, bridge, port, port, bridge);
}

/* When it was faster than the kernel, it finds the interface only by its next look, for the new link. */
static void await_port(void)
{
    while (number_after("\"ofport\":") < 1)
        receive();
}

static void delete_port(const char *bridge, const char *port)
{
    static const char key[] = "\"_uuid\":[\"uuid\",\"";

    ask(TRANSACT "{'op':'select','table':'Port','where':[['name','==','%s']],'columns':['_uuid']}]}" MONITOR, port);
    while (number_after("\"cur_cfg\":") < 0) /* that answer comes second, so the first has come */
        receive();
    const char *uuid = strstr(heard, key);
    if (!uuid)
        fail("there is no port %s", port);
    ask(TRANSACT "{'op':'mutate','table':'Bridge','where':[['name','==','%s']],"
                 "'mutations':[['ports','delete',['uuid','%.36s']]]}," NEXT_CFG "]}",
        bridge, uuid + strlen(key));
}

/* Names go into JSON as they are. */
static const char *name(const char *text)
{
    if (!*text || strlen(text) >= IFNAMSIZ || strpbrk(text, "'\"\\/ \t\n"))
        fail("'%s' is not a name", text);
    return text;
}

static void add(char **argument, const char *db_sock)
{
    struct attachment it = {argument[0], name(argument[1]), name(argument[2]), name(argument[3]), .mtu = 0};
    unsigned char *mac = it.mac;
    char address[INET_ADDRSTRLEN];

    if (sscanf(argument[4], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6 ||
        sscanf(argument[5], "%15[0-9.]/%hhu", address, &it.prefix) != 2 || !inet_aton(address, &it.address) ||
        !inet_aton(argument[6], &it.gateway) || sscanf(argument[7], "%u", &it.mtu) != 1)
        fail(USAGE);
    int host = open_netlink();
    int netns = open(it.netns, O_RDONLY | O_CLOEXEC);
    if (netns < 0)
        fail("cannot open the network namespace %s: %s", it.netns, strerror(errno));
    ask_all(it.bridge);
    connect_database(db_sock);
    /* First, since ovs-vswitchd goes through all of its ports for a link that is new, and again for a port that is. */
    add_port(it.bridge, it.port);
    await_database();
    create_veth(host, &it, netns);
    raise_host_end(host, it.port);
    if (setns(netns, CLONE_NEWNET))
        fail("cannot enter the network namespace %s: %s", it.netns, strerror(errno));
    configure_container_end(open_netlink(), &it);
    await_switch();
    await_port();
    check_free();
}

/* In order, so that ovs-vswitchd never misses the device of a port; both at once would save a wait for RCU. */
static void del(char **argument, const char *db_sock)
{
    connect_database(db_sock);
    delete_port(name(argument[0]), name(argument[1]));
    await_switch();
    delete_veth(open_netlink(), argument[1]);
}

int main(int argc, char **argv)
{
    for (; argc > 2 && !strcmp(argv[1], "ask"); argc -= 2, argv += 2)
        add_question(argv[2]);
    if ((argc == 10 || argc == 11) && !strcmp(argv[1], "add"))
        add(argv + 2, argc == 11 ? argv[10] : DB_SOCK);
    else if ((argc == 4 || argc == 5) && !strcmp(argv[1], "del"))
        del(argv + 2, argc == 5 ? argv[4] : DB_SOCK);
    else
        fail(USAGE);
}
