"""A Redis of a benchmark's own, and a database of its own in the PostgreSQL that it is given."""
import os
import sys
import uuid

import psycopg2
import redis

from lib.processes import BIN, ROOT, run, start, wait_for

COMPANY = "biz_Bench000000001"


class Redis:
    """With schema/redis.conf; durable=False: without the append-only file."""

    def __init__(self, folder, durable=True):
        self.durable = durable
        self.socket = f"{folder}/redis-{'aof' if durable else 'memory'}.sock"
        self.url = f"unix://{self.socket}"
        data = f"{self.socket}.data"
        os.mkdir(data)
        self.process = start(["redis-server", ROOT / "schema/redis.conf", "--port", "0", "--unixsocket",
                              self.socket, "--dir", data, "--appendonly", "yes" if durable else "no"],
                             f"{folder}/redis.log")
        self.client = redis.Redis(unix_socket_path=self.socket, socket_timeout=60)
        wait_for(self.answers, "redis-server")

    def answers(self):
        try:
            return self.client.ping()
        except redis.RedisError:  # no socket yet, one that nobody listens on yet, or LOADING
            return False

    @property
    def pid(self):
        return self.process.pid

    def clear(self):
        self.client.flushall()
        self.client.config_resetstat()

    def stop(self):
        self.client.close()
        self.process.terminate()
        return self.process.wait(40)


class Database:
    """BENCH_PG is the folder of PostgreSQL's socket (user app, no password); ./dev bench sets it."""

    def __init__(self):
        self.sockets = os.environ.get("BENCH_PG")
        if not self.sockets:
            sys.exit("BENCH_PG names no PostgreSQL: start it by ./dev bench")
        self.name = f"bench_{uuid.uuid4().hex[:12]}"
        self.url = f"host={self.sockets} user=app dbname={self.name}"
        self._server = self._connect("postgres")
        self._server.cursor().execute(f'CREATE DATABASE "{self.name}"')
        self._link = None
        env = {"PATH": os.environ["PATH"], "DATABASE_URL": self.url, "WHOP_COMPANY_ID": COMPANY}
        run([BIN / "whopline", "migrate"], 60, env)
        self._link = self._connect(self.name)
        self.pid = self.find_postmaster()

    def _connect(self, name):
        link = psycopg2.connect(host=self.sockets, user="app", dbname=name)
        link.autocommit = True
        return link

    def find_postmaster(self):
        backend, = self.sql("SELECT pg_backend_pid()")[0]
        with open(f"/proc/{backend}/stat", encoding="ascii") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])

    def sql(self, statement, values=None):
        with self._link.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def settings(self):
        names = ("synchronous_commit", "fsync", "track_commit_timestamp")
        return {name: self.sql(f"SHOW {name}")[0][0] for name in names}

    def rest(self):
        """Before something is measured: what was done before must not be paid for in it."""
        self.sql("VACUUM ANALYZE")
        self.sql("CHECKPOINT")

    def close(self):
        if self._link is not None:
            self._link.close()
        self._server.cursor().execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
        self._server.close()
