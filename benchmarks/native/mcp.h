/* What the stub answers: MCP in both eras, whatever carries it. */
#ifndef MCP_H
#define MCP_H

#include "text.h"

typedef struct {
    long tools; /* listed besides those that can be called */
    long ttl;   /* `ttlMs` of the list; 0 leaves it stale at once */
} Settings;

/* Where messages go: each whole, the reply last. */
typedef struct Sink {
    void (*send)(struct Sink *sink, Slice message, bool is_reply);
} Sink;

void mcp_configure(Settings settings);

/* Answer a message into `sink`. A notification has no answer. */
void mcp_answer(Slice message, Sink *sink);

#endif
