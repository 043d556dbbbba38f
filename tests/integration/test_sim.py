"""The simulator itself: what it claims about Whop's API, and the faults it can be told to make."""
import http.client
import json
import subprocess
import threading
import time

import pytest

import harness
import sim as simulator
import whop

DATE = {"Api-Version-Date": "2026-07-20"}
OWNER = f"company_id={whop.COMPANY}"


def call(sim, method, path, body=None, key=simulator.KEY, **headers):
    status, answered, text = sim.request(method, f"/api/v1/{path}", body, key,
                                         {**DATE, **{k.replace("_", "-"): v for k, v in headers.items()}})
    return status, json.loads(text), answered


def message(answer):
    return answer["error"]["message"]


def plan_of(sim, **more):
    product = next(iter(sim.state()["products"]))
    return {"account_id": whop.COMPANY, "product_id": product, "initial_price": 12.5, **more}


def test_keys_and_permissions(sim):
    sim.key("apik_blind", "blind", without=["member:email:read"])
    assert call(sim, "GET", f"memberships?{OWNER}", key="apik_nobody")[0] == 401
    status, answer, _ = call(sim, "GET", f"memberships?{OWNER}", key="apik_blind")
    assert status == 403 and "member:email:read" in message(answer)
    assert call(sim, "GET", f"memberships?{OWNER}")[0] == 200
    sim.revoke("blind")
    assert call(sim, "GET", f"memberships?{OWNER}", key="apik_blind")[0] == 401


def test_pages_end_with_the_last_row(sim):
    made, met, after = sim.make("memberships", 7), [], ""
    for _ in range(3):
        _, page, _ = call(sim, "GET", f"memberships?{OWNER}&first=3{after}")
        met += [it["id"] for it in page["data"]]
        after = f"&after={page['page_info']['end_cursor']}"
    assert sorted(met) == sorted(made) and not page["page_info"]["has_next_page"]
    assert call(sim, "GET", f"memberships?{OWNER}&after=nonsense")[0] == 400


def test_both_shapes_of_a_membership(sim):
    membership, = sim.make("memberships")
    _, nested, _ = call(sim, "GET", f"memberships/{membership}")
    assert nested["user"]["email"] and nested["plan"]["id"] == "plan_T3stMonthly01"
    _, flat, _ = call(sim, "GET", f"memberships/{membership}", Api_Version_Date="2026-07-23")
    assert flat["user_id"] == nested["user"]["id"] and flat["plan_id"] == "plan_T3stMonthly01"
    assert "user" not in flat and flat["account"]["id"] == whop.COMPANY
    status, answer, _ = call(sim, "GET", f"memberships/{membership}", Api_Version_Date="2026-07-21")
    assert status == 400 and "2026-07-20" in message(answer)


def test_a_list_needs_an_owner_and_takes_filters(sim):
    sim.make("payments", 2, status="open")
    sim.make("payments", 3, updated_at="2026-05-01T00:00:00.000Z")
    assert call(sim, "GET", "payments")[0] == 400
    assert call(sim, "GET", "payments?company_id=biz_another")[0] == 403
    assert len(call(sim, "GET", f"payments?{OWNER}&statuses%5B%5D=open")[1]["data"]) == 2
    recent = call(sim, "GET", f"payments?{OWNER}&updated_after=2026-04-01T00:00:00.000Z")[1]["data"]
    assert len(recent) == 3


def test_the_rate_is_limited_and_the_wait_is_in_the_text(sim):
    sim.settings(per_minute=2, window_s=3600)
    got = [call(sim, "GET", "users/me_not")[0] for _ in range(3)]
    assert got == [404, 404, 429]
    _, answer, headers = call(sim, "GET", "users/me_not")
    assert message(answer).startswith("Try again in ") and "Retry-After" not in headers
    assert call(sim, "GET", f"payments?{OWNER}")[0] == 200  # another operation


