#include "json.h"

#include <string.h>

static const char *past_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
        at++;
    }
    return at;
}

/* `at` is on the opening quote. */
static const char *past_string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') {
            at++;
        }
    }
    return at < end ? at + 1 : end;
}

static const char *past_value(const char *at, const char *end) {
    int depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = past_string(at, end);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (depth > 0 && (*at == '}' || *at == ']')) {
            depth--;
            at++;
        } else if (depth > 0) {
            at++;
            continue;
        } else {
            while (at < end && strchr(",}] \t\r\n", *at) == NULL) {
                at++;
            }
        }
        if (depth == 0) {
            break;
        }
    }
    return at;
}

Slice json_member(Slice object, const char *name) {
    const char *end = object.at + object.size;
    const char *at = past_space(object.at, end);
    if (at == end || *at != '{') {
        return (Slice){NULL, 0};
    }
    for (at = past_space(at + 1, end); at < end && *at == '"'; at = past_space(at + 1, end)) {
        const char *key = at;
        at = past_string(at, end);
        Slice found = {key + 1, (size_t)(at - key) - 2};
        at = past_space(at, end);
        const char *value = past_space(at < end ? at + 1 : end, end);
        at = past_value(value, end);
        if (slice_is(found, name)) {
            return (Slice){value, (size_t)(at - value)};
        }
        at = past_space(at, end);
        if (at == end || *at != ',') {
            break;
        }
    }
    return (Slice){NULL, 0};
}
