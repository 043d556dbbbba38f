"""Fixtures: what a test gets, and what is looked at after it. The work is in harness.py."""
import os
import signal
import subprocess
import uuid

import pytest

import harness
import sim as simulator


def is_worker(config):
    return hasattr(config, "workerinput")


def pytest_configure(config):
    # A run that is terminated cleans up like one that is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if is_worker(config):
        return
    # pytest-xdist's workers inherit both: one cluster and one template for all of them.
    os.environ["WHOPLINE_TEST_RUN"] = uuid.uuid4().hex[:12]
    if "WHOPLINE_TEST_PG" not in os.environ and not config.option.collectonly:
        config.own_cluster = harness.Cluster()
        os.environ["WHOPLINE_TEST_PG"] = config.own_cluster.folder


def pytest_unconfigure(config):
    cluster = getattr(config, "own_cluster", None)
    if cluster:
        del os.environ["WHOPLINE_TEST_PG"]
        cluster.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and call.when == "call" and stack is not None:
        report.sections.append(("processes", stack.logs()))


def limited(seconds):
    """A generator for the hooks below: nothing hangs the run. What takes too long gets an exception
    instead, and its fixtures clean up. psycopg2 is taught to listen to it (harness.connect)."""
    seconds *= harness.SLOW

    def too_long(*_):
        raise TimeoutError(f"took more than {seconds:g} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from limited(60)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("limit")
    yield from limited(marker.args[0] if marker else 60)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from limited(60)


@pytest.fixture(scope="session")
def pg_cluster():
    """The folder of PostgreSQL's socket; user app, no password."""
    return os.environ["WHOPLINE_TEST_PG"]


@pytest.fixture(scope="session")
def template(pg_cluster):
    """A database that the real `whopline migrate` has made, once for all workers of this run."""
    name = "template_" + os.environ["WHOPLINE_TEST_RUN"]
    link = harness.connect(pg_cluster)
    try:
        make_template(link.cursor(), name, pg_cluster)
    finally:
        link.close()  # and with it goes the lock
    return name


def make_template(cursor, name, pg_cluster):
    cursor.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
    if cursor.fetchall():
        return
    # Under another name until it is complete.
    cursor.execute(f"DROP DATABASE IF EXISTS {name}_new")
    cursor.execute(f"CREATE DATABASE {name}_new")
    env = {**harness.clean_environment(), "WHOP_COMPANY_ID": harness.whop.COMPANY,
           "DATABASE_URL": harness.database_url(pg_cluster, name + "_new")}
    done = subprocess.run([harness.BIN / "whopline", "migrate"], env=env, capture_output=True,
                          text=True, timeout=60 * harness.SLOW, check=False)
    assert done.returncode == 0, f"whopline migrate: {done.stdout}\n{done.stderr}"
    cursor.execute(f"ALTER DATABASE {name}_new RENAME TO {name}")


@pytest.fixture
def stack(pg_cluster, template):
    it = harness.Stack(pg_cluster, template)
    yield it
    problems = it.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def sim():
    """The outside world, of this test alone."""
    it = simulator.Sim(harness.DIES_WITH_US)
    yield it
    problems = it.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
