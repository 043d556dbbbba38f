"""The harness notices what it is there to notice. With programs that are three lines of shell."""
import json
import os
import pathlib
import signal
import sys

import pytest

import harness
import whop

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import count_cases


@pytest.fixture
def play(tmp_path, pg_cluster):
    """play(script) -> a Stack whose worker "journal" is that script."""
    stacks = []

    def make(script):
        program = tmp_path / "whopline-journal"
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
        stack = harness.Stack(pg_cluster, bin_dir=tmp_path)
        stacks.append(stack)
        return stack

    yield make
    for stack in stacks:
        if stack.folder.exists():
            stack.close()


WELL_BEHAVED = "trap 'exit 0' TERM; echo level=info msg=working; while :; do sleep 0.05; done"


def test_a_clean_life_is_no_problem(play):
    stack = play(WELL_BEHAVED)
    stack.start("journal")
    assert stack.redis.client().config_get("appendfsync") == {"appendfsync": "always"}
    folder = stack.folder
    assert stack.close() == []
    assert not folder.exists()


@pytest.mark.parametrize("script, problem", [
    ("echo dying; exit 3", "ended with code 3"),
    ("echo done; exit 0", "ended with code 0"),
    ("trap 'exit 66' TERM; echo msg=working; while :; do sleep 0.05; done", "ended with code 66"),
    ("echo level=error msg=broken;" + WELL_BEHAVED, "logged an error"),
    ("echo '{\"level\":\"error\"}';" + WELL_BEHAVED, "logged an error"),
    ("echo '==1==ERROR: AddressSanitizer: heap-use-after-free';" + WELL_BEHAVED, "sanitizer"),
    ("echo 'a.c:1:2: runtime error: signed integer overflow';" + WELL_BEHAVED, "sanitizer"),
    ("sleep 300 & " + WELL_BEHAVED, "left processes behind"),
])
def test_a_wrong_life_is_reported(play, script, problem):
    stack = play(script)
    stack.start("journal")
    problems = stack.close()
    assert len(problems) == 1 and problem in problems[0]


def test_expected_errors_are_no_problem(play):
    stack = play("echo level=error msg=Redis-is-down;" + WELL_BEHAVED)
    stack.expect_errors("Redis-is-down")
    stack.start("journal")
    assert stack.close() == []


def test_a_kill_asked_for_is_no_problem(play):
    stack = play("[[ $FAULT ]] && kill -9 $$; echo msg=working; exec sleep 60")
    assert stack.start("journal", fault="after_pg_commit:kill").wait_exit() == -signal.SIGKILL
    stack.start("journal").kill9()
    assert stack.close() == []


def test_redis_keeps_what_it_answered(play):
    stack = play(WELL_BEHAVED)
    stack.redis.client().set("k", "v")
    stack.redis.kill9()
    stack.redis.start()
    assert stack.redis.client().get("k") == b"v"


def test_two_ports_are_never_the_same():
    ports = [harness.free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_settings_do_not_leak_in(play, monkeypatch):
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("LOG_FORMAT", "json")
    stack = play("env; " + WELL_BEHAVED)
    log = stack.start("journal").wait_log("REDIS_URL=").string
    assert "PGHOST" not in log and "LOG_FORMAT" not in log
    assert whop.SECRET in log


# ---- whop.py ------------------------------------------------------------------------------------

def test_signatures_are_whops_own():
    """One vector of each scheme, made with the official packages."""
    body = (b'{"id":"msg_t3sTAbCdEf0123456789","api_version":"v1","timestamp":"2026-08-10T21:33:20.000Z",'
            b'"type":"payment.succeeded","company_id":"biz_t3st0000000001","data":{"id":"pay_t3st0000000001",'
            b'"status":"paid","substatus":"succeeded","total":49.99,"currency":"usd"}}')
    headers = whop.standard_headers(body, "msg_t3sTAbCdEf0123456789", timestamp=1786400000)
    assert headers["webhook-signature"] == "v1,ltavFVADuZSMXIHl+uKErUthauLleqZAymuooBqp2BU="


def test_one_payment_has_four_shapes():
    for shape in whop.SHAPES:
        body = whop.payment(shape, id="pay_x", user="user_x", plan="plan_x", company="biz_x")
        text = json.dumps(body)
        assert text.count('"pay_x"') == 1
        assert '"user_x"' in text and '"plan_x"' in text
        assert ('"biz_x"' in text) == (shape != "v2")
        assert "T3st0LanternCo" not in text


# ---- count_cases.py -----------------------------------------------------------------------------

def test_cases_are_counted(tmp_path):
    ctest = tmp_path / "ctest.xml"
    ctest.write_text("""<testsuite>
        <testcase name="a" status="run"><system-out>[  PASSED  ] 7 test(s).</system-out></testcase>
        <testcase name="b" status="fail"><failure/><system-out>[  PASSED  ] 2 test(s).
            [  FAILED  ] 1 test(s), listed below:</system-out></testcase>
        <testcase name="c" status="fail"><failure/><system-out>[  PASSED  ] 3 test(s). LeakSanitizer</system-out></testcase>
        <testcase name="d" status="fail"><failure/><system-out>Segmentation fault</system-out></testcase>
        <testcase name="lint.e" status="run"><system-out/></testcase>
        <testcase name="lint.f" status="notrun"><skipped/></testcase></testsuite>""")
    tests = tmp_path / "pytest.xml"
    tests.write_text("""<testsuites><testsuite>
        <testcase classname="t" name="a"/><testcase classname="t" name="b"><failure/></testcase>
        <testcase classname="t" name="b"><error/></testcase>
        <testcase classname="t" name="c"><skipped/></testcase></testsuite></testsuites>""")
    assert count_cases.count([ctest]) == (7 + 2 + 3 + 1, 1 + 1 + 1, 1)
    assert count_cases.count([tests]) == (1, 1, 1)
    assert count_cases.count([tests, tmp_path / "none.xml"]) == (1, 2, 1)


def test_bin_is_where_the_build_puts_it():
    assert os.path.isabs(harness.BIN)
