#include "agentd/dns/internal.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"

enum { RESOLV_CONF_BYTES_MAX = 64 << 10, CHECK_MS = 1000 };

/* "192.0.2.53" or "fe80::1%eth0" (resolv.conf(5)). */
static bool parse_server(char *word, union address *ret)
{
    char *zone = strchr(word, '%');
    struct ip ip;

    if (zone != NULL)
        *zone++ = '\0';
    if (ip_parse(word, &ip, NULL) < 0 || ip_is_multicast(&ip))
        return false;
    if (ip_is_any(&ip)) { /* libc takes it for this host */
        ip.bytes[0] = ip.family == IP_V4 ? 127 : 0;
        ip.bytes[ip_bytes(&ip) - 1] = 1;
    }
    *ret = address_of(&ip, DNS_PORT);
    if (zone != NULL && ip.family == IP_V6)
        ret->v6.sin6_scope_id = if_nametoindex(zone);
    return true;
}

size_t resolvers_parse(const char *text, union address ret[DNS_SERVERS_MAX])
{
    CLEANUP_FREE char *copy = xstrdup(text);
    size_t count = 0;
    char *rest = copy;

    for (char *line; count < DNS_SERVERS_MAX && (line = strsep(&rest, "\n")) != NULL;) {
        static const char keyword[] = "nameserver";
        char *word = line + strlen(keyword);

        if (strncmp(line, keyword, strlen(keyword)) != 0 || strspn(word, " \t") == 0)
            continue;
        word += strspn(word, " \t");
        word[strcspn(word, " \t\r#;")] = '\0';
        if (parse_server(word, &ret[count]))
            count++;
    }
    return count;
}

static bool is_ours(const struct dns *d, const struct ip *ip)
{
    for (const struct dns_network *n = d->networks; n != NULL; n = n->next) {
        for (const struct listener *l = n->listeners; l != NULL; l = l->next) {
            if (ip_equal(&l->address, ip))
                return true;
        }
    }
    return false;
}

/* Reads the file when it changed. */
static void refresh(struct dns *d)
{
    struct resolvers *r = &d->resolvers;
    CLEANUP_BUF struct buf text = BUF_INIT(RESOLV_CONF_BYTES_MAX);
    union address found[DNS_SERVERS_MAX];
    uint64_t now = loop_now_ms(d->loop);
    struct stat st;
    struct err e = { 0 };

    if (r->read && now - r->checked_ms < CHECK_MS)
        return;
    r->checked_ms = now;
    if (stat(r->path, &st) < 0)
        memset(&st, 0, sizeof(st));
    if (r->read && st.st_ino == r->seen.st_ino && st.st_dev == r->seen.st_dev &&
        st.st_size == r->seen.st_size && st.st_mtim.tv_sec == r->seen.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == r->seen.st_mtim.tv_nsec)
        return;
    r->seen = st;
    r->read = true;
    r->count = 0;
    r->preferred = 0;
    if (buf_read_file(&text, r->path, &e) < 0) {
        log_warn("dns.resolvers", "path=%s error=\"%s\" next=names_of_networks_only", r->path,
                 e.message);
        return;
    }
    size_t count = resolvers_parse(buf_str(&text), found);

    for (size_t i = 0; i < count; i++) {
        struct ip ip = address_ip(&found[i]);

        if (!is_ours(d, &ip))
            r->list[r->count++] = found[i];
    }
    log_debug("dns.resolvers", "path=%s found=%zu used=%zu", r->path, count, r->count);
}

void resolvers_choose(struct dns *d, struct forward *f)
{
    struct resolvers *r = &d->resolvers;
    struct ip own[DNS_SERVERS_MAX];
    size_t count = 0;

    if (d->options.servers != NULL)
        count = d->options.servers(d->options.ctx, f->listener->network->id, &f->source, own);
    f->of_task = count > 0;
    f->server_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_ours(d, &own[i]))
            f->servers[f->server_count++] = address_of(&own[i], DNS_PORT);
    }
    if (f->of_task)
        return;
    refresh(d);
    if (loop_now_ms(d->loop) > r->preferred_until_ms)
        r->preferred = 0;
    f->first = r->preferred;
    f->server_count = r->count;
    memcpy(f->servers, r->list, sizeof(f->servers));
}
