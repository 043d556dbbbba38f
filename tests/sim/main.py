"""The outside world as one program: python3 main.py [--port N] [--socket PATH] [--company biz_...]

Binds 127.0.0.1 only (port 0: any free one) and prints "listening on ADDRESS" when it is ready. SIGTERM
and SIGINT end it with 0. README.md says what it can be told over HTTP.
"""
import argparse
import asyncio
import signal
import sys

from control import Control
from mail import Mail
from record import Record
from script import Script
from server import Server
from things import Things
from whop import Whop


def build(company):
    record, script = Record(), Script()
    worlds = [Whop(record, company), Things(record), Mail(record)]
    return Server(record, script, worlds, Control(record, script, worlds))


async def serve(options):
    loop, server, ended = asyncio.get_running_loop(), build(options.company), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.socket:
        listener = await loop.create_unix_server(server.connection, options.socket)
        address = f"unix://{options.socket}"
    else:
        listener = await loop.create_server(server.connection, "127.0.0.1", options.port, backlog=1024)
        address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    print(f"listening on {address}", flush=True)
    await ended.wait()
    listener.close()
    server.close()


def main():
    parser = argparse.ArgumentParser(prog="sim")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--socket", help="path of a Unix socket instead")
    parser.add_argument("--company", default="biz_T3st0LanternCo")
    asyncio.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
