/* What the stubs count, in a file that the harness reads while they run. Processes that share it add up. */
#ifndef COUNTERS_H
#define COUNTERS_H

#include <stdint.h>

typedef struct {
    uint64_t connections; /* sockets accepted, or processes started */
    uint64_t requests;    /* HTTP requests, or lines */
    uint64_t bytes_in;
    uint64_t bytes_out;
} Counters;

extern Counters *counters;

/* Count into the file at `path` from now on. */
void counters_open(const char *path);

#define COUNT(member, more) __atomic_fetch_add(&counters->member, (uint64_t)(more), __ATOMIC_RELAXED)

#endif
