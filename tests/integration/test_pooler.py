"""Behind a pooler in transaction mode (PgBouncer), where each transaction may meet another
connection, and over a migration: prepared statements are a saving, never an error of a job."""
import shutil
import subprocess

import pytest

import harness
from test_probe import in_state, is_clean, put, start
from test_schedules import add, check_jobs

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


class Pooler(harness.Proc):
    """Two connections for everybody, each transaction on whichever is free."""

    def __init__(self, stack):
        self.port = harness.free_port()
        config = stack.folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{stack.database} = host={stack.pg_sockets} user=app\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmin_pool_size = 2\n"
            "server_round_robin = 1\nserver_lifetime = 1\nignore_startup_parameters = extra_float_digits\n")
        # It refuses to run as root; in a user namespace it is nobody.
        root = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
        super().__init__("pgbouncer", [*root, PGBOUNCER, config], stack.env, stack.folder / "pgbouncer.log")
        self.url = f"host=127.0.0.1 port={self.port} user=app dbname={stack.database}"
        harness.eventually(self.answers)

    def answers(self):
        return subprocess.run(["/usr/bin/python3", "-c", f"import psycopg2; psycopg2.connect('{self.url}')"],
                              check=False, capture_output=True).returncode == 0


@pytest.fixture
def pooler(stack):
    process = Pooler(stack)
    yield process
    process.popen.terminate()
    process.wait_exit()


def settled(stack, jobs):
    assert in_state(stack, "done", jobs) == len(jobs)
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(len(jobs), len(jobs))]
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    return True


def test_a_pooler_in_transaction_mode_costs_no_attempt(stack, pooler):
    stack.env["DATABASE_URL"] = pooler.url
    start(stack, SLOTS=4)
    stack.start("probe", env={"SLOTS": 4})
    jobs = put(stack, "effect", [f"n{i}" for i in range(300)]) + put(stack, "batch", [f"b{i}" for i in range(300)])
    stack.eventually(lambda: settled(stack, jobs))
    more = put(stack, "effect", [f"m{i}" for i in range(300)])
    stack.eventually(lambda: settled(stack, jobs + more))
    stack.eventually(lambda: is_clean(stack))


def test_names_that_others_left_are_met_without_harm(stack, pooler):
    """Two generations of workers on the same connections: the second finds the first's statements."""
    stack.env["DATABASE_URL"] = pooler.url
    first = start(stack, SLOTS=4)
    jobs = put(stack, "effect", [f"n{i}" for i in range(100)])
    stack.eventually(lambda: settled(stack, jobs))
    first.sigterm()
    stack.start("probe", env={"SLOTS": 4})
    jobs += put(stack, "effect", [f"m{i}" for i in range(100)])
    stack.eventually(lambda: settled(stack, jobs))


def test_a_changed_table_costs_no_attempt(stack):
    """PostgreSQL refuses a prepared statement whose result has another type than before."""
    start(stack, SLOTS=2)
    jobs = put(stack, "effect", [f"n{i}" for i in range(100)])
    stack.eventually(lambda: settled(stack, jobs))
    for column in ("key", "kind", "trace"):
        stack.sql(f"ALTER TABLE jobs ALTER COLUMN {column} TYPE varchar(200)")
    jobs += put(stack, "effect", [f"m{i}" for i in range(100)])
    stack.eventually(lambda: settled(stack, jobs))


def test_switched_off_nothing_is_prepared(stack, pooler):
    stack.env.update(DATABASE_URL=pooler.url, DATABASE_PREPARE="off")
    probe = start(stack, SLOTS=4)
    jobs = put(stack, "effect", [f"n{i}" for i in range(100)])
    stack.eventually(lambda: settled(stack, jobs))
    assert "prepared statement" not in probe.log() + stack.proc("scheduler").log()


def test_schedules_need_no_session(stack, pooler):
    stack.env["DATABASE_URL"] = pooler.url
    for n in range(5):
        add(stack, f"s{n}", every=200 + n)
    for _ in range(2):
        start(stack, SLOTS=2)
    stack.eventually(lambda: stack.sql("SELECT count(*) > 40 FROM schedule_firings")[0][0])
    check_jobs(stack)
    assert not stack.sql("SELECT 1 FROM schedule_firings WHERE how <> 'due'")
