/* udp_echo PORT: sends every datagram back to where it came from; in the lab's image. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct sockaddr_in own = { .sin_family = AF_INET }, from;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    char mem[2048];

    own.sin_port = htons((uint16_t)(argc == 2 ? strtoul(argv[1], NULL, 10) : 0));
    if (own.sin_port == 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) != 0)
        return 1;
    for (;;) {
        socklen_t size = sizeof(from);
        ssize_t n = recvfrom(fd, mem, sizeof(mem), 0, (struct sockaddr *)&from, &size);

        if (n >= 0)
            (void)sendto(fd, mem, (size_t)n, 0, (struct sockaddr *)&from, size);
    }
}
