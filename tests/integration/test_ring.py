"""What ingest keeps of accepted events, and gives to Redis again when Redis has lost them.

The journal stands still while Redis loses its data: what it finds afterwards came from the ring.
"""
import os
import pathlib
import shutil
import signal
import socket
import stat
import threading
import time

import pytest

import harness
import whop
from test_first_light import CREDITS, add_plan, balance, grants, settle
from test_ingest import STREAM, metric, whop_get

WATCH = {"REDIS_WATCH_MS": 100}
LOST = "what was kept is given to it again"


@pytest.fixture
def folder(stack):
    return stack.folder / "ring"


def start_ingest(stack, folder=None, fault=None, **settings):
    ring = {"RING_DIR": folder} if folder else {}
    return stack.start("ingest", env={**WATCH, **ring, **settings}, fault=fault)


def start_beside(stack, folder, **settings):
    """A second ingest at a port of its own, without a private listener."""
    port = harness.free_port()
    settings = {"HTTP_LISTEN": f"127.0.0.1:{port}", "PRIVATE_LISTEN": "", **settings}
    proc = stack.start("ingest", env={**WATCH, "RING_DIR": folder, **settings}, ready=False)
    proc.wait_log("accepting events")
    return proc, port


def accept(stack, count, port=None, prefix="pay"):
    """Sends so many payments, each of which is acknowledged; their ids."""
    ids = [f"{prefix}_{i:04}" for i in range(count)]
    usual, stack.http_port = stack.http_port, port or stack.http_port
    try:
        with whop.Sender(stack) as sender:
            for id in ids:
                assert sender.send(whop.payment(id=id)) == 200
    finally:
        stack.http_port = usual
    return ids


def in_redis(stack):
    return stack.redis.client().xlen(STREAM)


def replayed(stack, verdict):
    return metric(stack, f'ring_replayed_total{{verdict="{verdict}"}}')


def files(folder):
    return sorted(folder.glob("ring-*.events"))


def assert_all_granted_once(stack, ids):
    """Starts what has stood still; each payment must be journalled and granted, once."""
    stack.up("journal", "credits", "scheduler")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM credit_transactions")[0][0] >= len(ids), 20)
    settle(stack)
    assert {id: grants(stack, id) for id in ids} == {id: [CREDITS] for id in ids}
    assert balance(stack) == CREDITS * len(ids)
    assert stack.sql("SELECT count(*) FROM webhook_events") == [(len(ids),)]


def replace_redis(stack):
    """It dies, and an empty one takes its place."""
    stack.redis.kill9()
    for name in ("appendonlydir", "dump.rdb"):
        path = pathlib.Path(stack.redis.folder) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    stack.redis.start()


# ---- Redis loses its data --------------------------------------------------------------------------

@pytest.mark.parametrize("where", ["memory", "folder"])
def test_flushall_before_the_journal_has_read(stack, folder, where):
    add_plan(stack)
    proc = start_ingest(stack, folder if where == "folder" else None)
    ids = accept(stack, 20)
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) == len(ids))
    stack.eventually(lambda: metric(stack, "ring_stale_bytes") == 0)
    assert replayed(stack, "new") == len(ids)
    assert proc.log().count(LOST) == 1
    assert_all_granted_once(stack, ids)
    if where == "folder":
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files(folder))


def test_flushall_beside_a_scheduler_that_makes_the_epoch_first(stack):
    add_plan(stack)
    stack.start("scheduler", env={"RELAY_SWEEP_MS": 10})
    start_ingest(stack, REDIS_WATCH_MS=1000)
    ids = accept(stack, 3)
    stack.redis.client().flushall()
    stack.eventually(lambda: stack.redis.client().get("wl:{0}:epoch"))
    stack.eventually(lambda: in_redis(stack) == len(ids))
    assert_all_granted_once(stack, ids)


def test_redis_is_replaced_by_an_empty_one(stack):
    add_plan(stack)
    start_ingest(stack)
    ids = accept(stack, 10)
    replace_redis(stack)
    stack.eventually(lambda: in_redis(stack) == len(ids))
    more = accept(stack, 2, prefix="late")
    assert_all_granted_once(stack, ids + more)


def test_redis_dies_and_comes_back_with_its_data(stack):
    add_plan(stack)
    start_ingest(stack)
    ids = accept(stack, 10)
    stack.redis.kill9()
    stack.redis.start()
    stack.eventually(lambda: replayed(stack, "duplicate") == len(ids))
    assert replayed(stack, "new") == 0 and in_redis(stack) == len(ids)
    assert_all_granted_once(stack, ids)


