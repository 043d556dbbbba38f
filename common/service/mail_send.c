#include "service/mail_send.h"

#include "base/log.h"
#include "codec/json.h"
#include "codec/mail_text.h"

#include <ctype.h>
#include <stdio.h>

enum {
    US_PER_S = 1000000,
    ADDRESS_MAX = 254, /* RFC 5321, 4.5.3.1.3 */
};

const char *mail_state_name(enum mail_state state)
{
    static const char *const names[] = {
        [MAIL_SENT] = "sent",       [MAIL_LOGGED] = "logged",         [MAIL_REFUSED] = "refused",
        [MAIL_EXPIRED] = "expired", [MAIL_SUPPRESSED] = "suppressed", [MAIL_SKIPPED] = "skipped"};
    return names[state];
}

/* --- the row --------------------------------------------------------------------------------- */

struct looked {
    const char *uid;
    const char *address; /* "": none is known */
    const char *vars;
    const char *name;
    const char *username;
    const char *company;
    const char *from;
    const char *suppressed; /* why; "": not */
    const char *request;    /* as it was first made; "": it was not */
    bool off;
    bool expired;
    bool paid;
};

struct err mail_find_row(struct pg *pg, int64_t id, enum mail_name *out)
{
    TRY(PG_EXEC(pg, "SELECT template FROM email_outbox WHERE id = $1", pg_integer(id)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no mail %lld", (long long)id);
    return mail_find(pg_get(pg, 0, 0), out)
               ? ERR_NONE
               : err_make(ERR_MALFORMED, "mail %lld has a template nobody knows", (long long)id);
}

static const char *text_of(const struct mail_work *work, size_t column)
{
    return arena_strdup(work->arena, pg_get(work->pg, 0, column));
}

static struct err look(const struct mail_work *work, struct looked *out, bool *ended)
{
    struct pg *pg = work->pg;
    TRY(PG_EXEC(pg,
                "SELECT uid, address, vars, name, username, company, from_address, off, suppressed,"
                " expired, paid, request FROM mails_look($1, $2::bigint * interval '1 minute')",
                pg_integer(work->id), pg_integer(work->max_age_minutes)));
    *ended = pg_rows(pg) == 0;
    if (*ended)
        return ERR_NONE;
    *out = (struct looked){
        .uid = text_of(work, 0),
        .address = text_of(work, 1),
        .vars = text_of(work, 2),
        .name = text_of(work, 3),
        .username = text_of(work, 4),
        .company = text_of(work, 5),
        .from = text_of(work, 6),
        .off = pg_get_flag(pg, 0, 7),
        .suppressed = text_of(work, 8),
        .expired = pg_get_flag(pg, 0, 9),
        .paid = pg_get_flag(pg, 0, 10),
        .request = text_of(work, 11),
    };
    return ERR_NONE;
}

static struct err end_row(const struct mail_work *work, const struct mail_ending *ending,
                          const char *provider_id)
{
    return PG_EXEC(work->pg,
                   "UPDATE email_outbox SET state = $2, reason = $3, provider_id = $4,"
                   " request = NULL, ended_at = whopline_now()"
                   " WHERE id = $1 AND state = 'queued'",
                   pg_integer(work->id), pg_text(mail_state_name(ending->state)),
                   pg_text_or_null(ending->reason), pg_text_or_null(provider_id));
}

/* --- addresses ------------------------------------------------------------------------------- */

static bool is_plain_address(const char *text, size_t len)
{
    size_t at = 0;
    size_t ats = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c == 0x7f || strchr("<>,;:\"()[]\\", c) != NULL)
            return false;
        if (c == '@') {
            at = i;
            ats++;
        }
    }
    return ats == 1 && at > 0 && at + 1 < len && len <= ADDRESS_MAX;
}

