"""The real binaries against a real Redis and PostgreSQL, for one test at a time.

Everything a test starts is its own (Redis, database, ports, folder), so tests run side by side.
Everything dies with the test, and even with a pytest that is killed: each process asks the kernel
to be killed when its parent dies. Start processes from the main thread only, for that reason.

A test fails by what its processes did, too: an exit code it did not ask for, a sanitizer's report,
or a line of level error that it did not expect (Stack.problems).
"""
import glob
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import redis

import whop

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("WHOPLINE_BIN") or ROOT / "build/dev/bin")
# Two things that a slow build needs more of. SLOW: patience, which costs nothing where all goes well.
# PACE: time that has to pass before something happens (a lease, a call's time-out), which each test
# that is about it waits for.
SLOW = float(os.environ.get("WHOPLINE_TEST_SLOW") or 1)
PACE = float(os.environ.get("WHOPLINE_TEST_PACE") or SLOW)
# The names in the Procfile, in its order; NAME runs as whopline-NAME.
PROCESSES = tuple(re.findall(r"^([\w-]+):", (ROOT / "Procfile").read_text(encoding="utf-8"), re.MULTILINE))
SANITIZER = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")
ERROR_LINE = re.compile(r'\blevel=error\b|"level":"error"')
MEMORY = "/dev/shm"
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]

# Fast enough for a test to see several leases, sweeps and retries.
SETTINGS = {
    "LEASE_MS": int(1500 * PACE), "READ_BLOCK_MS": 200, "SHUTDOWN_GRACE_MS": 5000,
    "BACKOFF_BASE_MS": 50, "BACKOFF_MAX_MS": 1000, "RELAY_SWEEP_MS": 100, "RELAY_STALE_MS": 2000,
    "HTTP_DRAIN_MS": 2000, "SLOTS": 4, "LOG_LEVEL": "info",
    "SCHEDULES_ENABLED": "off",  # what they cause has no worker in most tests
}


# Without it a query that waits would not hear the signal that ends a test which takes too long.
psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)


def eventually(fn, timeout=10, every=0.05):
    """The first true value of fn(); fails with its last one when that takes too long."""
    ends = time.monotonic() + timeout * SLOW
    while True:
        try:
            last = fn()
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout * SLOW:g} s; last: {last!r}")
        time.sleep(every)


def clean_environment():
    """What a process sees besides its settings: nothing of the caller's stores."""
    names = ("HOME", "LANG", "TMPDIR", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS",
             "TSAN_OPTIONS", "ASAN_SYMBOLIZER_PATH", "LLVM_PROFILE_FILE")
    path = f"{BIN}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"PATH": path, **{n: os.environ[n] for n in names if n in os.environ}}


def end_of(path, lines=40):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def roomy_folder():
    """Memory, if there is room for stores of tests in it, as ./dev says (has_memory), which is run usually."""
    if os.path.isdir(MEMORY) and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= 2 << 30:
        return MEMORY
    return "/tmp"


_held_ports = []


def free_port():
    """A port nobody listens on and no other test gets.

    Binding and closing is not enough: ingest listens with SO_REUSEPORT, so two tests with the same
    port would share it and never know. An abstract socket's name is the lock: it vanishes with us.
    Below the range from which the kernel takes the ports of outgoing connections.
    """
    for _ in range(1000):
        port = random.randint(20000, 29999)
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0whopline-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _held_ports.append(lock)
        return port
    raise RuntimeError("no free port")


def release_ports():
    """At the end of a test: a process runs one at a time, and may not open files without end."""
    while _held_ports:
        _held_ports.pop().close()


