#include "test/lib/netns_lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/mem.h"

static void lo_request(unsigned long request, struct ifreq *r)
{
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ASSERT(fd >= 0);
    ASSERT(ioctl(fd, request, r) == 0);
}

int netns_lab_new(void)
{
    struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

    if (unshare(CLONE_NEWNET) < 0)
        ASSERT(errno == EPERM && unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
    lo_request(SIOCSIFFLAGS, &r);
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    ASSERT(fd >= 0);
    return fd;
}

void netns_lab_enter(int fd)
{
    ASSERT(setns(fd, CLONE_NEWNET) == 0);
}

void netns_lab_address(const char *address)
{
    static unsigned label;
    struct sockaddr_in a = { .sin_family = AF_INET }, mask = { .sin_family = AF_INET };
    struct ifreq r = { .ifr_flags = 0 };

    ASSERT(inet_pton(AF_INET, address, &a.sin_addr) == 1);
    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "lo:%u", ++label % 10000);
    memcpy(&r.ifr_addr, &a, sizeof(a));
    lo_request(SIOCSIFADDR, &r);
    mask.sin_addr.s_addr = INADDR_BROADCAST;
    memcpy(&r.ifr_netmask, &mask, sizeof(mask));
    lo_request(SIOCSIFNETMASK, &r);
}
