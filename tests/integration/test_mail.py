"""Mails: what follows from what, each once, whatever happens to the provider or to us."""
import json
import time

import pytest

import harness
import whop
from ledger import put_in_again, put_jobs
from test_members_access import School, now_ms

HOUR_MS = 3_600_000
EMAIL = "ada@example.org"


class Post:
    """A school whose members have an address, whopline-mail, and Resend as its simulator."""

    def __init__(self, stack, sim, start=("members", "mail", "scheduler"), **env):
        self.stack, self.sim = stack, sim
        sim.settings(world="mail", per_second=0)
        # The other side's troubles are over within a test.
        stack.env.update(sim.mail_env, BREAKER_OPEN_MS="200", OUTBOUND_VERIFY_MS="50", OUTBOUND_FREEZE_MS="200", **env)
        self.school = School(stack, sim, start=start)
        self.tenant = self.school.tenant

    def event(self, kind, status=None, at_ms=None, **more):
        return self.school.event(kind, status, at_ms=at_ms or now_ms(), **{"email": EMAIL, **more})

    def put(self, *args, **more):
        put_jobs(self.stack, [self.event(*args, **more)], self.tenant)

    def tell(self, *args, **more):
        """One event, and all that follows from it."""
        self.put(*args, **more)
        self.rest()

    def rest(self, timeout=20):
        self.stack.eventually(lambda: self.stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued'") == [(0,)], timeout)

    def gain(self, **more):
        self.tell("membership.activated", "active", **more)

    def rows(self, columns="template, state, reason"):
        return self.stack.sql(f"SELECT {columns} FROM email_outbox ORDER BY id")

    def subjects(self):
        return [mail["subject"] for mail in self.sim.emails()]

    def tries(self):
        return self.sim.calls(operation="emails.send")


@pytest.fixture
def post(stack, sim):
    return Post(stack, sim)


# ---- S5: what follows from what

def test_S5_welcome_activation_and_expiry_once_each(post):
    post.gain()
    post.gain()  # went_valid straight after created, and again
    post.tell("membership.created", "active")
    assert post.rows() == [("welcome", "sent", None)]
    post.tell("membership.deactivated", "expired")
    post.tell("membership.deactivated", "expired")
    post.tell("membership.deleted")
    assert post.rows()[1:] == [("expiry", "sent", None)]
    post.gain()
    assert post.rows()[2:] == [("activation", "sent", None)]
    post.tell("membership.deactivated", "expired")
    assert [row[0] for row in post.rows()] == ["welcome", "expiry", "activation", "expiry"]
    assert len(post.sim.emails()) == 4 and len({mail["id"] for mail in post.sim.emails()}) == 4
    assert [mail["to"] for mail in post.sim.emails()] == [[EMAIL]] * 4
    assert [row[0] for row in post.rows("provider_id")] == [mail["id"] for mail in post.sim.emails()]


def test_S5_a_receipt_for_each_payment_and_a_notice_for_each_that_failed(post):
    post.gain()
    for _ in range(3):
        post.tell("payment.failed", payment="pay_1", amount="49.90", currency="eur")
    post.tell("payment.failed", payment="pay_2", amount="7500", currency="jpy")
    post.tell("payment.succeeded", payment="pay_3", amount="0.333333", currency="usd")
    post.tell("payment.succeeded", payment="pay_3", amount="0.333333", currency="usd", user=None, email=None)
    assert post.rows("template, business_key, state")[1:] == [
        ("payment_failed", "pay_1", "sent"), ("payment_failed", "pay_2", "sent"), ("receipt", "pay_3", "sent")]
    texts = [mail["text"] for mail in post.sim.emails()[1:]]
    assert "49.90 eur" in texts[0] and "7500 jpy" in texts[1] and "0.333333 usd" in texts[2] and "pay_3" in texts[2]


def test_a_payment_that_names_nobody_goes_to_the_holder_of_its_membership(post):
    post.gain()
    post.tell("payment.succeeded", payment="pay_1", amount="5.00", currency="usd", user=None, email=None)
    assert post.rows()[1:] == [("receipt", "sent", None)] and post.sim.emails()[1]["to"] == [EMAIL]


def test_a_failed_payment_that_has_been_paid_meanwhile_is_not_told_of(post):
    post.tell("payment.succeeded", payment="pay_1", amount="5.00", currency="usd")
    post.tell("payment.failed", payment="pay_1", amount="5.00", currency="usd")
    assert post.rows() == [("receipt", "sent", None), ("payment_failed", "skipped", "paid_meanwhile")]


def test_a_backfill_is_followed_by_no_mail(post):
    """What a look through the books has found."""
    post.sim.put("memberships", {"id": "mem_1", "user": "user_1", "status": "active", "product": "prod_1"})
    member = {"id": "x", "membership": "mem_1", "user": "user_1", "why": "books", "backfill": True}
    put_jobs(post.stack, [("members.read", member)], post.tenant)
    post.rest()
    assert post.school.changes() == ["gained"] and post.rows() == []


def test_a_notice_for_the_admin(post):
    notice = "INSERT INTO credit_notices (tenant_id, audience, kind, about, detail, created_at) VALUES (%s, %s, 'review', %s, %s, %s)"
    for audience, about, age in (("admin", "pay_1", 0), ("user", "pay_2", 0), ("admin", "pay_old", 100)):
        post.stack.sql(notice.replace("%s)", "now() - %s * interval '1 hour')"),
                       (post.tenant, audience, about, json.dumps({"reason": "odd_refund"}), age))
    look = ("mail.notices", {"id": 0})
    put_jobs(post.stack, [look], post.tenant)
    post.rest()
    assert post.rows() == []  # nobody has said where to
    post.stack.cli("mail", "settings", "--admin", "boss@example.com")
    for _ in range(2):
        put_jobs(post.stack, [look], post.tenant)
        post.rest()
    assert post.rows() == [("admin_notice", "sent", None)]
    mail, = post.sim.emails()
    assert mail["to"] == ["boss@example.com"] and "pay_1" in mail["subject"] and "odd_refund" in mail["text"]


# ---- to whom, and whether at all

@pytest.mark.parametrize("email,state,reason", [
    (None, "skipped", "no_address"), ("", "skipped", "no_address"), ("  ", "skipped", "no_address"),
    ("nobody", "skipped", "bad_address"), ("a@b@c.org", "skipped", "bad_address"), ("a@x.org, b@x.org", "skipped", "bad_address"),
    ("a@x.org\r\nBcc: b@x.org", "skipped", "bad_address"), ("<a@x.org>", "skipped", "bad_address"),
    ("a@", "skipped", "bad_address"), ("Ünï@exämple.org", "sent", None), ("a+b@x.org", "sent", None)])
def test_addresses(post, email, state, reason):
    post.gain(email=email)
    assert post.rows() == [("welcome", state, reason)]
    assert [mail["to"] for mail in post.sim.emails()] == ([[email]] if state == "sent" else [])


def test_suppressed_addresses_get_what_they_have_to(post):
    post.stack.cli("mail", "suppress", "Ada@Example.org", "--reason", "bounced", "--yes")
    post.gain()
    post.tell("payment.succeeded", payment="pay_1", amount="5.00", currency="usd")
    assert post.rows() == [("welcome", "suppressed", "bounced"), ("receipt", "sent", None)]
    post.stack.cli("mail", "unsuppress", EMAIL, "--yes")
    post.tell("membership.deactivated", "expired")
    assert post.rows()[2:] == [("expiry", "sent", None)]


def test_a_tenant_may_want_none_or_not_all(post):
    post.stack.cli("mail", "settings", "--mute", "welcome", "--from", "Blue <blue@example.com>")
    post.gain()
    post.tell("membership.deactivated", "expired")
    assert post.rows() == [("welcome", "skipped", "off"), ("expiry", "sent", None)]
    assert post.sim.emails()[0]["from"] == "Blue <blue@example.com>"
    post.stack.cli("mail", "settings", "--enabled", "off")
    post.gain()
    assert post.rows()[2:] == [("activation", "skipped", "off")]


def test_without_a_key_a_line_in_the_log_stands_for_a_mail(stack, sim):
    post = Post(stack, sim, RESEND_API_KEY="")
    post.gain(name="Ada Secret")
    assert post.rows() == [("welcome", "logged", None)] and post.tries() == []
    log = stack.proc("mail").log()
    assert "no RESEND_API_KEY" in log and EMAIL not in log and "Ada Secret" not in log


HOSTILE = '<img src=x onerror="alert(1)">\r\nBcc: victim@example.org\u0007 {{company}} & \'Co\' ' + "ü" * 300


def test_hostile_names_are_escaped_and_stay_in_their_line(post):
    post.stack.sql("UPDATE tenants SET title = %s", (HOSTILE,))
    post.gain(name=HOSTILE)
    mail, = post.sim.emails()
    assert "\n" not in mail["subject"] and "\r" not in mail["subject"] and len(mail["subject"].encode()) < 300
    assert "<img" not in mail["html"] and "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in mail["html"]
    assert "&amp; &#39;Co&#39;" in mail["html"] and "{{company}}" in mail["text"]
    assert "\nBcc:" not in mail["text"] and "\a" not in mail["text"] + mail["html"] + mail["subject"]
    assert mail["to"] == [EMAIL] and set(mail) == {"id", "from", "to", "subject", "text", "html"}


# ---- S6 and Show D: the provider's bad days

def test_S6_the_provider_is_away_and_what_is_too_old_then_is_not_sent(stack, sim):
    """Its hour, shrunk: from the first refusal on until the breaker has opened several times."""
    post = Post(stack, sim, MAIL_MAX_AGE_MINUTES="welcome=60")
    away = [{"operation": "emails.send", "fault": "close", "times": 0}, {"operation": "emails.send", "status": 503, "times": 0}]
    sim.rule(**away[0])
    post.put("membership.activated", "active")
    post.put("membership.activated", "active", user="user_2", membership="mem_2", at_ms=now_ms() - 59 * 60_000 - 55_000)
    post.put("membership.activated", "active", user="user_3", membership="mem_3", at_ms=now_ms() - 2 * HOUR_MS)
    stack.eventually(lambda: len(post.tries()) >= 4)
    sim.clear_rules()
    sim.rule(**away[1])
    seen = len(post.tries())
    stack.eventually(lambda: len(post.tries()) >= seen + 4)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM email_outbox WHERE whop_user_id = 'user_2' AND state = 'expired'")
                     == [(1,)], 20)
    assert sim.emails() == []
    sim.clear_rules()
    post.rest(30)
    assert stack.sql("SELECT whop_user_id, state, reason FROM email_outbox ORDER BY whop_user_id") == [
        ("user_1", "sent", None), ("user_2", "expired", "too_old; an earlier try may have arrived"),
        ("user_3", "expired", "too_old")]
    assert len(sim.emails()) == 1
    # Nothing is left that a person would have to look at.
    assert stack.sql("SELECT state, count(*) FROM outbound GROUP BY 1 ORDER BY 1") == [("done", 1), ("refused", 1)]


