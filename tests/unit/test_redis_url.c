/* REDIS_URL: what is understood, and that no password leaks into an error. */
#include "io/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect(const char *got, const char *wanted)
{
    if (wanted == NULL)
        assert_null(got);
    else
        assert_string_equal(got, wanted);
}

static void test_understood(void **state)
{
    static const struct {
        const char *text, *host, *port, *path, *user, *password;
        int64_t db;
    } cases[] = {
        {"redis://localhost", "localhost", "6379", NULL, "", "", 0},
        {"redis://", "127.0.0.1", "6379", NULL, "", "", 0},
        {"redis://10.0.0.1:7000/3", "10.0.0.1", "7000", NULL, "", "", 3},
        {"redis://host/", "host", "6379", NULL, "", "", 0},
        {"redis://[::1]:6380/1", "::1", "6380", NULL, "", "", 1},
        {"redis://:pa%40ss@host", "host", "6379", NULL, "", "pa@ss", 0},
        {"redis://me:p@ss@host:1", "host", "1", NULL, "me", "p@ss", 0},
        {"redis://me:p%2@host", "host", "6379", NULL, "me", "p%2", 0},
        {"unix:///run/redis.sock", NULL, NULL, "/run/redis.sock", "", "", 0},
        {"unix://me:pw@/run/redis.sock?db=12", NULL, NULL, "/run/redis.sock", "me", "pw", 12},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_url url;
        struct err err = redis_url_parse(cases[i].text, &url);
        if (err_failed(&err))
            fail_msg("%s: %s", cases[i].text, err_text(&err));
        expect(url.host, cases[i].host);
        expect(url.port, cases[i].port);
        expect(url.path, cases[i].path);
        expect(url.user, cases[i].user);
        expect(url.password, cases[i].password);
        assert_int_equal(url.db, cases[i].db);
        redis_url_close(&url);
    }
}

/* 108 bytes of path: one more than fit into the address of a Unix socket. */
#define TEN       "/234567890"
#define LONG_PATH "unix://" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "/2345678"

static void test_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "localhost:6379",
        "rediss://host",
        "http://:topsecret@host",
        "redis://:topsecret@host:port",
        "redis://:topsecret@host:65536",
        "redis://:topsecret@host/first",
        "redis://:topsecret@host/-1",
        "unix://:topsecret@relative/path",
        "unix://:topsecret@/socket?base=1",
        "unix://:topsecret@/socket?db=",
        LONG_PATH,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_url url;
        struct err err = redis_url_parse(cases[i], &url);
        if (err.code != ERR_CONFIG)
            fail_msg("accepted: %s", cases[i]);
        assert_null(strstr(err_text(&err), "topsecret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_understood),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}
