"""No secret in the clear: after a full run each of them is looked for in a dump of the database, in
everything Redis holds, in every log, and in /proc of every process."""
import glob
import json
import pathlib
import subprocess

import harness
import whop
from test_credentials import LOCK_MS
from test_tenants import BLUE, KEY, OTHER_KEY, SECRETS, file_of, payment, send_blue

CLIENT = "client_secret_plaintext_0123456789"
PG_DUMP = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_dump"), key=lambda path: int(path.split("/")[4]))[-1]


def database_dump(stack):
    done = subprocess.run([PG_DUMP, "--dbname", stack.env["DATABASE_URL"]], check=True, capture_output=True)
    assert b"tenant_credentials" in done.stdout and BLUE.encode() in done.stdout
    return done.stdout


def redis_dump(stack):
    """Every key and value, whatever its type, as Redis would save them and as it shows them."""
    client = stack.redis.client()
    client.save()
    found = [pathlib.Path(path).read_bytes()
             for path in glob.glob(f"{stack.redis.folder}/**/*.rdb", recursive=True)
             + glob.glob(f"{stack.redis.folder}/**/*.aof", recursive=True)]
    readers = {b"stream": client.xrange, b"string": client.get, b"hash": client.hgetall, b"set": client.smembers,
               b"list": lambda key: client.lrange(key, 0, -1), b"zset": lambda key: client.zrange(key, 0, -1)}
    for key in client.scan_iter("*"):
        found.append(key + repr(readers[client.type(key)](key)).encode())
    assert found
    return b"\n".join(found)


def processes(stack):
    found = {}
    for proc in stack.procs:
        if proc.running():
            for name in ("environ", "cmdline"):
                found[f"{proc.name} {name}"] = pathlib.Path(f"/proc/{proc.pid}/{name}").read_bytes()
    assert b"STREAM_PREFIX" in found["ingest environ"] or b"HTTP_LISTEN" in found["ingest environ"]
    return found


def forms(secret):
    """As it is, and as it would look in a hex dump of bytea."""
    return [secret.encode(), secret.encode().hex().encode()]


def test_no_secret_is_in_the_clear_anywhere(stack, sim):
    stack.env.update(
        sim.env, ENDPOINTS_FILE=str(stack.folder / "endpoints.json"), ENDPOINTS_WATCH_MS="50",
        WHOP_TOKEN_ENCRYPTION_KEYS=f"new:{OTHER_KEY},1:{KEY}", WHOP_CLIENT_ID="app_Sim", WHOP_CLIENT_SECRET=CLIENT,
        WHOP_API_KEY="apik_sim", TOKEN_REFRESH_LOCK_MS=str(int(LOCK_MS * harness.PACE)), LOG_LEVEL="debug",
        WHOP_FEATURES="products,plans")
    sim.grant(SECRETS["refresh"], "blue", client_id="app_Sim", client_secret=CLIENT, company=BLUE)
    stack.up("ingest", "journal", "credits", "sync", "scheduler")
    tokens = stack.folder / "tokens.secret"
    tokens.write_text(json.dumps({"access_token": SECRETS["access"], "refresh_token": SECRETS["refresh"],
                                  "expires_in": 86400}))
    said = [stack.cli("tenants", "add", "blue", "--company", BLUE, "--token-file", tokens,
                      "--secret-file", file_of(stack, "hook"))]
    stack.eventually(lambda: send_blue(stack, payment(id="pay_blue")) == 200)
    assert send_blue(stack, payment(), secret="ws_wrong_secret") == 401
    said += [stack.cli("tenants", "check", check=False),  # a 401, a refresh
             stack.cli("tenants", "rotate-secret", "blue", "--secret-file", file_of(stack, "next")),
             stack.cli("tenants", "rekey"), stack.cli("tenants", "list"), stack.cli("tenants", "list", "--json"),
             stack.cli("status", check=False), stack.cli("config", "check", check=False), stack.cli("limits"),
             stack.cli("tenants", "pause", "blue", "--reason", "r"), stack.cli("tenants", "resume", "blue")]
    assert [call["status"] for call in sim.calls(operation="oauth.token")] == [200]
    assert stack.sql("SELECT version, key_id FROM tenant_credentials WHERE revoked_at IS NULL") == [(2, "new")]
    stack.eventually(lambda: stack.sql("SELECT state FROM jobs WHERE event_id LIKE 'blue/%%' AND queue = 'credits'") == [("done",)])

    places = {"database": database_dump(stack), "redis": redis_dump(stack),
              "output": "".join(done.stdout + done.stderr for done in said).encode(), **processes(stack)}
    for path in stack.folder.glob("*.log"):
        places[path.name] = path.read_bytes()
    secrets = [*SECRETS.values(), CLIENT, KEY, OTHER_KEY, whop.SECRET, *sim.secrets()]
    assert len([text for text in sim.secrets() if text not in SECRETS.values()]) >= 3  # the refreshed ones too
    found = [(place, secret) for place, text in places.items() for secret in secrets for form in forms(secret)
             if form in text]
    assert not found, found
    # The search does find what is there: ingest's own file.
    endpoints = (stack.folder / "endpoints.json").read_bytes()
    assert any(form in endpoints for form in forms(SECRETS["hook"]))
