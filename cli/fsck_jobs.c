/* Jobs' rows against what Redis has of them: their marks (seen:<id>.<gen>) and their entries, in
 * the streams or put off. Three sets, none of which holds still:
 *
 *   rows queued and relayed    without a mark: lost; marked, but without an entry: nowhere
 *   entries                    whose row is not queued in that generation: ended
 *   marks                      without an entry and without such a row: left behind
 *
 * What is odd at the first pass is looked at again in a second one, PAUSE_MS later. */
#include "cli/fsck.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAUSE_MS = 1000, PAGE = 1000, ID_SIZE = UUID_TEXT_SIZE + 24 };

struct pass {
    struct fsck_ids entries; /* everywhere */
    struct fsck_ids kept;    /* of the streams' entries, those whose kind has rows */
};

struct suspects {
    struct job_ref *lost;
    size_t lost_count;
    struct job_ref *nowhere;
    size_t nowhere_count;
    struct fsck_ids queued; /* all of these rows, as <uuid>.<gen> */
    struct fsck_ids ended_entries;
    struct fsck_ids ended_marks;
};

static void write_id(const struct job_ref *ref, char out[ID_SIZE])
{
    snprintf(out, ID_SIZE, "%.*s.%lld", UUID_TEXT_SIZE - 1, ref->id, (long long)ref->gen);
}

static bool parse_ref(const char *text, struct job_ref *out)
{
    enum { GEN_DIGITS_MAX = 9 };
    if (!jobs_admin_parse_id(text, out->id) || text[UUID_TEXT_SIZE - 1] != '.' ||
        strlen(text + UUID_TEXT_SIZE) > GEN_DIGITS_MAX)
        return false;
    out->gen = strtoll(text + UUID_TEXT_SIZE, NULL, 10);
    return true;
}

static void add_ref(struct job_ref **refs, size_t *count, const struct job_ref *ref)
{
    *refs = mem_realloc(*refs, (*count + 1) * sizeof **refs);
    (*refs)[(*count)++] = *ref;
}

/* --- what Redis has -------------------------------------------------------------------------- */

static bool take_entry(struct job *job, void *data)
{
    struct pass *pass = data;
    enum job_kind kind;
    fsck_ids_add(&pass->entries, span_of(job->id));
    if (job_kind_find(span_of(job->kind), &kind) && job_type(kind)->life == JOB_LIFE_KEPT)
        fsck_ids_add(&pass->kept, span_of(job->id));
    job_free(job);
    return true;
}

static void take_delayed(struct span element, void *data)
{
    struct pass *pass = data;
    fsck_ids_add(&pass->entries, element);
}

/* Entries move from the stream to the delayed (RETRY), and back to its end (PROMOTE): looking at
 * the delayed before and after misses none that moves once meanwhile. */
static struct err collect_queue(struct fsck *fsck, enum queue_name queue, struct pass *pass)
{
    struct redis *redis = fsck->cli->redis;
    char stream[KEY_MAX];
    char fields[KEY_MAX];
    key_stream(fsck->cli->config.stream_prefix, queue, stream);
    key_fields(fsck->cli->config.stream_prefix, queue, fields);
    TRY(ask_scan(redis, "HSCAN", fields, NULL, take_delayed, pass));
    TRY(ask_each_entry(redis, stream, "-", take_entry, pass));
    return ask_scan(redis, "HSCAN", fields, NULL, take_delayed, pass);
}

static struct err collect(struct fsck *fsck, struct pass *pass)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        if (queue != QUEUE_events)
            TRY(collect_queue(fsck, (enum queue_name)queue, pass));
    fsck_ids_sort(&pass->entries);
    fsck_ids_sort(&pass->kept);
    return ERR_NONE;
}

static void close_pass(struct pass *pass)
{
    fsck_ids_close(&pass->entries);
    fsck_ids_close(&pass->kept);
}

struct marks {
    size_t prefix_len;
    struct fsck_ids ids;
};

static void take_mark(struct span key, void *data)
{
    struct marks *marks = data;
    if (key.len > marks->prefix_len)
        fsck_ids_add(&marks->ids,
                     (struct span){key.ptr + marks->prefix_len, key.len - marks->prefix_len});
}

/* Of jobs only: events' ids do not look like that. */
static struct err collect_marks(struct fsck *fsck, struct marks *marks)
{
    static const char four[] = "????"; /* of a uuid's characters; not in one piece: trigraphs */
    char prefix[KEY_MAX];
    struct buf pattern = {0};
    key_seen_prefix(fsck->cli->config.stream_prefix, prefix);
    marks->prefix_len = strlen(prefix);
    buf_printf(&pattern, "%s%s%s-%s-%s-%s-%s%s%s.*", prefix, four, four, four, four, four, four,
               four, four);
    struct err err = ask_scan(fsck->cli->redis, "SCAN", NULL, buf_text(&pattern), take_mark, marks);
    buf_close(&pattern);
    fsck_ids_sort(&marks->ids);
    return err;
}

