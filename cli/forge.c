#include "cli/forge.h"

#include "base/clock.h"
#include "cli/cli.h"
#include "codec/event.h"
#include "codec/json.h"

#include <stdio.h>
#include <stdlib.h>

#include "samples.h"

enum { HOUR_S = 3600 };

struct err forge_init(struct forge *forge, const char *secrets, const struct sender_target *target)
{
    char wrong[BODY_ID_SIZE];
    body_fresh_id("ws_", wrong);
    *forge = (struct forge){.target = target};
    if (secrets[0] == '\0')
        return err_make(ERR_CONFIG, "WHOP_WEBHOOK_SECRET is not set, so nothing can be signed: "
                                    "give it the secret ingest has");
    struct err err = signature_keys_new(secrets, &forge->keys);
    if (!err_failed(&err))
        err = signature_keys_new(wrong, &forge->wrong_keys);
    return err;
}

void forge_close(struct forge *forge)
{
    signature_keys_free(forge->keys);
    signature_keys_free(forge->wrong_keys);
    *forge = (struct forge){0};
}

/* --- samples --------------------------------------------------------------------------------- */

bool forge_sample_at(size_t index, struct span *kind, const char **generation)
{
    if (index >= samples_count)
        return false;
    const char *dot = strrchr(samples[index].name, '.');
    REQUIRE(dot != NULL);
    *kind = (struct span){samples[index].name, (size_t)(dot - samples[index].name)};
    *generation = dot + 1;
    return true;
}

/* Do both names stand for one event, in whatever generations? */
static bool is_alias(struct span one, struct span other)
{
    const char *kind = event_kind_of(one);
    const char *other_kind = event_kind_of(other);
    return kind != NULL && other_kind != NULL && strcmp(kind, other_kind) == 0;
}

static const struct embedded_file *find_sample(const char *kind, const char *generation,
                                               bool by_alias)
{
    struct span wanted = span_of(kind);
    struct span name;
    const char *its;
    for (size_t i = 0; forge_sample_at(i, &name, &its); i++)
        if (strcmp(its, generation) == 0 &&
            (by_alias ? is_alias(name, wanted) : span_equal(name, wanted)))
            return &samples[i];
    return NULL;
}

/* There is no such sample: says what there is of the kind, or which kind may have been meant. */
static struct err no_sample(const struct forge_request *request)
{
    enum { KIND_MAX_BYTES = 64 };
    char(*kinds)[KIND_MAX_BYTES] = mem_zalloc(samples_count * sizeof *kinds);
    const char **names = mem_zalloc(samples_count * sizeof *names);
    struct span name;
    const char *generation;
    struct buf generations = {0};
    struct err err;
    for (size_t i = 0; forge_sample_at(i, &name, &generation); i++) {
        snprintf(kinds[i], sizeof kinds[i], "%.*s", (int)name.len, name.ptr);
        names[i] = kinds[i];
        if (span_equal(name, span_of(request->kind)) || is_alias(name, span_of(request->kind)))
            buf_printf(&generations, "%s%s", generations.len > 0 ? ", " : "", generation);
    }
    const char *nearest = cli_nearest(request->kind, names, samples_count);
    if (generations.len > 0)
        err = err_make(ERR_USAGE, "there is no sample of %.60s as %.20s, but as %s", request->kind,
                       request->generation, buf_text(&generations));
    else if (nearest != NULL)
        err = err_make(ERR_USAGE, "there is no sample of %.60s; did you mean %s?", request->kind,
                       nearest);
    else
        err = err_make(ERR_USAGE, "there is no sample of %.60s; see whopline send --list",
                       request->kind);
    buf_close(&generations);
    free(names);
    free(kinds);
    return err;
}

static struct err choose_sample(const struct forge_request *request, struct forged *out,
                                struct span *sample)
{
    static const char *const order[] = {"v1", "v1-flat", "v5", "v2", "v2-short"};
    const struct embedded_file *file = NULL;
    /* The name as it was given comes first: went_valid is v5's, not v1's by another name. */
    for (size_t i = 0; i < 2 * ARRAY_LEN(order) && file == NULL; i++) {
        const char *generation =
            request->generation != NULL ? request->generation : order[i % ARRAY_LEN(order)];
        file = find_sample(request->kind, generation, i >= ARRAY_LEN(order));
        snprintf(out->generation, sizeof out->generation, "%s", generation);
    }
    if (file == NULL)
        return no_sample(request);
    *sample = (struct span){file->bytes, file->size};
    return ERR_NONE;
}

/* --- body ------------------------------------------------------------------------------------ */

/* A body from a file keeps its own id, as a sender's repetition would. */
static void take_message_from(const char *body, size_t size, struct forged *out)
{
    static const char *const names[] = {"id"};
    const struct json_value *id = NULL;
    struct arena arena;
    struct json_doc *doc = json_parse((struct span){body, size});
    arena_init(&arena);
    if (doc != NULL && json_pick(json_root(doc), names, 1, &id) && id != NULL) {
        const char *text = json_text(id, &arena, NULL);
        if (text[0] != '\0' && strlen(text) < sizeof out->message)
            snprintf(out->message, sizeof out->message, "%s", text);
    }
    arena_close(&arena);
    json_free(doc);
}

static void choose_ids(const struct forge_request *request, struct forged *out)
{
    body_fresh_id("msg_", out->message);
    if (request->message != NULL)
        snprintf(out->message, sizeof out->message, "%s", request->message);
    else if (request->from != NULL)
        take_message_from(request->from, request->from_size, out);
}

