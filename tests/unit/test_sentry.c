/* Covers codec/sentry: which DSNs are understood and that a refused one is not shown, what is
 * masked in texts, the bytes of an envelope; and codec/report's cutting of texts. */
#include "base/arena.h"
#include "codec/json.h"
#include "codec/sentry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>

static void test_dsn_understood(void **state)
{
    static const struct {
        const char *text, *url, *auth;
    } cases[] = {
        {"https://abc123@o1.ingest.example.com/42",
         "https://o1.ingest.example.com/api/42/envelope/", "sentry_key=abc123"},
        {"http://abc@127.0.0.1:9000/1", "http://127.0.0.1:9000/api/1/envelope/", "sentry_key=abc"},
        {"http://abc@[::1]:9000/1", "http://[::1]:9000/api/1/envelope/", "sentry_key=abc"},
        {"http://abc@[::1]/1", "http://[::1]/api/1/envelope/", "sentry_key=abc"},
        {"https://abc:def@host/some/path/7", "https://host/some/path/api/7/envelope/",
         "sentry_key=abc, sentry_secret=def"},
        {"https://0f-1e@glitchtip/my_project", "https://glitchtip/api/my_project/envelope/",
         "sentry_key=0f-1e"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sentry_dsn dsn;
        struct buf auth = {0};
        struct err err = sentry_dsn_parse(cases[i].text, &dsn);
        if (err_failed(&err))
            fail_msg("%s: %s", cases[i].text, err_text(&err));
        assert_string_equal(dsn.url, cases[i].url);
        sentry_write_auth(&dsn, &auth);
        const char *key = strstr(buf_text(&auth), "sentry_key=");
        assert_non_null(key);
        assert_string_equal(key, cases[i].auth);
        assert_memory_equal(buf_text(&auth), "X-Sentry-Auth: Sentry sentry_version=7, ", 40);
        buf_close(&auth);
    }
}

#define TEN     "topsecret-"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void test_dsn_refused(void **state)
{
    static const char *const cases[] = {
        "topsecret",
        "ftp://topsecret@host/1",
        "https://host/topsecret",
        "https://host/topsecret@1",
        "https://@host/topsecret",
        "https://topsecret:@host/1",
        "https://top\r\nsecret: topsecret@host/1",
        "https://topsecret,sentry_key=x@host/1",
        "https://topsecret@host",
        "https://topsecret@host/",
        "https://topsecret@/1",
        "https://topsecret@host:/1",
        "https://topsecret@:80/1",
        "https://topsecret@host:port/1",
        "https://topsecret@host:123456/1",
        "https://topsecret@ho st/1",
        "https://topsecret@host/1?topsecret=1",
        "https://topsecret@host/pa th/1",
        "https://topsecret@host/1#topsecret",
        "https://" HUNDRED HUNDRED "@host/1",
        "https://topsecret@host/" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED "/1",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sentry_dsn dsn;
        struct err err = sentry_dsn_parse(cases[i], &dsn);
        if (err.code != ERR_CONFIG)
            fail_msg("accepted: %s", cases[i]);
        assert_null(strstr(err_text(&err), "topsecret"));
        assert_non_null(strstr(err_text(&err), "https://KEY@HOST/PROJECT"));
    }
}

static void test_dsn_check(void **state)
{
    struct buf problems = {0};
    (void)state;
    sentry_dsn_check("", &problems);
    sentry_dsn_check("https://key@host/1", &problems);
    assert_int_equal(problems.len, 0);
    sentry_dsn_check("https://key@host/", &problems);
    assert_non_null(strstr(buf_text(&problems), "SENTRY_DSN: has no project at its end;"));
    buf_close(&problems);
}

static void test_scrubbed(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", ""},
        {"the plan plan_1 is not known", "the plan plan_1 is not known"},
        {"no such user: ann@example.com", "no such user: [scrubbed]"},
        {"<ann@example.com>, (bob@b.c)", "<[scrubbed]>, ([scrubbed])"},
        {"at postgresql://app:pw@db/x: away", "at [scrubbed] away"},
        {"invalid input syntax for type uuid: \"Ann Example\"",
         "invalid input syntax for type uuid: \"[scrubbed]\""},
        {"invalid input: \"never closed", "invalid input: \"[scrubbed]\""},
        {"violates unique constraint \"payments_pkey\"",
         "violates unique constraint \"payments_pkey\""},
        {"host=db password=topsecret user=app", "host=db password=[scrubbed] user=app"},
        {"host=db password='top secret' user=app", "host=db password=[scrubbed] user=app"},
        {"PGPASSWORD=\"top secret", "PGPASSWORD=[scrubbed]"},
        {"access_token=x&y, SENTRY_SECRET=z", "access_token=[scrubbed], SENTRY_SECRET=[scrubbed]"},
        {"Authorization: Bearer abc.def ghi", "Authorization: Bearer [scrubbed] ghi"},
        {"key ws_123 and whsec_45= and apik_6", "key [scrubbed] and [scrubbed] and [scrubbed]"},
        {"secret sk_live_1, x=sk-ant-2", "secret [scrubbed], [scrubbed]"},
        {"ws_ alone", "ws_ alone"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        sentry_scrub(cases[i].text, &out);
        assert_string_equal(buf_text(&out), cases[i].wanted);
        buf_close(&out);
    }
}

static const struct sentry_source source = {
    .program = "whopline-credits",
    .release = "whopline@1.2.3",
    .environment = "staging",
    .host = "box",
    .pid = 77,
    .uptime_ms = 61999,
};

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"

/* The three lines of an envelope; the second's length is that of the third. */
struct envelope {
    struct buf text;
    struct arena arena;
    struct json_doc *docs[3];
    const struct json_value *event;
};

static void write_envelope(struct envelope *envelope, const struct report *report, int64_t left_out)
{
    *envelope = (struct envelope){0};
    arena_init(&envelope->arena);
    sentry_write_envelope(&source, report, left_out, ID, 1700000000123, &envelope->text);
    const char *line = buf_text(&envelope->text);
    for (size_t i = 0; i < 3; i++) {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        struct span text = {line, (size_t)(end - line)};
        envelope->docs[i] = json_parse(text);
        assert_non_null(envelope->docs[i]);
        if (i == 2) {
            static const char *const name = "length";
            const struct json_value *value;
            int64_t length = 0;
            assert_true(json_pick(json_root(envelope->docs[1]), &name, 1, &value));
            assert_true(json_integer(value, &length));
            assert_int_equal(length, text.len);
        }
        line = end + 1;
    }
    assert_string_equal(line, "");
    envelope->event = json_root(envelope->docs[2]);
}

static void close_envelope(struct envelope *envelope)
{
    for (size_t i = 0; i < 3; i++)
        json_free(envelope->docs[i]);
    arena_close(&envelope->arena);
    buf_close(&envelope->text);
}

/* The member at a path such as "tags.kind". "[0]" is the first of an array. */
static const char *at(struct envelope *envelope, const char *path)
{
    const struct json_value *value = envelope->event;
    char names[64];
    char *save = NULL;
    snprintf(names, sizeof names, "%s", path);
    for (char *name = strtok_r(names, ".", &save); name != NULL;
         name = strtok_r(NULL, ".", &save)) {
        const char *key = name;
        if (strcmp(name, "[0]") == 0)
            value = json_first(value);
        else
            assert_true(json_pick(value, &key, 1, &value));
    }
    return json_text(value, &envelope->arena, NULL);
}

static void test_dead_job(void **state)
{
    const struct report report = {.what = REPORT_DEAD_JOB,
                                  .time_ms = 1699999999007,
                                  .tenant = 3,
                                  .attempts = 12,
                                  .deliveries = 2,
                                  .dropped = 5,
                                  .kind = "credits.payment_succeeded",
                                  .job = "abc.0",
                                  .queue = "credits",
                                  .error = "PG_DATA",
                                  .event = "default/msg_1",
                                  .reason = "no row for ann@example.com"};
    static const char *const wanted[][2] = {
        {"event_id", "01890a5dac96774bbcceb302099a8057"},
        {"timestamp", "2023-11-14T22:13:19.007Z"},
        {"platform", "native"},
        {"level", "error"},
        {"release", "whopline@1.2.3"},
        {"environment", "staging"},
        {"server_name", "box"},
        {"exception.values.[0].type", "PG_DATA"},
        {"exception.values.[0].value", "credits.payment_succeeded: no row for [scrubbed]"},
        {"exception.values.[0].mechanism.type", "dead_job"},
        {"exception.values.[0].mechanism.handled", "true"},
        {"tags.program", "whopline-credits"},
        {"tags.kind", "credits.payment_succeeded"},
        {"tags.queue", "credits"},
        {"tags.error", "PG_DATA"},
        {"tags.tenant", "3"},
        {"tags.signal", ""},
        {"extra.job", "abc.0"},
        {"extra.event", "default/msg_1"},
        {"extra.reason", "no row for [scrubbed]"},
        {"extra.attempts", "12"},
        {"extra.deliveries", "2"},
        {"extra.pid", "77"},
        {"extra.uptime_s", "61"},
        {"extra.left_out", "9"},
        {"extra.dropped", "5"},
        {"fingerprint.[0]", "dead_job"},
    };
    struct envelope envelope;
    (void)state;
    write_envelope(&envelope, &report, 9);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_string_equal(at(&envelope, wanted[i][0]), wanted[i][1]);
    assert_null(strstr(buf_text(&envelope.text), "ann@"));
    assert_non_null(strstr(buf_text(&envelope.text), "\"sent_at\":\"2023-11-14T22:13:20.123Z\""));
    assert_non_null(strstr(buf_text(&envelope.text),
                           "[\"dead_job\",\"credits.payment_succeeded\",\"PG_DATA\"]"));
    close_envelope(&envelope);
}

static void test_crashes(void **state)
{
    static const struct {
        int number;
        const char *reason, *type, *value;
    } cases[] = {
        {0, "", "vanished", "whopline-credits was killed, or vanished without a word"},
        {SIGSEGV, "", "SIGSEGV", "whopline-credits ended by signal 11"},
        {SIGABRT, "slot.c:1: count > 0", "SIGABRT",
         "whopline-credits ended by signal 6: slot.c:1: count > 0"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct report report = {.what = REPORT_CRASH, .signal = cases[i].number};
        struct envelope envelope;
        report_set_text(report.reason, sizeof report.reason, cases[i].reason);
        write_envelope(&envelope, &report, 0);
        assert_string_equal(at(&envelope, "level"), "fatal");
        assert_string_equal(at(&envelope, "timestamp"), "2023-11-14T22:13:20.123Z");
        assert_string_equal(at(&envelope, "exception.values.[0].type"), cases[i].type);
        assert_string_equal(at(&envelope, "exception.values.[0].value"), cases[i].value);
        assert_string_equal(at(&envelope, "exception.values.[0].mechanism.handled"), "false");
        assert_string_equal(at(&envelope, "tags.signal"), sentry_signal_name(cases[i].number));
        assert_string_equal(at(&envelope, "fingerprint.[0]"), "crash");
        assert_string_equal(at(&envelope, "extra.attempts"), "");
        close_envelope(&envelope);
    }
}

/* Whatever bytes come, the envelope is JSON. */
static void test_not_utf8(void **state)
{
    struct report report = {.what = REPORT_DEAD_JOB, .reason = "a\xff\"\n\x01", .job = "\xc3"};
    struct envelope envelope;
    (void)state;
    write_envelope(&envelope, &report, 0);
    assert_string_equal(at(&envelope, "extra.reason"), "a?\"\n\x01");
    assert_string_equal(at(&envelope, "extra.job"), "?");
    close_envelope(&envelope);
}

static void test_cut(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {NULL, ""},
        {"", ""},
        {"1234567", "1234567"},
        {"12345678", "1234567"},
        {"12345\xc3\xa9", "12345\xc3\xa9"},
        {"123456\xc3\xa9", "123456"},
        {"1234\xe2\x82\xac", "1234\xe2\x82\xac"},
        {"12345\xe2\x82\xac", "12345"},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[8];
        report_set_text(out, sizeof out, cases[i].text);
        assert_string_equal(out, cases[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dsn_understood), cmocka_unit_test(test_dsn_refused),
        cmocka_unit_test(test_dsn_check),      cmocka_unit_test(test_scrubbed),
        cmocka_unit_test(test_dead_job),       cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_not_utf8),       cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests_name("sentry", tests, NULL, NULL);
}
