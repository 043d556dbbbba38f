"""The stores and the processes of one seed, kept alive by a supervisor, and what happened to them.

Of each kind there are several processes; those with an odd number reach Redis and PostgreSQL through
proxies of their own (proxy.py), so that one of two sees bad weather and the other does not.
"""
import dataclasses
import hashlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import psycopg2
import redis

import harness
import sim

HERE = pathlib.Path(__file__).resolve().parent
COUNTS = {"ingest": 2, "journal": 2, "credits": 2, "members": 2, "mail": 2, "probe": 3, "scheduler": 2}
END_S = 15
FORCED = re.compile(r"^FAULT: forced (\w+)$", re.MULTILINE)

# What a campaign provokes, by kind of process. Another line of level error is a violation, but for
# those that say a job is dead: they are looked at one by one (checks.logs).
PROVOKED = {
    "probe": ("a job does not end and cannot be cancelled",  # probe.hang, and what stood still
              'kind=probe.batch reason="probe.batch met a bad item"'),
}


class History:
    """What was done and seen when, in a file; the way to understand a violation."""

    def __init__(self, path):
        self.began, self.lines, self.lock = time.monotonic(), [], threading.Lock()
        self.file = open(path, "w", encoding="utf-8")

    def note(self, what):
        with self.lock:
            line = f"{time.monotonic() - self.began:7.2f} {what}"
            self.lines.append(line)
            self.file.write(line + "\n")
            self.file.flush()


