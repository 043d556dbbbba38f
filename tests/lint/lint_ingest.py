"""whopline-ingest needs neither libpq nor libcurl: the front runs without a database."""
import re
import subprocess
import sys

import lint

FORBIDDEN = re.compile(r"NEEDED.*\[(lib(?:pq|curl)[^\]]*)\]")


def needed(program):
    return subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout


def check(program, listing=None):
    for name in FORBIDDEN.findall(listing if listing is not None else needed(program)):
        yield f"{program} needs {name}"


def self_test():
    """The rule on a listing, and the reading of one on a program that there is."""
    line = " 0x0000000000000001 (NEEDED)             Shared library: [{}]\n"
    for library, wrong in (("libpq.so.5", True), ("libcurl.so.4", True), ("libuv.so.1", False)):
        if bool(list(check("planted", line.format("libc.so.6") + line.format(library)))) != wrong:
            yield f"{library}: {'planted, not found' if wrong else 'wrongly found'}"
    if "NEEDED" not in needed("/bin/sh"):
        yield "readelf -d shows no NEEDED for /bin/sh"


if __name__ == "__main__":
    found = list(self_test() if sys.argv[1:] == ["--self-test"] else check(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
