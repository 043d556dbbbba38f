#ifndef WHOPLINE_CLI_H
#define WHOPLINE_CLI_H
/* What the operator's commands share: settings, stores, failing well.
 *
 * A command is a function that gets its own words (words[0] is "whopline VERB", for getopt's
 * messages) and returns the exit status. It owns nothing of struct cli. What goes wrong is one line
 * on stderr that says what and what to do; nothing here ever prints a secret. One thread. */
#include "base/config.h"
#include "io/pg.h"
#include "io/redis.h"
#include "service/outside_local.h"

enum {
    CLI_OK = 0,
    CLI_FAILED = 1, /* also: something needs attention */
    CLI_USAGE = 2,  /* also: something is broken (status) */
};

struct cli {
    struct config config;
    struct buf problems;          /* with the settings; one per line */
    struct pg *pg;                /* after cli_open_database */
    struct redis *redis;          /* after cli_open_redis, also one that cannot be reached */
    uv_loop_t loop;               /* Redis'; once there is one */
    struct outside_local outside; /* after cli_open_outside */
};

struct cli_command {
    const char *name;
    const char *usage;   /* behind the name */
    const char *purpose; /* one line */
    const char *help;    /* the rest of --help */
    int (*run)(struct cli *cli, int count, char **words);
};

/* The commands, each in the file of its name. */
extern const struct cli_command command_migrate;
extern const struct cli_command command_send;
extern const struct cli_command command_sample;
extern const struct cli_command command_status;
extern const struct cli_command command_queue;
extern const struct cli_command command_workers;
extern const struct cli_command command_jobs;
extern const struct cli_command command_schedules;
extern const struct cli_command command_audit;
extern const struct cli_command command_fsck;
extern const struct cli_command command_rebuild;
extern const struct cli_command command_events;
extern const struct cli_command command_trace;
extern const struct cli_command command_credits;
extern const struct cli_command command_outbound;
extern const struct cli_command command_orders;
extern const struct cli_command command_config;
extern const struct cli_command command_tenants;
extern const struct cli_command command_members;
extern const struct cli_command command_limits;
extern const struct cli_command command_members;
extern const struct cli_command command_mail;

/* Prints the error and returns the exit status that goes with it. */
int cli_fail(const struct err *err);
/* Prints "whopline VERB: message" with where help is, and returns CLI_USAGE. */
int cli_usage(const char *words0, const char *format, ...) PRINTF_LIKE(2, 3);

/* Connects to DATABASE_URL and checks that the schema is ours. */
MUST_CHECK struct err cli_open_database(struct cli *cli);

/* Connects to REDIS_URL, with our scripts; waits a moment for it. */
MUST_CHECK struct err cli_open_redis(struct cli *cli);
/* The way out (service/outside.h), for commands that call the other side; opens Redis too, which
 * has the budgets. */
MUST_CHECK struct err cli_open_outside(struct cli *cli, struct outside **out);
void cli_close_redis(struct cli *cli); /* and the way out */

/* Who is doing this, for the audit log: --actor, else WHOPLINE_ACTOR, SUDO_USER, the login name.
 * given: the option's value or NULL. Valid until the program's end. */
const char *cli_actor(const struct cli *cli, const char *given);

/* Runs the query with its result as JSON and prints it: an array of objects, one per row. */
MUST_CHECK struct err cli_print_json(struct cli *cli, const char *query,
                                     const struct pg_param *params, size_t count);

/* The tenant of that slug or company id; without one (NULL), WHOP_COMPANY_ID's or the only one.
 * slug: written to the buffer, may be NULL. */
MUST_CHECK struct err cli_find_tenant(struct cli *cli, const char *name, int64_t *out,
                                      struct buf *slug);

/* An event's id as tables show it ("default/mac:146338dddc6e", 12 of 64 digits): appends the whole
 * one. Any other id, or one that no event has, is appended as it is. USAGE if several events begin
 * like that. */
MUST_CHECK struct err cli_complete_id(struct cli *cli, const char *id, struct buf *out);

/* A moment an operator names: "2026-11-21", "2026-11-21 14:30" (UTC unless it says otherwise), or
 * an age, "90s", "15m", "2h", "3d", "1w". Appends it as a timestamptz's text. USAGE for anything
 * else; option is for its words. */
MUST_CHECK struct err cli_read_time(struct cli *cli, const char *option, const char *text,
                                    struct buf *out);

/* A whole number within bounds, as an option's value. */
bool cli_parse_number(const char *text, int64_t min, int64_t max, int64_t *out);

/* What an option's word stands for. */
struct cli_word {
    const char *word;
    const char *value;
};
/* NULL: it is none of them. */
const char *cli_find_word(const struct cli_word *words, size_t count, const char *typed);

/* The name nearest to what was typed, or NULL if none is near. */
const char *cli_nearest(const char *typed, const char *const *names, size_t count);

#endif
