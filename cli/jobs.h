#ifndef WHOPLINE_CLI_JOBS_H
#define WHOPLINE_CLI_JOBS_H
/* `whopline jobs`: what its verbs share. Which jobs are meant is said once (struct jobs_options),
 * and is one WHERE for all of them (JOBS_FROM), so that a plan counts what a change will touch. */
#include "cli/cli.h"

enum { JOBS_IDS_MAX = 1000 };

struct jobs_options {
    /* which */
    const char *states; /* as an array's text, "{dead,parked}" */
    bool states_given;
    const char *kind;
    const char *queue;
    const char *error;
    const char *reason_has;
    const char *tenant;
    const char *since; /* as typed */
    const char *until;
    struct buf since_at; /* as PostgreSQL knows them; jobs_open */
    struct buf until_at;
    struct pg_array ids;
    size_t id_count;
    int64_t limit; /* 0: the verb's own */
    bool all;
    /* how */
    const char *why; /* --reason of a change */
    const char *actor;
    int64_t rate; /* a second */
    bool yes;
    bool json;
};

/* The parameters $1 to $9 are jobs_params'. A job's time is that of its end, or else of its birth.
 */
#define JOBS_AT "coalesce(j.finished_at, j.created_at)"
#define JOBS_FROM                                                                                  \
    " FROM jobs j LEFT JOIN tenants t ON t.id = j.tenant_id"                                       \
    " WHERE j.state = ANY ($1::text[])"                                                            \
    " AND ($2::text[] IS NULL OR j.id = ANY ($2::text[]::uuid[]))"                                 \
    " AND ($3::text IS NULL OR j.kind = $3) AND ($4::text IS NULL OR j.queue = $4)"                \
    " AND ($5::text IS NULL OR j.error = upper($5))"                                               \
    " AND ($6::text IS NULL OR strpos(lower(j.reason), lower($6)) > 0)"                            \
    " AND ($7::text IS NULL OR t.slug = $7 OR t.whop_company_id = $7)"                             \
    " AND ($8::text IS NULL OR " JOBS_AT " >= $8::text::timestamptz)"                              \
    " AND ($9::text IS NULL OR " JOBS_AT " <= $9::text::timestamptz)"

enum { JOBS_PARAMS = 9 };
void jobs_params(struct jobs_options *options, struct pg_param out[JOBS_PARAMS]);
/* Whether anything narrows the jobs down. */
bool jobs_has_filter(const struct jobs_options *options);

/* The verbs, in the files of these names. The database is open. */
MUST_CHECK struct err jobs_list(struct cli *cli, struct jobs_options *options);
MUST_CHECK struct err jobs_show(struct cli *cli, const char *id, bool json);
MUST_CHECK struct err jobs_requeue(struct cli *cli, struct jobs_options *options);
MUST_CHECK struct err jobs_drop(struct cli *cli, struct jobs_options *options);

#endif
