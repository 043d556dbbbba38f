#include "service/plan_books.h"

#include "codec/json.h"
#include "codec/money.h"
#include "service/audit.h"

#include <ctype.h>

/* Whop's titles have 30 characters; what is far from that is no name. */
enum { GROWTH = 64, NAME_MAX_BYTES = 200, ID_MAX_BYTES = 64 };

const char *plan_finding_name(enum plan_finding finding)
{
    static const char *const names[] = {"new", "changed", "same", "odd", "left_out", "missing"};
    REQUIRE((size_t)finding < ARRAY_LEN(names));
    return names[finding];
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct plan_line *add_line(struct plan_books *books)
{
    if (books->count % GROWTH == 0) {
        struct plan_line *more =
            arena_alloc(books->arena, (books->count + GROWTH) * sizeof *books->lines);
        if (books->count > 0)
            memcpy(more, books->lines, books->count * sizeof *more);
        books->lines = more;
    }
    struct plan_line *line = &books->lines[books->count++];
    *line = (struct plan_line){.id = "",
                               .why = "",
                               .product = "",
                               .name = "",
                               .pack = "",
                               .title = "",
                               .token = "",
                               .currency = "",
                               .price_minor = -1,
                               .old_name = "",
                               .old_currency = "",
                               .old_price_minor = -1};
    return line;
}

static bool is_listed(const struct plan_books *books, const char *id)
{
    for (size_t i = 0; i < books->count; i++)
        if (strcmp(books->lines[i].id, id) == 0)
            return true;
    return false;
}

static bool is_named(const struct plan_books *books, const char *id)
{
    for (size_t i = 0; i < books->name_count; i++)
        if (strcmp(books->names[i], id) == 0)
            return true;
    return false;
}

static bool is_clean(const char *text, size_t most)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (iscntrl(*c))
            return false;
    return strlen(text) <= most;
}

static bool is_id(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (!isgraph(*c))
            return false;
    return strncmp(text, "plan_", 5) == 0 && strlen(text) <= ID_MAX_BYTES;
}

