"""Plans at Whop: made there, changed there, taken off sale there, and read from Whop's list; on the real
programs against the simulator, with replies that are lost and processes that are killed."""
import json

import pytest

import harness
import sim as simulator
import whop

PRODUCT = "prod_1"
TERMS = ("--product", PRODUCT, "--name", "Starter", "--price", "7.50", "--currency", "usd", "--credits", "5000")


class Plans:
    def __init__(self, stack, sim):
        self.stack, self.sim = stack, sim
        stack.env.update(sim.env, WHOP_API_KEY=simulator.KEY, OUTBOUND_VERIFY_MS="100",
                         OUTBOUND_GRACE_MS=str(int(500 * harness.SLOW)), HTTP_TIMEOUT_MS=str(int(2000 * harness.SLOW)))
        sim.put("products", {"id": PRODUCT})
        sim.put("plans", {"id": "plan_T3stMonthly01", "visibility": "archived"})  # the one there is from the start
        stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('shop', %s) ON CONFLICT DO NOTHING",
                  (whop.COMPANY,))

    def up(self):
        self.stack.up("credits", "scheduler")
        return self

    def run(self, *args, check=True, **how):
        return self.stack.cli("credits", "plans", *args, check=check, **how)

    def json(self, *args, **how):
        return json.loads(self.run(*args, "--json", **how).stdout)

    def refused(self, *args, code=1, **how):
        done = self.run(*args, check=False, **how)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr

    def create(self, *more, **how):
        return self.json("create", *TERMS, *more, **how)

    def here(self):
        """What is on sale here."""
        return {p["plan"]: p for p in self.json("list") if p["valid_to"] is None}

    def at_whop(self, plan):
        return self.sim.state()["plans"][plan]

    def made(self):
        return [effect["subject"] for effect in self.sim.effects("plan.created")]

    def request(self, request):
        return next(r for r in self.json("requests") if r["request_id"] == request)

    def ends(self, request, state="done"):
        self.stack.eventually(lambda: self.request(request)["state"] == state, 40)
        return self.request(request)

    def audit(self):
        return self.stack.sql("SELECT action, target, actor, reason FROM audit_log WHERE action LIKE 'plans.%%' ORDER BY id")


@pytest.fixture
def plans(stack, sim):
    return Plans(stack, sim)


# ---- made

def test_made_at_whop_and_on_sale_here(plans):
    made = plans.up().create("--pack-id", "starter", "--request", "r1", "--reason", "launch", "--actor", "ada")
    assert made["state"] == "done" and made["purchase_url"].startswith("https://") and made["answer"] == ""
    there, here = plans.at_whop(made["plan"]), plans.here()[made["plan"]]
    assert (there["plan_type"], there["initial_price"], there["renewal_price"], there["title"], there["visibility"]) == (
        "one_time", "7.5", "49.99", "Starter", "visible")  # its renewal price is the simulator's usual one
    assert (here["name"], here["credits"], here["price_minor"], here["currency"], here["pack_id"], here["valid_from"]) == (
        "Starter", 5000, 750, "usd", "starter", None)
    call, = plans.sim.calls(method="POST")
    assert call["idempotency_key"] and call["body"]["product_id"] == PRODUCT and "renewal_price" not in call["body"]
    assert plans.audit() == [("plans.create", "r1", "ada", "launch"), ("plans.add", made["plan"], "ada", "request r1: launch")]
    assert made["plan"] in plans.run("create", *TERMS, "--pack-id", "starter", "--request", "r1").stdout
    assert plans.made() == [made["plan"]] and len(plans.here()) == 1, "the same request again"
    assert "other terms" in plans.refused("create", *TERMS, "--request", "r1")
    assert made["plan"] in plans.run("requests").stdout


