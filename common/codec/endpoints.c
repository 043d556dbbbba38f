#include "codec/endpoints.h"

#include "codec/json.h"

#include <stdlib.h>

enum { VERSION = 1 };

bool endpoint_name_is_good(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return len > 0 && len <= ENDPOINT_NAME_MAX && name[len] == '\0' && name[0] != '-' &&
           name[0] != '_';
}

static unsigned scheme_bit(struct span name)
{
    if (span_equal(name, SPAN("standard")))
        return SIGNATURE_STANDARD;
    if (span_equal(name, SPAN("legacy")))
        return SIGNATURE_LEGACY;
    if (span_equal(name, SPAN("bare_hex")))
        return SIGNATURE_BARE_HEX;
    return 0;
}

unsigned endpoint_schemes(const char *text, struct span *unknown)
{
    unsigned schemes = 0;
    *unknown = (struct span){"", 0};
    while (*text != '\0') {
        text += strspn(text, ", ");
        struct span name = {text, strcspn(text, ", ")};
        unsigned bit = scheme_bit(name);
        if (bit == 0 && name.len > 0) {
            *unknown = name;
            return 0;
        }
        schemes |= bit;
        text += name.len;
    }
    return schemes;
}

/* --- reading --------------------------------------------------------------------------------- */

/* A member that must be a text; NULL if it is none. */
static const char *text_of(const struct json_value *value, struct arena *arena)
{
    bool odd = false;
    if (value == NULL || json_is_null(value) || json_is_object(value) || json_is_array(value))
        return NULL;
    const char *text = json_text(value, arena, &odd);
    return odd ? NULL : text;
}

static struct err read_secret(const struct json_value *value, struct arena *arena, size_t number,
                              struct endpoint_entry *out)
{
    static const char *const names[] = {"secret", "from_ms", "until_ms"};
    const struct json_value *members[ARRAY_LEN(names)];
    struct endpoint_secret *secret = &out->secrets[out->secret_count];
    if (!json_is_object(value) || !json_pick(value, names, ARRAY_LEN(names), members))
        return err_make(ERR_MALFORMED, "endpoint %zu: a secret must be an object", number);
    secret->secret = text_of(members[0], arena);
    if (secret->secret == NULL || text_is_empty(secret->secret))
        return err_make(ERR_MALFORMED, "endpoint %zu: a secret is missing", number);
    if (!json_is_null(members[1]) && !json_integer(members[1], &secret->from_ms))
        return err_make(ERR_MALFORMED, "endpoint %zu: from_ms must be a number", number);
    secret->until_ms = INT64_MAX;
    if (!json_is_null(members[2]) && !json_integer(members[2], &secret->until_ms))
        return err_make(ERR_MALFORMED, "endpoint %zu: until_ms must be a number or null", number);
    out->secret_count++;
    return ERR_NONE;
}

static struct err read_entry(const struct json_value *value, struct arena *arena, size_t number,
                             struct endpoint_entry *out)
{
    static const char *const names[] = {"name", "company", "schemes", "secrets"};
    const struct json_value *members[ARRAY_LEN(names)];
    struct span unknown;
    if (!json_is_object(value) || !json_pick(value, names, ARRAY_LEN(names), members))
        return err_make(ERR_MALFORMED, "endpoint %zu: not an object, or a key twice", number);
    *out = (struct endpoint_entry){
        .name = text_of(members[0], arena),
        .company = text_of(members[1], arena),
        .schemes = text_of(members[2], arena),
    };
    if (out->name == NULL || !endpoint_name_is_good(out->name))
        return err_make(ERR_MALFORMED,
                        "endpoint %zu: its name must be 1 to %d lower-case letters, digits, "
                        "dashes, underscores",
                        number, ENDPOINT_NAME_MAX);
    if (out->company == NULL || out->schemes == NULL)
        return err_make(ERR_MALFORMED, "endpoint %zu (%s): company and schemes must be texts",
                        number, out->name);
    if (endpoint_schemes(out->schemes, &unknown) == 0)
        return err_make(ERR_MALFORMED, "endpoint %zu (%s): schemes \"%.40s\": standard, legacy",
                        number, out->name, out->schemes);
    struct json_items secrets = json_items_of(members[3]);
    const struct json_value *secret;
    if (secrets.left > SIGNATURE_SECRETS_MAX)
        return err_make(ERR_MALFORMED, "endpoint %zu (%s): at most %d secrets", number, out->name,
                        SIGNATURE_SECRETS_MAX);
    while ((secret = json_items_next(&secrets)) != NULL)
        TRY(read_secret(secret, arena, number, out));
    return ERR_NONE;
}

static int by_name(const void *a, const void *b)
{
    const struct endpoint_entry *left = a;
    const struct endpoint_entry *right = b;
    return strcmp(left->name, right->name);
}

static struct err read_list(const struct json_value *root, struct arena *arena,
                            struct endpoint_list *out)
{
    static const char *const names[] = {"version", "endpoints"};
    const struct json_value *members[ARRAY_LEN(names)];
    int64_t version = 0;
    if (!json_is_object(root) || !json_pick(root, names, ARRAY_LEN(names), members) ||
        !json_is_array(members[1]))
        return err_make(ERR_MALFORMED, "not an endpoints file: written by `whopline tenants`");
    if (!json_integer(members[0], &version) || version != VERSION)
        return err_make(ERR_MALFORMED, "of another version: it must be %d", VERSION);
    struct json_items items = json_items_of(members[1]);
    const struct json_value *value;
    out->entries = arena_zalloc(arena, (items.left + 1) * sizeof *out->entries);
    for (; (value = json_items_next(&items)) != NULL; out->count++)
        TRY(read_entry(value, arena, out->count + 1, &out->entries[out->count]));
    qsort(out->entries, out->count, sizeof *out->entries, by_name);
    for (size_t i = 1; i < out->count; i++)
        if (strcmp(out->entries[i - 1].name, out->entries[i].name) == 0)
            return err_make(ERR_MALFORMED, "two endpoints have the name %s", out->entries[i].name);
    return ERR_NONE;
}

struct err endpoints_parse(struct span text, struct arena *arena, struct endpoint_list *out)
{
    *out = (struct endpoint_list){0};
    struct json_doc *doc = json_parse(text);
    if (doc == NULL)
        return err_make(ERR_MALFORMED, "not JSON");
    struct err err = read_list(json_root(doc), arena, out);
    json_free(doc);
    if (err_failed(&err))
        *out = (struct endpoint_list){0};
    return err;
}

/* --- writing --------------------------------------------------------------------------------- */

static void write_secret(const struct endpoint_secret *secret, struct json_writer *writer)
{
    json_begin_object(writer, NULL);
    json_put_text(writer, "secret", secret->secret);
    json_put_integer(writer, "from_ms", secret->from_ms);
    if (secret->until_ms == INT64_MAX)
        json_put_raw(writer, "until_ms", NULL);
    else
        json_put_integer(writer, "until_ms", secret->until_ms);
    json_end_object(writer);
}

void endpoints_write(const struct endpoint_entry *entries, size_t count, struct buf *out)
{
    struct json_writer writer = {.out = out};
    json_begin_object(&writer, NULL);
    json_put_integer(&writer, "version", VERSION);
    json_begin_array(&writer, "endpoints");
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "name", entries[i].name);
        json_put_text(&writer, "company", entries[i].company);
        json_put_text(&writer, "schemes", entries[i].schemes);
        json_begin_array(&writer, "secrets");
        for (size_t k = 0; k < entries[i].secret_count; k++)
            write_secret(&entries[i].secrets[k], &writer);
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buf_add_text(out, "\n");
}