bool mail_is_address(const char *text, bool with_name)
{
    const char *open = strchr(text, '<');
    size_t len = strlen(text);
    if (!with_name || open == NULL)
        return is_plain_address(text, len);
    for (const char *c = text; c < open; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return text[len - 1] == '>' && is_plain_address(open + 1, (size_t)(text + len - 1 - open - 1));
}

/* --- the mail -------------------------------------------------------------------------------- */

struct values {
    const struct json_value *vars;
    const struct looked *looked;
    struct arena *arena;
};

static const char *first_of(const char *one, const char *other, const char *last)
{
    return !text_is_empty(one) ? one : !text_is_empty(other) ? other : last;
}

static const char *find_value(const char *name, void *data)
{
    const struct values *values = data;
    const struct looked *looked = values->looked;
    const struct json_value *value = NULL;
    if (json_pick(values->vars, &name, 1, &value) && value != NULL)
        return json_text(value, values->arena, NULL);
    if (strcmp(name, "name") == 0)
        return first_of(looked->name, looked->username, "there");
    if (strcmp(name, "username") == 0)
        return first_of(looked->username, looked->name, "");
    return strcmp(name, "company") == 0 ? looked->company : "-";
}

static void fill(const struct mail_template *template, struct values *values, struct buf *subject,
                 struct buf *text, struct buf *html)
{
    mail_text_fill(MAIL_TEXT_PLAIN, template->subject, find_value, values, subject);
    mail_text_fill(MAIL_TEXT_PLAIN, template->text, find_value, values, text);
    mail_text_fill(MAIL_TEXT_HTML, template->html, find_value, values, html);
}

static const char *write_request(const struct mail_work *work, const struct looked *looked,
                                 const char *from)
{
    struct json_doc *doc = json_parse(span_of(looked->vars));
    struct values values = {json_root(doc), looked, work->arena};
    struct buf subject = {0};
    struct buf text = {0};
    struct buf html = {0};
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    fill(&work->templates->of[work->mail], &values, &subject, &text, &html);
    json_begin_object(&json, NULL);
    json_put_text(&json, "from", from);
    json_begin_array(&json, "to");
    json_put_text(&json, NULL, looked->address);
    json_end_array(&json);
    json_put_text(&json, "subject", buf_text(&subject));
    json_put_text(&json, "text", buf_text(&text));
    json_put_text(&json, "html", buf_text(&html));
    json_end_object(&json);
    const char *copy = arena_strdup(work->arena, buf_text(&out));
    json_free(doc);
    buf_close(&subject);
    buf_close(&text);
    buf_close(&html);
    buf_close(&out);
    return copy;
}

void mail_preview(const struct mail_templates *templates, enum mail_name mail, const char *vars,
                  bool html, struct buf *out)
{
    struct json_doc *doc = json_parse(span_of(vars));
    struct arena arena;
    const struct looked nobody = {.name = "", .username = "", .company = ""};
    struct buf parts[3] = {{0}};
    arena_init(&arena);
    struct values values = {json_root(doc), &nobody, &arena};
    fill(&templates->of[mail], &values, &parts[0], &parts[1], &parts[2]);
    buf_printf(out, "Subject: %s\n\n%s", buf_text(&parts[0]), buf_text(&parts[html ? 2 : 1]));
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        buf_close(&parts[i]);
    arena_close(&arena);
    json_free(doc);
}

/* Two runs at once make one request. */
static struct err keep_request(const struct mail_work *work, struct looked *looked)
{
    const char *from = first_of(looked->from, work->outside->config->email_from, "");
    const char *request = write_request(work, looked, from);
    TRY(PG_EXEC(work->pg,
                "UPDATE email_outbox SET request = coalesce(request, $2)"
                " WHERE id = $1 AND state = 'queued' AND uid = $3::uuid RETURNING request",
                pg_integer(work->id), pg_text(request), pg_text(looked->uid)));
    if (pg_rows(work->pg) == 0)
        return err_make(ERR_ALREADY_DONE, "the mail has ended meanwhile");
    looked->request = text_of(work, 0);
    return ERR_NONE;
}

/* --- the call -------------------------------------------------------------------------------- */

static void read_id(void *data, struct span body, struct buf *remote_id)
{
    static const char *const names[] = {"id"};
    const struct json_value *value = NULL;
    struct json_doc *doc = json_parse(body);
    struct arena scratch;
    (void)data;
    arena_init(&scratch);
    if (doc != NULL && json_pick(json_root(doc), names, 1, &value))
        buf_add_text(remote_id, json_text(value, &scratch, NULL));
    arena_close(&scratch);
    json_free(doc);
}

/* {"statusCode": 422, "name": "validation_error", "message": "..."}: its name, if it is one. The
 * message may repeat the address, and is left to `outbound show`. */
static const char *read_problem(struct arena *arena, struct span body)
{
    static const char *const names[] = {"name"};
    const struct json_value *value = NULL;
    struct json_doc *doc = json_parse(body);
    const char *name = "";
    if (doc != NULL && json_pick(json_root(doc), names, 1, &value))
        name = json_text(value, arena, NULL);
    json_free(doc);
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            return "";
    return name;
}

static bool is_running(void *data, struct span body)
{
    const struct mail_work *work = data;
    return strcmp(read_problem(work->arena, body), "concurrent_idempotent_requests") == 0;
}

static const char *read_refusal(const struct mail_work *work, const struct outbound_result *result)
{
    return arena_printf(work->arena, "status %d %.60s", result->status,
                        read_problem(work->arena, buf_span(&result->body)));
}

static const char *host_of(const char *url, struct arena *arena)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    return arena_copy(arena, host, strcspn(host, "/?#"));
}

static struct err explain(struct err err, const struct outbound_result *result)
{
    if (err.code != ERR_UNAUTHORISED && err.code != ERR_FORBIDDEN)
        return err;
    return err_make(
        ERR_FORBIDDEN,
        "Resend (status %d) does not accept RESEND_API_KEY or the sender EMAIL_FROM: mend"
        " it, restart whopline-mail, then whopline mail retry --parked",
        result->status != 0            ? result->status
        : err.code == ERR_UNAUTHORISED ? 401
                                       : 403);
}

