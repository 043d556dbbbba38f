#ifndef WHOPLINE_WHEN_H
#define WHOPLINE_WHEN_H
/* Moments as operators write them. Pure; any thread. */
#include "base/buf.h"

/* An age ("90s", "15m", "2h", "3d", "1w") is appended as an interval PostgreSQL understands, with
 * *relative set; a time ("2026-11-21", "2026-11-21T14:30", with seconds, with "Z" or "+01:00") as a
 * timestamptz, in UTC unless it says otherwise. False, and nothing appended, for anything else.
 * Whether there is such a day is PostgreSQL's to say. */
bool when_parse(const char *text, bool *relative, struct buf *out);

#endif