@pytest.mark.parametrize("rule", [
    {"status": 429, "headers": {"retry-after": "1"}}, {"status": 429}, {"status": 500, "times": 3}, {"status": 503, "times": 3},
    {"fault": "close", "times": 2}, {"fault": "drop"}, {"fault": "drop", "times": 3}, {"fault": "cut"},
    {"reply_ms": 300, "fault": "drop"}, {"status": 409, "times": 2, "body": {"statusCode": 409, "message": "..",
                                                                          "name": "concurrent_idempotent_requests"}}], ids=str)
def test_the_provider_stumbles_and_each_mail_is_sent_once(post, rule):
    """drop and cut: it takes the mail, and its answer does not arrive (a 5xx after accepting is no more)."""
    post.sim.rule(operation="emails.send", **rule)
    post.gain()
    assert post.rows() == [("welcome", "sent", None)] and len(post.sim.emails()) == 1
    tries = post.tries()
    assert len(tries) > 1 and len({(one["idempotency_key"], json.dumps(one["body"])) for one in tries}) == 1


def test_an_error_after_accepting_is_followed_by_the_same_request(post):
    """500, and the mail is out: what has changed meanwhile makes no other mail of it."""
    post.sim.rule(operation="emails.send", fault="drop", times=2)
    post.sim.rule(operation="emails.send", status=500, times=2)
    post.put("membership.activated", "active", name="Ada")
    post.stack.eventually(lambda: len(post.tries()) >= 2)
    post.stack.sql("UPDATE whop_users SET name = 'Grace', email = 'grace@example.org'")
    post.rest()
    assert len(post.sim.emails()) == 1 and "Ada" in post.sim.emails()[0]["text"]
    assert len({json.dumps(one["body"]) for one in post.tries()}) == 1


