"""Bad weather between a process and its stores.

    proxy.py CONFIG.json

CONFIG: {"scripts": {sha1: name}, "places": [{"name", "listen", "target", "redis": bool}]}; listen
and target are paths of Unix sockets. What to do comes as one JSON object a line on stdin, what was
done goes out the same way on stdout; the end of stdin is the end of it.

    {"do": "cut", "at": NAME}                                    all connections, at once
    {"do": "cut_after", "at": NAME, "way": "down", "bytes": N}   the next connection that talks, after
                        N more bytes to the process ("down") or to the store ("up")
    {"do": "lose", "at": NAME, "command": C, "nth": N}           the reply to the N-th C from now on,
                        and the connection with it: the command took effect, nobody is told
    {"do": "hold", "at": NAME, "command": C, "nth": N, "ms": M}  that reply, and all after it, come late
    {"do": "delay", "at": NAME, "ms": M, "for_ms": F}            every reply comes late
    {"do": "stall", "at": NAME, "for_ms": F}                     bytes are taken and not passed on
    {"do": "refuse", "at": NAME, "for_ms": F}                    nobody listens; all connections are cut
    {"do": "calm"}                                               all of that is over

C is a Redis command, or the name of a script (its file in schema/redis) for EVALSHA.

A process of its own, so that the driver's Python does not slow down what passes through it.
"""
import asyncio
import collections
import json
import os
import sys


def value_end(data, at):
    """Where the RESP value that begins at `at` ends; -1 while its end has not come."""
    left = 1
    while left:
        line = data.find(b"\r\n", at)
        if line < 0:
            return -1
        kind, left = data[at:at + 1], left - 1
        at_next = line + 2
        if kind == b"$":
            size = int(data[at + 1:line])
            at_next += size + 2 if size >= 0 else 0
            if at_next > len(data):
                return -1
        elif kind == b"*":
            left += max(0, int(data[at + 1:line]))
        at = at_next
    return at


def words(data, count):
    """The first words of a command, an array of bulk strings."""
    found, at = [], data.find(b"\r\n") + 2
    while len(found) < count and at < len(data):
        line = data.find(b"\r\n", at)
        size = int(data[at + 1:line])
        found.append(bytes(data[line + 2:line + 2 + size]))
        at = line + 2 + size + 2
    return found


class Side(asyncio.Protocol):
    """One socket of a link."""

    def __init__(self, link, way):
        self.link, self.way, self.transport = link, way, None

    def connection_made(self, transport):
        self.transport = transport
        self.link.opened(self)

    def data_received(self, data):
        self.link.received(self.way, data)

    def connection_lost(self, exc):
        self.link.close()


