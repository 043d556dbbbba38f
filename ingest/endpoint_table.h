#ifndef WHOPLINE_INGEST_ENDPOINT_TABLE_H
#define WHOPLINE_INGEST_ENDPOINT_TABLE_H
/* Which paths there are, and the scheme, secrets and company of each.
 *
 * The default one (/webhooks/whop and the seeds' paths) comes from the settings; the others,
 * /webhooks/whop/<name>, from ENDPOINTS_FILE, which may also have one named "default" that goes
 * before the settings'. The file is read at start, on SIGHUP, and when it has changed; one that
 * cannot be used changes nothing, and a line of level error says so. WHOP_WEBHOOK_SECRET_FILE is
 * read again on SIGHUP, likewise.
 *
 * An endpoint found is valid until the loop's next turn: look it up again after waiting. Loop
 * thread. */
#include "base/config.h"
#include "codec/endpoints.h"

#include <uv.h>

struct endpoint {
    const char *name;
    const char *company; /* "" for an app's */
    unsigned schemes;    /* an OR of enum signature_scheme */
    struct signature_keys *keys;
    int64_t from_ms[SIGNATURE_SECRETS_MAX]; /* of each secret, Unix */
    int64_t until_ms[SIGNATURE_SECRETS_MAX];
};

struct endpoint_table {
    const struct config *config; /* borrowed */
    struct endpoint fallback;    /* of the settings; keys NULL: there is none */
    struct endpoint *list;       /* of the file, by name */
    size_t count;
    struct arena arena; /* the list, its texts */
    uv_fs_poll_t watch;
    bool watching;
};

/* Adds a line to problems for each setting that cannot be used, and for a bad file. */
void endpoint_table_check(const struct config *config, struct buf *problems);
/* With settings that have passed; reads the file. */
void endpoint_table_init(struct endpoint_table *table, const struct config *config);
/* From now on the file is looked at each ENDPOINTS_WATCH_MS. */
void endpoint_table_watch(struct endpoint_table *table, uv_loop_t *loop);
void endpoint_table_unwatch(struct endpoint_table *table); /* harmless where it is not watched */
void endpoint_table_close(struct endpoint_table *table);   /* after the loop's end */

void endpoint_table_reload(struct endpoint_table *table);
/* For SIGHUP: WHOP_WEBHOOK_SECRET, where it comes from a file. What cannot be used changes nothing,
 * and a line of level error says so. */
void endpoint_table_reread_secret(struct endpoint_table *table);

/* The endpoint of a path. NULL: none; *ours tells whether the path is one of ours at all. */
const struct endpoint *endpoint_table_find(const struct endpoint_table *table, struct span path,
                                           bool *ours);
/* Whether the secret that a signature matched is valid at that time. */
bool endpoint_allows(const struct endpoint *endpoint, int secret, int64_t now_ms);

#endif
