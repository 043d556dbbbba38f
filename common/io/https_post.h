#ifndef WHOPLINE_HTTPS_POST_H
#define WHOPLINE_HTTPS_POST_H
/* One POST by HTTP or HTTPS, blocking; libcurl beneath. Certificates are verified, redirects are
 * not followed, the answer's body is thrown away. A proxy may be named in the environment, as curl
 * has it. One thread. */
#include "base/err.h"

struct https_post {
    const char *url;
    const char *const *headers; /* lines without their ends */
    size_t header_count;
    struct span body;
    int64_t timeout_ms;
    /* Asked at least ten times a second; false gives up. */
    bool (*go_on)(void *data);
    void *data;
};

struct https_answer {
    int status;            /* 0 where there was none */
    int64_t retry_after_s; /* 0: not said */
};

/* Once before the first and once after the last. */
void https_init(void);
void https_close(void);

/* SYSTEM if there was no answer; any status is one. The text names no URL. */
MUST_CHECK struct err https_post(const struct https_post *post, struct https_answer *out);

#endif
