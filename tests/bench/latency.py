"""From a payment sent to its credits: ./dev bench latency [--payments N] [--seconds S] [--rounds N]

The released ingest, journal, credits and scheduler with a private Redis (fsync always) and a
PostgreSQL with synchronous_commit on. First the maximum: a burst of signed payments, from the first
one sent to the last one's credits. Then half of that, at a constant rate; each payment is counted
from when it was due. README.md beside this file says how to read it.
"""
import argparse
import os

from lib import report
from lib.payments import Pipeline
from lib.place import open_place

COLUMNS = (("p50 ms", 10, 1), ("p90 ms", 10, 1), ("p99 ms", 10, 1), ("max ms", 10, 1))
CONNECTIONS = 64
PATIENCE_S = 300
STAGES = ("in the journal", "credited")

# When a row's transaction was committed; without track_commit_timestamp the time it began at.
COMMITTED, BEGUN = "pg_xact_commit_timestamp({0}.xmin)", "{0}.{1}"


def moments(database):
    """{event's id: (journalled, credited)}, Unix us."""
    tracked = database.settings()["track_commit_timestamp"] == "on"
    journalled, credited = ((COMMITTED if tracked else BEGUN).format(*where) for where in (
        ("webhook_events", "journalled_at"), ("credit_transactions", "created_at")))
    rows = database.sql(f"""
        SELECT event_id, (extract(epoch FROM {journalled}) * 1000000)::bigint,
               (extract(epoch FROM {credited}) * 1000000)::bigint
        FROM credit_transactions JOIN webhook_events ON webhook_events.id = event_id""")
    if len(rows) != len({row[0] for row in rows}):
        raise SystemExit("a payment was credited twice")
    return {name: (journal, credit) for name, journal, credit in rows}


class Bench:
    def __init__(self, pipeline, options):
        self.pipeline, self.options, self.sent = pipeline, options, 0

    def send(self, count, per_second):
        """(what the load generator says, the payments' (due, journalled, credited), Unix us)."""
        seconds = PATIENCE_S if per_second == 0 else self.options.seconds + PATIENCE_S
        said, due = self.pipeline.send(count, per_second, CONNECTIONS, seconds)
        self.sent += count
        self.pipeline.wait_granted(self.sent, PATIENCE_S)
        reached = moments(self.pipeline.database)
        if len(reached) != self.sent or not due.keys() <= reached.keys():
            raise SystemExit(f"{self.sent} payments were sent, {len(reached)} credited")
        return said, [(due[name], *reached[name]) for name in due]

    def find_maximum(self):
        said, times = self.send(self.options.payments, 0)
        elapsed = max(credited for _, _, credited in times) - min(due for due, _, _ in times)
        return {"per_second": self.options.payments / elapsed * 1e6, "accepted_per_second": said["rps"]}

    def measure_half(self, per_second):
        rate = max(1, int(per_second / 2))
        said, times = self.send(rate * self.options.seconds, rate)
        stages = {"in the journal": [(t[1] - t[0]) / 1000 for t in times],
                  "credited": [(t[2] - t[0]) / 1000 for t in times]}
        return {"rate": rate, "payments": len(times), "answer_p50_ms": said["p50_us"] / 1000,
                "answer_p99_ms": said["p99_us"] / 1000, "answer_max_ms": said["max_us"] / 1000,
                **{name: {share: report.percentile(values, share) for share in (0.5, 0.9, 0.99, 1)}
                   for name, values in stages.items()}}

    def measure_round(self):
        self.pipeline.database.rest()
        maximum = self.find_maximum()
        self.pipeline.database.rest()
        return {**maximum, **self.measure_half(maximum["per_second"])}


def show(rounds, options, settings):
    print(f"{len(rounds)} rounds: a burst of {options.payments:,} payments, then half of its rate for "
          f"{options.seconds} s; SLOTS {options.slots}; synchronous_commit {settings['synchronous_commit']}, fsync "
          f"{settings['fsync']}; load, Redis, PostgreSQL and four processes on {os.cpu_count()} cores\n")
    for number, r in enumerate(rounds, 1):
        print(f"round {number}: at most {r['per_second']:,.0f} credited a second ({r['accepted_per_second']:,.0f} "
              f"accepted); measured at {r['rate']:,} a second")
        report.table(COLUMNS, [
            ("answered with 200", [r["answer_p50_ms"], None, r["answer_p99_ms"], r["answer_max_ms"]]),
            *((name, list(r[name].values())) for name in STAGES)])
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        values = sorted(r["credited"][share] for r in rounds)
        print(f"credited, {title}, median of the rounds: {report.median(values):.1f} ms  "
              f"({values[0]:.1f} to {values[-1]:.1f})")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench latency")
    parser.add_argument("--payments", type=int, default=10_000, help="of the burst")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with open_place() as place, place.redis() as redis:
        pipeline = Pipeline(place, redis, options.slots)
        bench = Bench(pipeline, options)
        rounds = [bench.measure_round() for _ in range(options.rounds)]
        show(rounds, options, place.database.settings())
        pipeline.close()
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
