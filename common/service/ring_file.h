#ifndef WHOPLINE_RING_FILE_H
#define WHOPLINE_RING_FILE_H
/* One file of the ring: a head, then frames (ring_record.h) to its end.
 *
 *   head   magic, checksum, seed of the frames' checksums, owner, mark
 *
 * Locked from its making to its closing; only its maker and, after that one's end, one adopter at a
 * time touch it. Appended to at a place we remember, so a write that failed half-way is cut off.
 * Readable by its user only: it holds what senders sent. */
#include "service/ring_record.h"

enum {
    RING_MARK_SIZE = 192, /* bytes, NUL included */
    RING_FILE_HEAD = 256, /* bytes before the first frame */
    RING_FILE_NAME_SIZE = 64,
};

struct ring_file {
    int fd;                         /* -1 in memory */
    struct buf memory;              /* the frames, there */
    char name[RING_FILE_NAME_SIZE]; /* in the folder; "" in memory */
    const char *folder;             /* borrowed */
    uint32_t seed;
    uint32_t owner;
    size_t end; /* head included */
    char mark[RING_MARK_SIZE];
};

enum ring_adoption {
    RING_ADOPTED,
    RING_IN_USE,  /* its process lives; or it is empty or has just gone: then it is no more */
    RING_FOREIGN, /* another owner's or user's, or of another format: left alone */
};

/* folder "": in memory, which the caller may have reserved in file->memory. The head is written
 * with the first frames. */
MUST_CHECK struct err ring_file_create(struct ring_file *file, const char *folder, uint32_t owner,
                                       uint32_t seed, const char *mark);
/* name: as ring_file_is_name found it. out: filled in when adopted. */
enum ring_adoption ring_file_adopt(struct ring_file *file, const char *folder, const char *name,
                                   uint32_t owner);
bool ring_file_is_name(const char *name);
void ring_file_close(struct ring_file *file);
void ring_file_remove(struct ring_file *file); /* and closes */

MUST_CHECK struct err ring_file_append(struct ring_file *file, struct span frames);
/* Best effort: a file whose mark could not be written is taken for stale by an adopter. */
void ring_file_set_mark(struct ring_file *file, const char *mark);

enum ring_read {
    RING_READ,    /* a record */
    RING_DAMAGED, /* none here; offset is behind it */
    RING_END,     /* nothing more; offset is the end */
    RING_CUT,     /* nothing more that makes sense; offset is the end */
};

/* Reads what is at offset, and moves it. content: the record's memory. */
enum ring_read ring_file_read(const struct ring_file *file, uint64_t *offset, struct buf *content,
                              struct accept_record *out);

#endif
