"""What programs must not need: whopline-ingest neither libpq nor libcurl, since the front runs without a
database; workers that do not call the outside no libcurl.

Arguments: PROGRAM=LIBRARY[,LIBRARY]... each.
"""
import re
import subprocess
import sys

import lint


def needed(program):
    return subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout


def check(wish, listing=None):
    program, _, libraries = wish.partition("=")
    forbidden = re.compile(rf"NEEDED.*\[((?:{'|'.join(libraries.split(','))})\.[^\]]*)\]")
    for name in forbidden.findall(listing if listing is not None else needed(program)):
        yield f"{program} needs {name}"


def self_test():
    """The rule on a listing, and the reading of one on a program that there is."""
    line = " 0x0000000000000001 (NEEDED)             Shared library: [{}]\n"
    for library, wrong in (("libpq.so.5", True), ("libcurl.so.4", True), ("libuv.so.1", False)):
        listing = line.format("libc.so.6") + line.format(library)
        if bool(list(check("planted=libpq,libcurl", listing))) != wrong:
            yield f"{library}: {'planted, not found' if wrong else 'wrongly found'}"
    if list(check("planted=libcurl", line.format("libpq.so.5"))):
        yield "a library that is not forbidden was found"
    if "NEEDED" not in needed("/bin/sh"):
        yield "readelf -d shows no NEEDED for /bin/sh"


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        found = list(self_test())
    else:
        found = [line for wish in sys.argv[1:] for line in check(wish)]
    print("\n".join(found))
    sys.exit(1 if found else 0)