def test_a_mail_of_unknown_fate_is_not_sent_again_when_its_key_is_forgotten(stack, sim):
    """Beyond the 24 hours of a key the provider would take it for another mail: a person decides."""
    post = Post(stack, sim, start=("members", "scheduler"))
    sim.rule(operation="emails.send", fault="drop", times=1)
    proc = stack.start("mail", env={"BACKOFF_BASE_MS": 60_000, "BACKOFF_MAX_MS": 60_000})
    post.put("membership.activated", "active")
    stack.eventually(lambda: stack.sql("SELECT state FROM outbound") == [("unknown",)])
    proc.sigterm()
    sim.tell("POST", "forget", {"world": "mail"})
    stack.sql("UPDATE outbound SET sending_since = now() - interval '25 hours'")
    stack.sql("UPDATE jobs SET state = 'queued', gen = gen + 1, relayed_at = NULL WHERE kind = 'mail.send'")
    stack.start("mail")
    stack.eventually(lambda: stack.sql("SELECT state, error FROM jobs WHERE kind = 'mail.send'") == [("parked", "UNDECIDED")])
    assert len(sim.emails()) == 1 and post.rows() == [("welcome", "queued", None)]
    call, = stack.sql("SELECT id FROM outbound")[0]
    stack.cli("outbound", "resolve", call, "--done", "--reason", "it is in Resend's list", "--yes")
    post.rest()
    assert len(sim.emails()) == 1 and post.rows() == [("welcome", "sent", None)]


