"""No file names a place on somebody's machine or a host that packages come from.

Which hosts those are is read from the machine's own package sources, besides the usual first labels.
"""
import glob
import os
import re
import sys

import lint

# Written in parts, so that this file passes its own check.
HOME = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("ho" + "me", "Us" + "ers", "ro" + "ot")) +
                  r")/[A-Za-z0-9_.-]")
HOSTS = re.compile(r"\b(?:deb|ftp|snapshot|security|archive|ports|mirrors?|registry|pypi|files|crates|"
                   r"index|proxy)\.[a-z0-9-]+(?:\.[a-z0-9-]+)?\.(?:org|com|net|io|dev)\b", re.I)
SYSTEM = ("etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run", "srv", "tmp", "usr", "var")
EXEMPT = ("tests/vectors/",)  # recorded elsewhere, byte for byte

PLANTED = {
    "README.md": "see /ho" + "me/someone/notes\n",
    "dev": "cd /ro" + "ot/whopline\n",
    "tests/b.py": "URL = 'http://de" + "b.example.org/debian'\n",
}
GOOD = {
    "README.md": "Data lies in /var/lib/whopline, the program in /usr/bin; tests/work/x; ~/home/x\n",
    "dev": 'root=$HOME/root/x; "$root/build"; https://api.whop.com/api/v1\n',
}


def sources_of_this_machine():
    """Host names in apt's sources, but for those that are plain words."""
    hosts = set()
    for path in glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                hosts.update(re.findall(r"\b[a-z+]+://([A-Za-z0-9.-]+\.[A-Za-z0-9-]+)", file.read()))
        except OSError:
            pass
    return sorted(hosts)


def check(root):
    patterns = [HOME, HOSTS] + [re.compile(re.escape(host)) for host in sources_of_this_machine()]
    # The folder in / that this checkout is below: nobody else has it, unless every system does.
    top = os.path.realpath(root).split("/")[1]
    if top not in SYSTEM:
        patterns.append(re.compile(r"(?<![\w./~-])/" + re.escape(top) + r"/\w"))
    for path in lint.files(root):
        if path.startswith(EXEMPT) or path == ".env" or os.path.islink(os.path.join(root, path)):
            continue
        text = lint.read(root, path)
        for pattern in patterns:
            for match in pattern.finditer(text):
                yield f"{path}:{lint.line_of(text, match.start())}: names {match.group(0)}"


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
