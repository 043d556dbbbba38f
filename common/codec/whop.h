#ifndef WHOPLINE_WHOP_CODEC_H
#define WHOPLINE_WHOP_CODEC_H
/* What Whop's API answers, as structs: one object, a page of them, or an error.
 *
 * Objects and their fields are declared in schema/whop.def; texts live in the arena and are never
 * NULL ("" where absent, null, or odd). Unknown members and values are nobody's business here: they
 * come with each version of the API. Pure; any thread. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define WHOP_NO_NUMBER INT64_MIN

#define WHOP_TYPE_TEXT     const char *
#define WHOP_TYPE_ID       const char *
#define WHOP_TYPE_INSIDE   const char *
#define WHOP_TYPE_TIME     int64_t
#define WHOP_TYPE_AMOUNT   const char *
#define WHOP_TYPE_CURRENCY const char *
#define WHOP_TYPE_NUMBER   int64_t
#define WHOP_TYPE_FLAG     bool
#define WHOP_TYPE_JSON     const char *

#define WHOP_OBJECT(object)                   struct whop_##object {
#define WHOP_FIELD(object, sort, member, ...) WHOP_TYPE_##sort member;
#define WHOP_END(object)                                                                           \
    }                                                                                              \
    ;
#define WHOP_OPERATION(name, text, object, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION

enum whop_object {
#define WHOP_OBJECT(object) WHOP_OBJECT_##object,
#define WHOP_FIELD(object, sort, member, ...)
#define WHOP_END(object)
#define WHOP_OPERATION(name, text, object, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
    WHOP_OBJECT_COUNT
};

enum whop_operation {
#define WHOP_OBJECT(object)
#define WHOP_FIELD(object, sort, member, ...)
#define WHOP_END(object)
#define WHOP_OPERATION(name, text, object, method, path) WHOP_OPERATION_##name,
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
    WHOP_OPERATION_COUNT
};

const char *whop_operation_text(enum whop_operation operation); /* "memberships.list" */
enum whop_object whop_operation_object(enum whop_operation operation);
const char *whop_operation_method(enum whop_operation operation); /* "GET" */
const char *whop_operation_path(enum whop_operation operation);   /* "users/%/access/%" */

struct whop_page {
    size_t count;
    const void *items; /* an array of the operation's struct */
    bool more;         /* there is a next page, and next says where it begins */
    const char *next;  /* "" where there is none */
};

/* out: a struct whop_<object>. WHOP_ANSWER: not JSON, or not such an object. */
MUST_CHECK struct err whop_read(enum whop_object object, struct span body, struct arena *arena,
                                void *out);
/* WHOP_ANSWER as above; one object without an id spoils its page. */
MUST_CHECK struct err whop_read_page(enum whop_object object, struct span body, struct arena *arena,
                                     struct whop_page *out);

/* Writes an object as JSON, texts as they are: for tools and tests. */
void whop_write(enum whop_object object, const void *it, struct buf *out);

/* What an answer of status 4xx or 5xx says, in whatever generation's form. Texts are bounded,
 * printable, and without what looks like a secret or an address. */
struct whop_problem {
    char code[48];     /* "rate_limit_exceeded"; "" where it says none */
    char message[120]; /* "" likewise */
    int64_t wait_ms;   /* "Try again in 12 seconds."; -1: not said */
};
void whop_read_problem(struct span body, struct whop_problem *out);

#endif
