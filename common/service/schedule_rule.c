#include "service/schedule_rule.h"

#include "codec/cron.h"

static struct err next_of_interval(struct pg *pg, int64_t interval_ms, const char *after)
{
    return PG_EXEC(pg,
                   "SELECT whopline_from_ms(((floor(extract(epoch FROM $1::timestamptz) * 1000"
                   " / $2::bigint) + 1) * $2::bigint)::bigint)::text",
                   pg_text(after), pg_integer(interval_ms));
}

static struct err next_of_cron(struct pg *pg, const struct schedule_rule *rule, const char *after)
{
    struct cron cron;
    int64_t minutes[CRON_WINDOW_MAX];
    struct pg_array array;
    TRY(cron_parse(rule->cron, &cron));
    TRY(PG_EXEC(pg,
                "SELECT floor(extract(epoch FROM ($1::timestamptz AT TIME ZONE $2)) / 60)::bigint",
                pg_text(after), pg_text(rule->zone)));
    size_t count = cron_window(&cron, pg_get_integer(pg, 0, 0), minutes);
    pg_array_init(&array, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < count; i++)
        pg_array_add_integer(&array, minutes[i]);
    struct err err = PG_EXEC(pg,
                             "SELECT min(slot)::text FROM"
                             " whopline_slots($1::bigint[], $2, $3::boolean) AS slot"
                             " WHERE slot > $4::timestamptz",
                             pg_array_param(&array), pg_text(rule->zone),
                             pg_flag(cron_is_hourly(&cron)), pg_text(after));
    pg_array_close(&array);
    return err;
}

struct err schedule_rule_next(struct pg *pg, const struct schedule_rule *rule, const char *after,
                              struct buf *out)
{
    if (rule->interval_ms > 0)
        TRY(next_of_interval(pg, rule->interval_ms, after));
    else
        TRY(next_of_cron(pg, rule, after));
    if (pg_is_null(pg, 0, 0))
        return err_make(ERR_USAGE, "\"%.60s\" does not come again", rule->cron);
    buf_add_text(out, pg_get(pg, 0, 0));
    return ERR_NONE;
}