def test_a_plan_that_renews_is_sold(plans, stack):
    made = plans.up().create("--period", "30", "--trial", "7", "--visibility", "hidden", "--proration", "difference")
    there = plans.at_whop(made["plan"])
    assert (there["plan_type"], there["renewal_price"], there["billing_period"], there["trial_period_days"],
            there["visibility"]) == ("renewal", "7.5", 30, 7, "hidden")
    assert "initial_price" not in plans.sim.calls(method="POST")[0]["body"]
    order = json.loads(stack.cli("orders", "create", "--user", "user_1", "--plan", made["plan"], "--json").stdout)
    assert order["state"] == "checkout_open"


@pytest.mark.parametrize("currency, price, sent", [("jpy", "7500", 7500), ("kwd", "1.234", 1.234), ("usd", "0", 0)])
def test_prices_are_exact(plans, currency, price, sent):
    made = plans.up().json("create", "--product", PRODUCT, "--name", "Ä" * 30, "--price", price, "--currency", currency,
                           "--credits", "5")
    assert plans.sim.calls(method="POST")[0]["body"]["initial_price"] == sent
    assert plans.here()[made["plan"]]["name"] == "Ä" * 30


def test_what_is_refused_before_anything_is_asked(plans):
    """None of it leaves a request or a call."""
    plans.up().run("add", "--plan", "plan_x", "--name", "X", "--credits", "1", "--pack-id", "starter")
    assert "belongs to plan plan_x" in plans.refused("create", *TERMS, "--pack-id", "starter")
    base = dict(zip(TERMS[::2], TERMS[1::2]))
    for name, value in (("--name", "N" * 31), ("--name", "a\nb"), ("--name", " "), ("--price", "1e2"), ("--price", "-1"),
                        ("--price", "7.505"), ("--currency", "dollars"), ("--credits", "-1"), ("--credits", str(2 ** 31)),
                        ("--product", "plan_1"), ("--visibility", "archived"), ("--period", "0"), ("--trial", "7"),
                        ("--request", "a b"), ("--request", "x" * 101), ("--request", "ä")):
        words = [word for pair in {**base, name: value}.items() for word in pair]
        said = plans.refused("create", *words, code=2)
        assert value != "N" * 31 or "30 at most" in said
    for missing in base:
        plans.refused("create", *[word for pair in base.items() if pair[0] != missing for word in pair], code=2)
    assert plans.json("requests") == [] and plans.sim.calls(method="POST") == []


def test_a_pack_is_promised_once(plans):
    """Between the request and its end nobody else gets the pack."""
    plans.run("create", *TERMS, "--pack-id", "starter", "--request", "r1", "--wait", "0")
    assert "promised to request r1" in plans.refused("create", *TERMS, "--pack-id", "starter")
    assert "promised to request r1" in plans.refused("add", "--plan", "plan_x", "--name", "X", "--credits", "1",
                                                     "--pack-id", "starter")
    plans.run("add", "--plan", "plan_y", "--name", "Y", "--credits", "1")
    assert "promised to request r1" in plans.refused("update", "--plan", "plan_y", "--pack-id", "starter")
    plans.up().ends("r1")
    assert plans.here()[plans.made()[0]]["pack_id"] == "starter"


def test_a_pack_that_is_gone_all_the_same(plans, stack):
    """Somebody takes it behind our back: the plan at Whop is on sale here, without its pack, and that is told."""
    plans.run("create", *TERMS, "--pack-id", "starter", "--request", "r1", "--wait", "0")
    stack.sql("INSERT INTO whop_plans (tenant_id, whop_plan_id, pack_id, plan_name, credits_amount)"
              " SELECT id, 'plan_x', 'starter', 'X', 1 FROM tenants")
    plans.up()
    assert "without its pack" in plans.ends("r1")["answer"]
    assert plans.here()[plans.made()[0]]["pack_id"] is None and len(plans.made()) == 1
    assert "without its pack" in plans.refused("create", *TERMS, "--pack-id", "starter", "--request", "r1")


# ---- replies that are lost, processes that are killed

