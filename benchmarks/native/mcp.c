#include "mcp.h"

#include "json.h"

#include <string.h>

#define STATELESS "2026-07-28"
#define HANDSHAKE "2025-11-25"
#define SERVER "{\"name\":\"stub\",\"version\":\"1.0\"}"
#define TOOL_OF_TEXT \
    "{\"name\":\"%s\",\"description\":\"%s\",\"inputSchema\":{\"type\":\"object\",\"properties\":" \
    "{\"%s\":{\"type\":\"%s\"}},\"required\":[\"%s\"]}},"

static const char LINE[] = "All work and no play makes a larger result of many equal lines.\\n";
static const char WEATHER_TOOL[] =
    "{\"name\":\"weather\",\"description\":\"Structured output.\",\"inputSchema\":{\"type\":\"object\",\"properties\":"
    "{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]},\"outputSchema\":{\"type\":\"object\",\"properties\":{"
    "\"city\":{\"type\":\"string\"},\"celsius\":{\"type\":\"number\"},\"sky\":{\"enum\":[\"sunny\",\"cloudy\"]},"
    "\"hours\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"hour\":{\"type\":\"integer\","
    "\"minimum\":0,\"maximum\":23},\"celsius\":{\"type\":\"number\"}},\"required\":[\"hour\",\"celsius\"]}}},"
    "\"required\":[\"city\",\"celsius\",\"sky\",\"hours\"]}}";
static const char LISTED_TOOL[] =
    ",{\"name\":\"tool_%04ld\",\"title\":\"Tool number %ld\",\"description\":\"One of many tools, described in a sentence "
    "or two so that the list has the size of real ones. It takes a query and a limit.\",\"inputSchema\":{\"type\":"
    "\"object\",\"properties\":{\"query\":{\"type\":\"string\",\"description\":\"What to look for\"},\"limit\":{\"type\":"
    "\"integer\",\"minimum\":1,\"default\":10}},\"required\":[\"query\"]},\"annotations\":{\"readOnlyHint\":true}}";

static Settings settings;
static Buffer tool_list;
static Buffer scratch;

static void make_tool_list(void) {
    buffer_format(&tool_list, "{\"resultType\":\"complete\",\"ttlMs\":%ld,\"cacheScope\":\"private\",\"tools\":[", settings.ttl);
    buffer_format(&tool_list, TOOL_OF_TEXT, "echo", "The text again.", "text", "string", "text");
    buffer_format(&tool_list, TOOL_OF_TEXT, "large", "A text of so many bytes.", "bytes", "integer", "bytes");
    buffer_format(&tool_list, TOOL_OF_TEXT, "progress", "Tells so often of progress.", "count", "integer", "count");
    buffer_add(&tool_list, slice_of(WEATHER_TOOL));
    for (long number = 0; number < settings.tools; number++) {
        buffer_format(&tool_list, LISTED_TOOL, number, number);
    }
    buffer_add(&tool_list, slice_of("]}"));
}

void mcp_configure(Settings wanted) {
    settings = wanted;
    make_tool_list();
}

static void add_discovery(void) {
    buffer_add(&scratch, slice_of("{\"resultType\":\"complete\",\"supportedVersions\":[\"" STATELESS "\"],"
                                  "\"capabilities\":{\"tools\":{}},\"ttlMs\":0,\"cacheScope\":\"private\","
                                  "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":" SERVER "}}"));
}

static void add_initialization(void) {
    buffer_add(&scratch, slice_of("{\"protocolVersion\":\"" HANDSHAKE "\",\"capabilities\":{\"tools\":{}},"
                                  "\"serverInfo\":" SERVER "}"));
}