class Link:
    """A process's connection and the one to the store behind it. Ways: "up" is to the store."""

    def __init__(self, place):
        self.place, self.ends, self.closed = place, {}, False
        self.queue = {"up": collections.deque(), "down": collections.deque()}  # (due, bytes)
        self.cut = None  # [way, bytes still to pass]
        self.commands = collections.deque()  # names of those without a reply
        self.unparsed = {"up": bytearray(), "down": bytearray()}
        self.passed = 0  # bytes of unparsed["down"] that were forwarded before their value was whole
        place.links.add(self)

    # The process's side reads what goes up; what goes up is written to the store's side.
    def opened(self, side):
        self.ends[side.way] = side.transport
        if side.way == "up":
            asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: Side(self, "down"), self.place.target)
        except OSError:
            self.close()
            return
        if self.closed:
            self.ends["down"].abort()
        self.flush("up")

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.place.links.discard(self)
        for transport in self.ends.values():
            transport.abort()

    def received(self, way, data):
        if self.closed:
            return
        if self.place.redis:
            self.unparsed[way] += data
            if way == "up":
                self.note_commands()
            else:
                self.take_replies()
                return
        self.forward(way, data)

    def note_commands(self):
        data, at = self.unparsed["up"], 0
        while (end := value_end(data, at)) >= 0:
            name, *rest = words(data[at:min(end, at + 200)], 2)
            name = name.upper().decode()
            if name == "EVALSHA":
                name = self.place.scripts.get(rest[0].decode(), "?")
            self.commands.append(name)
            at = end
            if at >= len(data):
                break
        del data[:at]

    def take_replies(self):
        """Whole replies one by one while somebody waits for one of them; else as the bytes come."""
        data, at, watched = self.unparsed["down"], 0, self.place.rule is not None
        if not watched:
            self.forward("down", bytes(data[self.passed:]))
            self.passed = len(data)
        while at < len(data) and (end := value_end(data, at)) >= 0:
            name = self.commands.popleft() if self.commands else "?"
            if watched:
                if self.passed == 0 and self.strike(name):
                    return
                self.forward("down", bytes(data[at + self.passed:end]))
                self.passed = 0
            at = end
        del data[:at]
        if not watched:
            self.passed = len(data)

    def strike(self, name):
        """Is this the reply that the place's rule means? True: it has been lost."""
        rule = self.place.rule
        if rule is None or rule["command"] != name:
            return False
        rule["nth"] -= 1
        if rule["nth"] > 0:
            return False
        self.place.rule = None
        say(self.place.name, f"{rule['do']} {name}")
        if rule["do"] == "lose":
            self.flush("down", all_of_it=True)
            self.close()
            return True
        self.place.late_until = asyncio.get_running_loop().time() + rule["ms"] / 1000
        return False

    def forward(self, way, data):
        if not data:
            return
        place = self.place
        if place.armed_cut and place.armed_cut[0] == way:
            self.cut, place.armed_cut = place.armed_cut, None
        due = place.due(way)
        if not self.queue[way] and due is None and self.write(way, data):
            return
        if not self.closed:
            self.queue[way].append((due or 0, bytes(data)))
            self.flush_later(way, due)

    def write(self, way, data):
        """False: not now. The other side may not be connected yet."""
        to = self.ends.get("down" if way == "up" else "up")
        if to is None:
            return False
        if to.is_closing():
            self.close()
            return True
        if self.cut and self.cut[0] == way:
            rest = self.cut[1] - len(data)
            if rest <= 0:
                say(self.place.name, f"cut {way}, {self.cut[1]} of {len(data)} bytes passed")
                to.write(data[:self.cut[1]])
                # close() lets the last bytes out, abort() would not.
                to.close()
                self.close_soon()
                return True
            self.cut[1] = rest
        to.write(data)
        return True

    def close_soon(self):
        asyncio.get_running_loop().call_later(0.05, self.close)

    def flush_later(self, way, due):
        if due is not None:
            asyncio.get_running_loop().call_at(due, self.flush, way)

    def flush(self, way, all_of_it=False):
        queue, now = self.queue[way], asyncio.get_running_loop().time()
        while queue and not self.closed:
            due, data = queue[0]
            if (due > now + 0.001 and not all_of_it) or not self.write(way, data):
                break
            queue.popleft()


class Place:
    """Where some processes connect to and what happens there at present."""

    def __init__(self, spec, scripts):
        self.name, self.listen, self.target = spec["name"], spec["listen"], spec["target"]
        self.redis, self.scripts = spec["redis"], scripts
        self.links, self.server = set(), None
        self.rule = self.armed_cut = None
        self.delay_ms = self.delay_until = self.stall_until = self.late_until = 0

    async def open(self):
        if self.server is None:
            self.server = await asyncio.get_running_loop().create_unix_server(
                lambda: Side(Link(self), "up"), self.listen)

    def refuse(self):
        if self.server is not None:
            self.server.close()
            self.server = None
            os.unlink(self.listen)
        self.cut()

    def cut(self):
        count = len(self.links)
        for link in list(self.links):
            link.close()
        return count

    def due(self, way):
        """When bytes that come now may go on; None: at once."""
        now = asyncio.get_running_loop().time()
        due = self.stall_until
        if way == "down":
            due = max(due, self.late_until)
            if now < self.delay_until:
                due = max(due, now + self.delay_ms / 1000)
        return due if due > now else None

    def calm(self):
        self.rule = self.armed_cut = None
        self.delay_until = self.stall_until = self.late_until = 0
        for link in list(self.links):
            link.cut = None
            for way in ("up", "down"):
                link.flush(way, all_of_it=True)


def say(place, what):
    print(json.dumps({"at": place, "did": what}), flush=True)


async def obey(places, order):
    what, loop = order["do"], asyncio.get_running_loop()
    if what == "calm":
        for place in places.values():
            place.calm()
            await place.open()
        say("all", "calm")
        return
    place = places[order["at"]]
    until = loop.time() + order.get("for_ms", 0) / 1000
    if what == "cut":
        say(place.name, f"cut {place.cut()}")
    elif what == "cut_after":
        place.armed_cut = [order["way"], order["bytes"]]
    elif what in ("lose", "hold"):
        place.rule = dict(order)
    elif what == "delay":
        place.delay_ms, place.delay_until = order["ms"], until
    elif what == "stall":
        place.stall_until = until
    elif what == "refuse":
        place.refuse()
        loop.call_at(until, lambda: loop.create_task(place.open()))
    else:
        raise ValueError(what)


async def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    places = {spec["name"]: Place(spec, config["scripts"]) for spec in config["places"]}
    for place in places.values():
        await place.open()
    say("all", "ready")
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        await obey(places, json.loads(line))
    for place in places.values():
        place.cut()


if __name__ == "__main__":
    asyncio.run(main())