LOST = {
    "reply dropped": {"fault": "drop"},
    "reply cut": {"fault": "cut"},
    "closed unread": {"fault": "close"},
    "503 instead": {"status": 503},
}


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("keeps", [True, False], ids=["key honoured", "key ignored"])
def test_never_two_plans(plans, how, keeps):
    plans.sim.settings(not_idempotent=[] if keeps else ["plans.create"])
    plans.sim.rule(operation="plans.create", **LOST[how])
    made = plans.up().create("--request", "r1", "--wait", "40")
    assert plans.made() == [made["plan"]] == list(plans.here())
    assert made["purchase_url"] == plans.at_whop(made["plan"])["purchase_url"]


def test_found_behind_others(plans):
    """Its reply is lost, and a page of plans of the same name has come since; none of them is taken for it."""
    plans.sim.settings(not_idempotent=["plans.create"])
    plans.sim.rule(operation="plans.create", fault="drop")
    plans.sim.rule(operation="plans.list", status=503)
    plans.up().run("create", *TERMS, "--request", "r1", "--wait", "0")
    plans.stack.eventually(plans.made)
    plans.sim.make("plans", 45, product=PRODUCT, title="Starter", plan_type="one_time", initial_price="7.5",
                   metadata={"whopline_request": "r1"}, created_at="2099-01-01T00:00:00.000Z")
    assert plans.ends("r1")["plan"] == plans.made()[0] and len(plans.made()) == 1


def test_an_answer_that_names_nothing(plans, stack):
    """Whop says that it is made, and not which: the plan of our token is, and no other."""
    plans.sim.rule(operation="plans.create", status=200, body="not JSON")
    plans.sim.rule(operation="plans.list", status=503)
    plans.run("create", *TERMS, "--request", "r1", "--wait", "0")
    token, = stack.sql("SELECT token::text FROM whop_plan_requests")[0]
    for plan, mark in (("plan_1", token), ("plan_2", token[:-1])):
        plans.sim.put("plans", {"id": plan, "product": PRODUCT, "metadata": {"whopline_request": mark},
                                "created_at": "2099-01-01T00:00:00.000Z"})
    assert plans.up().ends("r1")["plan"] == "plan_1" and list(plans.here()) == ["plan_1"]


# Commits: the call's row says sending, and then what came of it; the plan's entry here, with the request's end;
# the job's own end.
@pytest.mark.parametrize("point", ["before_call", "call_first_byte", "call_reply_lost", "after_call", "before_pg_commit",
                                   "before_pg_commit@2", "before_pg_commit@3", "pg_commit_reply_lost@3", "before_pg_commit@4",
                                   "after_pg_commit@4"])
def test_killed_around_the_making(plans, point):
    point, _, at = point.partition("@")
    victim = plans.stack.start("credits", fault=f"{point}:kill@{at or 1}", ready=False)
    plans.stack.start("scheduler")
    plans.run("create", *TERMS, "--request", "r1", "--wait", "0")
    victim.wait_exit(30)
    if at == "4":
        assert len(plans.here()) == 1, "it was entered before the end came"
    plans.stack.start("credits")
    done = plans.ends("r1")
    plans.stack.eventually(lambda: plans.stack.sql("SELECT state FROM jobs WHERE kind = 'credits.plan'") == [("done",)], 40)
    assert plans.made() == [done["plan"]] == list(plans.here()) and len(plans.json("list")) == 1


# ---- changed and taken off sale

@pytest.fixture
def starter(plans):
    """A plan that was made by us, by its id."""
    return plans.up().create()["plan"]