class Cluster:
    """A PostgreSQL for the whole run: the one ./dev test has started, or else one of our own.
    durable: set up as in production, so that it may be killed."""

    FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_wal_size=256MB")

    def __init__(self, durable=False):
        programs = glob.glob("/usr/lib/postgresql/*/bin/postgres")
        programs.sort(key=lambda path: int(path.split("/")[4]))
        self.bin_dir = os.path.dirname(programs[-1])
        self.folder = tempfile.mkdtemp(prefix="wl-pg-", dir="/tmp" if durable else roomy_folder())
        self.settings = ["listen_addresses=", "max_connections=500", *([] if durable else self.FAST)]
        # PostgreSQL refuses to run as root; in a user namespace it is nobody, and on disk still us.
        self.user = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        subprocess.run([*self.user, f"{self.bin_dir}/initdb", "-D", f"{self.folder}/data", "-A", "trust",
                        "-U", "app", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
                       check=True, capture_output=True, cwd="/")
        self.log = open(f"{self.folder}/log", "wb")
        self.process = None
        try:
            self.start()
        except AssertionError:
            log = end_of(f"{self.folder}/log")
            self.stop()
            raise RuntimeError(f"PostgreSQL did not start\n{log}") from None

    def start(self):
        eventually(self.is_up, 30)

    def is_up(self):
        """Starts it if it does not run: after a kill it refuses as long as its children live."""
        if self.process is None or self.process.poll() is not None:
            options = [word for setting in self.settings for word in ("-c", setting)]
            self.process = subprocess.Popen(
                [*self.user, "setpriv", "--pdeathsig", "INT", f"{self.bin_dir}/postgres", "-D",
                 f"{self.folder}/data", "-k", self.folder, *options],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        ready = [f"{self.bin_dir}/pg_isready", "-q", "-h", self.folder, "-U", "app", "-d", "postgres"]
        return subprocess.run(ready, check=False).returncode == 0

    def kill9(self):
        self.process.kill()
        self.process.wait(30)

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(sockets, database="postgres"):
    link = psycopg2.connect(host=sockets, user="app", dbname=database)
    link.autocommit = True
    return link


def execute(sockets, statement):
    link = connect(sockets)
    try:
        link.cursor().execute(statement)
    finally:
        link.close()


def database_url(sockets, database):
    return f"host={sockets} user=app dbname={database}"


class Proc:
    """One process of ours. allowed: the exit codes that are no surprise."""

    def __init__(self, name, argv, env, log):
        self.name, self.path, self.allowed, self.asked = name, log, set(), False
        with open(log, "ab") as out:
            self.popen = subprocess.Popen([*DIES_WITH_US, *map(str, argv)], env=env, cwd=log.parent,
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          start_new_session=True)
        self.pid = self.popen.pid

    def __repr__(self):
        return f"<{self.name} {self.pid} code={self.popen.poll()}>"

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return self.path.read_text(encoding="utf-8", errors="replace")

    def wait_log(self, pattern, timeout=10):
        return eventually(lambda: re.search(pattern, self.log()), timeout)

    def wait_exit(self, timeout=15):
        try:
            return self.popen.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended; its log:\n{end_of(self.path)}") from None

    def send(self, number, *allowed):
        self.allowed.update(allowed)
        self.asked = self.asked or number == signal.SIGTERM
        if self.running():
            self.popen.send_signal(number)

    def heard(self, number):
        """Waits until that signal has been delivered: a second one beside it would be none."""
        def is_delivered():
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
            waiting = [int(mask, 16) for mask in re.findall(r"^S[hi][dg]Pnd:\s*(\w+)", status, re.MULTILINE)]
            return not any(mask >> number - 1 & 1 for mask in waiting)
        eventually(is_delivered)

    def sigterm(self, wait=True):
        """Asks it to end; that must be with 0."""
        self.send(signal.SIGTERM, 0)
        return self.wait_exit() if wait else None

    def kill9(self):
        self.send(signal.SIGKILL, -signal.SIGKILL)
        return self.wait_exit()

    def finish(self, expected_errors):
        """Ends it if it runs; what was wrong with its life, as texts."""
        wrong = []
        if self.running():
            try:
                if self.asked:  # a second SIGTERM would end it at once, and not with 0
                    self.wait_exit()
                else:
                    self.sigterm()
            except AssertionError:
                wrong.append("did not end on SIGTERM")
                self.kill9()
        if self.popen.returncode not in self.allowed:
            wrong.append(f"ended with code {self.popen.returncode}")
        if group_alive(self.pid):
            wrong.append("left processes behind")
            os.killpg(self.pid, signal.SIGKILL)
        wrong += unexpected_lines(self.log(), expected_errors)
        return [f"{self.name}: {text}\n{end_of(self.path)}" for text in wrong]


def group_alive(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def unexpected_lines(text, expected_errors):
    found = []
    if SANITIZER.search(text):
        found.append("a sanitizer reports an error")
    for line in text.splitlines():
        if ERROR_LINE.search(line) and not any(part in line for part in expected_errors):
            found.append(f"logged an error: {line}")
            break
    return found


class Redis:
    """The test's own, set up as in production."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = f"{folder}/redis.sock"
        self.url = f"unix://{self.socket}"
        self.process = None
        self._client = redis.Redis(unix_socket_path=self.socket, socket_timeout=10 * SLOW)

    def client(self):
        return self._client

    def start(self):
        with open(f"{self.folder}/redis.log", "ab") as out:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, "redis-server", str(ROOT / "schema/redis.conf"), "--port", "0",
                 "--unixsocket", self.socket, "--dir", self.folder],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        eventually(self.answers, 20)

    def answers(self):
        try:
            return self._client.ping()
        except redis.RedisError:
            return False

    def stop(self, number=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(20 * SLOW)
        self._client.connection_pool.disconnect()

    def kill9(self):
        self.stop(signal.SIGKILL)


class Stack:
    """Stores, settings and processes of one test."""

    def __init__(self, pg_sockets, template=None, bin_dir=BIN):
        self.bin, self.procs, self.expected_errors = bin_dir, [], []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="s-", dir=os.environ.get("WHOPLINE_TEST_TMP") or roomy_folder()))
        self.pg_sockets, self.database, self._db = pg_sockets, None, None
        self.redis = Redis(str(self.folder))
        self.http_port, self.private_port = free_port(), free_port()
        self.env = {
            **clean_environment(), **{name: str(value) for name, value in SETTINGS.items()},
            "REDIS_URL": self.redis.url,
            "HTTP_LISTEN": f"127.0.0.1:{self.http_port}",
            "PRIVATE_LISTEN": f"127.0.0.1:{self.private_port}",
            "WHOP_COMPANY_ID": whop.COMPANY, "WHOP_WEBHOOK_SECRET": whop.SECRET,
        }
        if template:
            self.database = "test_" + self.folder.name[2:].lower()
            # Through the buffers and the log, as is usual, it takes twice the time; not so on a busy disk.
            how = "STRATEGY file_copy" if pg_sockets.startswith(MEMORY) else ""
            execute(pg_sockets, f'CREATE DATABASE "{self.database}" TEMPLATE "{template}" {how}')
            self.env["DATABASE_URL"] = database_url(pg_sockets, self.database)
        self.redis.start()

    # ---- the database

    def db(self):
        if self._db is None or self._db.closed:
            self._db = connect(self.pg_sockets, self.database)
        return self._db

    def sql(self, query, args=None):
        with self.db().cursor() as cursor:
            cursor.execute(query, args)
            return cursor.fetchall() if cursor.description else []

    # ---- processes

    def start(self, name, env=None, fault=None, ready=True):
        """Starts whopline-NAME. fault: see common/base/fault.h; "...:kill" makes -9 no surprise."""
        number = sum(1 for proc in self.procs if proc.name == name) + 1
        settings = {**self.env, **{key: str(value) for key, value in (env or {}).items()}}
        if fault:
            settings["FAULT"] = fault
        proc = Proc(name, [self.bin / f"whopline-{name}"], settings, self.folder / f"{name}.{number}.log")
        self.procs.append(proc)
        if fault and ":kill" in fault:
            proc.allowed.add(-signal.SIGKILL)
        if ready:
            eventually(lambda: not proc.running() or self.is_ready(name, proc), 20)
        return proc

    def is_ready(self, name, proc):
        """Ingest answers the question; a worker says so in its log. A signal sent sooner would
        meet a process that has not got its handlers yet."""
        if name != "ingest":
            return re.search(r'\bmsg="?working|"msg":"working', proc.log())
        link = http.client.HTTPConnection("127.0.0.1", self.private_port, timeout=2)
        try:
            link.request("GET", "/readyz")
            return link.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()

    def up(self, *names):
        return [self.start(name) for name in names or PROCESSES]

    def proc(self, name):
        """The youngest of that name."""
        return [proc for proc in self.procs if proc.name == name][-1]

    def expect_errors(self, *parts):
        """Lines of level error with one of these parts are what the test is about."""
        self.expected_errors += parts

    def cli(self, *args, check=True, env=None, timeout=30):
        done = subprocess.run([*DIES_WITH_US, str(self.bin / "whopline"), *map(str, args)],
                              env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout * SLOW, check=False)
        said = f"whopline {' '.join(map(str, args))}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not SANITIZER.search(done.stderr), said
        assert not check or done.returncode == 0, said
        return done

    def cli_json(self, *args, **how):
        return json.loads(self.cli(*args, "--json", **how).stdout)

    @staticmethod
    def eventually(fn, timeout=10, every=0.05):
        return eventually(fn, timeout, every)

    # ---- work

    def at_rest(self):
        """Is there nothing left to do for the programs that were started, in either store? Redis holds an
        entry until its job is done, and an event's until its jobs are rows."""
        queues = {proc.name for proc in self.procs}
        redis = self.redis.client()
        waiting = sum(redis.xlen(name) + redis.zcard(name + ":z") for name in
                      ["wl:{0}:events"] + [f"wl:{{0}}:q:{queue}" for queue in queues])
        return waiting == 0 and not self.sql("SELECT 1 FROM jobs WHERE state = 'queued' AND queue = ANY (%s) LIMIT 1",
                                             (list(queues),))

    # ---- the end

    def logs(self):
        return "\n".join(f"---- {proc!r}\n{end_of(proc.path)}" for proc in self.procs)

    def end_processes(self):
        """What was wrong with their lives, as texts."""
        problems, procs, self.procs = [], self.procs, []
        for proc in procs:
            proc.send(signal.SIGTERM, *([0] if proc.running() else []))
        for proc in procs:
            problems += proc.finish(self.expected_errors)
        return problems

    def close(self):
        """Ends everything and leaves nothing; what was wrong, as texts."""
        problems = self.end_processes()
        release_ports()
        self.redis.kill9()
        if self._db is not None:
            self._db.close()
        if self.database:
            execute(self.pg_sockets, f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
        shutil.rmtree(self.folder)
        return problems
