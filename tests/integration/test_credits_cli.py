"""Credits by hand: what an operator does to the ledger, and what nobody can do to it."""
import concurrent.futures
import os

import psycopg2
import pytest

import harness
import whop

HUGE = 10 ** 12


def tenant(stack):
    return stack.sql("SELECT id FROM tenants ORDER BY id")[0][0]


def balance(stack, user):
    return stack.sql("SELECT credits_balance FROM credit_accounts WHERE owner_id = %s", (user,))[0][0]


def ledger(stack):
    return stack.sql("""SELECT a.owner_id, t.kind, t.credits, t.source_type FROM credit_transactions t
                        JOIN credit_accounts a ON a.id = t.account_id ORDER BY t.id""")


def audit(stack, action):
    return stack.sql("SELECT actor, target, reason FROM audit_log WHERE action = %s ORDER BY id", (action,))


def is_right(stack):
    """Balances are their ledgers, and each row says who, from what and why (K15)."""
    assert stack.sql("SELECT * FROM credit_mismatches") == []
    assert stack.sql("SELECT * FROM credit_transactions WHERE '' IN (actor, source_type, source_id, reason)") == []


def refused(stack, *args, code=1, **how):
    done = stack.cli(*args, check=False, **how)
    assert done.returncode == code and done.stdout == "", (args, done)
    return done.stderr


def give(stack, user, credits):
    stack.cli("credits", "adjust", user, credits, "--reason", "to begin with", "--new-account")


