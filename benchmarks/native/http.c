/* MCP over HTTP/1.1, one thread: POST /json and /events are Streamable HTTP, GET /sse is HTTP+SSE. */
#define _GNU_SOURCE /* accept4 */
#include "serve.h"

#include "counters.h"
#include "mcp.h"
#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536
#define MOST_SOCKETS 4096
#define MOST_EVENTS 256

typedef struct {
    int file;
    Buffer in;
    Buffer out;
    size_t sent; /* of `out` */
    bool waits;  /* for room in the socket */
    bool ends;   /* once all is sent */
} Connection;

typedef struct {
    Sink sink;
    Connection *to;
} HTTPSink;

static int poll_file;
static Connection *connections[MOST_SOCKETS]; /* by descriptor */
static int touched = -1; /* the event stream that has something to be sent after the answer to the POST */

static void watch(Connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = connection->file};
    epoll_ctl(poll_file, operation, connection->file, &event);
}

static void drop(Connection *connection) {
    connections[connection->file] = NULL;
    close(connection->file);
    free(connection->in.data);
    free(connection->out.data);
    free(connection);
}

/* False where the connection is gone. */
static bool flush(Connection *connection) {
    Buffer *out = &connection->out;
    while (connection->sent < out->size) {
        ssize_t written = send(connection->file, out->data + connection->sent, out->size - connection->sent, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN) {
            if (!connection->waits) {
                connection->waits = true;
                watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            }
            return true;
        }
        if (written < 0) {
            drop(connection);
            return false;
        }
        connection->sent += (size_t)written;
        COUNT(bytes_out, written);
    }
    out->size = connection->sent = 0;
    if (connection->waits) {
        connection->waits = false;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    }
    if (connection->ends) {
        drop(connection);
        return false;
    }
    return true;
}

/* The three kinds of body. */

static void send_json(Sink *sink, Slice message, bool is_reply) {
    if (!is_reply) {
        return; /* a JSON body has room for the reply alone */
    }
    Buffer *out = &((HTTPSink *)sink)->to->out;
    buffer_format(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: stub\r\nContent-Length: %zu\r\n\r\n", message.size);
    buffer_add(out, message);
}

static void add_event(Buffer *out, const char *name, Slice data) {
    size_t size = strlen("event: \ndata: \n\n") + strlen(name) + data.size;
    buffer_format(out, "%zx\r\nevent: %s\ndata: ", size, name);
    buffer_add(out, data);
    buffer_add(out, slice_of("\n\n\r\n"));
}

static void send_event(Sink *sink, Slice message, bool is_reply) {
    Buffer *out = &((HTTPSink *)sink)->to->out;
    add_event(out, "message", message);
    if (is_reply) {
        buffer_add(out, slice_of("0\r\n\r\n"));
    }
}

static void send_on_stream(Sink *sink, Slice message, bool is_reply) {
    (void)is_reply;
    add_event(&((HTTPSink *)sink)->to->out, "message", message);
}

static void begin_events(Connection *connection) {
    buffer_add(&connection->out, slice_of("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                                          "Mcp-Session-Id: stub\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

static void answer_status(Connection *connection, const char *status) {
    buffer_format(&connection->out, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status);
}

/* What a request is for. */

static bool wants_reply(Slice body) {
    return memmem(body.at, body.size, "\"id\":", 5) != NULL;
}

static void open_stream(Connection *connection) {
    begin_events(connection);
    Buffer location = {0};
    buffer_format(&location, "/message/%d", connection->file);
    add_event(&connection->out, "endpoint", buffer_slice(&location));
    free(location.data);
}

static void take_message(Connection *connection, Slice target, Slice body) {
    size_t prefix = strlen("/message/");
    long file = slice_number((Slice){target.at + prefix, target.size - prefix});
    Connection *stream = file < MOST_SOCKETS ? connections[file] : NULL;
    answer_status(connection, stream != NULL ? "202 Accepted" : "404 Not Found");
    if (stream != NULL) {
        HTTPSink sink = {{send_on_stream}, stream};
        mcp_answer(body, &sink.sink);
        touched = stream->file;
    }
}

static void flush_touched(void) {
    if (touched >= 0 && connections[touched] != NULL) {
        flush(connections[touched]);
    }
    touched = -1;
}

static void answer(Connection *connection, const Request *request) {
    bool posted = slice_is(request->method, "POST");
    if (slice_is(request->method, "GET") && slice_is(request->target, "/sse")) {
        open_stream(connection);
    } else if (posted && request->target.size > 9 && memcmp(request->target.at, "/message/", 9) == 0) {
        take_message(connection, request->target, request->body);
    } else if (posted && !wants_reply(request->body)) {
        answer_status(connection, "202 Accepted");
    } else if (posted && slice_is(request->target, "/json")) {
        HTTPSink sink = {{send_json}, connection};
        mcp_answer(request->body, &sink.sink);
    } else if (posted && slice_is(request->target, "/events")) {
        HTTPSink sink = {{send_event}, connection};
        begin_events(connection);
        mcp_answer(request->body, &sink.sink);
    } else {
        answer_status(connection, slice_is(request->method, "DELETE") ? "200 OK" : "405 Method Not Allowed");
    }
    connection->ends = !request->keep_alive;
}

static void answer_all(Connection *connection) {
    Request request;
    size_t done = 0;
    RequestState state = REQUEST_COMPLETE;
    while (!connection->ends && done < connection->in.size) {
        state = request_parse((Slice){connection->in.data + done, connection->in.size - done}, &request);
        if (state != REQUEST_COMPLETE) {
            break;
        }
        COUNT(requests, 1);
        flush_touched();
        answer(connection, &request);
        done += request.size;
    }
    if (state == REQUEST_MALFORMED) {
        answer_status(connection, "400 Bad Request");
        connection->ends = true;
    }
    buffer_drop(&connection->in, done);
    flush(connection);
    flush_touched();
}

static void take_input(Connection *connection) {
    ssize_t got = recv(connection->file, buffer_reserve(&connection->in, READ_SIZE), READ_SIZE, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        drop(connection);
        return;
    }
    connection->in.size += (size_t)got;
    COUNT(bytes_in, got);
    answer_all(connection);
}

static void accept_one(int listener) {
    int file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (file < 0) {
        return;
    }
    if (file >= MOST_SOCKETS) {
        close(file);
        return;
    }
    int yes = 1;
    setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        perror("stub");
        exit(1);
    }
    connection->file = file;
    connections[file] = connection;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    COUNT(connections, 1);
}

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("stub");
        exit(1);
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int serve_http(void) {
    int listener = listen_anywhere();
    poll_file = epoll_create1(EPOLL_CLOEXEC);
    Connection listening = {.file = listener};
    watch(&listening, EPOLL_CTL_ADD, EPOLLIN);
    struct epoll_event events[MOST_EVENTS];
    while (true) {
        int ready = epoll_wait(poll_file, events, MOST_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd;
            if (file == listener) {
                accept_one(listener);
            } else if (connections[file] != NULL && (events[i].events & EPOLLOUT) != 0) {
                flush(connections[file]);
            } else if (connections[file] != NULL) {
                take_input(connections[file]);
            }
        }
    }
}
