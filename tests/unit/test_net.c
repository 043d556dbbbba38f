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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse)};
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
