/* stub stdio|http [--tools N] [--ttl MS] [--counters FILE] */
#include "counters.h"
#include "mcp.h"
#include "serve.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option OPTIONS[] = {
    {"tools", required_argument, NULL, 'n'},
    {"ttl", required_argument, NULL, 't'},
    {"counters", required_argument, NULL, 'c'},
    {NULL, 0, NULL, 0},
};

int main(int argc, char **argv) {
    Settings settings = {0};
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case 'n':
            settings.tools = atol(optarg);
            break;
        case 't':
            settings.ttl = atol(optarg);
            break;
        case 'c':
            counters_open(optarg);
            break;
        default:
            return 2;
        }
    }
    mcp_configure(settings);
    if (optind < argc && strcmp(argv[optind], "stdio") == 0) {
        return serve_stdio();
    }
    if (optind < argc && strcmp(argv[optind], "http") == 0) {
        return serve_http();
    }
    fputs("usage: stub stdio|http [--tools N] [--ttl MS] [--counters FILE]\n", stderr);
    return 2;
}
