#ifndef WHOPLINE_RESP_H
#define WHOPLINE_RESP_H
/* Commands in Redis' protocol (RESP2): an array of bulk strings. Replies are hiredis' work. */
#include "base/buf.h"

/* Appends one command. args may hold any bytes. */
void resp_add_command(struct buf *out, const struct span *args, size_t count);

#endif
