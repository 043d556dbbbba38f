#ifndef WHOPLINE_RING_RECORD_H
#define WHOPLINE_RING_RECORD_H
/* How an accepted event lies in a file: frames of content, one behind the other.
 *
 *   frame     length of the content, CRC-32C of length and content, content
 *   content   accept_record's numbers and lengths, then id, payload, body
 *
 * The frame knows nothing of its content. The checksum starts from a seed that is the file's own
 * and random: what a sender puts into a body can then never pass for a frame, even if a damaged
 * length makes a reader look for one there. Numbers are in the machine's byte order: such a file
 * does not leave its host. Any thread. */
#include "service/accept.h"

enum {
    RING_FRAME_HEAD = 8, /* bytes before the content */
    /* Far above what a setting allows a body to be; a length beyond it is damage. */
    RING_CONTENT_MAX = 32 << 20,
    RING_ID_MAX = 1024,
};

struct ring_frame {
    uint32_t len; /* of the content */
    uint32_t crc;
};

/* Appends the event as a frame. False, with nothing appended, if it is too large. */
bool ring_record_add(struct buf *out, uint32_t seed, const struct accept_record *record);
/* bytes: RING_FRAME_HEAD of them. False if no frame can begin like this. */
bool ring_frame_read(const char *bytes, struct ring_frame *out);
bool ring_frame_is_whole(const struct ring_frame *frame, uint32_t seed, struct span content);
/* out: borrows content. False if this is not what ring_record_add wrote. */
bool ring_record_read(struct span content, struct accept_record *out);

#endif
