#ifndef WHOPLINE_FORGE_H
#define WHOPLINE_FORGE_H
/* Forged webhooks: a sample's body or a given one, signed as Whop would sign it, or wrongly in a
 * chosen way, as the bytes of one HTTP request. One thread. */
#include "cli/body.h"
#include "cli/sender.h"
#include "codec/signature.h"

/* What is wrong with a request. All but GOOD must be refused with 401. */
enum forge_fault {
    FORGE_GOOD,
    FORGE_WRONG_SIGNATURE, /* a MAC that is not the body's */
    FORGE_STALE,           /* rightly signed, an hour ago */
    FORGE_FUTURE,          /* rightly signed, in an hour */
    FORGE_TAMPERED,        /* the body was changed after signing */
    FORGE_NO_SIGNATURE,
    FORGE_WRONG_KEY,
};

struct forge {
    struct signature_keys *keys;
    struct signature_keys *wrong_keys;
    const struct sender_target *target; /* borrowed */
};

struct forge_request {
    const char *kind;       /* "payment.succeeded"; names of any generation will do */
    const char *generation; /* NULL: the first there is of v1, v1-flat, v5, v2, v2-short */
    const char *from;       /* a body instead of a sample; NULL: none */
    size_t from_size;
    enum signature_scheme scheme; /* 0: the generation's own */
    const char *message;          /* webhook-id; NULL: new */
    struct body_values values;    /* message is ignored; now_ms 0: now */
    const char *const *sets;      /* "path=value", in order */
    size_t set_count;
    enum forge_fault fault;
};

/* What the event is about, as ingest will read it out of the body. */
enum forged_id {
    FORGED_USER,
    FORGED_MEMBERSHIP,
    FORGED_PAYMENT,
    FORGED_REFUND,
    FORGED_DISPUTE,
    FORGED_IDS,
};

/* Texts are inside; bytes is the caller's to close. */
struct forged {
    struct buf bytes;
    char event_id[400]; /* as ingest will call it: endpoint/webhook-id or endpoint/mac:hex */
    char message[SIGNATURE_ID_MAX];
    char ids[FORGED_IDS][BODY_ID_SIZE]; /* "" for what the body does not name */
    char generation[16];
};

/* secrets: as in WHOP_WEBHOOK_SECRET; the first one signs. */
MUST_CHECK struct err forge_init(struct forge *forge, const char *secrets,
                                 const struct sender_target *target);
void forge_close(struct forge *forge);

/* USAGE if there is no such sample, or for a wrong amount or path. */
MUST_CHECK struct err forge_make(struct forge *forge, const struct forge_request *request,
                                 struct forged *out);

/* The samples, by index: kind and generation. False beyond the last. */
bool forge_sample_at(size_t index, struct span *kind, const char **generation);

#endif
