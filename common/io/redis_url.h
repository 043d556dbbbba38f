#ifndef WHOPLINE_REDIS_URL_H
#define WHOPLINE_REDIS_URL_H
/* REDIS_URL taken apart. Pure; any thread. */
#include "base/buf.h"
#include "base/err.h"

struct redis_url {
    char *host; /* NULL: a Unix socket */
    char *port; /* "6379" by default */
    char *path; /* of the socket; NULL: TCP */
    char *user; /* "" where there is none */
    char *password;
    int64_t db;
};

/* redis://[user:password@]host[:port][/db] or unix://[user:password@]/path[?db=n]; %XX is decoded
 * in user, password and path. CONFIG otherwise; the text never shows the password. */
MUST_CHECK struct err redis_url_parse(const char *text, struct redis_url *out);
void redis_url_close(struct redis_url *url);
/* For a program's settings: adds a line to problems unless text is understood; "" is left alone. */
void redis_url_check(const char *text, struct buf *problems);

#endif
