/* Covers base/config: defaults, where values come from, every kind of problem, all at once, and
 * that no text generated from settings shows a secret. */
#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#define SECRET_TEXT "ws_topmost"
/* A zero-width space before, a no-break space and a line end behind. */
static const char with_blanks[] = "\xe2\x80\x8b" SECRET_TEXT "\xc2\xa0\n";

/* An environment: names and values in turn. */
static const char *lookup(const char *name, void *context)
{
    for (const char *const *pair = context; pair[0] != NULL; pair += 2)
        if (strcmp(pair[0], name) == 0)
            return pair[1];
    return NULL;
}

struct loaded {
    struct config config;
    struct buf problems;
    struct buf notes;
};

static void load(struct loaded *loaded, enum config_program program, const char *const *pairs)
{
    *loaded = (struct loaded){0};
    config_load(&loaded->config, program, lookup, (void *)(uintptr_t)pairs, &loaded->problems,
                &loaded->notes);
}

static void unload(struct loaded *loaded)
{
    config_close(&loaded->config);
    buf_close(&loaded->problems);
    buf_close(&loaded->notes);
}

#define NEEDED "REDIS_URL", "redis://h", "WHOP_WEBHOOK_SECRET", SECRET_TEXT
#define ENV(...)                                                                                   \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static void test_defaults(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, CONFIG_INGEST, ENV(NEEDED));
    assert_string_equal(buf_text(&loaded.problems), "");
    assert_string_equal(buf_text(&loaded.notes), "");
    assert_string_equal(loaded.config.redis_url, "redis://h");
    assert_string_equal(loaded.config.stream_prefix, "wl");
    assert_string_equal(loaded.config.whop_company_id, "");
    assert_int_equal(loaded.config.http_max_body, 1048576);
    assert_false(loaded.config.allow_volatile_redis);
    unload(&loaded);
}

static void test_values(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, CONFIG_INGEST,
         ENV("REDIS_URL", "\xef\xbb\xbf redis://h \r\n", "WHOP_SIGNING_SECRET", with_blanks,
             "NEXT_PUBLIC_WHOP_COMPANY_ID", "biz_alias", "HTTP_MAX_BODY", " 2048 ",
             "ALLOW_VOLATILE_REDIS", "YES", "STREAM_PREFIX", "", "OPENAI_API_KEY", "sk-x"));
    assert_string_equal(buf_text(&loaded.problems), "");
    assert_string_equal(loaded.config.redis_url, "redis://h");
    assert_string_equal(loaded.config.whop_webhook_secret, SECRET_TEXT);
    assert_string_equal(loaded.config.whop_company_id, "biz_alias");
    assert_int_equal(loaded.config.http_max_body, 2048);
    assert_true(loaded.config.allow_volatile_redis);
    assert_string_equal(loaded.config.stream_prefix, "wl");
    assert_non_null(strstr(buf_text(&loaded.notes), "OPENAI_API_KEY has no effect"));
    assert_null(strstr(buf_text(&loaded.notes), "sk-x"));
    unload(&loaded);
    load(&loaded, CONFIG_INGEST,
         ENV(NEEDED, "WHOP_COMPANY_ID", "biz_own", "NEXT_PUBLIC_WHOP_COMPANY_ID", "biz_alias"));
    assert_string_equal(loaded.config.whop_company_id, "biz_own");
    unload(&loaded);
}

/* Set to nothing is not set, but where the default has to be switched off. */
static void test_set_to_nothing(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, CONFIG_INGEST, ENV(NEEDED, "HTTP_LISTEN", "", "PRIVATE_LISTEN", ""));
    assert_string_equal(loaded.config.http_listen, "0.0.0.0:8080");
    assert_string_equal(loaded.config.private_listen, "");
    unload(&loaded);
    load(&loaded, CONFIG_INGEST, ENV(NEEDED, "PRIVATE_LISTEN", " \n"));
    assert_string_equal(loaded.config.private_listen, "");
    unload(&loaded);
    load(&loaded, CONFIG_INGEST, ENV(NEEDED));
    assert_string_equal(loaded.config.private_listen, "127.0.0.1:9100");
    unload(&loaded);
}