def test_what_is_journalled_already_is_not_done_twice(stack):
    add_plan(stack)
    start_ingest(stack)
    stack.up("journal", "credits", "scheduler")
    ids = accept(stack, 5)
    stack.eventually(lambda: balance(stack) == CREDITS * len(ids), 20)
    settle(stack)
    stack.redis.client().flushall()
    stack.eventually(lambda: replayed(stack, "new") == len(ids))
    settle(stack)
    assert balance(stack) == CREDITS * len(ids)
    assert stack.sql("SELECT count(*) FROM webhook_events") == [(len(ids),)]


def test_an_outage_longer_than_the_rings_time(stack):
    """Time runs only while Redis is seen: what was young when it went is there when it is back."""
    add_plan(stack)
    start_ingest(stack, RING_SECONDS=2)
    ids = accept(stack, 5)
    stack.redis.kill9()
    time.sleep(3)  # the case itself: the ring's time passes
    replace_redis(stack)
    stack.eventually(lambda: in_redis(stack) == len(ids))
    assert_all_granted_once(stack, ids)


def test_a_repetition_whose_first_answer_was_503_is_kept(stack):
    """It is a duplicate for Redis, and its 200 is a promise all the same."""
    start_ingest(stack, fault="after_accept_before_200:fail@1")
    body = whop.payment(id="pay_again")
    assert whop.send(stack, body) == 503
    assert whop.send(stack, body) == 200
    stack.redis.client().flushall()
    stack.eventually(lambda: replayed(stack, "new") == 1)
    assert in_redis(stack) == 1


def test_old_events_go(stack, folder):
    start_ingest(stack, folder, RING_SECONDS=1)
    accept(stack, 3)
    assert files(folder)
    stack.eventually(lambda: not files(folder))
    assert metric(stack, "ring_bytes") == 0 and metric(stack, "ring_kept_total") == 3
    stack.redis.client().flushall()
    accept(stack, 1, prefix="new")
    stack.eventually(lambda: metric(stack, "ring_stale_bytes") == 0)
    assert in_redis(stack) == 1


# ---- more than one thing goes wrong ----------------------------------------------------------------

@pytest.mark.limit(120)
def test_redis_goes_away_and_loses_its_data_again_in_the_middle(stack):
    add_plan(stack)
    slow = start_ingest(stack, RING_REPLAY_PER_SECOND=20)
    ids = accept(stack, 40)
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) >= 5)
    stack.redis.kill9()  # comes back with what it has
    stack.redis.start()
    stack.eventually(lambda: replayed(stack, "duplicate") >= 5)
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) in range(1, 20))
    replace_redis(stack)
    stack.eventually(lambda: in_redis(stack) == len(ids), 20)
    stack.eventually(lambda: metric(stack, "ring_stale_bytes") == 0)
    assert slow.running()
    assert_all_granted_once(stack, ids)


def test_redis_loses_its_data_again_under_a_batch(stack):
    """The answer to "who are you" comes between a batch's sending and its verdicts."""
    start_ingest(stack, RING_REPLAY_PER_SECOND=8, REDIS_WATCH_MS=20)  # so that it asks first
    ids = accept(stack, 8)
    client = stack.redis.client()
    client.flushall()
    stack.eventually(lambda: in_redis(stack) >= 3)
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(stack.redis.socket)
        other.sendall(b"PING\r\n")
        assert other.recv(100) == b"+PONG\r\n"
        stack.redis.process.send_signal(signal.SIGSTOP)
        try:
            other.sendall(b"FLUSHALL\r\nSET wl:{0}:epoch another\r\n")
            time.sleep(0.4)  # until the watch has asked and a batch is sent: both wait for Redis
        finally:
            stack.redis.process.send_signal(signal.SIGCONT)
        stack.eventually(lambda: client.get("wl:{0}:epoch") == b"another")
    stack.eventually(lambda: in_redis(stack) == len(ids))


def test_redis_refuses_in_the_middle(stack):
    proc = start_ingest(stack, RING_REPLAY_PER_SECOND=50)
    ids = accept(stack, 20)
    client = stack.redis.client()
    client.flushall()
    stack.eventually(lambda: in_redis(stack) >= 2)
    client.config_set("maxmemory", 1)
    proc.wait_log("Redis refuses events of the ring")
    client.config_set("maxmemory", 0)
    stack.eventually(lambda: in_redis(stack) == len(ids))
    stack.eventually(lambda: metric(stack, "ring_stale_bytes") == 0)
    assert proc.log().count("Redis refuses events of the ring") == 1


