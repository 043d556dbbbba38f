"""/_sim/...: what tests tell the simulator and ask it."""
from server import Reply


class Control:
    def __init__(self, record, script, worlds):
        self.record, self.script, self.worlds = record, script, worlds

    def handle(self, request):
        name = f"{request.method.lower()}_{request.path.removeprefix('/_sim/').strip('/').replace('/', '_')}"
        handler = getattr(self, f"on_{name}", None)
        if handler is None:
            known = [name.split("_") for name in dir(self) if name.startswith("on_")]
            return Reply(404, {"error": f"there is no {request.method} {request.path}",
                               "known": [f"{method.upper()} /_sim/{what}" for _, method, what in known]})
        try:
            return Reply(200, handler(request, request.json() or {}))
        except (ValueError, KeyError, TypeError) as error:
            return Reply(400, {"error": f"{type(error).__name__}: {error}"})

    # ---- what was received

    def on_get_calls(self, request, _body):
        wanted = {name: request.one(name) for name in ("method", "path", "operation", "credential", "key")}
        if request.one("status") is not None:
            wanted["status"] = int(request.one("status"))
        calls = self.record.find_calls(since=int(request.one("since", "0")), **wanted)
        return {"count": len(calls), "calls": [] if request.one("count") else calls}

    def on_get_effects(self, request, _body):
        effects = self.record.find_effects(request.one("kind"), request.one("subject"))
        counts = {}
        for effect in effects:
            counts[effect["kind"]] = counts.get(effect["kind"], 0) + 1
        return {"counts": counts, "effects": effects}

    def on_get_secrets(self, _request, _body):
        return self.record.names

    # ---- what goes wrong

    def on_post_rules(self, _request, body):
        return self.script.add(body)

    def on_get_rules(self, _request, _body):
        return {"rules": self.script.rules}

    def on_delete_rules(self, _request, _body):
        self.script.clear()
        return {}

    # ---- the world

    def on_post_reset(self, _request, _body):
        """Everything as it was at the start."""
        self.script.clear()
        self.record.clear()
        for world in self.worlds:
            world.reset()
        return {}

    def on_get_state(self, _request, _body):
        return {world.NAME: world.state() for world in self.worlds}

    def on_post_state(self, _request, body):
        """{world: {collection: [objects to put in, or to replace by their id]}}"""
        return {world.NAME: world.put(body[world.NAME]) for world in self.worlds if world.NAME in body}

    def on_post_many(self, _request, body):
        """Many of a kind at once: {"world": .., "kind": "memberships", "count": 250}"""
        return {"ids": self.world(body).make_many(body["kind"], int(body["count"]), body.get("like") or {})}

    def on_post_keys(self, _request, body):
        return self.world(body).add_key(**{k: v for k, v in body.items() if k != "world"})

    def on_delete_keys(self, request, _body):
        return {"revoked": self.world({}).revoke(request.one("name"))}

    def on_post_grants(self, _request, body):
        return self.world(body).add_grant(**{k: v for k, v in body.items() if k != "world"})

    def on_post_settings(self, _request, body):
        return self.world(body).change_settings(**{k: v for k, v in body.items() if k != "world"})

    def on_post_forget(self, _request, body):
        """Idempotency keys are forgotten, as after 24 hours."""
        return {"forgotten": self.world(body).forget_keys()}

    def world(self, body):
        wanted = body.get("world", self.worlds[0].NAME)
        return next(world for world in self.worlds if world.NAME == wanted)