def paid(stack, payment, user=None, plan="plan_x", email=None, amount="7.50"):
    """A payment as the worker leaves it."""
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, email_norm, status, was_paid,
                   amount, amount_text, currency, paid_at, version_at, event_id)
                 VALUES (%s, %s, %s, %s, %s, 'paid', true, %s, %s, 'usd', now(), now(), 'default/x')""",
              (tenant(stack), payment, user, plan, email, amount, amount))
    settle(stack, payment)


def settle(stack, payment):
    return stack.sql("SELECT decision FROM credits_settle(ARRAY[%s]::bigint[], ARRAY[%s], 'whopline-credits')",
                     (tenant(stack), payment))[0][0]


def at_once(*calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


# ---- adjusting ------------------------------------------------------------------------------------

def test_adjust_happens_once_for_a_request(stack):
    adjust = ("credits", "adjust", "user_1", "+500", "--reason", "a gift", "--request", "r1", "--actor", "ada")
    assert "--new-account" in refused(stack, *adjust)
    assert stack.cli_json(*adjust, "--new-account") == {"result": "adjusted", "available": 500, "request": "r1"}
    for _ in range(2):
        assert stack.cli_json(*adjust)["result"] == "repeated"
    for other in (("user_1", "501"), ("user_1", "-500"), ("user_2", "500", "--new-account")):
        assert "something else" in refused(stack, "credits", "adjust", *other, "--reason", "x", "--request", "r1")
    stack.cli("credits", "adjust", "user_1", "-700", "--reason", "too much")
    assert balance(stack, "user_1") == -200
    assert stack.sql("SELECT credits, source_type, actor, reason FROM credit_transactions ORDER BY id LIMIT 1") == [
        (500, "request", "ada", "a gift")]
    assert audit(stack, "credits.adjust")[0] == ("ada", "user_1", "a gift") and len(audit(stack, "credits.adjust")) == 2
    shown = stack.cli("credits", "show", "user_1").stdout
    assert "balance -200" in shown and "a gift" in shown and "ada" in shown
    assert stack.sql("SELECT count(*) FROM credit_accounts") == [(1,)], "a refused wish makes no account"
    is_right(stack)


def test_one_request_many_times_at_once(stack):
    give(stack, "user_1", 100)
    answers = at_once(*[lambda: stack.cli_json("credits", "adjust", "user_1", "7", "--reason", "r", "--request", "one")] * 8)
    assert sorted(answer["result"] for answer in answers) == ["adjusted"] + ["repeated"] * 7
    assert balance(stack, "user_1") == 107
    is_right(stack)


WRONG_ADJUSTMENTS = (
    ["user_1", "0"], ["user_1", "+0"], ["user_1", "-0"], ["user_1", ""], ["user_1", "five"], ["user_1", "5.5"], ["user_1", "1e3"],
    ["user_1", "0x10"], ["user_1", " 5"], ["user_1", "--5"], ["user_1", HUGE + 1], ["user_1", -HUGE - 1], ["user_1", "9" * 30],
    ["user_1"], ["user_1", "5", "6"], [], ["", "5"], ["user_1", "5", "--yes"], ["user_1", "5", "--request", ""],
    ["user_1", "5", "--request", "x" * 300], ["user_1", "5", "--request"],
)


def test_wrong_adjustments_change_nothing(stack):
    give(stack, "user_1", 100)
    for args in WRONG_ADJUSTMENTS:
        assert refused(stack, "credits", "adjust", *args, "--reason=r", code=2).count("\n") == 1, args
    assert "--reason" in refused(stack, "credits", "adjust", "user_1", "5", code=2)
    assert "--reason" in refused(stack, "credits", "adjust", "user_1", "5", "--reason", "", code=2)
    assert "biz_nobody" in refused(stack, "credits", "adjust", "user_1", "5", "--reason", "r", "--tenant", "biz_nobody")
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('two', 'biz_two')")
    no_default = {"WHOP_COMPANY_ID": ""}
    assert "--tenant" in refused(stack, "credits", "adjust", "user_1", "5", "--reason", "r", code=2, env=no_default)
    evil = "x'; DROP TABLE credit_holds; --"
    assert "no credits account" in refused(stack, "credits", "adjust", evil, "5", "--reason", evil)
    assert len(ledger(stack)) == 1 and stack.sql("SELECT count(*) FROM credit_holds") == [(0,)]
    stack.cli("credits", "adjust", "user_1", HUGE, "--reason", "much")
    assert balance(stack, "user_1") == HUGE + 100
    stack.sql("SELECT credits_post((SELECT id FROM credit_accounts), %s, 'adjust', 'x', 'x', 'x', 'x')", (2 ** 63 - HUGE - 101,))
    assert "out of range" in refused(stack, "credits", "adjust", "user_1", "1", "--reason", "one too many")
    is_right(stack)


# ---- spending -------------------------------------------------------------------------------------

def test_spending_and_holding(stack):
    give(stack, "user_1", 100)

    def say(verb, *args):
        return stack.cli_json("credits", verb, *args, "--actor", "ada")

    why = ("--reason", "a report", "--request")
    assert say("spend", "user_1", "30", *why, "s1") == {"result": "spent", "available": 70, "request": "s1"}
    assert say("spend", "user_1", "30", *why, "s1")["result"] == "repeated"
    assert say("hold", "user_1", "50", *why, "h1")["available"] == 20
    assert "more than there is (available: 20)" in refused(stack, "credits", "spend", "user_1", "21", *why, "s2")
    assert "held by applications" in stack.cli("credits", "show", "user_1").stdout
    assert "more than is held" in refused(stack, "credits", "capture", "h1", "51")
    assert say("capture", "h1", "40") == {"result": "captured", "available": 30, "request": "h1"}
    assert say("capture", "h1", "40")["result"] == "repeated"
    assert "captured" in refused(stack, "credits", "release", "h1")
    assert "nothing is held" in refused(stack, "credits", "release", "h9")
    assert say("hold", "user_1", "30", *why, "h2")["available"] == 0
    assert say("release", "h2")["available"] == 30
    assert "released" in refused(stack, "credits", "capture", "h2", "1")
    for verb, args in (("spend", ["user_1", "-5"]), ("hold", ["user_1", "0"]), ("capture", ["h1", "-1"]),
                       ("hold", ["user_1", "5", "--for", "0"]), ("release", []), ("spend", ["user_1"])):
        refused(stack, "credits", verb, *args, *(["--reason=r"] if verb in ("spend", "hold") else []), code=2)
    assert stack.sql("SELECT actor, credits FROM credit_transactions WHERE kind = 'usage' ORDER BY id") == [("ada", -30), ("ada", -40)]
    assert [len(audit(stack, "credits." + verb)) for verb in ("spend", "hold", "capture", "release")] == [1, 2, 1, 1]
    is_right(stack)


def test_holds_expire(stack):
    give(stack, "user_1", 100)
    for number in range(3):
        stack.cli("credits", "hold", "user_1", "20", "--reason", "r", "--request", f"h{number}", "--for", 60 if number else 3600)
    assert stack.cli_json("credits", "expire") == {"expired": 0}
    stack.sql("UPDATE credit_holds SET expires_at = expires_at - interval '61 s'")
    assert stack.cli_json("credits", "expire") == {"expired": 2}
    assert "0 holds were given back" in stack.cli("credits", "expire").stdout
    assert stack.sql("SELECT held FROM credit_accounts") == [(20,)]
    assert "run out of time" in refused(stack, "credits", "capture", "h1", "1")
    is_right(stack)


# ---- the review list ------------------------------------------------------------------------------

def test_review_shows_whose_it_may_be(stack):
    give(stack, "user_mail", 1)
    stack.sql("UPDATE credit_accounts SET email_norm = 'a@b.c'")
    stack.cli("credits", "plans", "add", "--plan", "plan_y", "--name", "Y", "--credits", "5", "--price", "1", "--currency", "usd")
    order = stack.cli_json("orders", "create", "--manual", "--user", "user_order", "--plan", "plan_y")["order_id"]
    paid(stack, "pay_1", plan="plan_y", email="a@b.c")
    review, = stack.cli_json("credits", "review", "list")
    assert (review["payment_id"], review["reason"], review["state"]) == ("pay_1", "unknown_user", "open")
    assert sorted((c["user_id"], c["why"], c["order_id"]) for c in review["candidates"]) == [
        ("user_mail", "same e-mail", None), ("user_order", "order requested", order)]
    shown = stack.cli("credits", "review").stdout
    assert "user_mail (same e-mail)" in shown and "user_order (order requested)" in shown


def test_review_is_assigned_dismissed_and_reopened(stack):
    assign = ("credits", "review", "assign", "pay_1", "--actor", "ada")
    assert "review list" in refused(stack, *assign, "--user", "user_1")
    paid(stack, "pay_1")
    paid(stack, "pay_2", user="user_2")
    assert "--user" in refused(stack, *assign, code=2)
    assert "(unknown_plan); say it with --credits" in refused(stack, *assign, "--user", "user_1")
    for wrong in ("0", "-5", "x", "9" * 30):
        refused(stack, *assign, "--user", "user_1", "--credits", wrong, code=2)
    assert ledger(stack) == [] and len(stack.cli_json("credits", "review")) == 2, "nothing was left behind"
    assert stack.cli_json(*assign, "--user", "user_1", "--credits", "50") == {
        "payment_id": "pay_1", "result": "assigned", "state": "credited", "user_id": "user_1", "credits": 50}
    assert "user_1 has got 50 credits, by ada" in refused(stack, *assign, "--user", "user_9", "--credits", "60")
    assert "already done" in refused(stack, "credits", "review", "dismiss", "pay_1", "--reason", "no")
    assert "--reason" in refused(stack, "credits", "review", "dismiss", "pay_2", code=2)
    stack.cli("credits", "review", "dismiss", "pay_2", "--reason", "a test of ours", "--actor", "bob")
    assert "dismissed by bob" in refused(stack, "credits", "review", "dismiss", "pay_2", "--reason", "again")
    assert "dismissed by bob" in refused(stack, "credits", "review", "assign", "pay_2", "--user", "u", "--credits", "1")
    stack.cli("credits", "plans", "add", "--plan", "plan_x", "--name", "X", "--credits", "70")
    assert settle(stack, "pay_2") == "dismissed", "a dismissal stands, whatever is known later"
    assert [row["note"] for row in stack.cli_json("credits", "review", "list", "--state", "dismissed")] == ["a test of ours"]
    assert "not dismissed" in refused(stack, "credits", "review", "reopen", "pay_1", "--reason", "x")
    stack.cli("credits", "review", "reopen", "pay_2", "--reason", "a mistake")
    assert ledger(stack) == [("user_1", "topup", 50, "payment"), ("user_2", "topup", 70, "payment")]
    assert [len(audit(stack, "review." + verb)) for verb in ("assign", "dismiss", "reopen")] == [1, 1, 1]
    assert stack.sql("SELECT actor FROM credit_transactions ORDER BY id LIMIT 1") == [("ada",)]
    assert stack.cli_json("credits", "review") == []
    is_right(stack)


def test_what_is_not_paid_is_not_assigned(stack):
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, status, version_at, event_id)
                 VALUES (%s, 'pay_1', 'open', now(), 'default/x')""", (tenant(stack),))
    stack.sql("INSERT INTO credit_review (tenant_id, whop_payment_id, reason, event_id) VALUES (%s, 'pay_1', 'not_paid', 'e')",
              (tenant(stack),))
    assert "is not paid" in refused(stack, "credits", "review", "assign", "pay_1", "--user", "u", "--credits", "5")
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "abandoned")
    assert stack.sql("SELECT granted FROM payments") == [(None,)], "should it be paid after all, it is decided then"