static const char *lower(const char *text, struct arena *arena)
{
    char *copy = arena_strdup(arena, text);
    for (char *c = copy; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

static void read_metadata(struct plan_line *line, const char *metadata, struct arena *arena)
{
    static const char *const names[] = {"packId", "whopline_request"};
    const struct json_value *values[ARRAY_LEN(names)];
    struct json_doc *doc = json_parse(span_of(metadata));
    if (doc != NULL && json_pick(json_root(doc), names, ARRAY_LEN(names), values)) {
        line->pack = json_text(values[0], arena, NULL);
        line->token = json_text(values[1], arena, NULL);
    }
    json_free(doc);
}

static void read_price(struct plan_line *line, const struct whop_plan *plan)
{
    bool renews = strcmp(plan->plan_type, "renewal") == 0;
    const char *price = renews ? plan->renewal_price : plan->initial_price;
    line->first_too = renews && money_sign(plan->initial_price) == MONEY_POSITIVE;
    if (!is_id(plan->id)) {
        line->finding = PLAN_FOUND_ODD;
        line->why = "its id is none";
    } else if (strspn(line->currency, "abcdefghijklmnopqrstuvwxyz") != 3 ||
               strlen(line->currency) != 3) {
        line->finding = PLAN_FOUND_ODD;
        line->why = "it has no currency that is one";
    } else if (!money_parse_minor(price, line->currency, &line->price_minor)) {
        line->finding = PLAN_FOUND_ODD;
        line->price_minor = -1;
        line->why = text_is_empty(price) ? "it has no price" : "its price is no amount";
    }
}

static void read_plan(struct plan_books *books, const struct whop_plan *plan)
{
    struct plan_line *line = add_line(books);
    line->id = plan->id;
    line->product = plan->product;
    line->title = plan->title;
    line->name = is_clean(plan->title, NAME_MAX_BYTES) ? plan->title : "";
    line->currency = lower(plan->currency, books->arena);
    line->archived = strcmp(plan->visibility, "archived") == 0;
    line->is_hidden_single =
        strcmp(plan->visibility, "hidden") == 0 && strcmp(plan->plan_type, "renewal") != 0;
    read_metadata(line, plan->metadata, books->arena);
    read_price(line, plan);
}

/* A list that is read while it changes may show one twice. */
static struct err read_page(struct plan_books *books, const struct whop_page *page)
{
    const struct whop_plan *plans = page->items;
    for (size_t i = 0; i < page->count; i++) {
        if ((books->name_count > 0 && !is_named(books, plans[i].id)) ||
            is_listed(books, plans[i].id))
            continue;
        if ((int64_t)books->count >= books->most)
            return err_make(ERR_TOO_LARGE,
                            "Whop lists more than %lld plans: raise WHOP_PLANS_MAX, or take those"
                            " of one --product",
                            (long long)books->most);
        read_plan(books, &plans[i]);
    }
    return ERR_NONE;
}

static struct err check_names(const struct plan_books *books)
{
    for (size_t i = 0; i < books->name_count; i++)
        if (!is_listed(books, books->names[i]))
            return err_make(ERR_NOT_FOUND, "Whop's list has no plan %.60s%s%.60s", books->names[i],
                            books->product != NULL ? " of " : "",
                            books->product != NULL ? books->product : "");
    return ERR_NONE;
}

struct err plan_books_read(struct plan_books *books, struct whop *whop)
{
    const struct whop_filter filters[] = {
        {"product_ids[]", books->product != NULL ? books->product : ""}};
    struct whop_list list;
    struct whop_page page;
    whop_list(&list, whop, WHOP_OPERATION_plans_list, filters, books->product != NULL ? 1 : 0, "");
    do {
        TRY(whop_next_page(&list, &page));
        TRY(read_page(books, &page));
    } while (page.more);
    return check_names(books);
}

/* --- laying beside each other ----------------------------------------------------------------- */

/* Of each of Whop's plans: what is on sale here; whether anything ever was; whether it was made for
 * an order at its own price (whose plan is known by its id, or else, not yet paid, by its looks);
 * whether a request that makes it is under way; what its pack sells. */
static const char ours[] =
    "SELECT w.id IS NOT NULL, w.plan_name, w.price_cents, w.currency,"
    " EXISTS (SELECT FROM whop_plans v WHERE v.tenant_id = $1 AND v.whop_plan_id = t.plan),"
    " EXISTS (SELECT FROM credit_orders o WHERE o.tenant_id = $1 AND o.own_price"
    "  AND o.payment_method = 'whop' AND (o.whop_plan_id = t.plan OR (t.single = 1"
    "  AND left(o.plan_name, 30) = t.title AND lower(o.currency) = lower(t.currency)))),"
    " EXISTS (SELECT FROM whop_plan_requests r WHERE r.tenant_id = $1 AND r.state = 'requested'"
    "  AND r.kind = 'create' AND r.token::text = t.token),"
    " k.credits_amount"
    " FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])"
    "  WITH ORDINALITY AS t(plan, title, currency, token, pack, single, place)"
    " LEFT JOIN whop_plans w ON w.tenant_id = $1 AND w.whop_plan_id = t.plan"
    "  AND w.valid_to = 'infinity'"
    " LEFT JOIN whop_plans k ON k.tenant_id = $1 AND k.pack_id = t.pack AND t.pack <> ''"
    "  AND k.valid_to = 'infinity'"
    " ORDER BY t.place";

enum { ARRAYS = 6 };

static struct err ask_ours(struct plan_books *books, struct pg *pg, int64_t tenant)
{
    struct pg_array arrays[ARRAYS];
    struct pg_param params[ARRAYS + 1];
    for (size_t i = 0; i < ARRAYS; i++)
        pg_array_init(&arrays[i], i == ARRAYS - 1 ? PG_ELEMENT_BIGINT : PG_ELEMENT_TEXT);
    for (size_t i = 0; i < books->count; i++) {
        const struct plan_line *line = &books->lines[i];
        const char *const texts[] = {line->id, line->title, line->currency, line->token,
                                     line->pack};
        for (size_t n = 0; n < ARRAY_LEN(texts); n++)
            pg_array_add_text(&arrays[n], texts[n]);
        pg_array_add_integer(&arrays[ARRAYS - 1], line->is_hidden_single ? 1 : 0);
    }
    params[0] = pg_integer(tenant);
    for (size_t i = 0; i < ARRAYS; i++)
        params[i + 1] = pg_array_param(&arrays[i]);
    struct err err = pg_exec(pg, ours, params, ARRAYS + 1);
    for (size_t i = 0; i < ARRAYS; i++)
        pg_array_close(&arrays[i]);
    return err;
}

static void leave_out(struct plan_line *line, const char *why)
{
    line->finding = PLAN_FOUND_LEFT_OUT;
    line->why = why;
}

static void judge_new(struct plan_books *books, struct pg *pg, size_t row, struct plan_line *line)
{
    bool named = is_named(books, line->id);
    line->finding = PLAN_FOUND_NEW;
    line->credits = pg_get_integer(pg, row, 7);
    if (pg_get_flag(pg, row, 6))
        leave_out(line, "its request is under way: see plans requests");
    else if (pg_get_flag(pg, row, 4))
        leave_out(line, "retired here: plans add puts it on sale again");
    else if (line->archived && !named)
        leave_out(line, "archived at Whop; name it to take it");
    else if (pg_get_flag(pg, row, 5) && !named)
        leave_out(line, "made for an order at its own price; name it to take it");
    else if (!pg_is_null(pg, row, 7))
        line->why = arena_printf(books->arena, "sells what pack %.60s does", line->pack);
    else
        line->why = "sells no credits until plans update says otherwise";
}

static void judge_known(struct plan_line *line)
{
    bool same_name = text_is_empty(line->name) || strcmp(line->name, line->old_name) == 0;
    bool same_price = line->price_minor == line->old_price_minor &&
                      strcmp(line->currency, line->old_currency) == 0;
    line->finding = same_name && same_price ? PLAN_FOUND_SAME : PLAN_FOUND_CHANGED;
    if (line->archived)
        line->why = "archived at Whop: plans retire ends it here too";
}

static void judge(struct plan_books *books, struct pg *pg, size_t row)
{
    struct plan_line *line = &books->lines[row];
    bool on_sale = pg_get_flag(pg, row, 0);
    line->old_name = arena_strdup(books->arena, pg_get(pg, row, 1));
    line->old_currency = arena_strdup(books->arena, pg_get(pg, row, 3));
    line->old_price_minor = pg_is_null(pg, row, 2) ? -1 : pg_get_integer(pg, row, 2);
    if (line->finding == PLAN_FOUND_ODD)
        return;
    if (on_sale)
        judge_known(line);
    else
        judge_new(books, pg, row, line);
}

/* Of ours, those that Whop's list should have had. */
static struct err add_missing(struct plan_books *books, struct pg *pg, int64_t tenant)
{
    size_t listed = books->count;
    if (books->name_count > 0)
        return ERR_NONE; /* each of them was found */
    TRY(PG_EXEC(pg,
                "SELECT whop_plan_id, plan_name, price_cents, currency, whop_product_id"
                " FROM whop_plans WHERE tenant_id = $1 AND valid_to = 'infinity'"
                " AND ($2::text IS NULL OR whop_product_id = $2) ORDER BY whop_plan_id",
                pg_integer(tenant), pg_text(books->product)));
    for (size_t row = 0; row < pg_rows(pg); row++) {
        bool known = false;
        for (size_t i = 0; i < listed && !known; i++)
            known = strcmp(books->lines[i].id, pg_get(pg, row, 0)) == 0;
        if (known)
            continue;
        struct plan_line *line = add_line(books);
        line->id = arena_strdup(books->arena, pg_get(pg, row, 0));
        line->finding = PLAN_FOUND_MISSING;
        line->why = "on sale here, and not in Whop's list";
        line->old_name = arena_strdup(books->arena, pg_get(pg, row, 1));
        line->old_price_minor = pg_is_null(pg, row, 2) ? -1 : pg_get_integer(pg, row, 2);
        line->old_currency = arena_strdup(books->arena, pg_get(pg, row, 3));
    }
    return ERR_NONE;
}

struct err plan_books_compare(struct plan_books *books, struct pg *pg, int64_t tenant)
{
    TRY(PG_EXEC(pg, "SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE", pg_integer(tenant)));
    TRY(ask_ours(books, pg, tenant));
    REQUIRE(pg_rows(pg) == books->count);
    for (size_t row = 0; row < pg_rows(pg); row++)
        judge(books, pg, row);
    return add_missing(books, pg, tenant);
}

/* --- entering --------------------------------------------------------------------------------- */

static struct err enter(struct pg *pg, int64_t tenant, const struct plan_line *line)
{
    const char *name = line->name;
    enum plan_result result;
    struct plan plan = {.id = line->id,
                        .name = text_is_empty(name) ? NULL : name,
                        .credits = -1,
                        .price_minor = line->price_minor,
                        .currency = line->currency,
                        .product = line->product};
    if (line->finding == PLAN_FOUND_CHANGED)
        return plan_update(pg, tenant, &plan, &result);
    /* From now on: what was paid for a plan nobody knew is in review, and a person decides. */
    plan.name = text_is_empty(name) ? line->id : name;
    plan.pack = "";
    plan.credits = line->credits;
    plan.if_free = PLAN_NO;
    plan.proration = "";
    return plan_add_from_now(pg, tenant, &plan);
}

struct err plan_books_apply(struct plan_books *books, struct pg *pg, int64_t tenant,
                            const char *actor, const char *reason)
{
    for (size_t i = 0; i < books->count; i++) {
        const struct plan_line *line = &books->lines[i];
        bool changed = line->finding == PLAN_FOUND_CHANGED;
        if (!changed && line->finding != PLAN_FOUND_NEW)
            continue;
        const struct audit audit = {.actor = actor,
                                    .action = changed ? "plans.update" : "plans.add",
                                    .target = line->id,
                                    .reason = reason};
        TRY(enter(pg, tenant, line));
        TRY(audit_add(pg, &audit));
    }
    return ERR_NONE;
}