def test_a_price_is_changed_there_and_here(plans, starter):
    done = plans.json("update", "--plan", starter, "--price", "9", "--currency", "usd", "--name", "Starter II",
                      "--credits", "6000", "--at-whop")
    assert done["state"] == "done"
    assert [plans.at_whop(starter)[name] for name in ("initial_price", "title")] == ["9.0", "Starter II"]
    old, new = plans.json("list")
    assert (old["price_minor"], old["credits"], new["price_minor"], new["credits"]) == (750, 5000, 900, 6000)
    assert old["valid_to"] == new["valid_from"] and new["name"] == "Starter II"
    plans.sim.rule(operation="plans.update", status=422, body={"error": {"type": "unprocessable", "message": "Too dear."}})
    assert "Too dear" in plans.refused("update", "--plan", starter, "--price", "10", "--currency", "usd", "--at-whop")
    assert len(plans.json("list")) == 2, "what Whop refuses is not changed here either"


def test_of_a_plan_that_renews_the_renewal_is_changed(plans, starter):
    monthly = plans.create("--period", "30")["plan"]
    plans.run("update", "--plan", monthly, "--price", "8.25", "--currency", "usd", "--at-whop")
    assert plans.at_whop(monthly)["renewal_price"] == "8.25" and plans.at_whop(monthly)["initial_price"] == "0"


def test_what_is_changed_here_alone(plans, starter):
    before = len(plans.sim.calls())
    plans.run("update", "--plan", starter, "--credits", "1")
    assert "at Whop are as they were" in plans.run("update", "--plan", starter, "--price", "1", "--currency", "usd").stdout
    assert "leave out --at-whop" in plans.refused("update", "--plan", starter, "--credits", "1", "--at-whop", code=2)
    for alone in (["--request", "r"], ["--wait", "1"], ["--json"]):
        plans.refused("update", "--plan", starter, "--credits", "2", *alone, code=2)
    assert "at Whop it is as it was" in plans.run("retire", "--plan", starter).stdout
    assert len(plans.sim.calls()) == before and plans.at_whop(starter)["visibility"] == "visible"


def test_retired_at_whop(plans, starter):
    plans.run("retire", "--plan", starter, "--at-whop", "--request", "r1")
    assert plans.at_whop(starter)["visibility"] == "archived" and plans.here() == {}
    assert "archived" in plans.run("retire", "--plan", starter, "--at-whop", "--request", "r1").stdout
    assert len(plans.sim.effects("plan.updated")) == 1
    plans.run("retire", "--plan", starter, "--at-whop")  # already here, and said once more there
    assert "known here" in plans.refused("retire", "--plan", "plan_z", "--at-whop")


@pytest.mark.parametrize("how", LOST)
def test_a_lost_reply_to_a_change(plans, starter, how):
    plans.sim.rule(operation="plans.update", **LOST[how])
    plans.run("update", "--plan", starter, "--price", "9", "--currency", "usd", "--at-whop", "--wait", "40")
    assert plans.at_whop(starter)["initial_price"] == "9.0" and plans.here()[starter]["price_minor"] == 900
    assert len(plans.json("list")) == 2


@pytest.mark.parametrize("point", ["before_call", "call_reply_lost", "after_call", "before_pg_commit@3",
                                   "after_pg_commit@3"])
def test_killed_around_a_change(plans, starter, point):
    plans.stack.proc("credits").sigterm()
    victim = plans.stack.start("credits", fault="{}:kill@{}".format(*f"{point}@1".split("@")[:2]), ready=False)
    plans.run("update", "--plan", starter, "--price", "9", "--currency", "usd", "--at-whop", "--wait", "0", "--request", "r1")
    victim.wait_exit(30)
    plans.stack.start("credits")
    plans.ends("r1")
    assert plans.at_whop(starter)["initial_price"] == "9.0"
    assert [p["price_minor"] for p in plans.json("list")] == [750, 900]


def test_one_change_at_a_time(plans, starter):
    plans.stack.proc("credits").sigterm()
    change = ("update", "--plan", starter, "--at-whop", "--wait", "0")
    assert "not answered yet" in plans.run(*change, "--name", "One", "--request", "r1").stdout
    assert "request r1 for this plan is under way" in plans.refused(*change, "--name", "Two")
    plans.run("update", "--plan", starter, "--credits", "7")  # here alone: the two do not get in each other's way
    plans.run("retire", "--plan", starter)
    plans.stack.start("credits")
    assert "not here" in plans.ends("r1")["answer"] and plans.at_whop(starter)["title"] == "One"