def test_a_key_that_was_used_for_another_mail_is_for_a_person(post):
    """Nobody can say whether the mail that the provider knows under it is this one."""
    post.sim.rule(operation="emails.send", status=409, times=0,
                  body={"statusCode": 409, "name": "invalid_idempotent_request", "message": ".."})
    post.put("membership.activated", "active")
    post.rest()
    assert post.stack.sql("SELECT state, error FROM jobs WHERE kind = 'mail.send'") == [("parked", "UNDECIDED")]
    assert len(post.tries()) == 1 and post.rows() == [("welcome", "queued", None)]
    said = post.stack.cli("mail", "retry", "1", "--reason", "r", "--yes", check=False)
    assert said.returncode == 1 and "outbound resolve" in said.stderr


def test_what_the_provider_refuses_is_visible_and_may_be_tried_again(post):
    refusal = {"statusCode": 422, "name": "validation_error", "message": f"{EMAIL} is not allowed"}
    post.sim.rule(operation="emails.send", status=422, body=refusal)
    post.gain()
    assert post.rows() == [("welcome", "refused", "status 422 validation_error")] and len(post.tries()) == 1
    number, = post.rows("id")[0]
    plan = post.stack.cli("mail", "retry", number, "--reason", "mended").stdout
    assert "--yes" in plan and post.rows()[0][1] == "refused"
    post.stack.cli("mail", "retry", number, "--reason", "mended", "--yes")
    post.rest()
    assert post.rows() == [("welcome", "sent", None)] and len(post.sim.emails()) == 1
    assert len({one["idempotency_key"] for one in post.tries()}) == 2
    again = post.stack.cli("mail", "retry", number, "--reason", "r", "--yes", check=False)
    assert again.returncode == 1 and "has been sent" in again.stderr and len(post.sim.emails()) == 1


@pytest.mark.parametrize("key,status", [("re_wrong", 403), (None, 401)])
def test_a_key_that_is_refused_parks_the_mail(stack, sim, key, status):
    post = Post(stack, sim, **({"RESEND_API_KEY": key} if key else {}))
    if key is None:
        sim.rule(operation="emails.send", status=401, times=0)
    post.gain()
    state, error, reason = stack.sql("SELECT state, error, reason FROM jobs WHERE kind = 'mail.send'")[0]
    assert (state, error) == ("parked", "FORBIDDEN") and f"status {status}" in reason and "RESEND_API_KEY" in reason
    assert stack.sql("SELECT status FROM tenants") == [("active",)]
    sim.clear_rules()
    stack.proc("mail").sigterm()
    stack.start("mail", env=sim.mail_env)
    stack.cli("mail", "retry", "--parked", "--reason", "new key", "--yes")
    post.rest()
    assert post.rows() == [("welcome", "sent", None)] and len(sim.emails()) == 1


