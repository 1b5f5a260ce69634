#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

Slice slice_of(const char *text) {
    return (Slice){text, strlen(text)};
}

bool slice_is(Slice slice, const char *text) {
    return slice.size == strlen(text) && memcmp(slice.at, text, slice.size) == 0;
}

bool slice_is_caseless(Slice slice, const char *text) {
    return slice.size == strlen(text) && strncasecmp(slice.at, text, slice.size) == 0;
}

long slice_number(Slice slice) {
    long number = 0;
    for (size_t i = 0; i < slice.size && slice.at[i] >= '0' && slice.at[i] <= '9'; i++) {
        number = number * 10 + (slice.at[i] - '0');
    }
    return number;
}

char *buffer_reserve(Buffer *buffer, size_t size) {
    size_t needed = buffer->size + size;
    if (needed > buffer->room) {
        buffer->room = needed < 2 * buffer->room ? 2 * buffer->room : needed;
        buffer->data = realloc(buffer->data, buffer->room);
        if (buffer->data == NULL) {
            perror("stub");
            exit(1);
        }
    }
    return buffer->data + buffer->size;
}

void buffer_add(Buffer *buffer, Slice slice) {
    if (slice.size > 0) {
        memcpy(buffer_reserve(buffer, slice.size), slice.at, slice.size);
        buffer->size += slice.size;
    }
}

void buffer_format(Buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    size_t size = (size_t)vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    vsnprintf(buffer_reserve(buffer, size + 1), size + 1, format, again);
    va_end(again);
    buffer->size += size;
}

void buffer_drop(Buffer *buffer, size_t size) {
    buffer->size -= size;
    if (buffer->size > 0) {
        memmove(buffer->data, buffer->data + size, buffer->size);
    }
}

Slice buffer_slice(const Buffer *buffer) {
    return (Slice){buffer->data, buffer->size};
}
