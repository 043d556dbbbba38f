#ifndef WHOPLINE_CLI_OUTBOUND_H
#define WHOPLINE_CLI_OUTBOUND_H
/* `whopline outbound`: what its verbs share. */
#include "cli/cli.h"
#include "service/outbound_admin.h"

struct outbound_options {
    /* which */
    const char *states; /* as an array's text; NULL: all that need a look */
    const char *tenant;
    const char *operation;
    const char *key;
    const char *older; /* as typed */
    struct buf older_at;
    int64_t limit;
    int64_t id; /* show, resolve */
    /* how */
    bool verdict_given;
    enum outbound_verdict verdict;
    const char *remote_id;
    const char *why;
    const char *actor;
    bool yes;
    bool json;
};

/* In the files of these names. The database is open. */
MUST_CHECK struct err outbound_list(struct cli *cli, struct outbound_options *options);
MUST_CHECK struct err outbound_show(struct cli *cli, const struct outbound_options *options);
MUST_CHECK struct err outbound_resolve(struct cli *cli, const struct outbound_options *options);

#endif
