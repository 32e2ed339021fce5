/* What the lab's image has for wget: Debian's static busybox cannot look names up (getaddrinfo
 * crashes in it). wget [-q] [-T SECONDS] [-O FILE|-] http://HOST[:PORT][/PATH]; exit status 1
 * unless the answer is 200. Dynamic, with the C library that the image has. */
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct url {
    char host[256], port[8], path[1024];
};

static bool split(const char *text, struct url *u)
{
    (void)snprintf(u->port, sizeof(u->port), "80");
    (void)snprintf(u->path, sizeof(u->path), "/");
    return strncmp(text, "http://", 7) == 0 &&
           (sscanf(text + 7, "%255[^:/]:%7[0-9]%1023s", u->host, u->port, u->path) >= 2 ||
            sscanf(text + 7, "%255[^:/]%1023s", u->host, u->path) >= 1);
}

static int connect_any(const struct url *u, unsigned seconds)
{
    const struct timeval bound = { .tv_sec = seconds };
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all;
    int rc = getaddrinfo(u->host, u->port, &hints, &all), fd = -1;

    if (rc != 0) {
        (void)fprintf(stderr, "wget: bad address '%s': %s\n", u->host, gai_strerror(rc));
        return -1;
    }
    for (const struct addrinfo *a = all; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            continue;
        (void)fprintf(stderr, "wget: can't connect to %s: %s\n", u->host, strerror(errno));
        (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(all);
    return fd;
}

static int fetch(const struct url *u, unsigned seconds, FILE *out)
{
    char line[2048];
    int fd = connect_any(u, seconds);
    FILE *io = fd < 0 ? NULL : fdopen(fd, "r+");
    size_t size;

    if (io == NULL)
        return 1;
    (void)fprintf(io, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", u->path, u->host);
    (void)fflush(io);
    if (fgets(line, sizeof(line), io) == NULL || strncmp(line + 8, " 200", 4) != 0) {
        (void)fprintf(stderr, "wget: no good answer from %s\n", u->host);
        return 1;
    }
    while (fgets(line, sizeof(line), io) != NULL && line[0] != '\r')
        ;
    while ((size = fread(line, 1, sizeof(line), io)) > 0)
        (void)fwrite(line, 1, size, out);
    return ferror(io) != 0 || fflush(out) != 0;
}

int main(int argc, char **argv)
{
    unsigned seconds = 10;
    FILE *out = stdout;
    struct url u;
    int option;

    while ((option = getopt(argc, argv, "qT:O:")) != -1) {
        if (option == 'T')
            seconds = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'O' && strcmp(optarg, "-") != 0)
            out = fopen(optarg, "we");
        else if (option == '?')
            return 2;
    }
    if (out == NULL || optind + 1 != argc || !split(argv[optind], &u)) {
        (void)fprintf(stderr,
                      "usage: wget [-q] [-T SECONDS] [-O FILE|-] http://HOST[:PORT][/PATH]\n");
        return 2;
    }
    (void)alarm(seconds * 2);
    return fetch(&u, seconds, out);
}
