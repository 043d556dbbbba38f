#include "ingest/metrics.h"

#include "base/metric.h"

#include <stdio.h>

static const char *const accept_names[] = {
    [ACCEPT_NEW] = "new",
    [ACCEPT_DUPLICATE] = "duplicate",
    [ACCEPT_FAILED] = "failed",
};

void metrics_count_response(struct metrics *metrics, int status)
{
    REQUIRE(status > 0 && status < METRICS_STATUS_END);
    metrics->responses[status]++;
}

static void write_counters(const struct metrics *metrics, struct metric_page *page)
{
    for (int status = 0; status < METRICS_STATUS_END; status++) {
        char text[12];
        if (metrics->responses[status] == 0 && status != 200)
            continue;
        snprintf(text, sizeof text, "%d", status);
        metric_put(page, METRIC_ingest_responses_total, (int64_t)metrics->responses[status], text,
                   NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(metrics->verifications); i++)
        metric_put(page, METRIC_ingest_verifications_total, (int64_t)metrics->verifications[i],
                   signature_result_name((enum signature_result)i), NULL);
    for (size_t i = 0; i < ARRAY_LEN(metrics->accepts); i++)
        metric_put(page, METRIC_ingest_accepts_total, (int64_t)metrics->accepts[i], accept_names[i],
                   NULL);
    metric_put(page, METRIC_ingest_quarantined_total, (int64_t)metrics->quarantined, NULL, NULL);
    metric_put(page, METRIC_ingest_connections_total, (int64_t)metrics->connections, NULL, NULL);
}

static void write_ring(const struct metrics *metrics, const struct metrics_gauges *gauges,
                       struct metric_page *page)
{
    const struct ring_stats *ring = gauges->ring;
    if (ring == NULL)
        return;
    const struct {
        enum metric metric;
        uint64_t value;
    } figures[] = {
        {METRIC_ingest_ring_kept_total, ring->kept},
        {METRIC_ingest_ring_not_kept_total, ring->not_kept},
        {METRIC_ingest_ring_crowded_bytes_total, ring->crowded_bytes},
        {METRIC_ingest_ring_damaged_total, ring->damaged},
        {METRIC_ingest_ring_adopted_total, ring->adopted},
        {METRIC_ingest_ring_bytes, ring->bytes},
        {METRIC_ingest_ring_stale_bytes, gauges->ring_stale_bytes},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        metric_put(page, figures[i].metric, (int64_t)figures[i].value, NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(metrics->replayed); i++)
        metric_put(page, METRIC_ingest_ring_replayed_total, (int64_t)metrics->replayed[i],
                   accept_names[i], NULL);
}

void metrics_write(const struct metrics *metrics, const struct metrics_gauges *gauges,
                   struct buf *out)
{
    struct metric_page page = {.out = out};
    write_counters(metrics, &page);
    metric_put(&page, METRIC_ingest_connections, (int64_t)gauges->connections, NULL, NULL);
    metric_put(&page, METRIC_ingest_unanswered, (int64_t)gauges->unanswered, NULL, NULL);
    metric_put(&page, METRIC_ingest_body_bytes, (int64_t)gauges->body_bytes, NULL, NULL);
    metric_put(&page, METRIC_ingest_ready, gauges->ready ? 1 : 0, NULL, NULL);
    write_ring(metrics, gauges, &page);
}
