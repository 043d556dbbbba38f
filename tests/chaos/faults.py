"""What goes wrong in a seed, and when: drawn from the seed beforehand, not from what happens.

Each fault is a method; `weights` says how often. Times are in seconds of the chaos, which a slow
machine stretches (harness.SLOW).
"""
import re
import signal
import time

import redis

import harness
import load
import world

ROOT = harness.ROOT
LEASE_S = harness.SETTINGS["LEASE_MS"] / 1000
MEAN_PAUSE_S = 0.55
KINDS = ("ingest", "journal", "credits", "members", "mail", "probe", "scheduler")

# Who comes by a fault point. A point that is not here: any worker.
WHERE = {
    "before_accept": ("ingest",), "after_accept_before_200": ("ingest",), "ring_write": ("ingest",),
    "before_replay_batch": ("ingest",),
    "before_enqueue": ("journal", "probe"), "enqueue_reply_lost": ("journal", "probe"),
    "after_enqueue_before_mark": ("journal", "scheduler", "probe"),
    "before_retry": ("probe",), "retry_reply_lost": ("probe",),
    "before_call": ("probe",), "call_first_byte": ("probe",), "call_reply_lost": ("probe",),
    "after_call": ("probe",), "before_promote": ("journal", "credits", "members", "mail", "probe"), "before_start": ("probe",),
}
# Few come by there, so it is the first time or never.
RARE = ("before_replay_batch", "before_start", "before_retry", "retry_reply_lost")
WORKERS = ("journal", "credits", "members", "mail", "probe")
# Points where a worker that lives behaves as if the step had failed; elsewhere it can only die.
FAILS = ("before_accept", "before_pg_commit", "pg_commit_reply_lost", "done_reply_lost",
         "retry_reply_lost", "enqueue_reply_lost", "before_call", "call_reply_lost")
LOSE = ("XAUTOCLAIM", "START", "BEAT", "DONE", "RETRY", "PROMOTE", "RELEASE", "ENQUEUE", "ACCEPT",
        "XREADGROUP")

