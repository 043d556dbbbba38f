#include "service/migrate.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#include "sql_migrations.h"

/* An arbitrary number that is ours: "whop" in ASCII. */
#define LOCK_SQL "SELECT pg_advisory_xact_lock(2003332976)"

#define CREATE_SQL                                                                                 \
    "CREATE TABLE schema_migrations ("                                                             \
    " number integer PRIMARY KEY,"                                                                 \
    " name text NOT NULL,"                                                                         \
    " sha256 text NOT NULL,"                                                                       \
    " applied_at timestamptz NOT NULL DEFAULT now())"

/* Our files beside the database's rows, in order of number. Both are NULL-able, one is not. */
#define COMPARE_SQL                                                                                \
    "SELECT coalesce(f.number, m.number), coalesce(m.name, ''), m.number IS NOT NULL,"             \
    " f.number IS NOT NULL, coalesce(f.sha256 = m.sha256, false)"                                  \
    " FROM (SELECT number, encode(sha256(body), 'hex') AS sha256"                                  \
    "       FROM unnest($1::bigint[], $2::bytea[]) AS u(number, body)) f"                          \
    " FULL JOIN schema_migrations m ON m.number = f.number ORDER BY 1"

static int file_number(size_t file)
{
    return (int)strtol(sql_migrations[file].name, NULL, 10);
}

static struct err compare(struct pg *pg)
{
    struct pg_array numbers;
    struct pg_array bodies;
    pg_array_init(&numbers, PG_ELEMENT_BIGINT);
    pg_array_init(&bodies, PG_ELEMENT_BYTEA);
    for (size_t i = 0; i < sql_migrations_count; i++) {
        pg_array_add_integer(&numbers, file_number(i));
        pg_array_add(&bodies, (struct span){sql_migrations[i].bytes, sql_migrations[i].size});
    }
    struct err err = PG_EXEC(pg, COMPARE_SQL, pg_array_param(&numbers), pg_array_param(&bodies));
    pg_array_close(&numbers);
    pg_array_close(&bodies);
    return err;
}

static const char *known_name(int64_t number)
{
    for (size_t i = 0; i < sql_migrations_count; i++)
        if (file_number(i) == number)
            return sql_migrations[i].name;
    return "?";
}

/* Reads the comparison, which is the connection's last result. */
static struct err judge(struct pg *pg, struct migrate_status *status)
{
    int64_t missing = 0;
    *status = (struct migrate_status){.known = (int)sql_migrations_count};
    for (size_t row = 0; row < pg_rows(pg); row++) {
        int64_t number = pg_get_integer(pg, row, 0);
        bool has = pg_get_flag(pg, row, 2);
        bool known = pg_get_flag(pg, row, 3);
        if (!has) {
            missing = missing == 0 ? number : missing;
            continue;
        }
        if (missing != 0)
            return err_make(ERR_PG_SCHEMA,
                            "the database has %s but not %s, which comes before it: restore it "
                            "from a backup, or use the release that made it",
                            pg_get(pg, row, 1), known_name(missing));
        if (known && !pg_get_flag(pg, row, 4))
            return err_make(ERR_PG_SCHEMA,
                            "schema/sql/%s.sql has changed since this database was given it: put "
                            "the file back as it was and make the change a new file",
                            known_name(number));
        if (!known && status->applied != status->known)
            return err_make(ERR_PG_SCHEMA,
                            "the database has %s, which this program does not know, in the middle "
                            "of its history: use the release that made it",
                            pg_get(pg, row, 1));
        status->applied += known ? 1 : 0;
        status->newer += known ? 0 : 1;
        snprintf(status->last, sizeof status->last, "%s", pg_get(pg, row, 1));
    }
    return ERR_NONE;
}

static struct err table_exists(struct pg *pg, bool *out)
{
    TRY(pg_exec(pg, "SELECT to_regclass('schema_migrations') IS NOT NULL", NULL, 0));
    *out = pg_get_flag(pg, 0, 0);
    return ERR_NONE;
}

static struct err record(struct pg *pg, const struct embedded_file *file)
{
    return PG_EXEC(pg,
                   "INSERT INTO schema_migrations (number, name, sha256)"
                   " VALUES ($1, $2, encode(sha256($3), 'hex'))",
                   pg_integer(strtol(file->name, NULL, 10)), pg_text(file->name),
                   pg_bytes((struct span){file->bytes, file->size}));
}

/* One file, or none if nothing is missing (*name is NULL then). Leaves the transaction open. */
static struct err apply_next(struct pg *pg, const char **name, struct migrate_status *status)
{
    bool exists = false;
    *name = NULL;
    TRY(pg_begin(pg));
    TRY(pg_exec(pg, LOCK_SQL, NULL, 0));
    TRY(table_exists(pg, &exists));
    if (!exists)
        TRY(pg_script(pg, CREATE_SQL));
    TRY(compare(pg));
    TRY(judge(pg, status));
    if (status->applied == status->known)
        return ERR_NONE;
    /* Without gaps, the first that is missing comes right after the last that is there. */
    const struct embedded_file *file = &sql_migrations[status->applied];
    struct err err = pg_script(pg, file->bytes);
    if (err.code == ERR_PG_FAILED || err.code == ERR_PG_DATA)
        return err_make(err.code, "schema/sql/%s.sql: %.120s", file->name, err_text(&err));
    if (err_failed(&err))
        return err;
    TRY(record(pg, file));
    TRY(pg_commit(pg));
    *name = file->name;
    return ERR_NONE;
}

struct err migrate_apply(struct pg *pg, migrate_callback *on_applied, void *data,
                         struct migrate_status *status)
{
    for (;;) {
        const char *name = NULL;
        int64_t begun_ms = clock_mono_ms();
        struct err err = apply_next(pg, &name, status);
        if (err_failed(&err) || name == NULL) {
            pg_rollback(pg);
            return err;
        }
        if (on_applied != NULL)
            on_applied(name, clock_mono_ms() - begun_ms, data);
    }
}

struct err migrate_inspect(struct pg *pg, struct migrate_status *status)
{
    bool exists = false;
    *status = (struct migrate_status){.known = (int)sql_migrations_count};
    TRY(table_exists(pg, &exists));
    if (!exists)
        return ERR_NONE;
    TRY(compare(pg));
    return judge(pg, status);
}

struct err migrate_check(struct pg *pg)
{
    struct migrate_status status;
    TRY(migrate_inspect(pg, &status));
    if (status.applied < status.known)
        return err_make(ERR_PG_SCHEMA,
                        "the database %s%s, this program needs %s: run `whopline migrate`",
                        status.applied > 0 ? "is at " : "has no tables of ours", status.last,
                        sql_migrations[status.known - 1].name);
    if (status.newer > 0)
        log_warning("migrate", "the database is newer than this program",
                    LOG_TEXT("database", status.last),
                    LOG_TEXT("program", sql_migrations[status.known - 1].name));
    return ERR_NONE;
}