# ---- our own bad days

@pytest.mark.parametrize("fault", [
    "before_call:kill", "call_first_byte:kill", "call_reply_lost:fail@1", "call_reply_lost:kill", "after_call:kill",
    *(f"{point}@{time}" for time in (1, 2, 3) for point in ("before_pg_commit:kill", "pg_commit_reply_lost:fail",
                                                            "after_pg_commit:kill")), "before_done:kill"])
def test_killed_around_the_call_each_mail_is_sent_once(stack, sim, fault):
    post = Post(stack, sim, start=("members", "scheduler"), HTTP_TIMEOUT_MS=str(int(1000 * harness.SLOW)),
                OUTBOUND_GRACE_MS="100", OUTBOUND_BEGIN_MS="1100")
    first = stack.start("mail", fault=fault)
    post.put("membership.activated", "active")
    if ":kill" in fault:
        first.wait_exit()
        stack.start("mail")
    post.rest(30)
    assert post.rows() == [("welcome", "sent", None)] and len(sim.emails()) == 1
    assert len({one["idempotency_key"] for one in post.tries()}) == 1


def test_two_workers_and_many_mails(stack, sim):
    post = Post(stack, sim, start=("members", "mail", "mail", "scheduler"))
    sim.rule(operation="emails.send", fault="drop", times=5)
    put_jobs(stack, [post.event("membership.activated", "active", membership=f"mem_{i}", user=f"user_{i}",
                                email=f"u{i}@example.org") for i in range(60)], post.tenant)
    stack.eventually(lambda: stack.sql("SELECT state, count(*) FROM email_outbox GROUP BY 1") == [("sent", 60)], 30)
    post.rest()
    assert sorted(mail["to"][0] for mail in sim.emails()) == sorted(f"u{i}@example.org" for i in range(60))
    # And once more, all of them: nothing follows.
    assert put_in_again(stack, "kind = 'mail.send'") == 60
    post.rest()
    assert len(sim.emails()) == 60


def test_Resends_pace_is_kept(stack, sim):
    """Two a second, as it allows: no 429."""
    post = Post(stack, sim, MAIL_RATE_PER_SECOND="2")
    sim.settings(world="mail", per_second=3)  # of whole seconds of the clock
    put_jobs(stack, [post.event("membership.activated", "active", membership=f"mem_{i}", user=f"user_{i}") for i in range(5)],
             post.tenant)
    post.rest()
    times = [one["mono_ms"] for one in post.tries()]
    assert len(sim.emails()) == 5 and {one["status"] for one in post.tries()} == {200} and times[-1] - times[0] >= 1900


# ---- templates

def start_with(stack, sim, files, **env):
    folder = stack.folder / "templates"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    stack.env.update(sim.mail_env, MAIL_TEMPLATES_DIR=str(folder), **env)
    return folder


def test_templates_that_are_wrong_stop_the_worker_which_lists_all_of_it(stack, sim):
    start_with(stack, sim, {
        "welcome.txt": "Subject: Hello {{nmae}}\n\nHello {{name}\n", "receipt.html": "<p>{{amount}} {{{currency}}}</p>\n",
        "expiry.html": '<p><a href="{{name}}">x</a></p><script>{{company}}</script>\n', "activation.txt": "no subject\n"},
        MAIL_MAX_AGE_MINUTES="welcome=60, receipts=5", EMAIL_FROM="")
    proc = stack.start("mail", ready=False)
    assert proc.wait_exit() == 2
    proc.allowed.add(2)
    said = proc.log()
    for part in ("welcome.txt:1: unknown placeholder nmae", "welcome.txt:3: no placeholder", "receipt.html:1: a value that is not "
                 "escaped", "receipt.html: does not show {{currency}}", "expiry.html:1: a placeholder within a tag", "activation.txt:1",
                 "receipts=5", "EMAIL_FROM"):
        assert part in said, said
    checked = stack.cli("mail", "templates", "check", check=False)
    assert checked.returncode == 1 and "unknown placeholder nmae" in checked.stdout + checked.stderr