# ---- what Whop says no to, and what waits for a person

def test_refused_in_whops_words(plans):
    plans.up().sim.rule(operation="plans.create", status=422,
                        body={"error": {"type": "unprocessable", "message": "Prices begin at 1.00."}})
    said = plans.refused("create", *TERMS, "--pack-id", "starter", "--request", "r1")
    assert "422" in said and "Prices begin at 1.00." in said
    assert plans.refused("create", *TERMS, "--pack-id", "starter", "--request", "r1") == said, "it stays so"
    assert plans.create("--pack-id", "starter", "--request", "r2")["state"] == "done"


def test_a_product_or_plan_whop_does_not_have(plans):
    plans.up().run("add", "--plan", "plan_gone", "--name", "Gone", "--credits", "5")
    words = [word if word != PRODUCT else "prod_9" for word in TERMS]
    assert "Products not found" in plans.refused("create", *words)
    assert "Plans not found" in plans.refused("update", "--plan", "plan_gone", "--price", "1", "--currency", "usd", "--at-whop")
    assert "Plans not found" in plans.refused("retire", "--plan", "plan_gone", "--at-whop")
    assert len(plans.here()) == 1


def test_without_permission_it_waits(plans, stack):
    """403: the permission is named; once it is granted, the same request goes on."""
    plans.sim.key("apik_poor", "poor", without=["plan:create"])
    stack.env["WHOP_API_KEY"] = "apik_poor"
    assert "plan:create" in plans.up().refused("create", *TERMS, "--request", "r1")
    assert "plan:create" in plans.request("r1")["waits_for"] and "waits" in plans.run("requests").stdout
    plans.sim.key("apik_poor", "poor")
    stack.cli("tenants", "check")
    assert plans.ends("r1")["plan"] == plans.made()[0]


def test_a_key_that_is_not_accepted(plans, stack):
    stack.env["WHOP_API_KEY"] = "apik_nobody"
    said = plans.up().refused("create", *TERMS, "--request", "r1")
    assert "whopline tenants reauth" in said and plans.made() == []
    assert "whopline tenants reauth" in plans.refused("import")


def test_without_a_key(plans, stack):
    del stack.env["WHOP_API_KEY"]
    assert "credential" in plans.up().refused("create", *TERMS, "--request", "r1")
    assert "WHOP_API_KEY" in plans.refused("import")


def test_a_request_is_dropped(plans):
    """Only one that waits for a person, and that Whop was never asked for."""
    plans.sim.rule(operation="plans.create", status=403, permission="plan:create", times=0)
    plans.up().refused("create", *TERMS, "--pack-id", "starter", "--request", "r1")
    plans.run("drop", "r1", "--reason", "no")
    assert plans.request("r1")["state"] == "dropped"
    assert "dropped already" in plans.refused("drop", "r1", "--reason", "no")
    assert "no request r2" in plans.refused("drop", "r2", "--reason", "no")
    plans.stack.cli("tenants", "check")  # its job is put in again, and finds nothing to do
    plans.sim.clear_rules()
    plans.stack.eventually(lambda: plans.stack.sql("SELECT state FROM jobs") == [("done",)])
    assert plans.made() == [] and plans.create("--pack-id", "starter")["state"] == "done"
    plans.stack.proc("credits").sigterm()
    plans.run("create", *TERMS, "--request", "r3", "--wait", "0")
    assert "under way" in plans.refused("drop", "r3", "--reason", "no")