static void test_problems_all_at_once(void **state)
{
    (void)state;
    static const char *const words[] = {
        "REDIS_URL is not set",
        "WHOP_WEBHOOK_SECRET holds a placeholder",
        "HTTP_MAX_BODY: \"many\" is not a whole number",
        "HTTP_MAX_HEADERS: 7 is not between 8 and 256",
        "ACCEPT_TIMEOUT_MS: \"5s\" is not a whole number",
        "DEDUPE_TTL_HOURS: \"99999999999999999999\" is not a whole number",
        "ALLOW_VOLATILE_REDIS: \"maybe\" is neither",
    };
    struct loaded loaded;
    load(&loaded, CONFIG_INGEST,
         ENV("WHOP_WEBHOOK_SECRET", "changeme", "HTTP_MAX_BODY", "many", "HTTP_MAX_HEADERS", "7",
             "ACCEPT_TIMEOUT_MS", "5s", "DEDUPE_TTL_HOURS", "99999999999999999999",
             "ALLOW_VOLATILE_REDIS", "maybe", "SLOTS", "not ingest's"));
    size_t lines = 0;
    for (size_t i = 0; i < loaded.problems.len; i++)
        lines += loaded.problems.ptr[i] == '\n';
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strstr(buf_text(&loaded.problems), words[i]) == NULL)
            fail_msg("not reported: %s\n%s", words[i], buf_text(&loaded.problems));
    assert_int_equal(lines, ARRAY_LEN(words));
    unload(&loaded);
}

static void test_secret_files(void **state)
{
    (void)state;
    char path[] = "/tmp/whopline-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, SECRET_TEXT "\n", sizeof SECRET_TEXT), sizeof SECRET_TEXT);
    close(fd);
    struct loaded loaded;
    load(&loaded, CONFIG_INGEST, ENV("REDIS_URL", "redis://h", "WHOP_WEBHOOK_SECRET_FILE", path));
    assert_string_equal(buf_text(&loaded.problems), "");
    assert_string_equal(loaded.config.whop_webhook_secret, SECRET_TEXT);
    unload(&loaded);
    unlink(path);
    load(&loaded, CONFIG_INGEST, ENV("REDIS_URL", "redis://h", "WHOP_WEBHOOK_SECRET_FILE", path));
    assert_non_null(strstr(buf_text(&loaded.problems), "WHOP_WEBHOOK_SECRET_FILE: cannot read"));
    unload(&loaded);
    load(&loaded, CONFIG_INGEST,
         ENV("REDIS_URL", "redis://h", "WHOP_WEBHOOK_SECRET_FILE", "/dev/zero"));
    assert_non_null(strstr(buf_text(&loaded.problems), "not a small regular file"));
    unload(&loaded);
}

static void test_generated_texts(void **state)
{
    (void)state;
    struct loaded loaded;
    struct buf out = {0};
    load(&loaded, CONFIG_INGEST, ENV(NEEDED, "WHOP_COMPANY_ID", "biz_x"));
    config_write_summary(&loaded.config, CONFIG_INGEST, &out);
    assert_null(strstr(buf_text(&out), SECRET_TEXT));
    assert_null(strstr(buf_text(&out), "redis://"));
    assert_non_null(strstr(buf_text(&out), "WHOP_WEBHOOK_SECRET=(set)"));
    assert_non_null(strstr(buf_text(&out), "WHOP_COMPANY_ID=biz_x"));
    assert_null(strstr(buf_text(&out), "SLOTS="));
    unload(&loaded);

    buf_clear(&out);
    config_write_help(CONFIG_WORKER, &out);
    assert_non_null(strstr(buf_text(&out), "  SLOTS\n"));
    assert_null(strstr(buf_text(&out), "HTTP_LISTEN"));
    buf_clear(&out);
    config_write_example(&out);
    assert_non_null(strstr(buf_text(&out), "\n#SLOTS=8\n"));
    assert_non_null(strstr(buf_text(&out), "\n#REDIS_URL=\n"));
    buf_clear(&out);
    config_write_reference(&out);
    assert_non_null(strstr(buf_text(&out), "| `SLOTS` | 8 | 1 to 256 | workers |"));
    assert_non_null(strstr(buf_text(&out), "| `WHOP_SIGNING_SECRET` | `WHOP_WEBHOOK_SECRET` |"));
    buf_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_values),
        cmocka_unit_test(test_set_to_nothing), cmocka_unit_test(test_problems_all_at_once),
        cmocka_unit_test(test_secret_files),   cmocka_unit_test(test_generated_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
