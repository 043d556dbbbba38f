"""The benchmarks run, and what they count adds up. How fast they are is asked nowhere here."""
import json
import os
import subprocess

import pytest

import harness

BENCH = harness.ROOT / "tests/bench"


def bench(name, pg_cluster, *args):
    """The result of a benchmark in its smallest form, on the build that is tested."""
    env = {**harness.clean_environment(), "WHOPLINE_BIN": str(harness.BIN), "BENCH_BIN": str(harness.BIN),
           "WHOPLINE_ROOT": str(harness.ROOT), "BENCH_PG": pg_cluster, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*harness.DIES_WITH_US, "/usr/bin/python3", BENCH / f"{name}.py", *map(str, args), "--json"],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=55 * harness.SLOW, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def test_worker(pg_cluster):
    result = bench("worker", pg_cluster, "--jobs", 600, "--rounds", 1, "--warm", 0, "--slots", 2, "--aof", "always")
    for name, run in result["always"][0].items():
        assert run["jobs"] == 600 and run["per_second"] > 0 and run["redis_us"] > 0, name
    assert set(result["always"][0]) == {"bare worker", "SLOTS 2"}


def test_jobs(pg_cluster):
    rounds = bench("jobs", pg_cluster, "--jobs", 450, "--rounds", 1, "--warm", 0, "--slots", 2)
    assert set(rounds[0]) == {"pgbench 2", "SLOTS 2"}
    assert rounds[0]["pgbench 2"]["jobs"] == 400  # what two clients share in batches of 50
    assert all(run["per_second"] > 0 and run["pg_us"] > 0 for run in rounds[0].values())


def test_latency(pg_cluster):
    first, = bench("latency", pg_cluster, "--payments", 200, "--seconds", 1, "--rounds", 1, "--slots", 2)
    assert first["payments"] == first["rate"] == max(1, int(first["per_second"] / 2))
    for stage in ("in the journal", "credited"):
        p50, p90, p99, longest = first[stage].values()
        assert p50 <= p90 <= p99 <= longest
        assert longest > 0


def test_fairness(pg_cluster):
    first, = bench("fairness", pg_cluster, "--bulk", 700, "--per-second", 20, "--seconds", 1, "--rounds", 1,
                   "--slots", 2)
    assert first["alone"]["jobs"] == first["beside bulk"]["jobs"] == 20
    assert first["beside bulk"]["bulk_overall"] > 0
    assert all(0 < run["p50"] <= run["p95"] <= run["max"] for run in first.values())


def test_scale(pg_cluster):
    first, = bench("scale", pg_cluster, "--jobs", 800, "--rounds", 1, "--slots", 1)
    assert [phase["processes"] for phase in first.values()] == [1, 8, None, 2]
    assert sum(phase["jobs"] for phase in first.values()) == 800


def test_whop(pg_cluster):
    first, = bench("whop", pg_cluster, "--calls", 200, "--in-flight", 8, "--rounds", 1, "--warm", 0)
    assert set(first) == {"bare curl", "service/whop", "one budget"}
    assert all(run["per_second"] > 0 and run["cpu_us"] > 0 and run["jobs"] == 200 for run in first.values())


def test_credits(pg_cluster):
    rounds = bench("credits", pg_cluster, "--payments", 200, "--users", 50, "--rounds", 1, "--warm", 0,
                   "--connections", 2)
    assert set(rounds[0]) == {"least 2", "pgbench 2", "grants 2", "SLOTS 2"}
    assert all(run["per_second"] > 0 and run["pg_us"] > 0 for run in rounds[0].values())


@pytest.mark.parametrize("name", ["worker", "jobs", "credits", "latency", "fairness", "scale", "whop"])
def test_without_postgresql_it_says_what_to_do(name):
    done = subprocess.run(["/usr/bin/python3", BENCH / f"{name}.py"], env=harness.clean_environment(),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "./dev bench" in done.stderr