def test_templates_of_ones_own(stack, sim):
    start_with(stack, sim, {"welcome.txt": "Subject: Moin {{ name }}\n\nMoin {{name}}, {{tier}}!\n"})
    assert "in order" in stack.cli("mail", "templates", "check").stdout
    post = Post(stack, sim)
    post.gain(name="Ada")
    mail, = sim.emails()
    assert (mail["subject"], mail["text"]) == ("Moin Ada", "Moin Ada, basic!\n") and "<p>Hello Ada,</p>" in mail["html"]


# ---- the operator

def test_the_operators_verbs(post):
    post.gain()
    post.tell("membership.activated", "active", user="user_2", membership="mem_2", email=None)
    text = post.stack.cli("mail", "ls").stdout
    assert "welcome" in text and "no_address" in text and "user_2" in text
    listed = post.stack.cli_json("mail", "ls", "--state", "skipped")
    assert [(one["template"], one["user"], one["reason"]) for one in listed] == [("welcome", "user_2", "no_address")]
    number = listed[0]["id"]
    assert "no_address" in post.stack.cli("mail", "show", number).stdout
    assert post.stack.cli_json("mail", "show", number)[0]["state"] == "skipped"
    post.stack.sql("UPDATE whop_users SET email = 'two@example.org' WHERE whop_user_id = 'user_2'")
    post.stack.cli("mail", "retry", number, "--reason", "has one now", "--yes")
    post.rest()
    assert [mail["to"] for mail in post.sim.emails()][1:] == [["two@example.org"]]
    assert ("mail.retry", f"mail/{number}") in post.stack.sql("SELECT action, target FROM audit_log")
    preview = post.stack.cli("mail", "test", "receipt")
    assert "Subject:" in preview.stdout and "49.90" in preview.stdout and len(post.sim.emails()) == 2
    post.stack.cli("mail", "test", "receipt", "--to", "me@example.org", "--yes")
    post.rest()
    assert post.sim.emails()[2]["to"] == ["me@example.org"]
    for words in (("retry", "999", "--reason", "r"), ("show", "999"), ("suppress", "nobody"), ("test", "birthday"),
                  ("settings", "--mute", "birthday"), ("settings", "--from", "x\ny"), ("ls", "--state", "lost")):
        assert post.stack.cli("mail", *words, check=False).returncode in (1, 2), words


def test_the_metrics(post):
    post.gain()
    post.tell("membership.activated", "active", user="user_2", membership="mem_2", email=None)
    page = metrics_of(post.stack.proc("mail"))
    assert 'whopline_mails_total{template="welcome",result="sent"} 1' in page
    assert 'whopline_mails_total{template="welcome",result="skipped"} 1' in page
    assert 'whopline_mails_total{template="receipt",result="sent"} 0' in page


def metrics_of(proc):
    import re
    import urllib.request
    port = proc.wait_log(r"address=127\.0\.0\.1:(\d+)").group(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def test_the_key_and_the_address_are_nowhere_they_do_not_belong(stack, sim):
    stack.env["LOG_LEVEL"] = "debug"
    post = Post(stack, sim)
    sim.rule(operation="emails.send", status=422, body={"statusCode": 422, "name": "x", "message": sim.mail_env["RESEND_API_KEY"]})
    post.gain(name="Ada Lovelace")
    post.tell("payment.succeeded", payment="pay_1", amount="5.00", currency="usd")
    from test_secrets import PG_DUMP
    import pathlib
    import subprocess
    key = sim.mail_env["RESEND_API_KEY"].encode()
    proc = stack.proc("mail")
    said = [stack.cli("mail", "ls"), stack.cli("mail", "show", 1), stack.cli("config", "check", check=False)]
    places = {"log": proc.log().encode(), "environ": pathlib.Path(f"/proc/{proc.pid}/environ").read_bytes(),
              "cmdline": pathlib.Path(f"/proc/{proc.pid}/cmdline").read_bytes(),
              "output": "".join(one.stdout + one.stderr for one in said).encode(),
              "outbox": subprocess.run([PG_DUMP, "--dbname", stack.env["DATABASE_URL"], "-t", "email_outbox", "-t", "jobs"],
                                       check=True, capture_output=True).stdout}
    assert [place for place, text in places.items() if key in text] == []
    log = proc.log()
    assert EMAIL not in log and "Lovelace" not in log and sim.calls(operation="emails.send")[0]["credential"] == "resend"
