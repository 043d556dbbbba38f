"""Whop as seen from the receiver: bodies of every generation, signed as Whop signs them.

    body = whop.payment("v5", id="pay_1", user="user_1", plan="plan_1")
    assert whop.send(stack, body) == 200

Signing is written here once more, in Python, so that a mistake in the C code cannot hide in its own
sender.
"""
import base64
import copy
import hashlib
import hmac
import http.client
import json
import pathlib
import socket
import time
import uuid

COMPANY = "biz_T3st0LanternCo"
SECRET = "ws_4f1c9a0be7d25386a1c4f0e92b7d6853c09e1fa27b34d8650fe1c2a39b7d4e68"
PATH = "/webhooks/whop"
SHAPES = ("v1-nested", "v1-flat", "v5", "v2")
TIMEOUT = 10

_VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "whop-events.json"
_bodies = []


def vector(generation, event, flat=False):
    """A copy of the first body of that kind among the recorded ones."""
    if not _bodies:
        _bodies.extend(json.loads(_VECTORS.read_text(encoding="utf-8")))
    for entry in _bodies:
        if (entry["generation"], entry["event"], "payload_pin" in entry) == (generation, event, flat):
            return copy.deepcopy(entry["body"])
    raise LookupError(f"no {generation} body of {event}")


def new_id(prefix):
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


def is_v1(body):
    return isinstance(body, dict) and body.get("api_version") == "v1"


# ---- Bodies ---------------------------------------------------------------------------------------

def payment(shape="v1-nested", id="pay_T3stReceipt001", user="user_T3stMarisol01",
            plan="plan_T3stMonthly01", company=COMPANY, metadata=None, webhook_id=None,
            event="payment.succeeded", paid=None):
    """The same payment in any of SHAPES. user=None and plan=None leave them out.

    A v1 body carries the webhook's id; webhook_id sets it, otherwise it is new each time.
    """
    paid = int(paid if paid is not None else time.time())
    body = vector(shape.split("-")[0], event, flat=shape == "v1-flat")
    data = body["data"]
    data["id"] = id
    if metadata is not None:
        data["metadata"] = metadata
    if shape.startswith("v1"):
        body["id"] = webhook_id or new_id("msg")
        body["timestamp"] = iso(paid + 1)
        data.update(created_at=iso(paid - 3), paid_at=iso(paid), updated_at=iso(paid + 1))
    else:
        data.update(created_at=paid - 3, paid_at=paid, last_payment_attempt=paid - 1)
    if shape == "v1-nested":
        body["company_id"] = data["company"]["id"] = company
        set_object(data, "user", user)
        set_object(data, "plan", plan)
    elif shape == "v1-flat":
        body["account_id"] = data["account_id"] = company
        set_object(data, "user", user)
        data["plan_id"] = plan
    elif shape == "v5":
        data.update(company_id=company, user_id=user, plan_id=plan)
    else:  # v2 names no company
        set_object(data, "user", user)
        set_object(data, "plan", plan)
    return body


OLDER_EVENTS = {"membership.activated": "membership.went_valid",
                "membership.deactivated": "membership.went_invalid"}


def membership(shape="v1-nested", id="mem_T3stMarisol001", user="user_T3stMarisol01",
               plan="plan_T3stMonthly01", company=COMPANY, metadata=None, webhook_id=None,
               event="membership.activated", began=None):
    """The same membership in any of SHAPES; v5 and v2 call the event by their own name for it.

    user=None and plan=None leave them out. webhook_id as in payment().
    """
    began = int(began if began is not None else time.time())
    ends = began + 30 * 86400
    v1 = shape.startswith("v1")
    if shape == "v1-flat":  # only its beginning has been recorded
        body = vector("v1", "membership.activated", flat=True)
        body["type"] = event
    else:
        body = vector(shape.split("-")[0], event if v1 else OLDER_EVENTS.get(event, event))
    data = body["data"]
    data["id"] = id
    if shape == "v1-flat" and event == "membership.deactivated":
        data["status"] = "canceled"
    if metadata is not None:
        data["metadata"] = metadata
    if v1:
        body["id"] = webhook_id or new_id("msg")
        body["timestamp"] = iso(began + 1)
        body["company_id"] = company
        data["created_at"] = iso(began)
    else:
        data.update(created_at=began, renewal_period_start=began, renewal_period_end=ends)
    if shape == "v1-nested":
        data.update(updated_at=iso(began + 1), joined_at=iso(began), renewal_period_start=iso(began),
                    renewal_period_end=iso(ends))
        data["company"]["id"] = company
        set_object(data, "user", user)
        set_object(data, "plan", plan)
    elif shape == "v1-flat":
        data.update(current_period_end=iso(ends), user_id=user, plan_id=plan)
        data["account"]["id"] = company
    elif shape == "v5":
        data.update(page_id=company, user_id=user, plan_id=plan)
    else:  # v2 names no company
        set_object(data, "user", user)
        set_object(data, "plan", plan)
    return body


def set_object(data, name, id):
    if id is None:
        data[name] = None
    else:
        data[name]["id"] = id


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


# ---- Signatures -----------------------------------------------------------------------------------

def standard_headers(body, webhook_id, secret=SECRET, timestamp=None):
    timestamp = str(int(time.time()) if timestamp is None else timestamp)
    signed = webhook_id.encode() + b"." + timestamp.encode() + b"." + body
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return {"webhook-id": webhook_id, "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(mac).decode()}


def legacy_headers(body, secret=SECRET, timestamp=None):
    timestamp = str(int(time.time()) if timestamp is None else timestamp)
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"x-whop-signature": f"t={timestamp},v1={mac}"}


def request(body, scheme=None, webhook_id=None, secret=SECRET, timestamp=None):
    """(headers, bytes) of a signed delivery. v1 bodies are signed the standard way, others the
    legacy way, unless scheme ("standard", "legacy" or "none") says otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    scheme = scheme or ("standard" if isinstance(body, bytes) or is_v1(body) else "legacy")
    headers = {"content-type": "application/json"}
    if scheme == "standard":
        webhook_id = webhook_id or (body["id"] if is_v1(body) else new_id("msg"))
        headers.update(standard_headers(raw, webhook_id, secret, timestamp))
    elif scheme == "legacy":
        headers.update(legacy_headers(raw, secret, timestamp))
    return headers, raw


# ---- Sending --------------------------------------------------------------------------------------

class Sender:
    """A connection to ingest that is kept. One thread's."""

    def __init__(self, stack):
        self.link = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=TIMEOUT)

    def post(self, headers, raw, path=PATH, method="POST"):
        self.link.request(method, path, raw, headers)
        answer = self.link.getresponse()
        answer.read()
        return answer.status

    def send(self, body, path=PATH, **how):
        return self.post(*request(body, **how), path=path)

    def close(self):
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def send(stack, body, **how):
    """Sends one delivery on a connection of its own; the status code."""
    with Sender(stack) as sender:
        return sender.send(body, **how)


def raw(stack, data, timeout=TIMEOUT):
    """Sends these very bytes and returns all that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", stack.http_port), timeout) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
        return answer
