#ifndef WHOPLINE_RING_H
#define WHOPLINE_RING_H
/* The last accepted events, on this side of Redis: a few files, the oldest of which go.
 *
 * One file takes what comes; when it is an eighth of the room or a quarter of the time old, the
 * next begins. Files are dropped whole: when all in them is older than keep_ms, or, oldest first,
 * when there is no room. So what is kept is keep_ms and up to a quarter more.
 *
 *   folder ""   in memory: they survive Redis, not this process
 *   a folder    named files, each locked (flock) while its process lives. Not synced: they survive
 *               this process, not the machine. A file whose lock is free was left by a process that
 *               has ended; ring_adopt takes it over.
 *
 * Each file carries a mark: the identity of the Redis that has all of its events. A file with
 * another mark than the ring's is stale; ring_next walks those only, and ring_settle says that
 * Redis has them now. Only then does their time run again.
 *
 * One owner, one thread; calls cost file operations and never wait for anybody. now_ms is the
 * caller's, of a clock that does not step. */
#include "service/ring_file.h"

struct ring;

struct ring_options {
    const char *folder; /* borrowed for the ring's life */
    size_t max_bytes;   /* of all files together */
    int64_t keep_ms;
    const char *owner; /* whose events these are; files of another owner are left alone */
};

/* Counters start at 0 with the ring and only go up; the last two are levels. */
struct ring_stats {
    uint64_t kept;          /* events written */
    uint64_t not_kept;      /* events that could not be: too large, or the disk refused */
    uint64_t crowded_bytes; /* dropped before their time, for want of room */
    uint64_t damaged;       /* records or ends of files that could not be read */
    uint64_t adopted;       /* files of ended processes */
    uint64_t foreign;       /* files that are another owner's or user's, at the last look */
    size_t bytes;           /* of all files */
};

/* Adds a line to problems if the folder cannot be used. Creates nothing. */
void ring_check(const char *folder, struct buf *problems);
/* Makes the folder if it is not there. */
MUST_CHECK struct err ring_open(const struct ring_options *options, struct ring **out);
/* Named files stay, for whoever comes next. */
void ring_close(struct ring *ring);

/* Collects; nothing is written before ring_flush. True: so much has come together that it should
 * be flushed now. record: borrowed for the call. */
bool ring_append(struct ring *ring, const struct accept_record *record);
/* One write. SYSTEM if it fails: then what was collected is not kept, and counted. */
MUST_CHECK struct err ring_flush(struct ring *ring, int64_t now_ms);

/* Which Redis it is from now on. Files of another mark, if not empty, are stale. */
void ring_set_mark(struct ring *ring, const char *mark);
/* Takes over files of processes that have ended. Returns how many. */
size_t ring_adopt(struct ring *ring, int64_t now_ms);
/* Drops what is not stale and was old enough at confirmed_ms, the last time at which Redis was seen
 * to be the same. */
void ring_expire(struct ring *ring, int64_t confirmed_ms);

/* A place in the walk over stale files. Zero: their beginning. */
struct ring_position {
    uint64_t file;
    uint64_t offset;
};

/* The bytes in stale files. */
size_t ring_stale_bytes(const struct ring *ring);
/* The next record; false at the end. Damage is counted and left out. out: borrows the ring's
 * memory until the next call. */
bool ring_next(struct ring *ring, struct ring_position *at, struct accept_record *out);
/* Redis has everything before this place: files that end before it are no longer stale. */
void ring_settle(struct ring *ring, const struct ring_position *at, int64_t now_ms);

const struct ring_stats *ring_stats(const struct ring *ring);

#endif
