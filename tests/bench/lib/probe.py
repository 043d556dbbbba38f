"""whopline-probe, the worker that is measured, and the jobs it gets."""
import json
import os
import time

from lib.processes import BENCH, end_of, run, start, wait_for

STREAM = "wl:{0}:q:probe"
GROUP = "g"


def environment(redis, database, **settings):
    env = {"PATH": os.environ["PATH"], "REDIS_URL": redis.url, "DATABASE_URL": database.url}
    if not redis.durable:
        env["ALLOW_VOLATILE_REDIS"] = "true"
    return {**env, **{name: str(value) for name, value in settings.items()}}


def start_probe(folder, number, env):
    """A worker; (process, log). Its jobs may begin at once."""
    log = f"{folder}/probe-{number}.log"
    return start([BENCH / "whopline-probe"], log, env), log


def start_and_wait(folder, number, env):
    process, log = start_probe(folder, number, env)
    wait_for(lambda: "working" in open(log, encoding="utf-8").read() or process.poll() is not None,
             "whopline-probe")
    if process.poll() is not None:
        raise SystemExit(f"whopline-probe ended\n{end_of(log)}")
    return process


def preload_command(redis, database, kind, count, *options):
    return [BENCH / "bench_preload", *(["--rows", database.url] if database else []), *options, redis.url,
            kind, count]


def preload(redis, database, kind, count, *options):
    """database: None for kinds without rows."""
    told = json.loads(run(preload_command(redis, database, kind, count, *options), 600))
    if told != {"jobs": count, "refused": 0}:
        raise SystemExit(f"preload: {told}")


def left(redis):
    """What is in Redis in any form, waiting, held or put off."""
    client = redis.client
    return client.xlen(STREAM) + client.zcard(f"{STREAM}:z")


def drain(redis, count, snapshot, patience=60):
    """Waits for the first of `count` jobs and for the last; how many are between the two snapshots,
    which are (Unix time, whatever snapshot() says)."""
    wait_for(lambda: left(redis) < count, "the first job", patience, 0.002)
    first = left(redis), time.time(), snapshot()
    last_left, last_change = first[0], time.monotonic()
    while (now := left(redis)) > 0:
        if now != last_left:
            last_left, last_change = now, time.monotonic()
        if time.monotonic() - last_change > patience:
            raise SystemExit(f"{now} of {count} jobs are left and nothing moves")
        time.sleep(0.02)
    return first[0], first[1:], (time.time(), snapshot())
