"""whopline outbound: what it lists, shows and resolves; the calls are rows put in by hand. What becomes
of a resolved call when its job runs again is in test_outbound.py."""
import uuid

import pytest

OPERATIONS = {"resend": "upserts.make", "verify": "messages.make", "park": "refunds.make"}
PARKED = "no answer that says what became of it"


def put_job(stack, state="parked"):
    job = str(uuid.uuid4())
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, state,
                                   reason, error, attempts, finished_at)
                 VALUES (%s, 1, 'probe', 'probe.post', 'k', '', 1, 'x', now(), %s, 'outbound 1: why', 'UNDECIDED', 3,
                         CASE WHEN %s <> 'queued' THEN now() END)""", (job, state, state))
    return job


def put(stack, state, *, parked=None, policy="verify", job=None, key=None, until="1 second ago", status=None):
    """A call as its runs would have left it; its id."""
    return stack.sql(
        """INSERT INTO outbound (tenant_id, operation, business_key, policy, state, parked, attempts, resends,
                                 verifications, job_id, method, target, request, response, status, sending_since,
                                 sending_until, finished_at, look_at)
           VALUES (1, %s, %s, %s, %s, %s, 2, 1, 2, %s, 'POST', 'api.test/things', %s, %s, %s,
                   now() - interval '1 minute', now() + %s::interval, CASE WHEN %s IN ('done', 'refused') THEN now() END,
                   now() + interval '1 hour') RETURNING id""",
        (OPERATIONS[policy], key or str(uuid.uuid4()), policy, state, parked, job, b'{"n": 1}', b'{"error": "no"}', status,
         until.replace(" ago", "") if "ago" not in until else "-" + until.replace(" ago", ""), state))[0][0]


def row(stack, call, *columns):
    return stack.sql(f"SELECT {', '.join(columns)} FROM outbound WHERE id = %s", (call,))[0]


def test_ls_shows_parked_ones_first_and_filters(stack):
    assert "no such calls" in stack.cli("outbound").stdout
    parked = put(stack, "unknown", parked=PARKED, policy="park", key="refund/pay_1")
    waiting = put(stack, "pending", policy="resend")
    done = put(stack, "done")
    assert [one["id"] for one in stack.cli_json("outbound", "ls")] == [parked, waiting]
    text = stack.cli("outbound").stdout.splitlines()
    assert "refund/pay_1" in text[1] and PARKED in text[1] and len(text) == 3
    assert [one["id"] for one in stack.cli_json("outbound", "ls", "--state", "done")] == [done]
    assert len(stack.cli_json("outbound", "ls", "--state", "all")) == 3
    assert [one["id"] for one in stack.cli_json("outbound", "ls", "--operation", "upserts.make")] == [waiting]
    assert [one["id"] for one in stack.cli_json("outbound", "ls", "--key", "refund/pay_1")] == [parked]
    assert stack.cli_json("outbound", "ls", "--older", "1h") == []
    assert stack.cli_json("outbound", "ls", "--tenant", "nobody") == []
    assert len(stack.cli_json("outbound", "ls", "--limit", "1")) == 1


def test_show_has_request_answer_and_advice(stack):
    job = put_job(stack)
    call = put(stack, "unknown", parked=PARKED, policy="park", job=job, status=502)
    text = stack.cli("outbound", "show", call).stdout
    for part in ('{"n": 1}', '{"error": "no"}', "api.test/things", PARKED, job, "502", "resolve", "1/refunds.make/",
                 "sent first", "answer awaited until"):
        assert part in text, text
    shown = stack.cli_json("outbound", "show", call)[0]
    assert shown["job_state"] == "parked" and shown["request_base64"] == "eyJuIjogMX0="
    missing = stack.cli("outbound", "show", "999", check=False)
    assert missing.returncode == 1 and "no outbound call 999" in missing.stderr


@pytest.mark.parametrize("state,verdict,becomes,ordinal", [
    ("unknown", "done", "done", 0),
    ("unknown", "refused", "refused", 0),
    ("unknown", "resend", "pending", 0),
    ("unknown", "verify", "unknown", 0),
    ("pending", "done", "done", 0),
    ("pending", "resend", "pending", 0),
    ("sending", "done", "done", 0),
    ("sending", "resend", "pending", 0),
    ("refused", "resend", "pending", 1),
    ("refused", "done", "done", 0),
])
def test_resolve(stack, state, verdict, becomes, ordinal):
    job = put_job(stack, "dead" if state == "refused" else "parked")
    call = put(stack, state, parked=PARKED if state in ("unknown", "pending") else None, job=job)
    words = ["outbound", "resolve", call, f"--{verdict}", "--reason", "looked", "--actor", "ann"]
    if verdict == "done":
        words += ["--remote-id", "thing_9"]
    before = row(stack, call, "*")
    plan = stack.cli(*words).stdout
    assert "would:" in plan and "--yes does it" in plan and job in plan
    assert row(stack, call, "*") == before
    assert "resolved" in stack.cli(*words, "--yes").stdout
    assert row(stack, call, "state", "parked", "ordinal", "resends", "verifications") == (becomes, None, ordinal, 0, 0)
    assert row(stack, call, "remote_id") == ("thing_9" if verdict == "done" else None,)
    assert row(stack, call, "finished_at IS NOT NULL")[0] == (becomes in ("done", "refused"))
    assert stack.sql("SELECT state, gen, relayed_at, attempts FROM jobs WHERE id = %s", (job,)) == [("queued", 1, None, 0)]
    log = stack.sql("SELECT actor, action, target, reason FROM audit_log ORDER BY action DESC")
    assert log == [("ann", "outbound.resolve", f"outbound/{call}", "looked"), ("ann", "jobs.requeue", job, "looked")]
    assert "looked" in stack.cli("outbound", "show", call).stdout


@pytest.mark.parametrize("state,policy,words,why", [
    ("done", "verify", ["--resend"], "stays"),
    ("refused", "verify", ["--refused"], "already"),
    ("unknown", "park", ["--verify"], "cannot be looked for"),
    ("pending", "verify", ["--verify"], "known what became"),
    ("unknown", "verify", [], "needs one of"),
    ("unknown", "verify", ["--done", "--resend"], "one of"),
    ("unknown", "verify", ["--resend", "--remote-id", "x"], "--done only"),
])
def test_what_cannot_be_resolved(stack, state, policy, words, why):
    call = put(stack, state, policy=policy, parked=PARKED if state == "unknown" else None)
    before = row(stack, call, "*")
    said = stack.cli("outbound", "resolve", call, *words, "--reason", "r", "--yes", check=False)
    assert said.returncode in (1, 2) and why in said.stderr, said
    assert row(stack, call, "*") == before and stack.sql("SELECT count(*) FROM audit_log") == [(0,)]


def test_a_call_on_its_way_is_left_alone(stack):
    call = put(stack, "sending", until="1 minute")
    said = stack.cli("outbound", "resolve", call, "--done", "--reason", "r", "--yes", check=False)
    assert said.returncode == 1 and "right now" in said.stderr
    assert row(stack, call, "state") == ("sending",)


def test_without_a_reason_or_a_job(stack):
    call = put(stack, "unknown", parked=PARKED)
    assert "--reason" in stack.cli("outbound", "resolve", call, "--done", "--yes", check=False).stderr
    assert "no job waits" in stack.cli("outbound", "resolve", call, "--done", "--reason", "r", "--yes").stdout
    assert stack.cli_json("outbound", "resolve", put(stack, "unknown"), "--done", "--reason", "r")["done"] is False
    assert stack.sql("SELECT count(*) FROM audit_log") == [(1,)]


def test_trace_tells_of_the_calls_of_a_job(stack):
    job = put_job(stack)
    call = put(stack, "unknown", parked=PARKED, policy="park", job=job, status=502, key="refund/pay_1")
    put(stack, "done", key="of another job")
    steps = [step for step in stack.cli_json("trace", job) if step["what"] == "call"]
    assert [step["id"] for step in steps] == [f"outbound {call}"] * 2
    assert "refunds.make of refund/pay_1" in steps[0]["text"]
    assert "unknown" in steps[1]["text"] and "sent 2 times" in steps[1]["text"] and PARKED in steps[1]["text"]