def test_operators_and_reconciliation_at_once_grant_once(stack):
    for number in range(4):
        payment = f"pay_{number}"
        paid(stack, payment, user=f"user_{number}", plan=f"plan_{number}")
        stack.sql("INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount) VALUES (%s, %s, 'p', 9)",
                  (tenant(stack), f"plan_{number}"))

        def assign(user, payment=payment):
            return stack.cli("credits", "review", "assign", payment, "--user", user, "--credits", "5", "--actor", user, check=False)

        def reconcile(payment=payment):
            link = harness.connect(stack.pg_sockets, stack.database)
            link.cursor().execute("SELECT credits_settle(ARRAY[%s]::bigint[], ARRAY[%s], 'whopline-reconcile')",
                                  (tenant(stack), payment))
            link.close()

        done = [one for one in at_once(lambda: assign("ada"), reconcile, lambda: assign("bob")) if one]
        assert sum(one.returncode == 0 for one in done) <= 1
        assert all("already done" in one.stderr for one in done if one.returncode), done
    assert stack.sql("SELECT source_id, count(*) FROM credit_transactions GROUP BY 1 HAVING count(*) <> 1") == []
    assert len(ledger(stack)) == 4 and stack.cli_json("credits", "review") == []
    is_right(stack)


# ---- settings -------------------------------------------------------------------------------------

def test_settings(stack):
    defaults = {"tenant": whop.COMPANY, "enabled": True, "negative": "allow_negative", "email_match": False, "whop": "on",
                "users": [], "order_ttl_hours": 24}
    assert stack.cli_json("credits", "settings") == [defaults]
    stack.cli("credits", "settings", "--negative", "clamp", "--email-match", "on", "--whop", "listed", "--user", "u1", "--user", "u2",
              "--order-ttl", "48", "--actor", "ada", "--reason", "as agreed")
    wanted = {**defaults, "negative": "clamp", "email_match": True, "whop": "listed", "users": ["u1", "u2"], "order_ttl_hours": 48}
    assert stack.cli_json("credits", "settings") == [wanted]
    assert "nothing was changed" in stack.cli("credits", "settings", "--negative", "clamp", "--user", "u1").stdout
    assert stack.cli_json("credits", "settings", "--no-user", "u1", "--enabled", "off")[0] == {**wanted, "users": ["u2"], "enabled": False}
    assert audit(stack, "credits.settings")[0] == ("ada", whop.COMPANY, "as agreed") and len(audit(stack, "credits.settings")) == 2
    was, now_is = stack.sql("SELECT detail->'was', detail->'is' FROM audit_log ORDER BY id DESC LIMIT 1")[0]
    assert (was["credits_enabled"], now_is["credits_enabled"]) == (True, False)
    for wrong in (["--enabled", "yes"], ["--negative", "never"], ["--whop", "sometimes"], ["--order-ttl", "0"],
                  ["--order-ttl", "x"], ["--email-match"], ["now"]):
        refused(stack, "credits", "settings", *wrong, code=2)
    paid(stack, "pay_1", user="user_1")
    assert stack.sql("SELECT decision FROM payments") == [("credits_off",)] and stack.cli_json("credits", "review") == []
    assert "u2" in stack.cli("credits", "settings").stdout


def test_clamp_makes_debts(stack):
    stack.cli("credits", "settings", "--negative", "clamp")
    give(stack, "user_1", 100)
    stack.cli("credits", "adjust", "user_1", "-150", "--reason", "r")
    account, = stack.cli_json("credits", "show", "user_1")
    assert (account["balance"], account["debt"], account["available"]) == (0, 50, 0)
    stack.cli("credits", "adjust", "user_1", "60", "--reason", "r")
    assert balance(stack, "user_1") == 10
    is_right(stack)


def test_the_environment_is_where_settings_begin(stack):
    stack.cli("migrate")
    assert stack.sql("SELECT count(*) FROM credit_settings") == [(0,)]
    env = {"CREDITS_NEGATIVE_POLICY": "clamp", "CREDITS_ORDER_TTL_HOURS": "6", "WHOP_PAYMENTS_ENABLED": "false"}
    stack.cli("migrate", env=env)
    assert [stack.cli_json("credits", "settings")[0][name] for name in ("negative", "order_ttl_hours", "whop")] == ["clamp", 6, "off"]
    stack.cli("migrate", env={"CREDITS_EMAIL_MATCH": "on"})
    assert stack.cli_json("credits", "settings")[0]["email_match"] is False, "what is written down counts"
    assert "CREDITS_NEGATIVE_POLICY" in stack.cli("migrate", env={"CREDITS_NEGATIVE_POLICY": "never"}, check=False).stderr


# ---- plans ----------------------------------------------------------------------------------------

