#define _GNU_SOURCE /* memmem */
#include "request.h"

#include <string.h>

static Slice cut(Slice *rest, char separator) {
    const char *found = memchr(rest->at, separator, rest->size);
    size_t size = found == NULL ? rest->size : (size_t)(found - rest->at);
    Slice head = {rest->at, size};
    size_t skipped = found == NULL ? size : size + 1;
    rest->at += skipped;
    rest->size -= skipped;
    return head;
}

static Slice trimmed(Slice slice) {
    while (slice.size > 0 && strchr(" \t\r", slice.at[slice.size - 1]) != NULL) {
        slice.size--;
    }
    while (slice.size > 0 && strchr(" \t", *slice.at) != NULL) {
        slice.at++;
        slice.size--;
    }
    return slice;
}

RequestState request_parse(Slice input, Request *request) {
    const char *end = memmem(input.at, input.size, "\r\n\r\n", 4);
    if (end == NULL) {
        return REQUEST_UNFINISHED;
    }
    Slice head = {input.at, (size_t)(end - input.at)};
    size_t head_size = head.size + 4;
    Slice line = cut(&head, '\n');
    *request = (Request){.keep_alive = true};
    request->method = cut(&line, ' ');
    request->target = cut(&line, ' ');
    if (!slice_is(trimmed(line), "HTTP/1.1")) {
        return REQUEST_MALFORMED;
    }
    size_t length = 0;
    while (head.size > 0) {
        Slice value = cut(&head, '\n');
        Slice name = cut(&value, ':');
        value = trimmed(value);
        if (slice_is_caseless(name, "content-length")) {
            length = (size_t)slice_number(value);
        } else if (slice_is_caseless(name, "connection")) {
            request->keep_alive = !slice_is_caseless(value, "close");
        } else if (slice_is_caseless(name, "transfer-encoding")) {
            return REQUEST_MALFORMED;
        }
    }
    request->body = (Slice){input.at + head_size, length};
    request->size = head_size + length;
    return request->size <= input.size ? REQUEST_COMPLETE : REQUEST_UNFINISHED;
}