def test_ingest_is_killed_and_redis_loses_its_data_afterwards(stack, folder):
    add_plan(stack)
    proc = start_ingest(stack, folder)
    ids = accept(stack, 10)
    proc.kill9()
    proc = start_ingest(stack, folder)
    proc.wait_log("taken over from a process that has ended")
    more = accept(stack, 2, prefix="late")
    assert LOST not in proc.log()  # nothing was lost so far
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) == len(ids + more))
    assert_all_granted_once(stack, ids + more)


def test_redis_loses_its_data_while_ingest_is_dead(stack, folder):
    add_plan(stack)
    proc = start_ingest(stack, folder)
    ids = accept(stack, 10)
    proc.kill9()
    replace_redis(stack)
    start_ingest(stack, folder)
    stack.eventually(lambda: in_redis(stack) == len(ids))
    assert_all_granted_once(stack, ids)


def test_ingest_is_killed_in_the_middle_of_a_replay(stack, folder):
    add_plan(stack)
    proc = start_ingest(stack, folder, fault="before_replay_batch:kill@4", RING_REPLAY_PER_SECOND=100)
    ids = accept(stack, 20)
    stack.redis.client().flushall()
    assert proc.wait_exit() == -signal.SIGKILL
    assert 0 < in_redis(stack) < len(ids)
    start_ingest(stack, folder)
    stack.eventually(lambda: in_redis(stack) == len(ids))
    assert_all_granted_once(stack, ids)


def test_a_damaged_file_costs_what_is_damaged(stack, folder):
    proc = start_ingest(stack, folder)
    accept(stack, 10)
    proc.kill9()
    file, = files(folder)
    content = bytearray(file.read_bytes())
    content[-1000] ^= 0xff           # the last record
    file.write_bytes(content + b"\x40\0\0\0torn")
    stack.redis.client().flushall()
    proc = start_ingest(stack, folder)
    stack.eventually(lambda: in_redis(stack) == 9)
    proc.wait_log("cannot be read and are left out.*records=2")
    assert metric(stack, "ring_damaged_total") == 2
    accept(stack, 1, prefix="new")


def test_two_ingests_share_a_folder(stack, folder):
    add_plan(stack)
    other, port = start_beside(stack, folder)
    start_ingest(stack, folder)
    ids = accept(stack, 5) + accept(stack, 5, port, prefix="other")
    assert len(files(folder)) == 2
    other.kill9()
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) == len(ids))
    assert replayed(stack, "new") == len(ids)
    assert_all_granted_once(stack, ids)


@pytest.mark.limit(120)
def test_live_traffic_goes_on_during_a_replay(stack):
    start_ingest(stack, RING_REPLAY_PER_SECOND=50)
    ids = accept(stack, 50)
    over, sent = threading.Event(), []

    def sender():
        with whop.Sender(stack) as link:
            while not over.is_set():
                sent.append(link.send(whop.payment(id=f"live_{len(sent)}")))

    thread = threading.Thread(target=sender)
    stack.redis.client().flushall()
    thread.start()
    try:
        stack.eventually(lambda: metric(stack, "ring_stale_bytes") > 0)
        stack.eventually(lambda: metric(stack, "ring_stale_bytes") == 0, 20)
    finally:
        over.set()
        thread.join()
    assert len(sent) > 20 and set(sent) == {200}
    assert in_redis(stack) == len(ids) + len(sent)


# ---- room and disk ---------------------------------------------------------------------------------

def test_a_full_ring_keeps_the_youngest_and_says_so_once(stack, folder):
    proc = start_ingest(stack, folder, RING_MAX_BYTES=262144, HTTP_MAX_BODY=16384)
    ids = accept(stack, 200)
    proc.wait_log("raise RING_MAX_BYTES")
    assert metric(stack, "ring_bytes") <= 262144
    assert metric(stack, "ring_crowded_bytes_total") > 0
    assert sum(os.path.getsize(file) for file in files(folder)) <= 262144
    stack.redis.client().flushall()
    stack.eventually(lambda: in_redis(stack) > 0 and metric(stack, "ring_stale_bytes") == 0)
    bodies = [fields[b"body"] for _, fields in stack.redis.client().xrange(STREAM)]
    kept = [id for id in ids if any(f'"{id}"'.encode() in body for body in bodies)]
    assert 20 < len(kept) < 200
    assert kept == ids[-len(kept):]
    assert proc.log().count("raise RING_MAX_BYTES") == 1