static void add_echo(Slice arguments) {
    buffer_add(&scratch, slice_of("{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":"));
    buffer_add(&scratch, json_member(arguments, "text"));
    buffer_add(&scratch, slice_of("}],\"isError\":false}"));
}

/* `bytes` must be a multiple of the length of a line, 64. */
static void add_large(long bytes) {
    size_t line = sizeof LINE - 1;
    buffer_add(&scratch, slice_of("{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\""));
    size_t size = line * ((size_t)bytes / (line - 1));
    char *at = buffer_reserve(&scratch, size);
    for (size_t done = 0; done < size; done += line) {
        memcpy(at + done, LINE, line);
    }
    scratch.size += size;
    buffer_add(&scratch, slice_of("\"}],\"isError\":false}"));
}

static void add_weather(Slice arguments) {
    Slice city = json_member(arguments, "city");
    buffer_add(&scratch, slice_of("{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"mild\"}],"
                                  "\"structuredContent\":{\"city\":"));
    buffer_add(&scratch, city);
    buffer_add(&scratch, slice_of(",\"celsius\":21.5,\"sky\":\"sunny\",\"hours\":["));
    for (int hour = 0; hour < 24; hour++) {
        buffer_format(&scratch, "%s{\"hour\":%d,\"celsius\":%d.5}", hour > 0 ? "," : "", hour, 10 + hour);
    }
    buffer_add(&scratch, slice_of("]},\"isError\":false}"));
}

static void send_progress(Sink *sink, Slice params, Slice arguments) {
    Slice token = json_member(json_member(params, "_meta"), "progressToken");
    long count = slice_number(json_member(arguments, "count"));
    for (long done = 1; token.size > 0 && done <= count; done++) {
        scratch.size = 0;
        buffer_add(&scratch, slice_of("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":"));
        buffer_add(&scratch, token);
        buffer_format(&scratch, ",\"progress\":%ld,\"total\":%ld,\"message\":\"working\"}}", done, count);
        sink->send(sink, buffer_slice(&scratch), false);
    }
}

static void begin_reply(Slice id, const char *member) {
    scratch.size = 0;
    buffer_add(&scratch, slice_of("{\"jsonrpc\":\"2.0\",\"id\":"));
    buffer_add(&scratch, id);
    buffer_format(&scratch, ",\"%s\":", member);
}

static void refuse(Slice id, int code, const char *message) {
    begin_reply(id, "error");
    buffer_format(&scratch, "{\"code\":%d,\"message\":\"%s\"}", code, message);
}

static void call_tool(Slice id, Slice params, Sink *sink) {
    Slice name = json_member(params, "name");
    Slice arguments = json_member(params, "arguments");
    if (slice_is(name, "\"progress\"")) {
        send_progress(sink, params, arguments);
        arguments = (Slice){"{\"text\":\"done\"}", 15};
    }
    begin_reply(id, "result");
    if (slice_is(name, "\"echo\"") || slice_is(name, "\"progress\"")) {
        add_echo(arguments);
    } else if (slice_is(name, "\"large\"")) {
        add_large(slice_number(json_member(arguments, "bytes")));
    } else if (slice_is(name, "\"weather\"")) {
        add_weather(arguments);
    } else {
        refuse(id, -32602, "no such tool");
    }
}

void mcp_answer(Slice message, Sink *sink) {
    Slice id = json_member(message, "id");
    Slice method = json_member(message, "method");
    if (id.size == 0 || method.size == 0) {
        return;
    }
    begin_reply(id, "result");
    if (slice_is(method, "\"tools/call\"")) {
        call_tool(id, json_member(message, "params"), sink);
    } else if (slice_is(method, "\"tools/list\"")) {
        buffer_add(&scratch, buffer_slice(&tool_list));
    } else if (slice_is(method, "\"server/discover\"")) {
        add_discovery();
    } else if (slice_is(method, "\"initialize\"")) {
        add_initialization();
    } else if (slice_is(method, "\"ping\"")) {
        buffer_add(&scratch, slice_of("{}"));
    } else {
        refuse(id, -32601, "no such method");
    }
    buffer_add(&scratch, slice_of("}"));
    sink->send(sink, buffer_slice(&scratch), true);
}