def test_what_may_be_there_is_not_dropped(plans, stack):
    """Nobody knows whether it was made: the row of outbound is for a person, and so is the request."""
    stack.env["OUTBOUND_VERIFICATIONS"] = "1"
    plans.sim.rule(operation="plans.create", fault="close", times=0)
    assert "waits" in plans.up().refused("create", *TERMS, "--request", "r1", "--wait", "40")
    assert "may be there" in plans.refused("drop", "r1", "--reason", "no")


# ---- Whop's list

def found(books):
    return {line["plan"]: line["becomes"] for line in books["plans"] if line["plan"] != "plan_T3stMonthly01"}


def test_three_pages_twice(plans):
    made = plans.sim.make("plans", 130, product=PRODUCT, title="Bulk", plan_type="one_time", initial_price="3.00")
    assert "--yes does it" in plans.run("import").stdout and plans.here() == {}
    first = plans.json("import", "--yes", "--actor", "ada")
    assert found(first) == dict.fromkeys(made, "new") and first["done"]
    assert len(plans.sim.calls(operation="plans.list")) == 6
    assert {(p["credits"], p["price_minor"], p["name"]) for p in plans.here().values()} == {(0, 300, "Bulk")}
    assert set(found(plans.json("import", "--yes")).values()) == {"same"} and len(plans.json("list")) == 130
    assert len(plans.audit()) == 130 and plans.audit()[0][2:] == ("ada", "Whop's list")


def test_old_and_new_terms(plans):
    """Renewals by their renewal's price, others by the first one; a first price besides is told."""
    plans.sim.put("plans", {"id": "plan_m", "plan_type": "renewal", "initial_price": "20", "renewal_price": "5.5", "title": "Month"},
                  {"id": "plan_o", "plan_type": "one_time", "initial_price": "1.234", "renewal_price": "9", "currency": "KWD"})
    said = plans.run("import", "--yes").stdout
    assert "first payment costs more" in said
    assert {(p["plan"], p["name"], p["price_minor"], p["currency"]) for p in plans.here().values()} == {
        ("plan_m", "Month", 550, "usd"), ("plan_o", "plan_o", 1234, "kwd")}
    plans.run("update", "--plan", "plan_m", "--credits", "70", "--pack-id", "m")
    plans.sim.put("plans", {"id": "plan_m", "renewal_price": "6", "title": "Month II"})
    assert "5.50 usd -> 6.00 usd" in plans.run("import").stdout
    assert found(plans.json("import", "--yes")) == {"plan_m": "changed", "plan_o": "same"}
    now = plans.here()["plan_m"]
    assert (now["price_minor"], now["name"], now["credits"], now["pack_id"]) == (600, "Month II", 70, "m")


def test_a_pack_that_is_known_says_what_is_sold(plans, stack):
    """The metadata's pack finds our own number; the metadata's number is nothing."""
    plans.run("add", "--plan", "plan_starter", "--name", "S", "--credits", "5000", "--pack-id", "starter")
    plans.sim.put("plans", {"id": "plan_a", "metadata": {"packId": "starter", "credits": 999999}},
                  {"id": "plan_b", "metadata": {"packId": "other", "credits": 999999}}, {"id": "plan_c"})
    books = plans.json("import", "--yes")
    assert {line["plan"]: line.get("credits") for line in books["plans"] if line["becomes"] == "new"} == {
        "plan_a": 5000, "plan_b": 0, "plan_c": 0}
    assert found(books)["plan_starter"] == "missing" and "plan_starter" in plans.here()
    assert {p: plans.here()[p]["credits"] for p in ("plan_a", "plan_b", "plan_c")} == {"plan_a": 5000, "plan_b": 0, "plan_c": 0}


