#include "io/https_post.h"

#include <curl/curl.h>

enum {
    LOOK_MS = 100,           /* how often go_on is asked */
    ANSWER_MAX_BYTES = 65536 /* more than an answer to a POST has to say */
};

void https_init(void)
{
    REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

void https_close(void)
{
    curl_global_cleanup();
}

static size_t on_body(char *ptr, size_t size, size_t count, void *data)
{
    size_t *left = data;
    (void)ptr;
    if (size * count > *left)
        return 0; /* ends the transfer */
    *left -= size * count;
    return size * count;
}

static struct curl_slist *make_headers(const struct https_post *post)
{
    /* Without "Expect:" curl waits for a 100 before larger bodies. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    REQUIRE(list != NULL);
    for (size_t i = 0; i < post->header_count; i++)
        REQUIRE(curl_slist_append(list, post->headers[i]) != NULL);
    return list;
}

static void set_options(CURL *easy, const struct https_post *post, struct curl_slist *headers,
                        size_t *body_left)
{
    curl_easy_setopt(easy, CURLOPT_URL, post->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Giving up must not wait for a name server. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)post->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "whopline/" WHOPLINE_VERSION);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, post->body.ptr);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.len);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body_left);
}

static struct err perform(CURLM *multi, const struct https_post *post)
{
    int running = 1;
    while (running > 0) {
        if (!post->go_on(post->data))
            return err_make(ERR_SYSTEM, "given up before an answer came");
        CURLMcode code = curl_multi_perform(multi, &running);
        if (code == CURLM_OK && running > 0)
            code = curl_multi_poll(multi, NULL, 0, LOOK_MS, NULL);
        if (code != CURLM_OK)
            return err_make(ERR_SYSTEM, "%s", curl_multi_strerror(code));
    }
    int left;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message == NULL || message->data.result != CURLE_OK)
        return err_make(ERR_SYSTEM, "%s",
                        message != NULL ? curl_easy_strerror(message->data.result) : "no result");
    return ERR_NONE;
}

static void read_answer(CURL *easy, struct https_answer *out)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after_s); /* a date is made seconds */
    *out = (struct https_answer){.status = (int)status, .retry_after_s = retry_after_s};
}

struct err https_post(const struct https_post *post, struct https_answer *out)
{
    size_t body_left = ANSWER_MAX_BYTES;
    *out = (struct https_answer){0};
    /* A handle of its own each time: libcurl 8.14 leaks where one is used again after a name could
     * not be resolved. */
    CURL *easy = curl_easy_init();
    CURLM *multi = curl_multi_init();
    REQUIRE(easy != NULL && multi != NULL);
    struct curl_slist *headers = make_headers(post);
    set_options(easy, post, headers, &body_left);
    REQUIRE(curl_multi_add_handle(multi, easy) == CURLM_OK);
    struct err err = perform(multi, post);
    if (!err_failed(&err))
        read_answer(easy, out);
    curl_multi_remove_handle(multi, easy);
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    return err;
}
