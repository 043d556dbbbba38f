/* Listening addresses. */
#include "io/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        int family; /* 0: refused */
        int port;
    } cases[] = {
        {"127.0.0.1:8080", AF_INET, 8080},
        {"0.0.0.0:0", AF_INET, 0},
        {"[::1]:9100", AF_INET6, 9100},
        {":80", AF_INET6, 80},
        {"[::]:65535", AF_INET6, 65535},
        {"127.0.0.1", 0, 0},
        {"127.0.0.1:", 0, 0},
        {"127.0.0.1:65536", 0, 0},
        {"127.0.0.1:-1", 0, 0},
        {"127.0.0.1:80x", 0, 0},
        {"localhost:80", 0, 0},
        {"[::1:80", 0, 0},
        {"::1:80", 0, 0},
        {"", 0, 0},
        {"[]:80", 0, 0},
        {"999.1.1.1:80", 0, 0},
        {"[12345678901234567890123456789012345678901234567890]:80", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_storage address;
        struct err err = net_parse(cases[i].text, &address);
        if (cases[i].family == 0) {
            if (err.code != ERR_CONFIG)
                fail_msg("accepted: %s", cases[i].text);
            continue;
        }
        if (err_failed(&err) || address.ss_family != cases[i].family)
            fail_msg("%s: %s", cases[i].text, err_text(&err));
        in_port_t port = cases[i].family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                    : ((struct sockaddr_in6 *)&address)->sin6_port;
        assert_int_equal(ntohs(port), cases[i].port);
    }
}

static void ignore(uv_stream_t *listener, int status)
{
    (void)listener;
    (void)status;
}

/* A port of one's own is refused to others; a shared one to those who want it alone. */
static void test_sharing(void **state)
{
    static const struct {
        enum net_sharing first;
        enum net_sharing second;
        bool refused;
    } cases[] = {{NET_ALONE, NET_ALONE, true},
                 {NET_ALONE, NET_SHARED, true},
                 {NET_SHARED, NET_ALONE, true},
                 {NET_SHARED, NET_SHARED, false}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uv_loop_t loop;
        uv_tcp_t handles[2];
        char name[NET_NAME_MAX];
        assert_int_equal(uv_loop_init(&loop), 0);
        struct err err = net_listen(&loop, "127.0.0.1:0", 1, cases[i].first, ignore, &handles[0]);
        assert_false(err_failed(&err));
        net_name(&handles[0], name);
        err = net_listen(&loop, name, 1, cases[i].second, ignore, &handles[1]);
        if (err_failed(&err) != cases[i].refused)
            fail_msg("case %zu: %s", i, err_text(&err));
        for (size_t h = 0; h < 2; h++)
            uv_close((uv_handle_t *)&handles[h], NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse),
                                       cmocka_unit_test(test_sharing)};
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
