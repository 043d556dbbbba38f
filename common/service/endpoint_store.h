#ifndef WHOPLINE_ENDPOINT_STORE_H
#define WHOPLINE_ENDPOINT_STORE_H
/* Webhook endpoints in PostgreSQL, and the file made of them for ingest (codec/endpoints.h).
 * Blocking; the connection's thread. The truth is in the database: the file can be written again at
 * any time. */
#include "base/config.h"
#include "io/pg.h"

/* An endpoint is /webhooks/whop/<name>. tenant: 0 for an app's. In the caller's transaction.
 * REFUSED if the name is somebody else's; one that was disabled is opened again. *id: its row. */
MUST_CHECK struct err endpoint_store_open(struct pg *pg, const char *name, int64_t tenant,
                                          const char *schemes, int64_t *id);
/* The tenant's endpoint, or that of the name; *id is 0 where there is none. name: NULL for any;
 * appended to out. USAGE if there are several. */
MUST_CHECK struct err endpoint_store_find(struct pg *pg, int64_t tenant, const char *name,
                                          int64_t *id, struct buf *out);
/* A secret that is valid from now on; those there end in overlap_s at the latest, and are forgotten
 * once they have. In the caller's transaction. REFUSED if it would be one too many,
 * CONFIG or USAGE if ingest could not use it. */
MUST_CHECK struct err endpoint_store_add_secret(struct pg *pg, const struct config *config,
                                                int64_t id, struct span secret, int64_t overlap_s);
/* All of the tenant's: closed, their secrets erased. In the caller's transaction. */
MUST_CHECK struct err endpoint_store_close(struct pg *pg, int64_t tenant);

struct endpoint_store_written {
    size_t count;    /* endpoints in the file */
    size_t kept;     /* of these, as the file had them: a secret in the database does not open */
    size_t left_out; /* the same, but the file did not have them */
    struct err why;  /* of the first of both */
};
/* Writes ENDPOINTS_FILE from the database: whole, synced, in one step; mode 0600, or as the file
 * is, but nobody else's. One writer at a time. CONFIG if the setting is missing. */
MUST_CHECK struct err endpoint_store_write_file(struct pg *pg, const struct config *config,
                                                struct endpoint_store_written *out);

#endif
