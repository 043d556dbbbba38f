#include "ingest/metrics.h"

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

static void write_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP whopline_ingest_%s %s\n# TYPE whopline_ingest_%s %s\n", name, help,
               name, type);
}

static void write_value(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "whopline_ingest_%s %llu\n", name, (unsigned long long)value);
}

static void write_labelled(struct buf *out, const char *name, const char *label, const char *text,
                           uint64_t value)
{
    buf_printf(out, "whopline_ingest_%s{%s=\"%s\"} %llu\n", name, label, text,
               (unsigned long long)value);
}

static void write_counters(const struct metrics *metrics, struct buf *out)
{
    write_head(out, "responses_total", "counter", "Answers to webhook requests, by status code.");
    for (int status = 0; status < METRICS_STATUS_END; status++) {
        char text[12];
        if (metrics->responses[status] == 0 && status != 200)
            continue;
        snprintf(text, sizeof text, "%d", status);
        write_labelled(out, "responses_total", "code", text, metrics->responses[status]);
    }
    write_head(out, "verifications_total", "counter", "Signature checks, by result.");
    for (size_t i = 0; i < ARRAY_LEN(metrics->verifications); i++)
        write_labelled(out, "verifications_total", "result",
                       signature_result_name((enum signature_result)i), metrics->verifications[i]);
    write_head(out, "accepts_total", "counter", "Events given to Redis, by verdict.");
    for (size_t i = 0; i < ARRAY_LEN(metrics->accepts); i++)
        write_labelled(out, "accepts_total", "verdict", accept_names[i], metrics->accepts[i]);
    write_head(out, "quarantined_total", "counter",
               "Verified events kept with a reason not to act on them.");
    write_value(out, "quarantined_total", metrics->quarantined);
    write_head(out, "connections_total", "counter", "Connections accepted.");
    write_value(out, "connections_total", metrics->connections);
}

static void write_ring(const struct metrics *metrics, const struct metrics_gauges *gauges,
                       struct buf *out)
{
    const struct ring_stats *ring = gauges->ring;
    if (ring == NULL)
        return;
    write_head(out, "ring_kept_total", "counter", "Events written to the ring.");
    write_value(out, "ring_kept_total", ring->kept);
    write_head(out, "ring_not_kept_total", "counter",
               "Events that could not be written to the ring.");
    write_value(out, "ring_not_kept_total", ring->not_kept);
    write_head(out, "ring_crowded_bytes_total", "counter",
               "Bytes dropped from the ring before their time, for want of room.");
    write_value(out, "ring_crowded_bytes_total", ring->crowded_bytes);
    write_head(out, "ring_damaged_total", "counter", "Records of the ring that cannot be read.");
    write_value(out, "ring_damaged_total", ring->damaged);
    write_head(out, "ring_adopted_total", "counter", "Files taken over from ended processes.");
    write_value(out, "ring_adopted_total", ring->adopted);
    write_head(out, "ring_replayed_total", "counter",
               "Events of the ring given to Redis again, by verdict.");
    for (size_t i = 0; i < ARRAY_LEN(metrics->replayed); i++)
        write_labelled(out, "ring_replayed_total", "verdict", accept_names[i],
                       metrics->replayed[i]);
    write_head(out, "ring_bytes", "gauge", "Bytes of the ring.");
    write_value(out, "ring_bytes", ring->bytes);
    write_head(out, "ring_stale_bytes", "gauge",
               "Bytes of the ring that are to be given to Redis again.");
    write_value(out, "ring_stale_bytes", gauges->ring_stale_bytes);
}

void metrics_write(const struct metrics *metrics, const struct metrics_gauges *gauges,
                   struct buf *out)
{
    write_counters(metrics, out);
    write_head(out, "connections", "gauge", "Open connections.");
    write_value(out, "connections", gauges->connections);
    write_head(out, "unanswered", "gauge", "Events given to Redis and not answered by it yet.");
    write_value(out, "unanswered", gauges->unanswered);
    write_head(out, "body_bytes", "gauge", "Memory of bodies being read or waiting for Redis.");
    write_value(out, "body_bytes", gauges->body_bytes);
    write_head(out, "ready", "gauge", "1 if events are being accepted.");
    write_value(out, "ready", gauges->ready ? 1 : 0);
    write_ring(metrics, gauges, out);
}