WEIGHTS = {
    "kill_process": 8, "end_process": 3, "stop_process": 5, "force_point": 13,
    "kill_redis": 1.5, "leave_redis": 0.5, "stop_redis": 1, "flush_redis": 1,
    "end_backends": 3, "kill_postgres": 1, "leave_postgres": 0.4,
    "cut": 2, "cut_after": 4, "lose_reply": 5, "hold_reply": 1.5, "delay_replies": 2, "stall": 1,
    "refuse": 1, "spoil_calls": 8,
}
# What the other side does to some of the calls that follow: tests/sim/README.md.
SPOILS = ({"fault": "drop"}, {"fault": "drop", "reused": True}, {"fault": "close"}, {"fault": "cut"},
          {"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "1"}}, {"latency_ms": 200},
          {"latency_ms": 900}, {"reply_ms": 900})


def points(source):
    """All (point, action) there are, in the order of schema/faults.def."""
    text = (source / "schema/faults.def").read_text(encoding="utf-8")
    names = re.findall(r"^FAULT_POINT\((\w+)", text, re.MULTILINE)
    return [(name, action) for action in ("kill", "stop", "fail") for name in names
            if action != "fail" or name in FAILS]


class Chaos:
    """The faults of one seed. bias: for a mutant that shows under few of them; the names of faults
    ("only"), of points ("force") and of commands whose replies are lost ("lose")."""

    def __init__(self, its_world, seed, lasts_s, source, bias):
        self.world = its_world
        self.rng = load.random_of(seed, "faults")
        self.flushed = False
        self.turns = self.deal_points(seed, points(source), bias.get("force"))
        self.lose = bias.get("lose", LOSE)
        names = [name for name in WEIGHTS if name in bias.get("only", WEIGHTS)]
        weights = [WEIGHTS[name] for name in names]
        self.plan, at = [], 0.3
        while at < lasts_s:
            self.plan.append((at, self.rng.choices(names, weights)[0], self.rng.random()))
            at += self.rng.expovariate(1 / MEAN_PAUSE_S)
        self.began = time.monotonic()

    def deal_points(self, seed, known, force):
        """Seeds that follow each other begin where the last one ended."""
        known = [pair for pair in known if force is None or pair[0] in force]
        start = (seed * 10) % len(known)
        return known[start:] + known[:start]

    def tick(self):
        now = (time.monotonic() - self.began) / harness.SLOW
        while self.plan and self.plan[0][0] <= now:
            _, name, chance = self.plan.pop(0)
            self.rng.seed(f"{name}/{chance}")
            self.world.count(name)
            getattr(self, name)()

    # ---- processes

    def anyone(self, *kinds):
        kind = self.rng.choice([k for k in kinds or KINDS if self.world.of_kind(k)])
        return self.rng.choice(self.world.of_kind(kind))

    def kill_process(self):
        self.world.kill(self.anyone(), signal.SIGKILL, self.rng.choice((0, 0, 0.3, LEASE_S)))

    def end_process(self):
        self.world.kill(self.anyone(), signal.SIGTERM)

    def stop_process(self):
        self.world.freeze(self.anyone(), self.rng.uniform(0.1, 2.5) * LEASE_S)

    def force_point(self):
        point, action = self.turns[0]
        self.turns = self.turns[1:] + self.turns[:1]
        kinds = [kind for kind in WHERE.get(point, WORKERS) if self.world.of_kind(kind)]
        one = self.anyone(*(kinds or WORKERS))
        self.world.kill(one, signal.SIGKILL)
        nth = 1 if point in RARE else self.rng.choice((1, 1, 1, 2, 3, 6))
        one.fault = f"{point}:{action}@{nth}"
        if point == "before_replay_batch":
            self.world.later(1.2, "for the sake of before_replay_batch", self.flush_redis)
        one.stop_for = self.rng.uniform(0.8, 2.5) * LEASE_S

    # ---- the other side

    def spoil_calls(self):
        """Questions, too: a look that is lost is no answer."""
        rule = {"path": "/things/*", "times": self.rng.choice((1, 2, 5, 10)), **self.rng.choice(SPOILS)}
        for late in ("latency_ms", "reply_ms"):
            if late in rule:
                rule[late] *= harness.SLOW
        self.world.note(f"the other side: {rule}")
        self.world.sim.rule(**rule)

    # ---- Redis

    def kill_redis(self):
        self.leave_redis(self.rng.choice((0, 0.2)))

    def leave_redis(self, seconds=None):
        away = self.rng.uniform(0.5, 2.5) * LEASE_S if seconds is None else seconds
        if self.world.redis.process.poll() is not None:
            return
        self.world.note(f"Redis gets SIGKILL, away for {away:.2f} s")
        self.world.redis.kill9()
        self.world.later(away, "Redis starts", self.start_redis)

    def start_redis(self):
        if self.world.redis.process.poll() is not None:
            self.world.redis.start()

    def stop_redis(self):
        process, seconds = self.world.redis.process, self.rng.uniform(0.5, 2) * LEASE_S
        if process.poll() is not None:
            return
        self.world.note(f"Redis stands still for {seconds:.2f} s")
        process.send_signal(signal.SIGSTOP)
        self.world.later(seconds, "Redis goes on", lambda: process.send_signal(signal.SIGCONT))

    def flush_redis(self):
        """With events in it that are not in PostgreSQL: ingest's ring has them, too."""
        process = self.world.redis.process
        if process.poll() is not None or world.stands_still(process.pid):
            return
        try:
            self.world.impatient.flushall()
        except redis.RedisError:
            return
        self.world.note("Redis FLUSHALL")
        self.flushed = True

    # ---- PostgreSQL

    def end_backends(self):
        """Of some connections of ours; those through a proxy look the same."""
        share = self.rng.choice((0.2, 0.5, 1))
        rows = self.world.direct("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < %s""", (share,))
        self.world.note(f"PostgreSQL: {len(rows or [])} backends ended")

    def kill_postgres(self):
        self.leave_postgres(0)

    def leave_postgres(self, seconds=None):
        away = self.rng.uniform(1, 3) * LEASE_S if seconds is None else seconds
        if self.world.cluster.process.poll() is not None:
            return
        self.world.note(f"PostgreSQL gets SIGKILL, away for {away:.2f} s")
        self.world.cluster.kill9()
        self.world.later(away, "PostgreSQL starts", self.world.cluster.start)

    # ---- the network

    def place(self):
        names = sorted(self.world.proxies.urls)
        return f"{self.rng.choice(('redis', 'pg'))}.{self.rng.choice(names)}"

    def order(self, **what):
        self.world.note("proxy " + " ".join(f"{key}={value}" for key, value in what.items()))
        self.world.proxies.order(**what)

    def ms(self, low, high):
        return int(1000 * self.rng.uniform(low, high))

    def cut(self):
        self.order(do="cut", at=self.place())

    def cut_after(self):
        self.order(do="cut_after", at=self.place(), way=self.rng.choice(("down", "down", "up")),
                   bytes=self.rng.choice((0, 1, 3, 5, 20, 80, 300, 1500)))

    def redis_place(self, command):
        kinds = {"ACCEPT": ("ingest",), "ENQUEUE": ("journal", "scheduler", "probe")}.get(command, WORKERS)
        kinds = [kind for kind in kinds if self.world.of_kind(kind)]
        return f"redis.{self.rng.choice(kinds)}-1"

    def lose_reply(self):
        command = self.rng.choice(self.lose)
        self.order(do="lose", at=self.redis_place(command), command=command, nth=self.rng.choice((1, 1, 2, 5)))

    def hold_reply(self):
        command = self.rng.choice(LOSE)
        self.order(do="hold", at=self.redis_place(command), command=command, nth=1,
                   ms=self.ms(0.3 * LEASE_S, 1.8 * LEASE_S))

    def delay_replies(self):
        self.order(do="delay", at=self.place(), ms=self.ms(0.005, 0.1), for_ms=self.ms(0.5, 2))

    def stall(self):
        self.order(do="stall", at=self.place(), for_ms=self.ms(0.3 * LEASE_S, 2 * LEASE_S))

    def refuse(self):
        self.order(do="refuse", at=self.place(), for_ms=self.ms(0.2, 1.5 * LEASE_S))