static struct err call(struct mail_work *work, const struct looked *looked,
                       struct outbound_result *result)
{
    const struct config *config = work->outside->config;
    const char *const headers[] = {
        "Accept: application/json",
        "Content-Type: application/json",
        arena_printf(work->arena, "Authorization: Bearer %s", config->resend_api_key),
    };
    const struct outbound_call once = {
        .operation = OUTBOUND_OPERATION_mail,
        .tenant = work->tenant,
        .business_key = looked->uid,
        .job = work->job,
        .target = {.credential = "mail",
                   .operation = "emails.send",
                   .host = host_of(config->mail_api_url, work->arena),
                   .interval_us = US_PER_S / config->mail_rate_per_second},
        .request = {.method = "POST",
                    .url = arena_printf(work->arena, "%s/emails", config->mail_api_url),
                    .headers = headers,
                    .header_count = ARRAY_LEN(headers),
                    .body = span_of(looked->request),
                    .timeout_ms = config->http_timeout_ms,
                    .body_max_bytes = (size_t)config->http_answer_max},
        .read_id = read_id,
        .is_running = is_running,
        .data = work,
    };
    return outbound_run(work->pg, work->outside, &once, result);
}

static struct err send_it(const struct mail_work *work, const struct looked *looked,
                          struct mail_ending *out)
{
    struct outbound_result result = {0};
    struct mail_work own = *work;
    struct err err = call(&own, looked, &result);
    const char *provider_id = arena_strdup(work->arena, buf_text(&result.remote_id));
    *out = (struct mail_ending){.state = MAIL_SENT, .reason = ""};
    if (err.code == ERR_CALL_REFUSED) {
        *out = (struct mail_ending){.state = MAIL_REFUSED, .reason = read_refusal(work, &result)};
        err = ERR_NONE;
    }
    err = explain(err, &result);
    outbound_result_close(&result);
    TRY(err);
    TRY(pg_begin(work->pg));
    return end_row(work, out, provider_id);
}

/* --- whether --------------------------------------------------------------------------------- */

/* False: it is to be sent. What was once begun has its address already. */
static bool is_ruled_out(const struct mail_work *work, const struct looked *looked,
                         struct mail_ending *out)
{
    bool begun = !text_is_empty(looked->request);
    bool suppressible = mail_type(work->mail)->sort == MAIL_UNLESS_SUPPRESSED;
    *out = (struct mail_ending){.state = MAIL_SKIPPED, .reason = ""};
    if (looked->off)
        out->reason = "off";
    else if (!begun && text_is_empty(looked->address))
        out->reason = "no_address";
    else if (!begun && !mail_is_address(looked->address, false))
        out->reason = "bad_address";
    else if (looked->paid)
        out->reason = "paid_meanwhile";
    else if (!text_is_empty(looked->suppressed) && suppressible)
        *out = (struct mail_ending){.state = MAIL_SUPPRESSED, .reason = looked->suppressed};
    else if (looked->expired)
        *out = (struct mail_ending){.state = MAIL_EXPIRED, .reason = "too_old"};
    else if (text_is_empty(work->outside->config->resend_api_key))
        *out = (struct mail_ending){.state = MAIL_LOGGED, .reason = ""};
    else
        return false;
    return true;
}

/* It may have been begun: then its call is given up, unless that has an answer, which counts.
 * *counts: it does, and no transaction is open. */
static struct err end_unsent(const struct mail_work *work, const struct looked *looked,
                             struct mail_ending *ending, bool *counts)
{
    enum outbound_state was;
    bool there;
    TRY(pg_begin(work->pg));
    TRY(outbound_give_up(work->pg, work->tenant, OUTBOUND_OPERATION_mail, looked->uid,
                         "the mail is not to be sent any more", &was, &there));
    *counts = there && (was == OUTBOUND_DONE || was == OUTBOUND_REFUSED || was == OUTBOUND_SENDING);
    if (*counts) {
        pg_rollback(work->pg);
        return ERR_NONE;
    }
    if (there && was == OUTBOUND_UNKNOWN)
        ending->reason = arena_printf(work->arena, "%s%san earlier try may have arrived",
                                      ending->reason, text_is_empty(ending->reason) ? "" : "; ");
    return end_row(work, ending, "");
}

struct err mail_send(const struct mail_work *work, struct mail_ending *out)
{
    struct looked looked;
    bool counts = true;
    *out = (struct mail_ending){.reason = ""};
    TRY(look(work, &looked, &out->ended_before));
    if (out->ended_before)
        return pg_begin(work->pg);
    if (is_ruled_out(work, &looked, out))
        TRY(end_unsent(work, &looked, out, &counts));
    if (!counts)
        return ERR_NONE;
    if (text_is_empty(looked.request))
        TRY(keep_request(work, &looked));
    return send_it(work, &looked, out);
}
