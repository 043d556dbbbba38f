"""Tenants with the real programs: added while everything runs, paused, resumed, sent away; their
secrets rotated, and found nowhere in the clear."""
import concurrent.futures
import json
import os
import signal
import stat
import time

import pytest

import harness
import whop

KEY = "5a" * 32
OTHER_KEY = "c3" * 32
BLUE = "biz_BlueT3nant"
SECRETS = {"hook": "ws_blue_" + "7" * 56, "next": "ws_next_" + "8" * 56, "key": "apik_blue_plaintext_0123456789",
           "access": "blue_access_token_plaintext", "refresh": "blue_refresh_token_plaintext"}


@pytest.fixture
def tenants(stack):
    """A stack whose ingest reads an endpoints file."""
    stack.env["ENDPOINTS_FILE"] = str(stack.folder / "endpoints.json")
    stack.env["WHOP_TOKEN_ENCRYPTION_KEY"] = KEY
    stack.env["ENDPOINTS_WATCH_MS"] = "50"
    stack.env["TENANT_STATUS_MS"] = "50"
    return stack


def file_of(stack, name):
    path = stack.folder / f"{name}.secret"
    path.write_text(SECRETS[name] + "\n")
    return path


def add_blue(stack, *more):
    return stack.cli("tenants", "add", "blue", "--company", BLUE, "--secret-file", file_of(stack, "hook"), *more)


def send_blue(stack, body, secret=None, path="/webhooks/whop/blue"):
    return whop.send(stack, body, secret=secret or SECRETS["hook"], path=path)


def payment(**how):
    return whop.payment("v1-nested", company=how.pop("company", BLUE), **how)


def status_of(stack, slug="blue"):
    return stack.sql("SELECT status FROM tenants WHERE slug = %s", (slug,))[0][0]


def jobs(stack, tenant="blue"):
    """Of the queue that is worked on here."""
    return stack.sql("SELECT state, reason, gen FROM jobs j JOIN tenants t ON t.id = j.tenant_id"
                     " WHERE t.slug = %s AND j.queue = 'credits' ORDER BY j.created_at", (tenant,))


def audit(stack):
    return [row[0] for row in stack.sql("SELECT action FROM audit_log ORDER BY id")]


# ---- Adding ---------------------------------------------------------------------------------------

def test_a_new_tenants_first_event_is_accepted_without_a_restart(tenants):
    tenants.up("ingest", "journal", "credits", "scheduler")
    assert send_blue(tenants, payment()) == 401
    said = add_blue(tenants).stdout
    assert "/webhooks/whop/blue" in said
    tenants.eventually(lambda: send_blue(tenants, payment(id="pay_first")) == 200)
    tenants.eventually(lambda: jobs(tenants) and jobs(tenants)[0][0] == "done")
    assert tenants.sql("SELECT endpoint, status FROM webhook_events WHERE payment_id = 'pay_first'") == [("blue", "routed")]
    assert send_blue(tenants, payment(), secret="ws_wrong") == 401
    assert whop.send(tenants, whop.payment()) == 200  # the settings' own goes on
    assert stat.S_IMODE(os.stat(tenants.env["ENDPOINTS_FILE"]).st_mode) == 0o600
    assert audit(tenants) == ["tenants.add"]