def test_a_disk_that_refuses_is_no_reason_to_stop(stack, folder):
    """First by the fault, then really: the folder is taken away."""
    proc = start_ingest(stack, folder, fault="ring_write:fail@2", RING_SECONDS=1)
    accept(stack, 3)
    assert metric(stack, "ring_not_kept_total") == 1 and metric(stack, "ring_kept_total") == 2
    proc.wait_log("cannot keep accepted events")
    proc.wait_log("keeping accepted events again")
    stack.eventually(lambda: not files(folder))
    folder.rmdir()
    accept(stack, 3, prefix="gone")
    assert metric(stack, "ring_not_kept_total") == 4
    assert proc.log().count("cannot keep accepted events") == 2
    folder.mkdir(mode=0o700)
    accept(stack, 1, prefix="back")
    assert metric(stack, "ring_not_kept_total") == 4 and len(files(folder)) == 1
    assert in_redis(stack) == 7


# ---- start and end ---------------------------------------------------------------------------------

def test_settings_that_cannot_be_used(stack):
    proc = stack.start("ingest", ready=False, env={
        "RING_DIR": "/dev/null/ring", "RING_MAX_BYTES": 262144, "HTTP_LISTEN": "nowhere"})
    proc.allowed.add(2)
    assert proc.wait_exit() == 2
    for said in ("RING_DIR: /dev/null/ring: Not a directory", "RING_MAX_BYTES: 262144 is too little",
                 "HTTP_LISTEN"):
        assert f"\n{said}" in proc.log(), said


def test_switched_off(stack):
    proc = start_ingest(stack, RING_SECONDS=0)
    assert "RING_SECONDS is 0" in proc.log()
    accept(stack, 2)
    assert "ring" not in whop_get(stack, "/metrics")[1]


def test_another_installations_files_are_left_alone(stack, folder):
    proc = start_ingest(stack, folder, STREAM_PREFIX="other")
    accept(stack, 2)
    proc.kill9()
    stack.redis.client().flushall()
    proc = start_ingest(stack, folder)
    assert "files of another installation" in proc.log()
    stack.eventually(lambda: stack.redis.client().get("wl:{0}:epoch"))
    accept(stack, 1)
    assert in_redis(stack) == 1 and len(files(folder)) == 2


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_sigterm_right_after_the_loss(stack, folder, where):
    """Nobody has noticed yet: it looks once more before it goes."""
    add_plan(stack)
    proc = start_ingest(stack, folder if where == "folder" else None, REDIS_WATCH_MS=60000,
                        HTTP_DRAIN_MS=10000, RING_REPLAY_PER_SECOND=50)
    ids = accept(stack, 20)
    stack.redis.client().flushall()
    assert proc.sigterm() == 0
    assert in_redis(stack) == len(ids)
    assert_all_granted_once(stack, ids)


def test_a_replay_at_the_end_is_bounded_and_the_next_process_goes_on(stack, folder):
    proc = start_ingest(stack, folder, HTTP_DRAIN_MS=500, RING_REPLAY_PER_SECOND=5)
    ids = accept(stack, 20)
    stack.redis.client().flushall()
    assert proc.sigterm() == 0
    assert in_redis(stack) < len(ids)
    assert "the next process will give them" in proc.log()
    start_ingest(stack, folder)
    stack.eventually(lambda: in_redis(stack) == len(ids))


def test_sigterm_while_redis_is_away(stack):
    proc = start_ingest(stack)
    accept(stack, 2)
    stack.redis.kill9()
    proc.wait_log("not accepting events")
    assert proc.sigterm() == 0
    assert "set RING_DIR" in proc.log()


def test_redis_that_hides_who_it_is(stack):
    """The epoch alone shows that FLUSHALL has been here."""
    client = stack.redis.client()
    client.acl_setuser("shy", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    proc = start_ingest(stack, REDIS_URL=stack.redis.url.replace("unix://", "unix://shy:x@"),
                        ALLOW_VOLATILE_REDIS="true")
    accept(stack, 3)
    proc.wait_log("does not say all of who it is")
    client.flushall()
    stack.eventually(lambda: in_redis(stack) == 3)
    assert proc.log().count("does not say all of who it is") == 1
