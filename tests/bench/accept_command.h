#ifndef WHOPLINE_BENCH_ACCEPT_COMMAND_H
#define WHOPLINE_BENCH_ACCEPT_COMMAND_H
/* The ACCEPT script as raw protocol, with fields of the sizes ingest sends, for the programs that
 * show what Redis or a server without anything around it can do. */
#include "base/buf.h"
#include "bench.h"
#include "service/scripts.h"

enum { ACCEPT_PAYLOAD_BYTES = 420 /* of a normalised payment, packed */ };

static inline void accept_add(struct buf *out, struct span argument)
{
    char head[24];
    int len = snprintf(head, sizeof head, "$%zu\r\n", argument.len);
    buf_add(out, head, (size_t)len);
    buf_add(out, argument.ptr, argument.len);
    buf_add(out, "\r\n", 2);
}

/* id: as in the webhook-id header. */
static inline void accept_add_command(struct buf *out, const char *sha, struct span id,
                                      struct span body)
{
    static const char payload[ACCEPT_PAYLOAD_BYTES];
    char event_id[320];
    char seen[352];
    snprintf(event_id, sizeof event_id, "default/%.*s", (int)id.len, id.ptr);
    snprintf(seen, sizeof seen, "wl:{0}:seen:%s", event_id);
    const char *const words[] = {
        "EVALSHA", sha,      "2",           "wl:{0}:events", seen,          "86400",
        "id",      event_id, "kind",        "journal.event", "ver",         "1",
        "attempt", "0",      "occurred_ms", "1786400000000", "enqueued_ms", "1786400000000",
        "trace",   event_id, "payload"};
    buf_add_text(out, "*24\r\n");
    REQUIRE(ARRAY_LEN(words) + 3 == 24);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        accept_add(out, span_of(words[i]));
    accept_add(out, (struct span){payload, sizeof payload});
    accept_add(out, SPAN("body"));
    accept_add(out, body);
}

/* Redis' answer to SCRIPT LOAD is the script's name. */
static inline void accept_load(int fd, char sha[41])
{
    struct buf out = {0};
    char reply[128] = "";
    const struct redis_script *script = &scripts_all()[SCRIPT_ACCEPT];
    buf_add_text(&out, "*3\r\n");
    accept_add(&out, SPAN("SCRIPT"));
    accept_add(&out, SPAN("LOAD"));
    accept_add(&out, (struct span){script->source, script->size});
    bench_write(fd, out.ptr, out.len);
    buf_close(&out);
    if (read(fd, reply, sizeof reply - 1) < 45 || memcmp(reply, "$40\r\n", 5) != 0)
        bench_die("SCRIPT LOAD");
    memcpy(sha, reply + 5, 40);
    sha[40] = '\0';
}

/* Replies of ACCEPT are lines ":0" and ":1". Takes the whole ones at the start of the buffer;
 * returns how many. */
static inline long accept_take_replies(char *buffer, size_t *held)
{
    size_t at = 0;
    for (; *held - at >= 4; at += 4) {
        if (buffer[at] != ':') {
            fprintf(stderr, "Redis: %.*s\n", (int)(*held - at), buffer + at);
            exit(1);
        }
    }
    memmove(buffer, buffer + at, *held - at);
    *held -= at;
    return (long)(at / 4);
}

#endif
