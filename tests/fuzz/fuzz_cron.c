/* A cron expression. What is accepted matches something, goes forward, and its window is ascending
 * and within its bounds; what is refused says why. */
#include "base/buf.h"
#include "codec/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct cron *cron, int64_t local)
{
    int64_t window[CRON_WINDOW_MAX];
    int64_t next = local;
    REQUIRE(cron_next(cron, local, &next) && next > local);
    size_t count = cron_window(cron, local, window);
    REQUIRE(count > 0 && count < CRON_WINDOW_MAX);
    REQUIRE(window[0] >= local - CRON_CHANGE_MINUTES);
    REQUIRE(window[count - 1] > local + CRON_CHANGE_MINUTES);
    for (size_t i = 1; i < count; i++)
        REQUIRE(window[i] > window[i - 1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = {0};
    struct cron cron;
    buf_add(&text, data, size);
    struct err err = cron_parse(buf_text(&text), &cron);
    if (err_failed(&err))
        REQUIRE(err.code == ERR_USAGE && err.text[0] != '\0');
    else
        for (int64_t local = 29000000; local < 36000000; local += 999983)
            check(&cron, local);
    buf_close(&text);
    return 0;
}
