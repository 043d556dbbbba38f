#ifndef WHOPLINE_FSCK_H
#define WHOPLINE_FSCK_H
/* `whopline fsck`: where PostgreSQL and Redis do not agree, or Redis not with itself.
 *
 * Everything goes on working meanwhile, so one look proves nothing: what looks wrong is looked at
 * again a second later (fsck_redis.c), and only what is still wrong is a finding. */
#include "cli/ask.h"
#include "cli/cli.h"
#include "service/jobs_admin.h"

enum fsck_code {
    FSCK_OTHER_REDIS,
    FSCK_LATE,
    FSCK_UNKNOWN_TO_REDIS,
    FSCK_NOWHERE,
    FSCK_ENDED_ENTRY,
    FSCK_ENDED_SEEN,
    FSCK_DELAYED_WITHOUT_FIELDS,
    FSCK_FIELDS_WITHOUT_DELAY,
    FSCK_PENDING_GONE,
    FSCK_PENDING_WITHOUT_ENTRY,
    FSCK_EVENT_WITHOUT_JOBS,
    FSCK_CODE_COUNT,
};

enum { FSCK_SAMPLES = 5 };

struct fsck_finding {
    int64_t count;
    struct buf samples[FSCK_SAMPLES];
};

/* A set of ids, sorted once it is complete. */
struct fsck_ids {
    char **texts;
    size_t count;
};
void fsck_ids_add(struct fsck_ids *ids, struct span id);
void fsck_ids_sort(struct fsck_ids *ids);
bool fsck_ids_have(const struct fsck_ids *ids, const char *id);
void fsck_ids_close(struct fsck_ids *ids);

struct fsck {
    struct cli *cli;
    struct fsck_finding findings[FSCK_CODE_COUNT];
    /* what can be mended */
    struct job_ref *lost; /* queued rows that Redis does not know, or knows and has nowhere */
    size_t lost_count;
    struct fsck_ids forget;            /* "<uuid>.<gen>" known and nowhere */
    struct fsck_ids torn[QUEUE_COUNT]; /* put off, with half of it missing */
};

void fsck_found(struct fsck *fsck, enum fsck_code code, const char *sample);

/* The looks. Both stores are open. */
MUST_CHECK struct err fsck_look_at_rows(struct fsck *fsck);
MUST_CHECK struct err fsck_look_at_delayed(struct fsck *fsck);
MUST_CHECK struct err fsck_look_at_pending(struct fsck *fsck);
MUST_CHECK struct err fsck_look_at_jobs(struct fsck *fsck);

#endif
