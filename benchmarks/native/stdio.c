/* MCP on standard input and output: a message a line. What comes in one read is answered in one write. */
#include "serve.h"

#include "counters.h"
#include "mcp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE 65536

typedef struct {
    Sink sink;
    Buffer out;
} Pipe;

static void send_line(Sink *sink, Slice message, bool is_reply) {
    (void)is_reply;
    Pipe *pipe = (Pipe *)sink;
    buffer_add(&pipe->out, message);
    buffer_add(&pipe->out, (Slice){"\n", 1});
}

static bool flush(Buffer *out) {
    size_t done = 0;
    while (done < out->size) {
        ssize_t written = write(STDOUT_FILENO, out->data + done, out->size - done);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        done += written > 0 ? (size_t)written : 0;
    }
    COUNT(bytes_out, out->size);
    out->size = 0;
    return true;
}

static void answer_lines(Buffer *in, Pipe *pipe) {
    size_t start = 0;
    const char *end;
    while ((end = memchr(in->data + start, '\n', in->size - start)) != NULL) {
        size_t size = (size_t)(end - (in->data + start));
        COUNT(requests, 1);
        mcp_answer((Slice){in->data + start, size}, &pipe->sink);
        start += size + 1;
    }
    buffer_drop(in, start);
}

int serve_stdio(void) {
    Pipe pipe = {.sink = {send_line}};
    Buffer in = {0};
    COUNT(connections, 1);
    while (true) {
        ssize_t got = read(STDIN_FILENO, buffer_reserve(&in, READ_SIZE), READ_SIZE);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return 0;
        }
        in.size += (size_t)got;
        COUNT(bytes_in, got);
        answer_lines(&in, &pipe);
        if (!flush(&pipe.out)) {
            return 1;
        }
    }
}
