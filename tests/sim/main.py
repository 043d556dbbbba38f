"""The outside world as one program: python3 main.py [--port N] [--socket PATH] [--company biz_...]
                                        [--keep FILE]

Binds 127.0.0.1 only (port 0: any free one) and prints "listening on ADDRESS" when it is ready. SIGTERM
and SIGINT end it with 0. With --keep Whop's objects are written to that file, and are there
again at the next start. README.md says what it can be told over HTTP.
"""
import argparse
import asyncio
import json
import os
import signal
import sys

from control import Control
from mail import Mail
from record import Record
from script import Script
from server import Server
from things import Things
from whop import Whop

KEEP_EVERY_S = 2


def build(whop, record):
    script, worlds = Script(), [whop, Things(record), Mail(record)]
    return Server(record, script, worlds, Control(record, script, worlds))


def restore(whop, path):
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            whop.data.restore(json.load(file))


def save(whop, path):
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(whop.data.saved(), file)
    os.replace(path + ".new", path)


async def keep_on(whop, path):
    """Also in between: the ids of one that was killed must not be given to other objects."""
    while True:
        save(whop, path)
        await asyncio.sleep(KEEP_EVERY_S)


async def serve(options):
    record = Record()
    whop = Whop(record, options.company)
    if options.keep:
        restore(whop, options.keep)
    loop, server, ended = asyncio.get_running_loop(), build(whop, record), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.socket:
        listener = await loop.create_unix_server(server.connection, options.socket)
        address = f"unix://{options.socket}"
    else:
        listener = await loop.create_server(server.connection, "127.0.0.1", options.port, backlog=1024)
        address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    print(f"listening on {address}", flush=True)
    keeper = loop.create_task(keep_on(whop, options.keep)) if options.keep else None
    await ended.wait()
    listener.close()
    server.close()
    if keeper:
        keeper.cancel()
        save(whop, options.keep)


def main():
    parser = argparse.ArgumentParser(prog="sim")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--socket", help="path of a Unix socket instead")
    parser.add_argument("--company", default="biz_T3st0LanternCo")
    parser.add_argument("--keep", metavar="FILE", help="where Whop's objects outlast it")
    asyncio.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