def test_what_was_paid_before_stays_in_review(plans, stack):
    """A new plan sells nothing yet: a payment of before must not be settled as worth nothing."""
    stack.sql("INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, was_paid, paid_at, version_at,"
              " event_id) SELECT id, 'pay_1', 'user_1', 'plan_a', true, now(), now(), 'e' FROM tenants")
    plans.sim.put("plans", {"id": "plan_a"})
    plans.run("import", "--yes")
    assert stack.sql("SELECT d.granted, d.verdict FROM payments p, credits_decide(ARRAY[p.id]) AS d(id, verdict, granted,"
                     " owner, o, a, plan, flag)") == [(None, "unknown_plan")]


def test_some_of_them(plans):
    plans.sim.put("products", {"id": "prod_2"})
    plans.sim.put("plans", {"id": "plan_a", "product": PRODUCT}, {"id": "plan_b", "product": "prod_2"},
                  {"id": "plan_c", "product": "prod_2", "visibility": "archived"})
    assert found(plans.json("import", "--product", PRODUCT)) == {"plan_a": "new"}
    assert found(plans.json("import", "plan_b")) == {"plan_b": "new"}
    assert found(plans.json("import")) == {"plan_a": "new", "plan_b": "new", "plan_c": "left_out"}
    assert found(plans.json("import", "plan_c")) == {"plan_c": "new"}, "whoever names it wants it"
    assert "no plan plan_z" in plans.refused("import", "plan_z") and "of prod_2" in plans.refused(
        "import", "plan_a", "--product", "prod_2")
    assert "WHOP_PLANS_MAX" in plans.refused("import", env={"WHOP_PLANS_MAX": "2"})


def test_what_is_left_out(plans, stack):
    """Retired here, made for one order, or just being made."""
    plans.up()
    retired = plans.create()["plan"]
    plans.run("retire", "--plan", retired)
    stack.cli("orders", "create", "--user", "user_1", "--credits", "9", "--price", "990", "--currency", "usd", "--name", "Enterprise")
    own = next(plan for plan in plans.made() if plan != retired)
    plans.sim.rule(operation="plans.create", fault="drop")
    plans.sim.rule(operation="plans.list", status=503)
    plans.run("create", *TERMS, "--request", "r1", "--wait", "0")
    plans.stack.eventually(lambda: len(plans.made()) == 3)
    plans.stack.proc("credits").kill9()
    plans.sim.clear_rules()
    third = plans.made()[2]
    assert found(plans.json("import", "--yes")) == {retired: "left_out", own: "left_out", third: "left_out"}
    assert plans.here() == {}
    plans.stack.start("credits")
    plans.ends("r1")
    assert list(plans.here()) == [third] and found(plans.json("import"))[third] == "same"


def test_hostile_answers(plans):
    plans.sim.put("plans", {"id": "plan_a", "title": "\x1b[31mred\nline", "initial_price": "1", "plan_type": "one_time"},
                  {"id": "plan_b", "plan_type": "one_time", "initial_price": "7.505"},
                  {"id": "plan_c", "currency": "dollars"}, {"id": "plan_d", "currency": ""},
                  {"id": "plan_e", "title": "N" * 5000}, {"id": "plan_f", "title": "'; DROP TABLE whop_plans; --"},
                  {"id": "biz_1"}, {"id": "plan_g h"})
    books = plans.json("import", "--yes")
    assert found(books) == {"plan_a": "new", "plan_b": "odd", "plan_c": "odd", "plan_d": "odd", "plan_e": "new", "plan_f": "new",
                            "biz_1": "odd", "plan_g h": "odd"}
    assert {p: plans.here()[p]["name"] for p in plans.here()} == {
        "plan_a": "plan_a", "plan_e": "plan_e", "plan_f": "'; DROP TABLE whop_plans; --"}
    assert "\x1b" not in plans.run("import").stdout
    plans.sim.make("plans", 120, product=PRODUCT)
    plans.sim.settings(repeat_cursor=True)
    assert "cursor" in plans.refused("import")
    plans.sim.settings(repeat_cursor=False)
    plans.sim.rule(operation="plans.list", status=200, body="not JSON", times=0)
    plans.refused("import")
    assert len(plans.json("list")) == 3
