/*
 * The floor's look at whether an address is free, as the plugin has it.
 *
 * The question goes to every port of the bridge, so that it costs ovs-vswitchd the more the more there are.
 */
#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PATIENCE 5 /* milliseconds that the holder of an address has to say so */

struct arp_frame {
    struct ether_header ether;
    struct ether_arp arp;
};

struct solicitation {
    struct ether_header ether;
    struct ip6_hdr ip;
    struct nd_neighbor_solicit icmp; /* an advertisement begins the same */
} __attribute__((packed));

static struct {
    int family;
    unsigned char address[sizeof(struct in6_addr)];
} questions[4];
static unsigned count;
static int packets;
static long long asked;

static long long milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void add_question(const char *address)
{
    if (count == sizeof questions / sizeof *questions)
        fail("too many addresses to ask for");
    questions[count].family = strchr(address, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(questions[count].family, address, questions[count].address) != 1)
        fail("'%s' is not an address", address);
    count++;
}

static void put(const void *frame, size_t length)
{
    if (send(packets, frame, length, 0) < 0)
        fail("cannot ask for an address: %s", strerror(errno));
}

/* A probe, RFC 5227 section 2.1.1. */
static void ask_ipv4(const unsigned char *mac, const unsigned char *address)
{
    struct arp_frame frame = {.ether.ether_type = htons(ETHERTYPE_ARP)};

    memset(frame.ether.ether_dhost, 0xff, ETH_ALEN);
    memcpy(frame.ether.ether_shost, mac, ETH_ALEN);
    frame.arp.ea_hdr = (struct arphdr){htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), ETH_ALEN, 4, htons(ARPOP_REQUEST)};
    memcpy(frame.arp.arp_sha, mac, ETH_ALEN);
    memcpy(frame.arp.arp_tpa, address, sizeof frame.arp.arp_tpa);
    put(&frame, sizeof frame);
}

static unsigned words(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    unsigned sum = 0;

    for (size_t at = 0; at < length; at += 2)
        sum += bytes[at] << 8 | bytes[at + 1];
    return sum;
}

/* The solicitation of duplicate address detection, RFC 4862 section 5.4.2. */
static void ask_ipv6(const unsigned char *mac, const unsigned char *address)
{
    struct solicitation frame = {.ether.ether_type = htons(ETHERTYPE_IPV6)};
    unsigned char *group = frame.ip.ip6_dst.s6_addr;

    memcpy(group, "\xff\x02\0\0\0\0\0\0\0\0\0\1\xff", 13);
    memcpy(group + 13, address + 13, 3);
    memcpy(frame.ether.ether_dhost, "\x33\x33", 2);
    memcpy(frame.ether.ether_dhost + 2, group + 12, 4);
    memcpy(frame.ether.ether_shost, mac, ETH_ALEN);
    frame.ip.ip6_flow = htonl(6u << 28);
    frame.ip.ip6_plen = htons(sizeof frame.icmp);
    frame.ip.ip6_nxt = IPPROTO_ICMPV6;
    frame.ip.ip6_hlim = 255;
    frame.icmp.nd_ns_type = ND_NEIGHBOR_SOLICIT;
    memcpy(&frame.icmp.nd_ns_target, address, sizeof frame.icmp.nd_ns_target);
    unsigned sum = words(group, sizeof frame.ip.ip6_dst) + words(&frame.icmp, sizeof frame.icmp);
    frame.icmp.nd_ns_cksum = htons(~((sum + sizeof frame.icmp + IPPROTO_ICMPV6) % 0xffff));
    put(&frame, sizeof frame);
}

/* By a MAC that the switches know. */
void ask_all(const char *bridge)
{
    struct sockaddr_ll own = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    static const unsigned char mac[ETH_ALEN] = {2, 'f', 'l', 'o', 'o', 'r'};

    if (!count)
        return;
    own.sll_ifindex = if_nametoindex(bridge);
    packets = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (bind(packets, (struct sockaddr *)&own, sizeof own))
        fail("cannot listen on %s: %s", bridge, strerror(errno));
    for (unsigned which = 0; which < count; which++)
        (questions[which].family == AF_INET ? ask_ipv4 : ask_ipv6)(mac, questions[which].address);
    asked = milliseconds();
}

/* Whether a frame is its sender's word that the address is his. */
static int claims(const unsigned char *frame, size_t length, int family, const unsigned char *address)
{
    const struct arp_frame *arp = (const void *)frame;
    const struct solicitation *advertisement = (const void *)frame;

    if (family == AF_INET)
        return length >= sizeof *arp && arp->ether.ether_type == htons(ETHERTYPE_ARP) &&
               !memcmp(arp->arp.arp_spa, address, sizeof arp->arp.arp_spa);
    return length >= sizeof *advertisement && advertisement->ether.ether_type == htons(ETHERTYPE_IPV6) &&
           advertisement->icmp.nd_ns_type == ND_NEIGHBOR_ADVERT &&
           !memcmp(&advertisement->icmp.nd_ns_target, address, sizeof advertisement->icmp.nd_ns_target);
}

void check_free(void)
{
    struct pollfd readable = {.fd = packets, .events = POLLIN};
    _Alignas(8) unsigned char frame[128];

    while (count) {
        long long left = asked + PATIENCE - milliseconds();
        if (poll(&readable, 1, left > 0 ? left : 0) != 1)
            break;
        ssize_t length = recv(packets, frame, sizeof frame, 0);
        for (unsigned which = 0; which < count; which++)
            if (length > 0 && claims(frame, length, questions[which].family, questions[which].address))
                fail("somebody has an address that must be free");
    }
}