def test_plans_have_versions(stack):
    stack.cli("credits", "plans", "add", "--plan", "plan_x", "--name", "X", "--credits", "50", "--price", "5", "--currency", "usd",
              "--pack-id", "x")
    paid(stack, "pay_old", user="user_1", plan="plan_x")
    update = ("credits", "plans", "update", "--plan", "plan_x")
    stack.cli(*update, "--credits", "60", "--proration", "difference", "--actor", "ada", "--reason", "spring sale")
    assert "nothing was changed" in stack.cli(*update, "--credits", "60").stdout
    paid(stack, "pay_new", user="user_1", plan="plan_x")
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, was_paid, paid_at, version_at, event_id)
                 SELECT tenant_id, 'pay_late', 'user_1', 'plan_x', true, paid_at, now(), 'x' FROM payments
                 WHERE whop_payment_id = 'pay_old'""")
    settle(stack, "pay_late")
    assert [row[2] for row in ledger(stack)] == [50, 60, 50], "a payment picks the version by when it was paid"
    old, new = stack.cli_json("credits", "plans")
    assert (old["valid_to"], new["valid_to"], new["proration_rule"]) == (new["valid_from"], None, "difference")
    assert (new["price_minor"], new["currency"], new["pack_id"]) == (500, "usd", "x"), "what is not named stays"
    assert audit(stack, "plans.update") == [("ada", "plan_x", "spring sale")]
    stack.cli(*update, "--pack-id", "", "--free-too", "--proration", "ask")
    assert [stack.cli_json("credits", "plans")[2][name] for name in ("pack_id", "credits_when_free", "proration_rule")] == [
        None, True, None]
    assert "no plan plan_z" in refused(stack, "credits", "plans", "update", "--plan", "plan_z", "--credits", "1")
    for wrong in (["--proration", "half"], ["--credits", 2 ** 31], ["--price", "1"], ["--price", "1", "--currency", "dollars"],
                  ["--price", "1.001", "--currency", "usd"], ["--price", "-1", "--currency", "usd"]):
        refused(stack, *update, *wrong, code=2)
    assert len(stack.cli_json("credits", "plans")) == 3


def test_a_plan_or_pack_sells_one_thing_at_a_time(stack):
    stack.cli("credits", "plans", "add", "--plan", "plan_x", "--name", "X", "--credits", "50", "--pack-id", "x")
    stack.cli("credits", "plans", "add", "--plan", "plan_y", "--name", "Y", "--credits", "50")
    assert "belongs to plan plan_x" in refused(stack, "credits", "plans", "add", "--plan", "plan_z", "--name", "Z", "--credits", "1",
                                               "--pack-id", "x")
    assert 'plan_x is sold as "X"' in refused(stack, "credits", "plans", "update", "--plan", "plan_y", "--pack-id", "x")
    for plan, pack, since in (("plan_x", None, "now()"), ("plan_n", "x", "'-infinity'"), ("plan_x", None, "now() + interval '1 year'")):
        with pytest.raises(psycopg2.errors.ExclusionViolation):
            stack.sql(f"""INSERT INTO whop_plans (tenant_id, whop_plan_id, pack_id, plan_name, credits_amount, valid_from)
                          VALUES (%s, %s, %s, 'n', 1, {since})""", (tenant(stack), plan, pack))
    results = at_once(*[lambda n=n: stack.cli("credits", "plans", "update", "--plan", "plan_y", "--credits", n, check=False)
                        for n in range(1, 7)])
    assert all(done.returncode == 0 or "just now" in done.stderr for done in results)
    assert stack.sql("""SELECT count(*) FROM whop_plans a JOIN whop_plans b ON a.id < b.id AND a.whop_plan_id = b.whop_plan_id
                        WHERE a.valid_from < b.valid_to AND b.valid_from < a.valid_to""") == [(0,)]


def test_plans_come_from_a_file(stack, tmp_path):
    sample = ("credits", "plans", "import-file", harness.ROOT / "deploy/plans.csv")
    assert "--yes does it" in stack.cli(*sample).stdout and stack.cli_json("credits", "plans") == []
    assert "new" in stack.cli(*sample, "--yes").stdout
    assert [(p["name"], p["credits"], p["price_minor"]) for p in stack.cli_json("credits", "plans")] == [
        ("Enterprise", 100_000, None), ("Pro", 25_000, 3250), ("Starter", 5_000, 750)]
    assert [p["becomes"] for p in stack.cli_json(*sample)["plans"]] == ["same"] * 3
    assert stack.cli(*sample, "--yes").stdout.count("as it is") == 3 and len(stack.cli_json("credits", "plans")) == 3
    file = tmp_path / "plans.csv"
    file.write_bytes("\ufeffPlan,Name,Credits,Price,Currency\r\nplan_pro,\"Pro, the \"\"big\"\" one\",30000,32.50,USD\r\n\r\n"
                     "plan_new , Neu \u00fc ,0,,\r\n".encode())
    stack.cli("credits", "plans", "import-file", file, "--yes")
    plans = {p["plan"]: p for p in stack.cli_json("credits", "plans") if p["valid_to"] is None}
    assert (plans["plan_pro"]["name"], plans["plan_pro"]["credits"], plans["plan_new"]["name"]) == ('Pro, the "big" one', 30000, "Neu \u00fc")
    before = stack.cli_json("credits", "plans")
    file.write_text("plan,name,credits,price,currency,free_too,proration\n"
                    "plan_a,A,5,,,,\nplan_b,,5,,,,\nplan_c,C,-5,,,,\nplan_d,D,5,7.505,usd,,\nplan_e,E,5,1,,,\nplan_f,F,5,,,maybe,\n"
                    "plan_g,G,5,,,,half\nplan_a,A,6,,,,\nplan_h,H\n\"plan_i,I,5,,,,\n", encoding="utf-8")
    said = refused(stack, "credits", "plans", "import-file", file, "--yes")
    assert [line for line in range(2, 12) if f"{file}:{line}: " in said] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    for text in ("", "plan,name\nx,y\n", "plan,name,credits,colour\nx,y,1,red\n", "plan,name,credits,plan\nx,y,1,x\n", b"plan\xff,name,credits\n"):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert stack.cli("credits", "plans", "import-file", file, "--yes", check=False).returncode != 0, text
    assert refused(stack, "credits", "plans", "import-file", tmp_path / "none", code=2)
    file.write_text("plan,name,credits\nplan_b,B,5\nplan_c,C,5\n", encoding="utf-8")
    assert "IMPORT_MAX_BYTES" in refused(stack, "credits", "plans", "import-file", "/dev/zero", code=2)
    assert stack.cli_json("credits", "plans") == before


# ---- orders ---------------------------------------------------------------------------------------

def plan(stack, **more):
    stack.cli("credits", "plans", "add", "--plan", "plan_p", "--name", "Pro", "--credits", "25000", "--price", "32.50",
              "--currency", "usd", *[word for name, value in more.items() for word in (f"--{name}", value)])


def request(stack, *args, user="user_1", **how):
    return stack.cli_json("orders", "create", "--manual", "--user", user, *args, **how)["order_id"]


def test_a_manual_order_from_wish_to_ledger(stack):
    plan(stack)
    order = request(stack, "--plan", "plan_p", "--notes", "bank transfer", "--actor", "eve")
    shown, = stack.cli_json("orders", "list")
    assert (shown["state"], shown["payment_status"], shown["credits"], shown["price"], shown["currency"], shown["own_price"]) == (
        "requested", "pending", 25000, "32.50", "usd", False)
    again = refused(stack, "orders", "create", "--manual", "--user", "user_1", "--plan", "plan_p")
    assert "open manual order" in again and order in again
    assert stack.cli_json("orders", "approve", order, "--actor", "ada", "--reason", "money is there") == {
        "order_id": order, "state": "credited", "user_id": "user_1", "credits": 25000}
    assert ledger(stack) == [("user_1", "topup", 25000, "order")]
    for verb in (["approve", order], ["cancel", order, "--reason", "x"]):
        assert "already done by ada: the order is credited" in refused(stack, "orders", *verb)
    shown, = stack.cli_json("orders", "show", order)
    assert [(step["to_state"], step["actor"]) for step in shown["history"]] == [("requested", "eve"), ("approved", "ada"), ("credited", "ada")]
    assert (shown["payment_status"], shown["completed_by"]) == ("paid", "ada") and shown["paid_at"]
    people = stack.cli("orders", "show", order).stdout
    assert "money is there" in people and "bank transfer" in people
    second = request(stack, "--plan", "plan_p")
    assert "cancelled" in stack.cli("orders", "cancel", second, "--reason", "no money came").stdout
    assert "already done" in refused(stack, "orders", "approve", second)
    assert [(len(audit(stack, "orders." + verb))) for verb in ("create", "approve", "cancel")] == [2, 1, 1]
    assert [o["id"] for o in stack.cli_json("orders", "list", "--state", "cancelled", "--user", "user_1", "--method", "manual")] == [second]
    is_right(stack)


def test_K9_two_admins_approve_at_once(stack):
    """Each by a command of their own: one grants, the others are told who has."""
    plan(stack)
    for number in range(3):
        order = request(stack, "--plan", "plan_p", user=f"user_{number}")
        done = at_once(*[lambda who=who: stack.cli("orders", "approve", order, "--actor", who, check=False) for who in ("ada", "bob", "eve")])
        winner, = [who for who, one in zip(("ada", "bob", "eve"), done) if one.returncode == 0]
        assert all(f"already done by {winner}" in one.stderr for one in done if one.returncode)
    assert len(ledger(stack)) == 3
    made = at_once(*[lambda: stack.cli("orders", "create", "--manual", "--user", "user_x", "--plan", "plan_p", check=False)] * 4)
    assert sorted(one.returncode for one in made) == [0, 1, 1, 1]
    is_right(stack)


def test_orders_at_their_own_price(stack):
    stack.cli("credits", "plans", "import-file", harness.ROOT / "deploy/plans.csv", "--yes")
    assert "no price" in refused(stack, "orders", "create", "--manual", "--user", "u", "--plan", "plan_enterprise")
    request(stack, "--plan", "plan_enterprise", "--price", "990", "--currency", "EUR", user="u1")
    request(stack, "--plan", "plan_pro", "--credits", "30000", user="u2")
    request(stack, "--name", "Consulting", "--credits", "7", "--price", "7500", "--currency", "jpy", user="u3")
    assert {(o["user_id"], o["plan_name"], o["credits"], o["price"], o["currency"], o["own_price"]) for o in stack.cli_json("orders", "list")} == {
        ("u1", "Enterprise", 100_000, "990", "eur", True), ("u2", "Pro", 30_000, "32.50", "usd", True), ("u3", "Consulting", 7, "7500", "jpy", True)}


WRONG_ORDERS = (
    [], ["--user", "u"], ["--manual"], ["--manual", "--user", ""], ["--manual", "--user", "u"],
    ["--manual", "--user", "u", "--name", "n", "--credits", "5"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "5"], ["--manual", "--user", "u", "--plan", "plan_p", "--credits", "0"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--credits", "9" * 12], ["--manual", "--user", "u", "--plan", "plan_p", "now"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "1e3", "--currency", "usd"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "-5", "--currency", "usd"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "7.505", "--currency", "usd"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "75.5", "--currency", "jpy"],
    ["--manual", "--user", "u", "--plan", "plan_p", "--price", "9" * 30, "--currency", "usd"],
)


def test_wrong_orders_are_refused(stack):
    plan(stack)
    for args in WRONG_ORDERS:
        refused(stack, "orders", "create", *args, code=2)
    assert "no plan" in refused(stack, "orders", "create", "--manual", "--user", "u", "--plan", "plan_none")
    stack.cli("credits", "plans", "add", "--plan", "plan_0", "--name", "Course", "--credits", "0", "--price", "5", "--currency", "usd")
    assert "no credits" in refused(stack, "orders", "create", "--manual", "--user", "u", "--plan", "plan_0")
    nobody = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
    for verb in ("show", "approve"):
        assert "no order" in refused(stack, "orders", verb, nobody)
        refused(stack, "orders", verb, "1", code=2)
    refused(stack, "orders", "cancel", nobody, code=2)
    assert "no such orders" in stack.cli("orders").stdout
    assert stack.sql("SELECT count(*) FROM credit_orders") == [(0,)] and stack.sql("SELECT count(*) FROM credit_accounts") == [(0,)]
    order = request(stack, "--plan", "plan_p")
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('two', 'biz_two')")
    assert "no order" in refused(stack, "orders", "approve", order, "--tenant", "two"), "another tenant's"


# ---- import ---------------------------------------------------------------------------------------

ORDERS = """id,user,credits,state,price,currency,payment_method,payment,created_at,notes
1001,user_1,5000,completed,7.50,usd,whop,pay_old1,2025-03-01 10:00,"came by ""mail"", late"
1002,user_2,25000,pending,32.50,usd,manual,,2025-04-01,
"""
TRANSACTIONS = """id,user,credits,kind,reason,payment,price,currency,created_at
t1,user_1,5000,topup,order 1001,pay_old1,7.50,usd,2025-03-01T10:00Z
t2,user_1,-1200,,reports,,,,2025-03-02T10:00Z
t3,user_2,-5,usage,,,,,
"""
BALANCES = "user,balance,email\nuser_1,3000,A@B.C\nuser_2,-5,\nuser_3,700,\nuser_4,0,\n"


@pytest.fixture
def files(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        return [tmp_path / f"{name}.csv" for name in texts]
    return write


def test_import_of_another_systems_books(stack, files):
    paths = files(balances=BALANCES, orders=ORDERS, transactions=TRANSACTIONS)
    plan_said = stack.cli("credits", "import", *paths).stdout
    assert "--yes does it" in plan_said and ledger(stack) == [] and stack.sql("SELECT count(*) FROM credit_accounts") == [(0,)]
    assert "done" in stack.cli("credits", "import", *paths, "--yes", "--actor", "ada").stdout
    assert ledger(stack) == [("user_1", "topup", 5000, "import"), ("user_1", "usage", -1200, "import"), ("user_2", "usage", -5, "import"),
                             ("user_1", "opening", -800, "import"), ("user_3", "opening", 700, "import")]
    assert [balance(stack, f"user_{n}") for n in (1, 2, 3, 4)] == [3000, -5, 700, 0]
    orders = {o["user_id"]: o for o in stack.cli_json("orders", "list")}
    assert (orders["user_1"]["state"], orders["user_1"]["whop_payment_id"], orders["user_1"]["notes"]) == ("credited", "pay_old1", 'came by "mail", late')
    assert orders["user_2"]["state"] == "requested"
    assert "nothing to do" in stack.cli("credits", "import", *paths, "--yes").stdout
    told = stack.cli_json("credits", "import", *paths)
    assert told["done"] is False and [(f["holds"], f["rows"], f["new"], f["there_already"]) for f in told["files"]] == [
        ("balances", 4, 0, 4), ("orders", 2, 0, 2), ("transactions", 3, 0, 3)]
    assert len(ledger(stack)) == 5 and len(audit(stack, "credits.import")) == 2
    # Life goes on: a spending does not make the file's balance a contradiction.
    stack.cli("credits", "spend", "user_3", "50", "--reason", "r")
    assert "nothing to do" in stack.cli("credits", "import", *paths, "--yes").stdout and balance(stack, "user_3") == 650
    # An event of an old payment grants nothing; its refund takes back what it had granted.
    assert settle(stack, "pay_old1") == "imported"
    stack.sql("""INSERT INTO refunds (tenant_id, whop_refund_id, whop_payment_id, amount, amount_text, status, version_at)
                 VALUES (%s, 'rf_1', 'pay_old1', 3.75, '3.75', 'succeeded', now())""", (tenant(stack),))
    settle(stack, "pay_old1")
    assert balance(stack, "user_1") == 500
    stack.cli("orders", "approve", orders["user_2"]["id"])
    assert balance(stack, "user_2") == 24995
    is_right(stack)


WRONG_IMPORTS = (  # file, what it says: {line: part of its message}
    ("user,balance\nuser_1,\n,5\nuser_3,5.5\nuser_4,99999999999999999999\nuser_5\n",
     {2: "balance is missing", 3: "user is missing", 4: "no whole number", 5: "no whole number", 6: "1 cells"}),
    ("user,balance\nuser_1,5\nuser_1,6\n", {3: "opening balance 5 already"}),
    ("id,user,credits,kind\nt1,u,5,usage\nt2,u,-5,topup\nt3,u,0,adjust\nt4,u,5,gift\nt5,u,5,topup\nt5,u,6,topup\n",
     {2: "5 credits are no usage", 3: "no topup", 4: "0 credits", 5: "not gift", 7: "other figures"}),
    ("id,user,credits,payment\nt1,u,5,pay_1\n", {2: "needs its price"}),
    ("id,user,credits,created_at\nt1,u,5,yesterday noon\n", {2: "timestamp"}),
    ("id,user,credits,state\no1,u,5,requested\no2,u,5,pending\no3,u,0,credited\no4,u,5,eaten\no5,u,-5,credited\n",
     {3: "open manual order", 4: "constraint", 5: "constraint", 6: "constraint"}),
    ("id,user,credits,state,price,payment\no1,u,5,credited,1,pay_1\no2,v,5,credited,1,pay_1\n", {3: ""}),
    ("id,user,credits,state,price\no1,u,5,credited,1e400\n", {2: ""}),
    ("name,amount\na,5\n", {1: "those of no file"}),
    ("user,balance,colour\nu,5,red\n", {1: "colour"}),
    ("user,balance\n\"u,5\n", {2: "quote"}),
)


def test_wrong_rows_are_named_by_line_and_nothing_is_done(stack, files):
    for text, faults in WRONG_IMPORTS:
        path, = files(wrong=text)
        said = refused(stack, "credits", "import", path, "--yes")
        told = dict(line.removeprefix(f"{path}:").split(": ", 1) for line in said.splitlines() if line.startswith(f"{path}:"))
        assert set(map(int, told)) == set(faults), (text, said)
        assert all(part in told[str(line)] for line, part in faults.items()), said
        assert "nothing was done" in said
    assert ledger(stack) == [] and stack.sql("SELECT count(*) FROM credit_orders") == [(0,)]
    assert refused(stack, "credits", "import", "/nowhere.csv", code=2)
    refused(stack, "credits", "import", code=2)


def test_import_does_not_contradict_what_is_known(stack, files):
    plan(stack)
    paid(stack, "pay_1", user="user_1", plan="plan_p")
    path, = files(orders="id,user,credits,state,price,payment\no1,user_1,25000,credited,32.5,pay_1\n")
    assert "decided here already" in refused(stack, "credits", "import", path, "--yes")
    path, = files(balances="user,balance\nuser_2,5\n")
    stack.cli("credits", "import", path, "--yes")
    path, = files(transactions="id,user,credits\nt1,user_2,5\n")
    assert "opening balance already" in refused(stack, "credits", "import", path, "--yes")
    path, = files(balances="user,balance\nuser_2,6\n")
    assert "opening balance 5 already, and this makes it 6" in refused(stack, "credits", "import", path, "--yes")
    paid(stack, "pay_2", plan="plan_unknown")
    path, = files(orders="id,user,credits,state,price,payment\no2,user_3,9,credited,1,pay_2\n",
                  transactions="id,user,credits,payment,price\nt2,user_3,9,pay_2,1\n")[1:]
    stack.cli("credits", "import", path, "--yes")
    assert stack.cli_json("credits", "review") == [] and balance(stack, "user_3") == 9
    is_right(stack)


def test_import_beside_workers_and_another_import(stack, files):
    """Nobody waits for ever, nothing is there twice."""
    users = [f"user_{n}" for n in range(200)]
    for user in users[::2]:
        stack.sql("SELECT credits_open_account(%s, %s)", (tenant(stack), user))
    one, other = files(one="user,balance\n" + "".join(f"{user},10\n" for user in users),
                       other="user,balance\n" + "".join(f"{user},10\n" for user in reversed(users)))

    def spend():
        link = harness.connect(stack.pg_sockets, stack.database)
        cursor = link.cursor()
        for n in range(200):
            cursor.execute("SELECT result FROM credits_spend(%s, %s, 1, %s, 'r')", (whop.COMPANY, users[-1 - n], f"r{n}"))
        link.close()

    done = at_once(*[lambda path=path: stack.cli("credits", "import", path, "--yes", check=False) for path in (one, other)], spend)[:2]
    assert [each.returncode for each in done] == [0, 0], done
    assert stack.sql("SELECT count(*), sum(credits) FROM credit_transactions WHERE kind = 'opening'") == [(200, 2000)]
    is_right(stack)


# ---- applications ---------------------------------------------------------------------------------

@pytest.fixture
def role(stack):
    """A role that may log in, and nothing else."""
    name = 'app "' + os.urandom(6).hex()
    quoted = '"' + name.replace('"', '""') + '"'
    stack.sql(f"CREATE ROLE {quoted} LOGIN")
    yield name
    stack.sql(f"DROP OWNED BY {quoted}")
    stack.sql(f"DROP ROLE {quoted}")


class Application:
    def __init__(self, stack, role):
        self.link = psycopg2.connect(host=stack.pg_sockets, user=role, dbname=stack.database)
        self.link.autocommit = True

    def sql(self, query, args=None):
        with self.link.cursor() as cursor:
            cursor.execute(query, args)
            return cursor.fetchall() if cursor.description else []


def test_an_application_may_spend_and_nothing_else(stack, role):
    give(stack, "user_1", 100)
    app = Application(stack, role)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        app.sql("SELECT * FROM user_profiles")
    assert "no role" in refused(stack, "credits", "allow", role + "x")
    assert "no role" in refused(stack, "credits", "allow", "public")
    assert "may do everything" in refused(stack, "credits", "allow", "app")
    stack.sql('GRANT INSERT ON credit_transactions TO "%s"' % role.replace('"', '""'))
    assert "revoke that first" in refused(stack, "credits", "allow", role)
    stack.sql('REVOKE INSERT ON credit_transactions FROM "%s"' % role.replace('"', '""'))
    assert "user_profiles" in stack.cli("credits", "allow", role).stdout
    stack.cli("credits", "allow", role)
    assert app.sql("SELECT id, credits_balance FROM user_profiles") == [("user_1", 100)]
    company = whop.COMPANY
    assert app.sql("SELECT * FROM credits_spend(%s, 'user_1', 30, 'r1', 'a report')", (company,)) == [("spent", 70)]
    assert app.sql("SELECT * FROM credits_hold(%s, 'user_1', 20, 'r2', 'a report')", (company,)) == [("held", 50)]
    assert app.sql("SELECT * FROM credits_capture(%s, 'r2', 5)", (company,)) == [("captured", 65)]
    assert app.sql("SELECT * FROM credits_hold(%s, 'user_1', 20, 'r3', 'x', '1 hour')", (company,)) == [("held", 45)]
    assert app.sql("SELECT * FROM credits_release(%s, 'r3')", (company,)) == [("released", 65)]
    assert app.sql("SELECT credits_available(%s, 'user_1')", (company,)) == [(65,)]
    app.sql("SET whopline.actor = 'ada'")
    app.sql("SELECT credits_spend(%s, 'user_1', 1, 'r4', 'in the name of another')", (company,))
    assert stack.sql("SELECT DISTINCT actor FROM credit_transactions WHERE kind = 'usage'") == [("application",)]
    nothing_else(stack, app)
    stack.cli("credits", "allow", role, "--revoke")
    for forbidden in ("SELECT * FROM user_profiles", "SELECT credits_available('x', 'y')"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            app.sql(forbidden)
    app.link.close()
    is_right(stack)


ALLOWED = {"credits_spend", "credits_hold", "credits_capture", "credits_release", "credits_available"}


def nothing_else(stack, app):
    """Every table, every other function of ours, and making things."""
    tables = [name for name, in stack.sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')")]
    assert len(tables) > 15
    for table in tables:
        for statement in (f"SELECT * FROM {table}", f"DELETE FROM {table}", f"TRUNCATE {table}", f"UPDATE {table} SET tenant_id = 1",
                          f"DROP TABLE {table}", f"INSERT INTO {table} DEFAULT VALUES"):
            if table == "user_profiles" and statement.startswith("SELECT"):
                continue
            # The others: what no view or table of that kind takes from anybody.
            with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedColumn, psycopg2.errors.WrongObjectType,
                                psycopg2.errors.ObjectNotInPrerequisiteState)):
                app.sql(statement)
                pytest.fail(f"it may {statement}")
    for name, args in stack.sql("""SELECT proname, coalesce((SELECT string_agg('NULL::' || t::regtype, ', ') FROM unnest(proargtypes) t), '')
                                   FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^credits?_'"""):
        if name not in ALLOWED:
            with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.FeatureNotSupported)):
                app.sql(f"SELECT {name}({args})")
                pytest.fail(f"it may call {name}")
    for statement in ("CREATE TABLE mine (x int)", "ALTER TABLE credit_accounts DISABLE TRIGGER ALL", "SET ROLE app"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            app.sql(statement)


def test_nobody_changes_the_ledger(stack):
    """Not even the owner, short of switching the triggers off."""
    give(stack, "user_1", 100)
    for statement in ("UPDATE credit_transactions SET credits = 1", "UPDATE credit_transactions SET reason = ''", "DELETE FROM credit_transactions",
                      "TRUNCATE credit_transactions", "TRUNCATE credit_accounts CASCADE"):
        with pytest.raises(psycopg2.Error, match="append-only"):
            stack.sql(statement)
    assert ledger(stack) == [("user_1", "adjust", 100, "request")]


# ---- figures --------------------------------------------------------------------------------------

def test_stats(stack):
    stats, = stack.cli_json("credits", "stats")
    assert (stats["orders"], stats["ledger"], stats["paid_to_ledger_seconds"]["p50"]) == ({}, [], None)
    stack.cli("credits", "stats")
    plan(stack)
    for number in range(4):
        order = request(stack, "--plan", "plan_p", user=f"user_{number}")
        if number < 2:
            stack.cli("orders", "approve", order)
        elif number == 2:
            stack.cli("orders", "cancel", order, "--reason", "r")
    paid(stack, "pay_1", user="user_1", plan="plan_p")
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, was_paid, paid_at, version_at, event_id)
                 VALUES (%s, 'pay_2', 'user_1', 'plan_p', true, now() - interval '10 s', now(), 'x')""", (tenant(stack),))
    settle(stack, "pay_2")
    paid(stack, "pay_3")
    paid(stack, "pay_4")
    stack.cli("credits", "review", "assign", "pay_4", "--user", "user_1", "--credits", "3")
    stats, = stack.cli_json("credits", "stats", "--since", "1h")
    assert stats["orders"] == {"manual": {"opened": 4, "paid": 2, "open": 1, "lost": 1, "success_rate": 0.6667}}
    assert stats["grants"] == {"automatic": 2, "assigned": 1, "manual_orders": 2}
    assert (stats["review_open"], stats["orders_requested"], stats["notices"]) == (1, 1, {"review": 2})
    assert [(row["kind"], row["how"], row["rows"]) for row in stats["ledger"]] == [("topup", "automatic", 2), ("topup", "manual", 3)]
    times = stats["paid_to_ledger_seconds"]
    assert times["payments"] == 2 and 4 < times["p50"] < 6 and 9 < times["p95"] < 10.5
    people = stack.cli("credits", "stats").stdout
    assert "66.7 %" in people and "payments in review now" in people and "75,003" not in people
    refused(stack, "credits", "stats", "--since", "noon", code=2)


# ---- the story ------------------------------------------------------------------------------------

def test_trace_tells_of_orders_refunds_and_reviews(stack):
    plan(stack)
    order = request(stack, "--plan", "plan_p", "--actor", "eve")
    stack.cli("orders", "approve", order, "--actor", "ada", "--reason", "paid by bank")
    paid(stack, "pay_1")
    stack.cli("credits", "review", "assign", "pay_1", "--user", "user_1", "--credits", "100", "--actor", "bob", "--reason", "he wrote")
    stack.sql("""INSERT INTO refunds (tenant_id, whop_refund_id, whop_payment_id, amount, amount_text, currency, status, version_at)
                 VALUES (%s, 'rf_1', 'pay_1', 3.75, '3.75', 'usd', 'succeeded', now())""", (tenant(stack),))
    settle(stack, "pay_1")
    stack.sql("""INSERT INTO disputes (tenant_id, whop_dispute_id, whop_payment_id, status, phase, version_at)
                 VALUES (%s, 'dspt_1', 'pay_1', 'needs_response', 'open', now())""", (tenant(stack),))
    settle(stack, "pay_1")

    def told(what):
        steps = stack.cli_json("trace", what)
        times = [step["at"] for step in steps]
        assert times == sorted(times)
        return [(step["what"], step["text"]) for step in steps]

    assert told(order) == [
        ("order", "requested: Pro, 25,000 credits for 32.50 usd (manual), by eve"),
        ("order", "requested -> approved, by ada: paid by bank"),
        ("order", "approved -> credited, by ada: 25000 credits"),
        ("ledger", f"+25,000 credits (topup) for user_1, balance 25,000, by order {order}, ada: approved: paid by bank"),
    ]
    story = told("pay_1")
    assert [what for what, _ in story if what != "notice"] == [
        "payment", "review", "ledger", "review", "refund", "ledger", "dispute", "ledger"]
    texts = [text for _, text in story]
    assert "assigned by bob: he wrote" in texts and "succeeded, 3.75 usd of pay_1" in texts and "needs_response of pay_1" in texts
    assert sum("review, to be told to admin" in text for text in texts) == 1
    assert sum("dispute, to be told to" in text for text in texts) == 2
    assert {order, "pay_1"} <= {step["id"] for step in stack.cli_json("trace", "user_1")}
    for other in ("rf_1", "dspt_1"):
        assert told(other), other
