"""whopline-probe, the worker that is measured, and the jobs it gets."""
import json
import os
import time

from lib.processes import BENCH, run, start, start_whopline, stop_well, wait_for

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


def preload_command(redis, database, kind, count, *options):
    return [BENCH / "bench_preload", *(["--rows", database.url] if database else []), *options, redis.url,
            kind, count]


def prepare(place, redis):
    """A worker makes probe_effects when it starts."""
    log = f"{place.folder}/prepare.log"
    stop_well(start_whopline(BENCH / "whopline-probe", log, environment(redis, place.database)), log)


def clear(redis, database):
    redis.clear()
    database.sql("TRUNCATE jobs, probe_effects")


def preload(redis, database, kind, count, *options):
    """database: None for kinds without rows."""
    told = json.loads(run(preload_command(redis, database, kind, count, *options), 600))
    if told != {"jobs": count, "refused": 0}:
        raise SystemExit(f"preload: {told}")


def left(redis, stream=STREAM):
    """What is in Redis in any form, waiting, held or put off."""
    client = redis.client
    return client.xlen(stream) + client.zcard(f"{stream}:z")


def drain(redis, count, meter, patience=60, stream=STREAM):
    """Waits for the first of `count` jobs and for the last; what the meter says of those between. If
    all went at once, of all, with the worker's start."""
    start_of_all = meter.look()
    wait_for(lambda: left(redis, stream) < count, "the first job", patience, 0.002)
    first, before = left(redis, stream), meter.look()
    if first == 0:
        return meter.between(start_of_all, before, count)
    last_left, last_change = first, time.monotonic()
    while (now := left(redis, stream)) > 0:
        if now != last_left:
            last_left, last_change = now, time.monotonic()
        if time.monotonic() - last_change > patience:
            raise SystemExit(f"{now} of {count} jobs are left and nothing moves")
        time.sleep(0.02)
    return meter.between(before, meter.look(), first)


def effects(database, count):
    """When each was written, Unix seconds; exactly one of each of `count` jobs, or this is the end."""
    rows = database.sql("SELECT job, extract(epoch FROM at) FROM probe_effects ORDER BY at")
    done, = database.sql("SELECT count(*) FROM jobs WHERE state = 'done'")[0]
    if not len(rows) == len({job for job, _ in rows}) == done == count:
        raise SystemExit(f"of {count} jobs {done} are done, with {len(rows)} effects")
    return [float(at) for _, at in rows]
