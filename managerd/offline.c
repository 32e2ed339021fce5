#include "managerd/offline.h"

#include <string.h>

#include "common/mem.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} subcommands[] = {
    { "inspect", inspect_main },
    { "restore", restore_main },
};

int offline_main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(subcommands); i++) {
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    }
    return -1;
}
