#ifndef WHOPLINE_CREDENTIALS_H
#define WHOPLINE_CREDENTIALS_H
/* What a tenant's calls are made with: its own key or OAuth token, sealed in tenant_credentials, or
 * the installation's WHOP_API_KEY, which tenants without one share. Blocking; the connection's
 * thread.
 *
 * A tenant has one Whop credential in use: storing one revokes what was there before. Revoked ones
 * are erased; their rows stay, because outside calls were charged to them by name. */
#include "base/config.h"
#include "codec/seal.h"
#include "io/pg.h"

enum { CREDENTIAL_NAME_SIZE = 24, CREDENTIAL_COMPANY_SIZE = 64 };

struct credential {
    int64_t id;      /* of its row; 0: WHOP_API_KEY */
    int64_t version; /* rises with each refresh */
    int64_t tenant;
    bool is_oauth;
    bool is_expiring;                      /* within TOKEN_REFRESH_AHEAD_SECONDS, or expired */
    char name[CREDENTIAL_NAME_SIZE];       /* "c12", "app": whose budget, struct outside_target */
    char company[CREDENTIAL_COMPANY_SIZE]; /* the tenant's */
    struct buf token;                      /* what goes behind "Bearer " */
    struct buf refresh_token;              /* empty unless is_oauth */
};

enum credential_use {
    CREDENTIAL_FOR_WORK,  /* refused unless the tenant is active */
    CREDENTIAL_FOR_CHECK, /* to find out whether it works (again) */
    CREDENTIAL_FOR_END,   /* to be given back; also of a tenant that is disconnected */
};

/* TENANT_PAUSED, TENANT_DISCONNECTED, TENANT_REAUTH, TENANT_PERMISSION, CREDENTIAL_MISSING, SEALED,
 * each saying what to do. */
MUST_CHECK struct err credential_load(struct pg *pg, const struct config *config, int64_t tenant,
                                      enum credential_use use, struct credential *out);
void credential_close(struct credential *credential); /* wipes; harmless after a failed load */

/* An OAuth answer, or a file of the same form: access_token and refresh_token; expires_in (seconds
 * from now) or expires_at (Unix seconds); scope. */
struct credential_tokens {
    struct buf access;
    struct buf refresh;
    struct buf scope;  /* words with blanks between */
    int64_t expires_s; /* from now on; 0: not said, to be refreshed at once */
};
/* text: JSON. MALFORMED, without any of it. now_s: Unix. */
MUST_CHECK struct err credential_parse_tokens(struct span text, int64_t now_s,
                                              struct credential_tokens *out);
void credential_close_tokens(struct credential_tokens *tokens);

/* In the caller's transaction. */
MUST_CHECK struct err credential_store_key(struct pg *pg, const struct config *config,
                                           int64_t tenant, struct span key);
MUST_CHECK struct err credential_store_tokens(struct pg *pg, const struct config *config,
                                              int64_t tenant,
                                              const struct credential_tokens *tokens);
/* Revokes and erases all of the tenant's. In the caller's transaction. */
MUST_CHECK struct err credential_erase(struct pg *pg, int64_t tenant);

/* For a refresh: the new tokens, if the version is still that (*stored). A statement of its own or
 * in the caller's transaction; ends the refresh's lock. */
MUST_CHECK struct err credential_replace_tokens(struct pg *pg, const struct config *config,
                                                const struct credential *old,
                                                const struct credential_tokens *tokens,
                                                bool *stored);

struct credential_rekeyed {
    size_t sealed;
    size_t failed;      /* they stay as they are */
    struct err why;     /* of the first of those */
    bool more;          /* call again */
    int64_t after;      /* which have been tried */
    bool after_secrets; /* of webhooks */
};
/* Seals one secret anew that is not under the newest key, if nobody changes it meanwhile. so_far:
 * begins as zeroes. */
MUST_CHECK struct err credential_rekey(struct pg *pg, const struct config *config,
                                       struct credential_rekeyed *so_far);

/* The keys of the settings; the caller frees them. CONFIG. */
MUST_CHECK struct err credential_keys(const struct config *config, struct seal_keys **out);
/* Columns key_id, nonce, ciphertext, tag of a result, from column on; the caller closes the
 * ciphertext. */
void credential_read_box(struct pg *pg, size_t row, size_t column, struct sealed *out);

#endif
