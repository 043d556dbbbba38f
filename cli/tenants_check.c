/* `whopline tenants check`: what a tenant's credential may do, asked on the spot. */
#include "base/arena.h"
#include "cli/output.h"
#include "cli/tenants.h"
#include "service/permissions.h"

#include <stdio.h>
#include <stdlib.h>

static void print_lines(const char *lines)
{
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n");
        printf("  %.*s\n", (int)len, lines);
        lines += len + (lines[len] == '\n' ? 1 : 0);
    }
}

static void print_missing(const char *slug, const char *missing)
{
    printf("%s: permission_missing\n", slug);
    print_lines(missing);
    printf("  grant them to the key or app at Whop, then run this again\n");
}

static void print_lacking(const char *slug, const char *lacking)
{
    printf("%s: disputes are not read at Whop, only events tell of them; for that grant\n", slug);
    print_lines(lacking);
}

static struct err check_one(struct cli *cli, struct outside *outside, const char *name,
                            const struct tenants_options *options, bool *good)
{
    struct tenants_subject subject = {0};
    struct permissions_found found;
    struct arena arena;
    const char *actor = cli_actor(cli, options->actor);
    TRY(tenants_find(cli, name, &subject));
    arena_init(&arena);
    struct err err = permissions_check(cli->pg, outside, &arena, subject.id, actor, &found);
    arena_close(&arena);
    *good = !err_failed(&err) && found.missing.len == 0;
    if (*good)
        printf("%s: all it needs (%s)%s\n", subject.slug, cli->config.whop_features,
               found.active ? "" : "; it is paused");
    else if (!err_failed(&err))
        print_missing(subject.slug, buf_text(&found.missing));
    if (!err_failed(&err) && found.lacking.len > 0)
        print_lacking(subject.slug, buf_text(&found.lacking));
    bool active = found.active;
    buf_close(&found.missing);
    buf_close(&found.lacking);
    if (err_failed(&err))
        return err;
    return active ? tenants_release(cli, &subject, actor) : ERR_NONE;
}

/* One that fails does not keep the others from being looked at. */
static struct err check_all(struct cli *cli, struct outside *outside,
                            const struct tenants_options *options, size_t *bad)
{
    TRY(pg_exec(cli->pg, "SELECT slug FROM tenants WHERE status <> 'disconnected' ORDER BY slug",
                NULL, 0));
    size_t count = pg_rows(cli->pg);
    char **slugs = mem_alloc((count + 1) * sizeof *slugs);
    for (size_t i = 0; i < count; i++)
        slugs[i] = mem_strdup(pg_get(cli->pg, i, 0));
    for (size_t i = 0; i < count; i++) {
        bool good = false;
        struct err err = check_one(cli, outside, slugs[i], options, &good);
        if (err_failed(&err))
            printf("%s: %s\n", slugs[i], err_text(&err));
        *bad += !good;
        free(slugs[i]);
    }
    free(slugs);
    return ERR_NONE;
}

struct err tenants_check(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct outside *outside;
    struct buf problems = {0};
    size_t bad = 0;
    bool good = true;
    permissions_check_setting(cli->config.whop_features, &problems);
    if (problems.len > 0) {
        struct err err = err_make(ERR_CONFIG, "%.*s", (int)problems.len - 1, problems.ptr);
        buf_close(&problems);
        return err;
    }
    TRY(cli_open_outside(cli, &outside));
    if (name != NULL) {
        TRY(check_one(cli, outside, name, options, &good));
        bad = good ? 0 : 1;
    } else {
        TRY(check_all(cli, outside, options, &bad));
    }
    return bad == 0 ? ERR_NONE
                    : err_make(ERR_REFUSED, "%zu tenant%s need%s attention", bad,
                               bad == 1 ? "" : "s", bad == 1 ? "s" : "");
}