def test_sighup_reads_the_file_and_a_bad_one_changes_nothing(tenants):
    tenants.env["ENDPOINTS_WATCH_MS"] = "0"
    ingest = tenants.start("ingest")
    add_blue(tenants)
    assert send_blue(tenants, payment()) == 401
    ingest.send(signal.SIGHUP)
    ingest.wait_log("endpoints read")
    assert send_blue(tenants, payment()) == 200
    path = tenants.env["ENDPOINTS_FILE"]
    good = open(path, encoding="utf-8").read()
    tenants.expect_errors("endpoints file not usable")
    for number, bad in enumerate((good[:-20], good.replace('"blue"', '"Blue!"'), "")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(bad)
        ingest.send(signal.SIGHUP)
        tenants.eventually(lambda n=number: ingest.log().count("endpoints file not usable") == n + 1)
        assert send_blue(tenants, payment()) == 200
    os.chmod(path, 0o644)
    ingest.send(signal.SIGHUP)
    ingest.wait_log("everybody may use it")
    assert SECRETS["hook"] not in ingest.log()
    tenants.cli("tenants", "endpoints")
    ingest.send(signal.SIGHUP)
    tenants.eventually(lambda: ingest.log().count("endpoints read") == 2)


def test_sighup_reads_the_settings_secret_and_a_bad_one_changes_nothing(tenants):
    path = tenants.folder / "secret"
    path.write_text(whop.SECRET + "\n")
    tenants.env.update(WHOP_WEBHOOK_SECRET="", WHOP_WEBHOOK_SECRET_FILE=str(path))
    ingest = tenants.start("ingest")
    assert whop.send(tenants, whop.payment()) == 200
    path.write_text(f"{SECRETS['next']},{whop.SECRET}\n")
    assert whop.send(tenants, whop.payment(), secret=SECRETS["next"]) == 401
    ingest.send(signal.SIGHUP)
    ingest.wait_log("webhook secret read")
    for secret in (SECRETS["next"], whop.SECRET):
        assert whop.send(tenants, whop.payment(), secret=secret) == 200
    tenants.expect_errors("webhook secret not usable")
    for number, bad in enumerate(("", "whsec_!", "a,b,c,d,e", "changeme", None)):
        path.unlink()
        if bad is not None:
            path.write_text(bad)
        ingest.send(signal.SIGHUP)
        tenants.eventually(lambda n=number: ingest.log().count("webhook secret not usable") == n + 1)
        assert whop.send(tenants, whop.payment(), secret=SECRETS["next"]) == 200
    path.write_text(SECRETS["next"])
    ingest.send(signal.SIGHUP)
    tenants.eventually(lambda: ingest.log().count("webhook secret read") == 2)
    assert whop.send(tenants, whop.payment()) == 401
    assert SECRETS["next"] not in ingest.log()


def test_a_secrets_file_that_was_not_in_force_stays_so(tenants):
    path = tenants.folder / "secret"
    path.write_text(SECRETS["next"])
    ingest = tenants.start("ingest", env={"WHOP_SIGNING_SECRET_FILE": str(path), "WHOP_WEBHOOK_SECRET_FILE": str(path)})
    ingest.send(signal.SIGHUP)
    ingest.wait_log("endpoints file")
    assert whop.send(tenants, whop.payment()) == 200
    assert whop.send(tenants, whop.payment(), secret=SECRETS["next"]) == 401


def test_a_bad_file_at_the_start_is_refused(tenants):
    path = tenants.env["ENDPOINTS_FILE"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("{}")
    os.chmod(path, 0o600)
    proc = tenants.start("ingest", ready=False)
    proc.allowed.add(2)
    assert proc.wait_exit() == 2 and "ENDPOINTS_FILE" in proc.log()


def test_events_that_came_before_their_tenant_are_routed_when_it_appears(tenants):
    """Through an app's endpoint, where each event says whose it is."""
    tenants.up("ingest", "journal", "scheduler", "credits")
    tenants.cli("tenants", "rotate-secret", "--app", "--endpoint", "app", "--secret-file", file_of(tenants, "hook"))
    tenants.eventually(lambda: send_blue(tenants, payment(id="pay_0"), path="/webhooks/whop/app") == 200)
    for i in range(1, 230):
        assert send_blue(tenants, payment(id=f"pay_{i}"), path="/webhooks/whop/app") == 200
    tenants.eventually(lambda: tenants.sql(
        "SELECT count(*) FROM webhook_events WHERE status = 'quarantined' AND reason = 'unknown_company'") == [(230,)])
    said = tenants.cli("tenants", "add", "blue", "--company", BLUE).stdout
    assert "230 events" in said
    tenants.eventually(lambda: [row[0] for row in jobs(tenants)] == ["done"] * 230)
    assert tenants.sql("SELECT count(*), count(DISTINCT event_id) FROM jobs WHERE bulk AND queue = 'credits'") == [(230, 230)]
    assert tenants.sql("SELECT sum((detail ->> 'events')::int) FROM audit_log WHERE action = 'events.release'") == [(230,)]
    # An event sent again is the one it was.
    assert tenants.sql("SELECT count(*) FROM webhook_events WHERE status = 'routed'") == [(230,)]


def test_adding_says_what_is_wrong(tenants):
    def refused(*words, code=1, **how):
        done = tenants.cli("tenants", *words, check=False, **how)
        assert done.returncode == code, done.stderr
        return done.stderr

    add_blue(tenants)
    assert "already" in refused("add", "blue", "--company", "biz_Other")
    assert "already" in refused("add", "blue2", "--company", BLUE)
    assert "--company" in refused("add", "x", code=2)
    assert "slug" in refused("add", "X!", "--company", "biz_X", code=2)
    assert "empty" in refused("add", "x", "--company", "biz_X", "--secret-file", "/dev/null", code=2)
    assert "WHOP_CLIENT_ID" in refused("add", "x", "--company", "biz_X", "--token-file", "/dev/null")
    assert "another tenant" in refused("add", "x", "--company", "biz_X", "--endpoint", "blue", "--secret-file",
                                       file_of(tenants, "next"))
    assert "WHOP_TOKEN_ENCRYPTION_KEY" in refused("add", "x", "--company", "biz_X", "--api-key-file",
                                                  file_of(tenants, "key"), env={"WHOP_TOKEN_ENCRYPTION_KEY": ""})
    assert "no tenant" in refused("pause", "nobody", "--reason", "r")
    assert "--reason" in refused("pause", "blue", code=2)
    assert "did you mean" in refused("resum", "blue", code=2)
    assert [row["slug"] for row in tenants.cli_json("tenants", "list")] == [whop.COMPANY, "blue"]
    assert audit(tenants) == ["tenants.add"]


# ---- Pausing --------------------------------------------------------------------------------------

def test_a_paused_tenants_jobs_are_parked_and_go_on_when_it_is_resumed(tenants):
    tenants.up("ingest", "journal", "credits", "scheduler")
    add_blue(tenants)
    tenants.eventually(lambda: send_blue(tenants, payment(id="pay_before")) == 200)
    tenants.eventually(lambda: [row[0] for row in jobs(tenants)] == ["done"])
    tenants.cli("tenants", "pause", "blue", "--reason", "they asked for it")
    time.sleep(0.1)  # a worker may go by what it knew TENANT_STATUS_MS ago
    for i in range(20):
        assert send_blue(tenants, payment(id=f"pay_p{i}")) == 200
    whop.send(tenants, whop.payment(id="pay_other"))
    tenants.eventually(lambda: [row[:2] for row in jobs(tenants)[1:]] == [("parked", "tenant_paused")] * 20)
    tenants.eventually(lambda: [row[0] for row in jobs(tenants, whop.COMPANY)] == ["done"])  # others are not concerned
    assert "20" in tenants.cli("status", check=False).stdout
    said = tenants.cli("tenants", "resume", "blue").stdout
    assert "20 parked jobs" in said
    tenants.eventually(lambda: [row[0] for row in jobs(tenants)] == ["done"] * 21)
    assert sorted(row[2] for row in jobs(tenants)) == [0] + [1] * 20
    assert tenants.sql("SELECT count(*) FROM payments WHERE whop_payment_id LIKE 'pay_p%'") == [(20,)]
    assert audit(tenants) == ["tenants.add", "tenants.pause", "tenants.resume", "tenants.release"]
    assert "not paused" in tenants.cli("tenants", "resume", "blue").stdout


def test_pausing_and_resuming_under_load_strands_no_job(tenants):
    tenants.up("ingest", "journal", "credits", "scheduler")
    tenants.start("credits")
    add_blue(tenants)
    tenants.eventually(lambda: send_blue(tenants, payment(id="pay_0")) == 200)
    for round in range(6):
        for i in range(20):
            assert send_blue(tenants, payment(id=f"pay_{round}_{i}")) == 200
        if round % 2 == 0:
            tenants.cli("tenants", "pause", "blue", "--reason", "load")
        else:
            tenants.cli("tenants", "resume", "blue")
    tenants.eventually(lambda: [row[0] for row in jobs(tenants)] == ["done"] * 121, 20)


# ---- Secrets --------------------------------------------------------------------------------------

def test_a_secret_is_rotated_with_an_overlap(tenants):
    tenants.start("ingest")
    add_blue(tenants)
    tenants.eventually(lambda: send_blue(tenants, payment()) == 200)
    tenants.cli("tenants", "rotate-secret", "blue", "--secret-file", file_of(tenants, "next"), "--overlap", "2s")
    tenants.eventually(lambda: send_blue(tenants, payment(), SECRETS["next"]) == 200)
    assert len(json.loads(open(tenants.env["ENDPOINTS_FILE"], encoding="utf-8").read())["endpoints"][0]["secrets"]) == 2
    tenants.eventually(lambda: send_blue(tenants, payment()) == 401)  # without reading anything anew
    assert send_blue(tenants, payment(), SECRETS["next"]) == 200


def test_disconnecting_erases_secrets_and_keeps_the_books(tenants):
    tenants.up("ingest", "journal", "credits", "scheduler")
    add_blue(tenants, "--api-key-file", file_of(tenants, "key"))
    tenants.eventually(lambda: send_blue(tenants, payment(id="pay_kept")) == 200)
    tenants.eventually(lambda: [row[0] for row in jobs(tenants)] == ["done"])
    plan = tenants.cli("tenants", "disconnect", "blue", "--reason", "left")
    assert "1 credential" in plan.stdout and "--yes" in plan.stdout and status_of(tenants) == "active"
    tenants.cli("tenants", "disconnect", "blue", "--reason", "left", "--yes")
    tenants.eventually(lambda: send_blue(tenants, payment()) == 401)
    assert status_of(tenants) == "disconnected"
    assert tenants.sql("SELECT count(*) FROM tenant_credentials WHERE ciphertext IS NOT NULL") == [(0,)]
    assert tenants.sql("SELECT count(*) FROM webhook_endpoint_secrets") == [(0,)]
    assert tenants.sql("SELECT count(*) FROM payments WHERE whop_payment_id = 'pay_kept'") == [(1,)]
    assert SECRETS["hook"] not in open(tenants.env["ENDPOINTS_FILE"], encoding="utf-8").read()
    # What comes for it by another way waits.
    tenants.sql("INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at)"
                " SELECT gen_random_uuid(), tenant_id, queue, kind, key, payload, version, trace, occurred_at FROM jobs")
    tenants.eventually(lambda: ("parked", "tenant_disconnected", 0) in jobs(tenants))
    tenants.cli("tenants", "reauth", "blue", "--api-key-file", file_of(tenants, "key"))
    tenants.eventually(lambda: {row[0] for row in jobs(tenants)} <= {"done", "skipped"})


def test_keys_are_rotated(tenants):
    add_blue(tenants, "--api-key-file", file_of(tenants, "key"))
    tenants.env.update(WHOP_TOKEN_ENCRYPTION_KEYS=f"2026:{OTHER_KEY},1:{KEY}")
    del tenants.env["WHOP_TOKEN_ENCRYPTION_KEY"]
    assert "2 secrets" in tenants.cli("tenants", "rekey").stdout
    assert "0 secrets" in tenants.cli("tenants", "rekey").stdout
    assert tenants.sql("SELECT key_id FROM tenant_credentials UNION SELECT key_id FROM webhook_endpoint_secrets") == [("2026",)]
    tenants.env.update(WHOP_TOKEN_ENCRYPTION_KEYS=f"2026:{OTHER_KEY}")
    tenants.cli("tenants", "endpoints")
    assert SECRETS["hook"] in open(tenants.env["ENDPOINTS_FILE"], encoding="utf-8").read()
    done = tenants.cli("tenants", "endpoints", env={"WHOP_TOKEN_ENCRYPTION_KEYS": f"2027:{KEY}"}, check=False)
    assert done.returncode == 1 and '"2026"' in done.stderr and "endpoint blue" in done.stderr


def test_a_row_moved_to_another_tenant_does_not_open(tenants):
    add_blue(tenants)
    tenants.sql("UPDATE webhook_endpoints SET tenant_id = (SELECT min(id) FROM tenants)")
    done = tenants.cli("tenants", "endpoints", check=False)
    assert done.returncode == 1 and "another tenant" in done.stderr


# ---- one tenant's trouble is not the others'

def endpoints_of(stack):
    return json.loads(open(stack.env["ENDPOINTS_FILE"], encoding="utf-8").read())["endpoints"]


def test_a_database_whose_clock_is_ahead_keeps_no_secret_waiting(tenants):
    """Its valid_from would be an hour away by ingest's clock."""
    tenants.start("ingest")
    ahead = {"DATABASE_URL": f"{tenants.env['DATABASE_URL']} options='-c whopline.clock_offset=1h'"}
    tenants.cli("tenants", "add", "blue", "--company", BLUE, "--secret-file", file_of(tenants, "hook"), env=ahead)
    tenants.eventually(lambda: send_blue(tenants, payment()) == 200)
    tenants.cli("tenants", "rotate-secret", "blue", "--secret-file", file_of(tenants, "next"), env=ahead)
    tenants.eventually(lambda: send_blue(tenants, payment(), SECRETS["next"]) == 200)
    assert send_blue(tenants, payment()) == 200


@pytest.mark.parametrize("secret", ["whsec_!!!", "ws_one\nws_two", "ws_\x00hidden", "ws_" + "a" * 2000],
                         ids=["base64", "lines", "nul", "long"])
def test_a_webhook_secret_that_ingest_could_not_use_is_refused(tenants, secret):
    """In the file it would keep ingest from taking any other tenant's, and from starting."""
    path = tenants.folder / "bad.secret"
    path.write_text(secret)
    done = tenants.cli("tenants", "add", "blue", "--company", BLUE, "--secret-file", path, check=False)
    assert done.returncode in (1, 2) and "secret" in done.stderr and "hidden" not in done.stderr
    assert [row["slug"] for row in tenants.cli_json("tenants", "list")] == [whop.COMPANY]


@pytest.mark.parametrize("key", ["apik_one\napik_two", "apik_one\r\nX-Evil: 1", "apik_\x00", "apik_\u00e9"],
                         ids=["lines", "header", "nul", "accent"])
def test_an_api_key_is_one_word(tenants, key):
    """It goes into a header."""
    path = tenants.folder / "bad.key"
    path.write_text(key)
    done = tenants.cli("tenants", "add", "blue", "--company", BLUE, "--api-key-file", path, check=False)
    assert done.returncode == 2 and "one word" in done.stderr
    path.write_text(json.dumps({"access_token": key, "refresh_token": "r"}))
    done = tenants.cli("tenants", "add", "blue", "--company", BLUE, "--token-file", path, check=False,
                       env={"WHOP_CLIENT_ID": "app_1"})
    assert done.returncode == 1 and "access_token" in done.stderr


@pytest.mark.parametrize("company", ["biz_", "biz_a b", "biz_" + "a" * 60, "biz_x\n", "biz_x/../y"],
                         ids=["empty", "blank", "long", "line", "path"])
def test_a_company_id_is_looked_at(tenants, company):
    done = tenants.cli("tenants", "add", "blue", "--company", company, check=False)
    assert done.returncode == 2 and "biz_" in done.stderr


def test_the_endpoints_file_stays_whose_it_is(tenants):
    """ingest may run as another user, who reads it by its group; and it may be a link into another folder."""
    real = tenants.folder / "elsewhere"
    real.mkdir()
    path = tenants.folder / "endpoints.json"
    path.symlink_to(real / "file.json")
    add_blue(tenants)
    assert path.is_symlink() and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    os.chmod(path, 0o640)
    group = 12345 if os.geteuid() == 0 else os.stat(path).st_gid
    os.chown(path, -1, group)
    tenants.cli("tenants", "endpoints")
    about = os.stat(real / "file.json")
    assert path.is_symlink() and (stat.S_IMODE(about.st_mode), about.st_gid) == (0o640, group)
    os.chmod(path, 0o666)
    tenants.cli("tenants", "endpoints")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660  # nobody else's, whoever has opened it
    assert os.listdir(real) == ["file.json"]


def test_a_key_that_is_gone_stops_only_those_who_need_it(tenants):
    tenants.start("ingest")
    add_blue(tenants)
    tenants.eventually(lambda: send_blue(tenants, payment()) == 200)
    tenants.env["WHOP_TOKEN_ENCRYPTION_KEY"] = OTHER_KEY
    green = tenants.folder / "green.secret"
    green.write_text("ws_green_" + "6" * 30)
    said = tenants.cli("tenants", "add", "green", "--company", "biz_Green", "--secret-file", green)
    assert "endpoint blue" in said.stderr + said.stdout
    tenants.eventually(lambda: whop.send(tenants, payment(company="biz_Green"), secret="ws_green_" + "6" * 30,
                                         path="/webhooks/whop/green") == 200)
    assert send_blue(tenants, payment()) == 200  # as the file had it before
    assert [it["name"] for it in endpoints_of(tenants)] == ["blue", "green"]
    os.unlink(tenants.env["ENDPOINTS_FILE"])
    said = tenants.cli("tenants", "endpoints", check=False)
    assert said.returncode == 1 and "endpoint blue" in said.stderr
    assert [it["name"] for it in endpoints_of(tenants)] == ["green"]


def test_rekey_goes_on_behind_one_that_does_not_open(tenants):
    add_blue(tenants, "--api-key-file", file_of(tenants, "key"))
    tenants.env.update(WHOP_TOKEN_ENCRYPTION_KEY="", WHOP_TOKEN_ENCRYPTION_KEYS=f"lost:{OTHER_KEY}")
    tenants.cli("tenants", "add", "green", "--company", "biz_Green", "--api-key-file", file_of(tenants, "key"))
    tenants.env.update(WHOP_TOKEN_ENCRYPTION_KEYS=f"new:{'1e' * 32},1:{KEY}")
    done = tenants.cli("tenants", "rekey", check=False)
    assert done.returncode == 1 and "2 secrets" in done.stdout and '"lost"' in done.stderr
    assert tenants.sql("SELECT key_id FROM tenant_credentials UNION ALL SELECT key_id FROM webhook_endpoint_secrets"
                       " ORDER BY 1") == [("lost",), ("new",), ("new",)]


def test_two_at_once_leave_one_credential(tenants):
    add_blue(tenants, "--api-key-file", file_of(tenants, "key"))
    tokens = tenants.folder / "tokens.json"
    tokens.write_text(json.dumps({"access_token": "a" * 20, "refresh_token": "b" * 20, "expires_in": 3600}))
    tenants.env["WHOP_CLIENT_ID"] = "app_1"
    other = harness.connect(tenants.pg_sockets, tenants.database)
    other.cursor().execute("BEGIN; SELECT 1 FROM tenant_credentials FOR UPDATE")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = [pool.submit(tenants.cli, "tenants", "reauth", "blue", *words) for words in (
            ("--token-file", tokens), ("--api-key-file", file_of(tenants, "next")))]
        tenants.eventually(lambda: tenants.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()") == [(2,)])
        other.close()
        assert [done.result().returncode for done in both] == [0, 0]
    assert tenants.sql("SELECT count(*) FROM tenant_credentials WHERE revoked_at IS NULL") == [(1,)]