/* Which of the jobs have a mark. */
static struct err ask_marks(struct fsck *fsck, const struct job_ref *refs, size_t count, bool *out)
{
    char prefix[KEY_MAX];
    struct fsck_ids keys = {0};
    key_seen_prefix(fsck->cli->config.stream_prefix, prefix);
    for (size_t i = 0; i < count; i++) {
        char id[ID_SIZE];
        char key[KEY_MAX + ID_SIZE];
        write_id(&refs[i], id);
        snprintf(key, sizeof key, "%s%s", prefix, id);
        fsck_ids_add(&keys, span_of(key));
    }
    struct err err = ask_exist(fsck->cli->redis, (const char *const *)keys.texts, count, out);
    fsck_ids_close(&keys);
    return err;
}

/* --- what PostgreSQL has --------------------------------------------------------------------- */

static void read_ref(struct pg *pg, size_t row, struct job_ref *out)
{
    *out = (struct job_ref){.gen = pg_get_integer(pg, row, 1), .state = "queued"};
    snprintf(out->id, sizeof out->id, "%s", pg_get(pg, row, 0));
    snprintf(out->relayed, sizeof out->relayed, "%s", pg_get(pg, row, 2));
}

static struct err check_page(struct fsck *fsck, const struct pass *pass, const struct job_ref *refs,
                             size_t count, struct suspects *suspects)
{
    bool marked[PAGE];
    TRY(ask_marks(fsck, refs, count, marked));
    for (size_t i = 0; i < count; i++) {
        char id[ID_SIZE];
        write_id(&refs[i], id);
        fsck_ids_add(&suspects->queued, span_of(id));
        if (!marked[i])
            add_ref(&suspects->lost, &suspects->lost_count, &refs[i]);
        else if (!fsck_ids_have(&pass->entries, id))
            add_ref(&suspects->nowhere, &suspects->nowhere_count, &refs[i]);
    }
    return ERR_NONE;
}

static struct err check_rows(struct fsck *fsck, const struct pass *pass, struct suspects *suspects)
{
    struct pg *pg = fsck->cli->pg;
    struct job_ref *refs = mem_alloc(PAGE * sizeof *refs);
    struct job_ref last = {.relayed = "-infinity", .id = "00000000-0000-0000-0000-000000000000"};
    struct buf until = {0};
    size_t count = 0;
    struct err err = pg_exec(pg, "SELECT whopline_now()::text", NULL, 0);
    if (!err_failed(&err))
        buf_add_text(&until, pg_get(pg, 0, 0));
    do {
        if (!err_failed(&err))
            err = PG_EXEC(pg,
                          "SELECT id, gen, relayed_at FROM jobs"
                          " WHERE state = 'queued' AND relayed_at IS NOT NULL"
                          " AND (relayed_at, id) > ($1::text::timestamptz, $2::text::uuid)"
                          " AND relayed_at <= $3::text::timestamptz"
                          " ORDER BY relayed_at, id LIMIT $4::integer",
                          pg_text(last.relayed), pg_text(last.id), pg_text(buf_text(&until)),
                          pg_integer(PAGE));
        count = err_failed(&err) ? 0 : pg_rows(pg);
        for (size_t row = 0; row < count; row++)
            read_ref(pg, row, &refs[row]);
        if (count > 0) {
            last = refs[count - 1];
            err = check_page(fsck, pass, refs, count, suspects);
        }
    } while (count == PAGE && !err_failed(&err));
    fsck_ids_sort(&suspects->queued);
    buf_close(&until);
    free(refs);
    return err;
}

/* Whether there is a row of the job, and whether it is queued in this generation. */
struct standing {
    bool has_row;
    bool is_queued;
};

static struct err ask_standing(struct pg *pg, const struct job_ref *refs, size_t count,
                               struct standing *out)
{
    struct pg_array ids;
    struct pg_array gens;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    pg_array_init(&gens, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_text(&ids, refs[i].id);
        pg_array_add_integer(&gens, refs[i].gen);
    }
    struct err err =
        PG_EXEC(pg,
                "SELECT j.id IS NOT NULL, coalesce(j.state = 'queued' AND j.gen = w.gen, false)"
                " FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w(id, gen, place)"
                " LEFT JOIN jobs j ON j.id = w.id::uuid ORDER BY w.place",
                pg_array_param(&ids), pg_array_param(&gens));
    pg_array_close(&ids);
    pg_array_close(&gens);
    for (size_t row = 0; !err_failed(&err) && row < pg_rows(pg); row++)
        out[row] = (struct standing){pg_get_flag(pg, row, 0), pg_get_flag(pg, row, 1)};
    return err;
}

