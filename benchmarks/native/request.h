/* Reading HTTP/1.1 requests out of a buffer. */
#ifndef REQUEST_H
#define REQUEST_H

#include "text.h"

typedef struct {
    Slice method;
    Slice target;
    Slice body;
    bool keep_alive;
    size_t size; /* of all of it */
} Request;

typedef enum { REQUEST_COMPLETE, REQUEST_UNFINISHED, REQUEST_MALFORMED } RequestState;

/* The first request in `input`. Bodies have a Content-Length: chunked ones are refused. */
RequestState request_parse(Slice input, Request *request);

#endif
