/* bare_worker: the least that takes jobs out of a stream and acknowledges them: one connection, 128
 * entries a read, then XACK and XDEL of all of them and the next read in one write. No leases, no
 * retries, no database, nothing looked at but the entries' ids: the distance to it is what the
 * runtime's care costs.
 *
 *   bench_bare_worker SOCKET STREAM
 *
 * Reads as consumer "bare" of group g, which must be there. Trusts its peer entirely; ends with
 * SIGTERM. */
#include "bench.h"
#include "codec/resp.h"
#include "service/keys.h"

enum { BATCH = 128, REPLY_MAX = 4 << 20 /* of a read: 32 KiB for each entry */ };

static struct {
    int fd;
    size_t at; /* of what is read, so far looked at */
    size_t have;
    char reply[REPLY_MAX]; /* all replies of a turn: ids point into it */
} peer;

static void fill(void)
{
    if (peer.have == sizeof peer.reply)
        bench_die("a reply is too long");
    ssize_t len = read(peer.fd, peer.reply + peer.have, sizeof peer.reply - peer.have);
    if (len <= 0)
        bench_die("Redis closed the connection");
    peer.have += (size_t)len;
}

/* The type of the next value; *number is its length, count or value. */
static char take_head(long *number)
{
    const char *end;
    while ((end = memchr(peer.reply + peer.at, '\n', peer.have - peer.at)) == NULL)
        fill();
    const char *head = peer.reply + peer.at;
    peer.at = (size_t)(end + 1 - peer.reply);
    if (*head == '-') {
        fprintf(stderr, "Redis: %.*s\n", (int)(end - head), head);
        exit(1);
    }
    *number = strtol(head + 1, NULL, 10);
    return *head;
}

static struct span take_bytes(long len)
{
    while (peer.have - peer.at < (size_t)len + 2)
        fill();
    struct span bytes = {peer.reply + peer.at, (size_t)len};
    peer.at += (size_t)len + 2;
    return bytes;
}

static struct span take_text(void)
{
    long len = 0;
    if (take_head(&len) != '$' || len < 0)
        bench_die("not the reply of a read");
    return take_bytes(len);
}

/* {{stream, {{id, {name, value, ...}}, ...}}}, or nil. Returns how many ids. */
static size_t take_entries(struct span ids[BATCH])
{
    long streams = 0;
    long entries = 0;
    long number = 0;
    take_head(&streams);
    if (streams < 0)
        return 0;
    take_head(&number);
    take_text();
    take_head(&entries);
    for (long i = 0; i < entries; i++) {
        long fields = 0;
        take_head(&number);
        ids[i] = take_text();
        take_head(&fields);
        for (long f = 0; f < fields; f++)
            take_text();
    }
    return (size_t)entries;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s SOCKET STREAM\n", argv[0]);
        return 2;
    }
    const struct span stream = span_of(argv[2]);
    const struct span read_args[] = {
        SPAN("XREADGROUP"), SPAN("GROUP"), SPAN(KEYS_GROUP), SPAN("bare"),
        SPAN("COUNT"),      SPAN("128"),   SPAN("BLOCK"),    SPAN("2000"),
        SPAN("STREAMS"),    stream,        SPAN(">"),
    };
    struct span ack[BATCH + 3] = {SPAN("XACK"), stream, SPAN(KEYS_GROUP)};
    struct span del[BATCH + 2] = {SPAN("XDEL"), stream};
    struct buf out = {0};
    size_t count = 0;
    peer.fd = bench_connect_unix(argv[1]);
    for (;;) {
        long number = 0;
        buf_clear(&out);
        if (count > 0) {
            memcpy(del + 2, ack + 3, count * sizeof *ack);
            resp_add_command(&out, ack, count + 3);
            resp_add_command(&out, del, count + 2);
        }
        resp_add_command(&out, read_args, ARRAY_LEN(read_args));
        bench_write(peer.fd, out.ptr, out.len);
        peer.at = peer.have = 0;
        if (count > 0) {
            take_head(&number);
            take_head(&number);
        }
        count = take_entries(ack + 3);
    }
}