/* Those of the ids that no row answers for go to out. must: only these may be without any row. */
static struct err pick_ended(struct fsck *fsck, const struct fsck_ids *ids,
                             const struct fsck_ids *except, const struct fsck_ids *except_too,
                             const struct fsck_ids *rowless, struct fsck_ids *out)
{
    struct job_ref *refs = mem_alloc(PAGE * sizeof *refs);
    size_t *places = mem_alloc(PAGE * sizeof *places);
    struct standing *standings = mem_alloc(PAGE * sizeof *standings);
    struct err err = ERR_NONE;
    size_t i = 0;
    while (i < ids->count && !err_failed(&err)) {
        size_t count = 0;
        for (; i < ids->count && count < PAGE; i++) {
            if (fsck_ids_have(except, ids->texts[i]) ||
                (except_too != NULL && fsck_ids_have(except_too, ids->texts[i])))
                continue;
            places[count] = i;
            if (parse_ref(ids->texts[i], &refs[count]))
                count++;
        }
        if (count > 0)
            err = ask_standing(fsck->cli->pg, refs, count, standings);
        for (size_t k = 0; k < count && !err_failed(&err); k++) {
            const char *id = ids->texts[places[k]];
            bool may = standings[k].has_row || rowless == NULL || fsck_ids_have(rowless, id);
            if (may && !standings[k].is_queued)
                fsck_ids_add(out, span_of(id));
        }
    }
    free(refs);
    free(places);
    free(standings);
    return err;
}

/* --- the second pass ------------------------------------------------------------------------- */

static void add_finding(struct fsck *fsck, enum fsck_code code, const struct job_ref *ref)
{
    char id[ID_SIZE];
    write_id(ref, id);
    fsck_found(fsck, code, id);
    add_ref(&fsck->lost, &fsck->lost_count, ref);
    if (code == FSCK_NOWHERE)
        fsck_ids_add(&fsck->forget, span_of(id));
}

/* The rows that still stand as they did, marked or not as wanted, and are in no queue. */
static struct err confirm_rows(struct fsck *fsck, const struct pass *second, bool marked,
                               const struct job_ref *refs, size_t count)
{
    for (size_t i = 0; i < count; i += PAGE) {
        size_t part = count - i < PAGE ? count - i : PAGE;
        struct standing standings[PAGE];
        bool marks[PAGE];
        /* Marks first: a worker ends the row before it takes the mark away. */
        TRY(ask_marks(fsck, refs + i, part, marks));
        TRY(ask_standing(fsck->cli->pg, refs + i, part, standings));
        for (size_t k = 0; k < part; k++) {
            char id[ID_SIZE];
            write_id(&refs[i + k], id);
            if (standings[k].is_queued && marks[k] == marked &&
                !fsck_ids_have(&second->entries, id))
                add_finding(fsck, marked ? FSCK_NOWHERE : FSCK_UNKNOWN_TO_REDIS, &refs[i + k]);
        }
    }
    return ERR_NONE;
}

static struct err confirm_marks(struct fsck *fsck, const struct pass *second,
                                const struct fsck_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        struct job_ref ref = {.gen = 0};
        bool marked = false;
        if (!parse_ref(ids->texts[i], &ref) || fsck_ids_have(&second->entries, ids->texts[i]))
            continue;
        TRY(ask_marks(fsck, &ref, 1, &marked));
        if (marked)
            fsck_found(fsck, FSCK_ENDED_SEEN, ids->texts[i]);
    }
    return ERR_NONE;
}

static struct err confirm(struct fsck *fsck, const struct suspects *suspects)
{
    const struct timespec pause = {.tv_sec = PAUSE_MS / 1000};
    struct pass second = {.entries = {0}};
    if (suspects->lost_count + suspects->nowhere_count + suspects->ended_entries.count +
            suspects->ended_marks.count ==
        0)
        return ERR_NONE;
    nanosleep(&pause, NULL);
    struct err err = collect(fsck, &second);
    if (!err_failed(&err))
        err = confirm_rows(fsck, &second, false, suspects->lost, suspects->lost_count);
    if (!err_failed(&err))
        err = confirm_rows(fsck, &second, true, suspects->nowhere, suspects->nowhere_count);
    if (!err_failed(&err))
        err = confirm_marks(fsck, &second, &suspects->ended_marks);
    for (size_t i = 0; !err_failed(&err) && i < suspects->ended_entries.count; i++)
        if (fsck_ids_have(&second.entries, suspects->ended_entries.texts[i]))
            fsck_found(fsck, FSCK_ENDED_ENTRY, suspects->ended_entries.texts[i]);
    close_pass(&second);
    return err;
}

/* --- together -------------------------------------------------------------------------------- */

struct err fsck_look_at_jobs(struct fsck *fsck)
{
    struct pass first = {.entries = {0}};
    struct marks marks = {0};
    struct suspects suspects = {0};
    struct err err = collect_marks(fsck, &marks);
    if (!err_failed(&err))
        err = collect(fsck, &first);
    if (!err_failed(&err))
        err = check_rows(fsck, &first, &suspects);
    if (!err_failed(&err))
        err = pick_ended(fsck, &first.entries, &suspects.queued, NULL, &first.kept,
                         &suspects.ended_entries);
    if (!err_failed(&err))
        err = pick_ended(fsck, &marks.ids, &suspects.queued, &first.entries, NULL,
                         &suspects.ended_marks);
    if (!err_failed(&err))
        err = confirm(fsck, &suspects);
    close_pass(&first);
    fsck_ids_close(&marks.ids);
    fsck_ids_close(&suspects.queued);
    fsck_ids_close(&suspects.ended_entries);
    fsck_ids_close(&suspects.ended_marks);
    free(suspects.lost);
    free(suspects.nowhere);
    return err;
}
