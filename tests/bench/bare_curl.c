/* bare_curl: the least that keeps N reading calls in flight with libcurl: its own multi interface
 * and its own poll, one thread, answers thrown away; the request is the same, byte for byte. No
 * budget, no freeze, no breaker, no JSON, no slots: the distance to it is what service/whop's care
 * costs.
 *
 *   bench_bare_curl URL TOKEN VERSION CALLS IN_FLIGHT
 *
 * Prints {"seconds", "cpu_s", "bytes"}; anything but a 200 ends it. */
#include "bench.h"

#include <curl/curl.h>

enum { IN_FLIGHT_MAX = 1024, POLL_MS = 1000 };

static struct {
    CURLM *multi;
    struct curl_slist *headers;
    const char *url;
    long left; /* to be started */
    size_t bytes;
} bench;

static size_t on_body(char *ptr, size_t size, size_t count, void *data)
{
    (void)ptr;
    (void)data;
    bench.bytes += size * count;
    return size * count;
}

static void start(CURL *easy)
{
    if (bench.left-- > 0)
        curl_multi_add_handle(bench.multi, easy);
    else
        curl_easy_cleanup(easy);
}

static CURL *make(void)
{
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, bench.url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, bench.headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "whopline/" WHOPLINE_VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    return easy;
}

/* The handle is used again at once: its connection is kept. */
static void end(CURL *easy, CURLcode result)
{
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (result != CURLE_OK || status != 200) {
        fprintf(stderr, "status %ld: %s\n", status, curl_easy_strerror(result));
        exit(1);
    }
    curl_multi_remove_handle(bench.multi, easy);
    start(easy);
}

static void run(void)
{
    int running = 1;
    while (running > 0) {
        CURLMsg *message;
        int queued;
        curl_multi_perform(bench.multi, &running);
        while ((message = curl_multi_info_read(bench.multi, &queued)) != NULL)
            if (message->msg == CURLMSG_DONE) {
                CURLcode result = message->data.result;
                end(message->easy_handle, result);
                running = 1;
            }
        if (running > 0)
            curl_multi_poll(bench.multi, NULL, 0, POLL_MS, NULL);
    }
}

int main(int argc, char **argv)
{
    char line[512];
    if (argc != 6) {
        fprintf(stderr, "usage: %s URL TOKEN VERSION CALLS IN_FLIGHT\n", argv[0]);
        return 2;
    }
    bench.url = argv[1];
    bench.left = bench_number(argv[4], 1, 100000000);
    long in_flight = bench_number(argv[5], 1, IN_FLIGHT_MAX);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    bench.headers = curl_slist_append(bench.headers, "Accept: application/json");
    snprintf(line, sizeof line, "Api-Version-Date: %s", argv[3]);
    bench.headers = curl_slist_append(bench.headers, line);
    snprintf(line, sizeof line, "Authorization: Bearer %s", argv[2]);
    bench.headers = curl_slist_append(bench.headers, line);
    bench.multi = curl_multi_init();
    curl_multi_setopt(bench.multi, CURLMOPT_MAXCONNECTS, in_flight);
    int64_t began_ns = bench_now_ns();
    double cpu_s = bench_cpu_s();
    for (long i = 0; i < in_flight; i++)
        start(make());
    run();
    printf("{\"seconds\":%.6f,\"cpu_s\":%.6f,\"bytes\":%zu}\n",
           (double)(bench_now_ns() - began_ns) / 1e9, bench_cpu_s() - cpu_s, bench.bytes);
    curl_multi_cleanup(bench.multi);
    curl_slist_free_all(bench.headers);
    curl_global_cleanup();
    return 0;
}
