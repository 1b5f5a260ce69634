/* Runs of bytes: slices that belong to somebody else, and buffers that grow. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *at;
    size_t size;
} Slice;

typedef struct {
    char *data;
    size_t size;
    size_t room;
} Buffer;

Slice slice_of(const char *text);
bool slice_is(Slice slice, const char *text);
bool slice_is_caseless(Slice slice, const char *text);

/* The number at the beginning of a slice; 0 where there is none. */
long slice_number(Slice slice);

/* Make room for so many more bytes, and return where they go. */
char *buffer_reserve(Buffer *buffer, size_t size);
void buffer_add(Buffer *buffer, Slice slice);
void buffer_format(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forget the first bytes. */
void buffer_drop(Buffer *buffer, size_t size);
Slice buffer_slice(const Buffer *buffer);

#endif