static struct err make_body(const struct forge_request *request, struct forged *out,
                            struct buf *body)
{
    struct body_values values = request->values;
    char payment[BODY_ID_SIZE];
    struct span sample;
    if (values.amount != NULL && !body_is_amount(values.amount))
        return err_make(ERR_USAGE, "\"%s\" is not an amount like 49.99 (odd ones go by --set)",
                        values.amount);
    choose_ids(request, out);
    body_fresh_id("pay_", payment);
    values.message = out->message;
    if (values.payment == NULL)
        values.payment = payment;
    if (values.now_ms == 0)
        values.now_ms = clock_wall_ms();
    if (request->from != NULL) {
        snprintf(out->generation, sizeof out->generation, "%s",
                 request->generation != NULL ? request->generation : "v1");
        buf_add(body, request->from, request->from_size);
    } else {
        TRY(choose_sample(request, out, &sample));
        body_render(sample, &values, body);
    }
    for (size_t i = 0; i < request->set_count; i++)
        TRY(body_assign(body, request->sets[i]));
    return ERR_NONE;
}

/* Reads the ids as ingest will, so that nothing is claimed that is not in the body. */
static void take_ids(struct span body, struct forged *out)
{
    const struct signature_check check = {.scheme = SIGNATURE_STANDARD};
    const struct event_source source = {.endpoint = "default",
                                        .endpoint_company = "",
                                        .webhook_id = span_of(out->message),
                                        .check = &check,
                                        .body = body};
    struct event event;
    struct arena arena;
    arena_init(&arena);
    event_normalise(&source, &arena, &event);
    const char *const ids[] = {
        [FORGED_USER] = event.user,       [FORGED_MEMBERSHIP] = event.membership,
        [FORGED_PAYMENT] = event.payment, [FORGED_REFUND] = event.refund,
        [FORGED_DISPUTE] = event.dispute,
    };
    for (size_t i = 0; i < FORGED_IDS; i++)
        snprintf(out->ids[i], sizeof out->ids[i], "%s", ids[i]);
    arena_close(&arena);
}

/* --- signature ------------------------------------------------------------------------------- */

/* Another letter in the middle of the MAC: well-formed and wrong. */
static void spoil(char *signature)
{
    char *letter = &signature[strlen(signature) - 8];
    *letter = *letter == 'a' ? 'b' : 'a';
}

static void add_signature(struct forge *forge, const struct forge_request *request,
                          struct span body, struct forged *out)
{
    char timestamp[24];
    char header[SIGNATURE_HEADER_SIZE];
    enum signature_scheme scheme = request->scheme;
    int64_t now_s = clock_wall_ms() / 1000;
    if (scheme == 0)
        scheme = strncmp(out->generation, "v1", 2) == 0 ? SIGNATURE_STANDARD : SIGNATURE_LEGACY;
    if (request->fault == FORGE_STALE)
        now_s -= HOUR_S;
    if (request->fault == FORGE_FUTURE)
        now_s += HOUR_S;
    snprintf(timestamp, sizeof timestamp, "%lld", (long long)now_s);
    signature_sign(request->fault == FORGE_WRONG_KEY ? forge->wrong_keys : forge->keys, scheme,
                   span_of(out->message), span_of(timestamp), body, header);
    if (request->fault == FORGE_WRONG_SIGNATURE)
        spoil(header);
    bool absent = request->fault == FORGE_NO_SIGNATURE;
    if (scheme == SIGNATURE_STANDARD) {
        buf_printf(&out->bytes, "webhook-id: %s\r\nwebhook-timestamp: %s\r\n", out->message,
                   timestamp);
        if (!absent)
            buf_printf(&out->bytes, "webhook-signature: %s\r\n", header);
    } else if (!absent) {
        buf_printf(&out->bytes, "x-whop-signature: %s\r\n", header);
    }
    static const char aliases[] = "/webhooks/whop/";
    const char *path = forge->target->path;
    const char *endpoint = "default";
    if (strncmp(path, aliases, sizeof aliases - 1) == 0)
        endpoint = path + sizeof aliases - 1;
    if (scheme == SIGNATURE_STANDARD) {
        snprintf(out->event_id, sizeof out->event_id, "%.80s/%s", endpoint, out->message);
    } else {
        const char *mac = strrchr(header, '=');
        snprintf(out->event_id, sizeof out->event_id, "%.80s/mac:%s", endpoint,
                 mac != NULL ? mac + 1 : header);
        out->message[0] = '\0';
    }
}

struct err forge_make(struct forge *forge, const struct forge_request *request, struct forged *out)
{
    struct buf body = {0};
    *out = (struct forged){0};
    struct err err = make_body(request, out, &body);
    if (err_failed(&err))
        goto done;
    take_ids(buf_span(&body), out);
    bool tampered = request->fault == FORGE_TAMPERED;
    buf_printf(&out->bytes,
               "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: whopline-send\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n",
               forge->target->path, forge->target->host, body.len + (tampered ? 1 : 0));
    add_signature(forge, request, buf_span(&body), out);
    buf_add_text(&out->bytes, "\r\n");
    buf_add(&out->bytes, body.ptr, body.len);
    if (tampered)
        buf_add_text(&out->bytes, " ");
done:
    buf_close(&body);
    return err;
}