class Proxies:
    """The proxy's process. Places are called redis.KIND-N and pg.KIND-N."""

    def __init__(self, folder, names, redis_socket, pg_sockets, scripts, history):
        self.history, self.ready, places = history, threading.Event(), []
        self.urls = {}
        for name in names:
            pg_folder = folder / f"px-{name}"
            pg_folder.mkdir()
            listen = f"{folder}/px-{name}/redis"
            places.append({"name": f"redis.{name}", "listen": listen, "target": redis_socket, "redis": True})
            places.append({"name": f"pg.{name}", "listen": f"{pg_folder}/.s.PGSQL.5432",
                           "target": f"{pg_sockets}/.s.PGSQL.5432", "redis": False})
            self.urls[name] = (f"unix://{listen}", str(pg_folder))
        config = folder / "proxy.json"
        shas = {hashlib.sha1(path.read_bytes()).hexdigest(): path.stem.upper() for path in scripts}
        config.write_text(json.dumps({"scripts": shas, "places": places}), encoding="utf-8")
        self.popen = subprocess.Popen(
            [*harness.DIES_WITH_US, sys.executable, str(HERE / "proxy.py"), str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()
        if not self.ready.wait(10):
            raise RuntimeError("the proxy did not start")

    def listen(self):
        for line in self.popen.stdout:
            said = json.loads(line)
            if said["did"] == "ready":
                self.ready.set()
            else:
                self.history.note(f"proxy {said['at']}: {said['did']}")

    def order(self, **order):
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()

    def close(self):
        self.popen.stdin.close()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.thread.join()
        self.popen.stdout.close()


def stands_still(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


@dataclasses.dataclass
class Instance:
    """A place for a process, which dies and is started again."""
    kind: str
    number: int
    env: dict
    proc: object = None
    fault: str = ""         # for its next start
    armed: str = ""         # the fault it runs with
    stop_for: float = 1     # seconds, where the fault stops it
    continue_at: float = 0  # it stands still until then
    start_at: float = 0

    @property
    def name(self):
        return f"{self.kind}-{self.number}"


class World(harness.Stack):
    """A stack whose processes are supervised. Main thread only, but for its history."""

    def __init__(self, cluster, template, bin_dir, source, settings):
        super().__init__(cluster.folder, template, bin_dir)
        self.cluster, self.timers, self.problems = cluster, [], []
        self.history = History(self.folder / "history.txt")
        self.deaths, self.forced, self.counts = {}, {}, {}
        # Redis may stand still, and it is this thread that lets it go on.
        self.impatient = redis.Redis(unix_socket_path=self.redis.socket, socket_timeout=0.3 * harness.SLOW)
        self.env["RING_DIR"] = str(self.folder / "ring")
        self.env.update({key: str(value) for key, value in settings.items()})
        self.sim = sim.Sim(harness.DIES_WITH_US)  # all probes call it, in good and in bad weather
        self.env.update({"PROBE_URL": self.sim.url, "HTTP_ALLOW_PRIVATE": "true"})
        kinds = {kind: count for kind, count in COUNTS.items() if (bin_dir / f"whopline-{kind}").exists()}
        odd = [f"{kind}-{number}" for kind, count in kinds.items() for number in range(1, count, 2)]
        self.proxies = Proxies(self.folder, odd, self.redis.socket, cluster.folder,
                               (source / "schema/redis").glob("*.lua"), self.history)
        self.instances = [self.place(kind, number) for kind, count in kinds.items() for number in range(count)]
        self.ending = False

    def place(self, kind, number):
        one = Instance(kind, number, {})
        if kind == "ingest":
            one.env["PRIVATE_LISTEN"] = f"127.0.0.1:{harness.free_port()}"
        if one.name in self.proxies.urls:
            redis_url, pg_folder = self.proxies.urls[one.name]
            one.env["REDIS_URL"] = redis_url
            one.env["DATABASE_URL"] = harness.database_url(pg_folder, self.database)
        return one

    def of_kind(self, *kinds):
        return [one for one in self.instances if one.kind in kinds]

    def note(self, what):
        self.history.note(what)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # ---- time

    def later(self, seconds, what, do):
        """do() is called by tick() in so many seconds, and at once when the chaos ends."""
        self.timers.append((time.monotonic() + seconds, what, do))

    def tick(self):
        now = time.monotonic()
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, what, do in due:
            self.note(what)
            do()
        self.supervise(now)

    def run_for(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tick()
            time.sleep(0.02)

    # ---- processes

    def supervise(self, now):
        for one in self.instances:
            if one.continue_at and now >= one.continue_at:
                self.resume(one)
            if one.proc is None:
                if now >= one.start_at:
                    self.launch(one)
            elif not one.proc.running():
                self.bury(one)
            elif ":stop" in one.armed and not one.continue_at and stands_still(one.proc.pid):
                self.note(f"{one.name} has stopped itself, for {one.stop_for:.2f} s")
                one.continue_at = now + one.stop_for

    def launch(self, one):
        one.proc = self.start(one.kind, env=one.env, fault=one.fault or None, ready=False)
        one.armed, one.fault = one.fault, ""
        if one.kind == "probe":  # crash and hang are kinds of job
            one.proc.allowed.update({-signal.SIGKILL, -signal.SIGABRT})
        self.note(f"{one.name} started, pid {one.proc.pid}{' FAULT=' + one.armed if one.armed else ''}")

    def bury(self, one):
        code = one.proc.popen.returncode
        said = FORCED.findall(one.proc.log())
        for point in set(said):
            self.forced[point] = self.forced.get(point, 0) + 1
        self.note(f"{one.name} ended, pid {one.proc.pid}, code {code}{' forced ' + said[0] if said else ''}")
        if code != 0:
            self.deaths[one.kind] = self.deaths.get(one.kind, 0) + 1
        if code not in one.proc.allowed:
            self.problems.append(f"{one.name} ended with code {code} unasked\n{harness.end_of(one.proc.path)}")
            one.proc.allowed.add(code)
        one.proc, one.armed, one.continue_at = None, "", 0
        one.start_at = 0

    def kill(self, one, number, wait=0.0):
        """Ends it, to be started again after `wait` seconds."""
        self.note(f"{one.name} gets {number.name}")
        if one.proc is None or (one.proc.asked and number == signal.SIGTERM):
            return  # a second SIGTERM means: at once, and not with 0
        if one.continue_at:
            self.resume(one)
        one.proc.send(number, *({0} if number == signal.SIGTERM else {-number}))
        if "starting" not in one.proc.log():  # it has not got its handlers yet
            one.proc.allowed.add(-number)
        one.start_at = time.monotonic() + wait
        if number == signal.SIGKILL:
            one.proc.wait_exit()

    def freeze(self, one, seconds):
        if one.proc is None or one.continue_at:
            return
        self.note(f"{one.name} stands still for {seconds:.2f} s")
        one.proc.popen.send_signal(signal.SIGSTOP)
        one.continue_at = time.monotonic() + seconds

    def resume(self, one):
        one.continue_at = 0
        if one.proc is not None and one.proc.running():
            self.note(f"{one.name} goes on")
            one.proc.popen.send_signal(signal.SIGCONT)

    # ---- the end of the chaos

    def calm(self):
        """All faults are over; the stores and all processes run."""
        self.note("---- calm")
        self.proxies.order(do="calm")
        timers, self.timers = self.timers, []
        for _, what, do in timers:
            self.note(what)
            do()
        for one in self.instances:
            one.fault, one.start_at = "", 0
            if one.continue_at:
                self.resume(one)
        self.cluster.start()
        if not self.redis.answers():
            self.redis.start()
        self.tick()

    def forget_db(self):
        """So that the next statement opens a new connection."""
        if self._db is not None:
            self._db.close()

    def direct(self, query, args=None):
        """sql() that survives a PostgreSQL that was killed; None while there is none."""
        try:
            return self.sql(query, args)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self.forget_db()
            return None

    def streams(self):
        """Entries by stream and by zset of delayed ones; None while Redis is away."""
        client = self.impatient
        try:
            found = {name.decode(): client.xlen(name) for name in client.scan_iter("wl:*", _type="stream")}
            found.update({name.decode(): client.zcard(name) for name in client.scan_iter("wl:*:z", _type="zset")})
            return found
        except redis.RedisError:
            return None

    def finish(self):
        """Ends all processes; what was wrong with any of their lives."""
        for one in self.instances:
            if one.continue_at:
                self.resume(one)
            if one.proc is not None and not one.proc.asked:
                one.proc.send(signal.SIGTERM, 0)
        until = time.monotonic() + END_S * harness.SLOW
        living = [one for one in self.instances if one.proc is not None]
        while living and time.monotonic() < until:
            for one in living:  # a fault that stops may strike as late as now
                if one.proc.running() and stands_still(one.proc.pid):
                    one.proc.popen.send_signal(signal.SIGCONT)
            time.sleep(0.02)
            living = [one for one in living if one.proc.running()]
        for one in living:
            self.problems.append(f"{one.name} did not end on SIGTERM\n{harness.end_of(one.proc.path)}")
            one.proc.kill9()
        for one in self.instances:
            if one.proc is not None:
                self.bury(one)
        self.procs, procs = [], self.procs
        return procs

    def close(self):
        self.proxies.close()
        self.problems += self.sim.close()
        self.impatient.connection_pool.disconnect()
        self.history.file.close()
        return super().close()