def test_an_idempotency_key_makes_one_effect(sim):
    first = call(sim, "POST", "plans", plan_of(sim), Idempotency_Key="k1")
    again = call(sim, "POST", "plans", plan_of(sim), Idempotency_Key="k1")
    assert again[:2] == first[:2] and again[2]["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first[2]
    assert call(sim, "POST", "plans", plan_of(sim, title="x"), Idempotency_Key="k1")[0] == 400
    assert len(sim.effects("plan.created")) == 1
    # A refusal is kept as well; and after 24 hours a key is a new one.
    assert call(sim, "POST", "plans", {"account_id": whop.COMPANY}, Idempotency_Key="k2")[0] == 400
    assert call(sim, "POST", "plans", {"account_id": whop.COMPANY}, Idempotency_Key="k2")[2]["Idempotent-Replayed"]
    sim.tell("POST", "forget")
    call(sim, "POST", "plans", plan_of(sim), Idempotency_Key="k1")
    assert [c["replayed"] for c in sim.calls(key="k1")] == [False, True, False, False]
    assert len(sim.effects("plan.created")) == 2


def test_a_key_whose_call_is_running_is_a_conflict(sim):
    sim.rule(operation="plans.create", reply_ms=30000)
    body = plan_of(sim)
    slow = http.client.HTTPConnection("127.0.0.1", sim.port)
    slow.request("POST", "/api/v1/plans", json.dumps(body), {
        **DATE, "Authorization": f"Bearer {simulator.KEY}", "Idempotency-Key": "k"})
    harness.eventually(lambda: sim.effects("plan.created"))
    assert call(sim, "POST", "plans", body, Idempotency_Key="k")[0] == 409
    slow.close()
    sim.rule(operation="plans.create", fault="drop", stuck=True)
    with pytest.raises(http.client.RemoteDisconnected):
        call(sim, "POST", "plans", body, Idempotency_Key="stuck")
    assert call(sim, "POST", "plans", body, Idempotency_Key="stuck")[0] == 409


def test_a_refund_is_taken_once(sim):
    payment, = sim.make("payments", total="10.00")
    path = f"payments/{payment}/refund"
    assert call(sim, "POST", path, {"partial_amount": 4})[1]["refunded_amount"] == 0
    first = next(iter(sim.state()["refunds"]))
    assert call(sim, "GET", f"payments/{payment}")[1]["substatus"] == "succeeded"
    for _ in range(2):
        sim.put("refunds", {"id": first, "status": "succeeded"})
    shown = call(sim, "GET", f"payments/{payment}")[1]
    assert (shown["substatus"], shown["refunded_amount"]) == ("partially_refunded", 4)
    assert call(sim, "POST", path)[0] == 200
    status, answer, _ = call(sim, "POST", path)
    assert status == 400 and "already been refunded" in message(answer)
    _, refunds, _ = call(sim, "GET", f"refunds?payment_id={payment}")
    assert sorted(it["amount"] for it in refunds["data"]) == [4, 6]
    assert len(sim.effects("refund.created")) == 2


def test_a_checkout_ties_its_metadata(sim):
    wrong = {"plan_id": "plan_T3stMonthly01", "redirect_url": "http://x.test"}
    assert call(sim, "POST", "checkout_configurations", wrong)[0] == 400
    status, made, _ = call(sim, "POST", "checkout_configurations",
                           {"plan_id": "plan_T3stMonthly01", "metadata": {"order": "7"}})
    assert status == 200 and made["id"] in made["purchase_url"] and made["metadata"] == {"order": "7"}
    inline = {"plan": {"account_id": whop.COMPANY, "initial_price": "3.00", "plan_type": "one_time"}}
    status, made, _ = call(sim, "POST", "checkout_configurations", inline)
    assert status == 200 and made["plan"]["initial_price"] == 3.0
    assert [e["kind"] for e in sim.effects()] == ["checkout_configuration.created", "plan.created",
                                                  "checkout_configuration.created"]


def test_a_refresh_token_works_once(sim):
    sim.grant("rt_first", "grant", client_id="app_1", client_secret="s3cret")
    ask = {"grant_type": "refresh_token", "refresh_token": "rt_first", "client_id": "app_1"}
    assert sim.request("POST", "/oauth/token", ask)[0] == 401
    status, _, text = sim.request("POST", "/oauth/token", {**ask, "client_secret": "s3cret"})
    tokens = json.loads(text)
    assert status == 200 and tokens["refresh_token"] != "rt_first" and tokens["expires_in"] == 3600
    status, _, text = sim.request("POST", "/oauth/token", {**ask, "client_secret": "s3cret"})
    assert status == 400 and json.loads(text)["error"] == "invalid_grant"
    assert call(sim, "GET", f"payments?{OWNER}", key=tokens["access_token"])[0] == 200
    assert {"rt_first", "s3cret", *[tokens[n] for n in ("access_token", "refresh_token")]} <= set(sim.secrets())
    told = json.dumps(sim.calls())
    assert not any(secret in told for secret in sim.secrets())


def test_a_rule_acts_where_it_fits(sim):
    sim.rule(method="GET", path="/api/v1/users/*", skip=1, times=2, status=429, seconds=30)
    got = [call(sim, "GET", "users/nobody") for _ in range(4)]
    assert [status for status, _, _ in got] == [404, 429, 429, 404]
    assert message(got[1][1]) == "Try again in 30 seconds."
    sim.rule(credential="other", status=503, times=0)
    assert call(sim, "GET", "users/nobody")[0] == 404
    sim.key("apik_other", "other")
    assert call(sim, "GET", "users/nobody", key="apik_other")[0] == 503
    sim.rule(status=500, body="<html>no</html>", headers={"Retry-After": "7"})
    status, headers, text = sim.request("GET", "/api/v1/users/x", key=simulator.KEY)
    assert (status, headers["Retry-After"], text) == (500, "7", b"<html>no</html>")
    with pytest.raises(AssertionError, match="has no latency"):
        sim.rule(latency=5)


@pytest.mark.parametrize("fault, effects, error", [
    ("close", 0, http.client.RemoteDisconnected), ("drop", 1, http.client.RemoteDisconnected),
    ("cut", 1, http.client.IncompleteRead)])
def test_a_lost_answer(sim, fault, effects, error):
    sim.rule(operation="plans.create", fault=fault)
    with pytest.raises(error):
        call(sim, "POST", "plans", plan_of(sim))
    assert len(sim.effects("plan.created")) == effects
    seen, = sim.calls(operation="plans.create")
    assert seen["status"] == 0 and len(seen["effects"]) == effects


def test_only_a_connection_that_was_used_before(sim):
    sim.rule(operation="plans.create", fault="drop", reused=True)
    headers = {**DATE, "Authorization": f"Bearer {simulator.KEY}"}
    link = http.client.HTTPConnection("127.0.0.1", sim.port)
    body = json.dumps(plan_of(sim))
    link.request("POST", "/api/v1/plans", body, headers)
    assert link.getresponse().read()
    link.request("POST", "/api/v1/plans", body, headers)
    with pytest.raises(http.client.RemoteDisconnected):
        link.getresponse()
    link.close()
    assert [c["turn"] for c in sim.calls(operation="plans.create")] == [1, 2]
    assert len(sim.effects("plan.created")) == 2


def test_latency_holds_up_nobody_else(sim):
    sim.rule(path="/api/v1/users/slow", latency_ms=2000, times=0)
    began, threads = time.monotonic(), []
    for _ in range(64):
        threads.append(threading.Thread(target=call, args=(sim, "GET", "users/slow")))
        threads[-1].start()
    assert call(sim, "GET", "users/fast")[0] == 404
    for thread in threads:
        thread.join()
    assert 2 <= time.monotonic() - began < 20 * harness.SLOW
    assert all(c["took_ms"] >= 2000 for c in sim.calls(path="*/slow"))


def test_bodies_in_chunks_and_nonsense(sim):
    link = http.client.HTTPConnection("127.0.0.1", sim.port)
    text = json.dumps(plan_of(sim)).encode()
    link.request("POST", "/api/v1/plans", iter([text[:9], text[9:]]), {
        **DATE, "Authorization": f"Bearer {simulator.KEY}"}, encode_chunked=True)
    assert link.getresponse().status == 200
    link.close()
    assert sim.tell("GET", "calls", count=1) == {"count": 1, "calls": []}


def test_it_says_where_it_listens_and_ends_with_0(tmp_path):
    program = [*harness.DIES_WITH_US, "/usr/bin/python3", "-B", harness.ROOT / "tests/sim/main.py"]
    path = tmp_path / "s"
    with subprocess.Popen([*program, "--socket", path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == f"listening on unix://{path}\n"
        process.terminate()
        assert process.wait(10) == 0


def test_what_is_kept_is_there_again(tmp_path):
    """Ids are not given again either, nor are one company's objects another's."""
    path = tmp_path / "kept.json"

    def life(use, company=whop.COMPANY, end="SIGTERM"):
        sim = simulator.Sim(harness.DIES_WITH_US, company, "--keep", path)
        found = use(sim)
        if end == "SIGTERM":
            assert sim.close() == []
        else:
            sim.process.kill()
            sim.process.wait()
            sim.process.stdout.close()
            sim.log.close()
        return found

    plan = life(lambda sim: sim.put("plans", {"title": "Starter"})[0])

    def look(sim):
        assert sim.state()["plans"][plan["id"]] == plan
        made = sim.put("plans", {"title": "Pro"})[0]
        harness.eventually(lambda: made["id"] in path.read_text(encoding="utf-8"))
        return made

    second = life(look, end="SIGKILL")
    assert second["id"] > plan["id"]
    life(lambda sim: sim.state()["plans"][second["id"]])
    assert plan["id"] not in life(lambda sim: sim.state()["plans"], company="biz_other")
