#include "service/jobs_admin.h"

#include <ctype.h>

enum { UNRELAY_MAX = 10000 };

/* The rows that are still as they were seen, locked in the order of their ids, so that two
 * operators wait for each other instead of deadlocking; whoever comes second finds them changed. */
#define PICKED                                                                                     \
    "WITH picked AS (SELECT j.id, j.gen, j.state, j.reason, j.error, j.attempts FROM jobs j"       \
    " JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS seen(id, gen, state)"                   \
    " ON j.id = seen.id::uuid AND j.gen = seen.gen AND j.state = seen.state"                       \
    " ORDER BY j.id FOR UPDATE OF j), "

#define MOVED_AUDIT(action)                                                                        \
    " FROM picked p WHERE j.id = p.id RETURNING j.id, j.gen)"                                      \
    " INSERT INTO audit_log (actor, action, target, reason, detail)"                               \
    " SELECT $4, '" action "', p.id::text, $5, jsonb_build_object('gen', m.gen,"                   \
    "  'was', jsonb_build_object('gen', p.gen, 'state', p.state, 'reason', p.reason,"              \
    "  'error', p.error, 'attempts', p.attempts)) FROM picked p JOIN moved m USING (id)"

static struct err change(struct pg *pg, const char *sql, const struct job_ref *refs, size_t count,
                         const struct pg_param more[2], size_t *changed)
{
    struct pg_array ids;
    struct pg_array gens;
    struct pg_array texts; /* states, or times of relay */
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    pg_array_init(&gens, PG_ELEMENT_BIGINT);
    pg_array_init(&texts, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_text(&ids, refs[i].id);
        pg_array_add_integer(&gens, refs[i].gen);
        pg_array_add_text(&texts, more != NULL ? refs[i].state : refs[i].relayed);
    }
    struct pg_param params[5] = {pg_array_param(&ids), pg_array_param(&gens),
                                 pg_array_param(&texts)};
    if (more != NULL)
        memcpy(params + 3, more, 2 * sizeof *more);
    *changed = 0;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = pg_exec(pg, sql, params, more != NULL ? 5 : 3);
    size_t affected = err_failed(&err) ? 0 : pg_affected(pg);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    pg_array_close(&ids);
    pg_array_close(&gens);
    pg_array_close(&texts);
    if (!err_failed(&err))
        *changed = affected;
    return err;
}

struct err jobs_admin_requeue(struct pg *pg, const struct job_ref *refs, size_t count,
                              const char *actor, const char *reason, size_t *changed)
{
    static const char sql[] =
        PICKED "moved AS (UPDATE jobs j SET gen = j.gen + 1, state = 'queued', relayed_at = NULL,"
               " finished_at = NULL, reason = NULL, error = NULL, attempts = 0,"
               " due_at = whopline_now(), requeued_at = whopline_now()" MOVED_AUDIT("jobs.requeue");
    return change(pg, sql, refs, count, (const struct pg_param[]){pg_text(actor), pg_text(reason)},
                  changed);
}

struct err jobs_admin_drop(struct pg *pg, const struct job_ref *refs, size_t count,
                           const char *actor, const char *reason, size_t *changed)
{
    static const char sql[] =
        PICKED "moved AS (UPDATE jobs j SET state = 'skipped', reason = 'dropped: ' || $5,"
               " finished_at = whopline_now()" MOVED_AUDIT("jobs.drop");
    return change(pg, sql, refs, count, (const struct pg_param[]){pg_text(actor), pg_text(reason)},
                  changed);
}

struct err jobs_admin_unrelay(struct pg *pg, const struct job_ref *refs, size_t count,
                              size_t *changed)
{
    return change(pg,
                  "UPDATE jobs j SET relayed_at = NULL"
                  " FROM unnest($1::text[], $2::bigint[], $3::text[]) AS seen(id, gen, relayed)"
                  " WHERE j.id = seen.id::uuid AND j.gen = seen.gen AND j.state = 'queued'"
                  " AND j.relayed_at = seen.relayed::timestamptz",
                  refs, count, NULL, changed);
}

struct err jobs_admin_unrelay_all(struct pg *pg, const char *until, size_t *changed)
{
    *changed = 0;
    TRY(PG_EXEC(pg,
                "UPDATE jobs SET relayed_at = NULL WHERE id IN (SELECT id FROM jobs"
                " WHERE state = 'queued' AND relayed_at <= $1::timestamptz"
                " ORDER BY id LIMIT $2::integer FOR UPDATE)",
                pg_text(until), pg_integer(UNRELAY_MAX)));
    *changed = pg_affected(pg);
    return ERR_NONE;
}

bool jobs_admin_parse_id(const char *text, char out[UUID_TEXT_SIZE])
{
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    size_t len = sizeof shape - 1;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (shape[i] == '-' ? byte != '-' : !isxdigit(byte))
            return false;
        out[i] = (char)tolower(byte);
    }
    out[len] = '\0';
    if (text[len] == '\0')
        return true;
    return text[len] == '.' && text[len + 1] != '\0' &&
           strspn(text + len + 1, "0123456789") == strlen(text + len + 1);
}
