"""./dev: what can be told without building anything. `up` itself is tried on bare machines."""
import os
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEV = ROOT / "dev"


def dev(*args, program=DEV, cwd=None, env=None):
    return subprocess.run([str(program), *args], capture_output=True, text=True, timeout=30 * harness.SLOW, cwd=cwd,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, check=False)


def call_function(folder, text, env=None):
    """Runs bash lines with dev's functions, in a checkout that holds nothing but dev."""
    copy = folder / "dev"
    script = DEV.read_text(encoding="utf-8")
    assert script.rstrip().endswith('main "$@"')
    copy.write_text(script.rstrip()[:-len('main "$@"')] + text + "\n")
    return subprocess.run(["bash", str(copy)], capture_output=True, text=True, timeout=30 * harness.SLOW,
                          env={"PATH": os.environ["PATH"], **(env or {})}, check=False)


def run_function(folder, text, env=None):
    done = call_function(folder, text, env)
    assert done.returncode == 0, done.stderr
    return done


def test_help_names_every_verb():
    done = dev("--help")
    assert done.returncode == 0
    for verb in ("up", "down", "test", "build", "lint", "format", "bench", "fuzz", "whop", "shell", "help"):
        assert f"\n  {verb}" in done.stdout
    assert dev("help").stdout == done.stdout
    assert dev("up", "--help").stdout == done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_an_unknown_verb_gets_a_hint():
    done = dev("upp")
    assert done.returncode == 2
    assert "no verb upp" in done.stderr and "--help" in done.stderr
    assert dev().returncode == 2


@pytest.mark.parametrize("args", [("up", "--twice"), ("down", "x"), ("test", "--frobnicate"),
                                  ("test", "a", "b"), ("fuzz", "json", "soon")])
def test_wrong_usage_is_refused_before_anything_is_done(args):
    assert dev(*args).returncode == 2


def test_it_works_through_a_link_and_from_anywhere(tmp_path):
    (tmp_path / "link").symlink_to(DEV)
    done = dev("bench", program=tmp_path / "link", cwd="/")
    assert done.returncode == 0
    assert "benchmarks" in done.stdout


def test_an_unknown_preset_is_refused():
    done = dev("build", "fastest")
    assert done.returncode == 1
    assert "no preset fastest" in done.stderr and "release" in done.stderr


def test_shell_says_when_nothing_runs(tmp_path):
    shutil.copy(DEV, tmp_path / "dev")
    done = dev("shell", program=tmp_path / "dev")
    assert done.returncode == 1
    assert "./dev up" in done.stderr


ADDRESSES = """mkdir -p .dev/run; remember up $$; remember postgres $$
        printf '%s\\n' /tmp/sockets 127.0.0.1:1 127.0.0.1:2 {} >.dev/run/addresses
        {}"""


def test_whop_is_played_only_where_it_is_simulated(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/sim").symlink_to(ROOT / "tests/sim")
    done = call_function(tmp_path, "whop pay x")
    assert done.returncode == 1 and "./dev up" in done.stderr
    done = call_function(tmp_path, ADDRESSES.format("''", "whop pay x"))
    assert done.returncode == 1 and "real Whop" in done.stderr and "WHOP_API_KEY" in done.stderr
    # What up runs with counts, not what the environment has by now.
    done = call_function(tmp_path, ADDRESSES.format("http://127.0.0.1:9", "whop pay x"), env={"WHOP_API_KEY": "apik_real"})
    assert done.returncode == 1 and "there is no program whopline" in done.stderr


def test_down_is_content_with_nothing(tmp_path):
    shutil.copy(DEV, tmp_path / "dev")
    assert dev("down", program=tmp_path / "dev").returncode == 0
    assert dev("down", "--erase", program=tmp_path / "dev").returncode == 0


def test_down_says_whether_it_stopped_anything(tmp_path):
    done = run_function(tmp_path, """down; release_lock up
        sleep 60 >/dev/null & remember redis $!; down""")
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "dev: nothing of ./dev up is running", "dev: stopping redis", "dev: stopped"]


def test_bench_says_when_there_is_none(tmp_path):
    shutil.copy(DEV, tmp_path / "dev")
    done = dev("bench", program=tmp_path / "dev")
    assert done.returncode == 0 and "no benchmarks" in done.stdout
    done = dev("bench", "ingest", program=tmp_path / "dev")
    assert done.returncode == 1 and "no benchmark ingest" in done.stderr


def test_a_killed_process_is_reported_once(tmp_path):
    (tmp_path / "Procfile").write_text("victim: sleep 60\n")
    done = run_function(tmp_path, """read_procfile; start_process victim; kill -KILL ${pid[victim]}
        while [[ -n ${pid[victim]-} ]]; do tend_process victim; idle 0.05; done""")
    assert re.fullmatch(r".*victim was killed by signal KILL; starting it again.*\n", done.stderr), done.stderr


def test_bash_adds_nothing_of_its_own(tmp_path):
    """It would, whenever a command ends before the killed process was waited for."""
    (tmp_path / "Procfile").write_text("victim: sleep 60\n")
    done = run_function(tmp_path, """read_procfile; start_process victim; number=${pid[victim]}
        kill -KILL $number
        while [[ -d /proc/$number ]]; do idle 0.02; done
        /bin/true
        tend_process victim""")
    assert re.fullmatch(r".*victim was killed by signal KILL; starting it again.*\n", done.stderr), done.stderr


def test_shell_has_what_psql_needs(tmp_path):
    script = ADDRESSES.format("", "shell env")
    lines = run_function(tmp_path, script, env={"PGHOST": "elsewhere", "PGPORT": "1"}).stdout.splitlines()
    assert {line for line in lines if line.startswith("PG")} == {
        "PGHOST=/tmp/sockets", "PGUSER=app", "PGDATABASE=whopline"}


ENV_FILE = r"""# a comment
PLAIN=one
  SPACED = two words  
QUOTED="three # not a comment"   # a comment
SINGLE='four "x"'
COMMENTED=five # a comment
EMPTY=
export EXPORTED=six
RUN=$(touch ran)`touch ran`
EQUALS=a=b==
CRLF=seven""" + "\r\nnot a line\nPATH=/nowhere\nLD_PRELOAD=/tmp/x.so\nPGHOST=elsewhere\nTAKEN=file\nLAST=end"


def test_env_file_is_read_and_not_run(tmp_path):
    (tmp_path / ".env").write_text(ENV_FILE)
    names = "PLAIN SPACED QUOTED SINGLE COMMENTED EMPTY EXPORTED RUN EQUALS CRLF TAKEN LAST"
    done = run_function(tmp_path, "read_env_file .env\n"
                        f"for name in {names}; do printf '%s=[%s]\\n' $name \"${{!name}}\"; done\n"
                        "echo ${LD_PRELOAD-none} ${PGHOST-none} $PATH", env={"TAKEN": "environment"})
    assert done.stdout.splitlines() == [
        "PLAIN=[one]", "SPACED=[two words]", "QUOTED=[three # not a comment]", 'SINGLE=[four "x"]',
        "COMMENTED=[five]", "EMPTY=[]", "EXPORTED=[six]", "RUN=[$(touch ran)`touch ran`]",
        "EQUALS=[a=b==]", "CRLF=[seven]", "TAKEN=[environment]", "LAST=[end]",
        "none none " + os.environ["PATH"],
    ]
    assert "line 12: not NAME=value" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_processes_never_get_another_database(tmp_path):
    (tmp_path / ".env").write_text("DATABASE_DIRECT_URL=postgresql://real\nDATABASE_URL=postgresql://real\n")
    done = run_function(tmp_path, "mkdir -p .dev; use_sockets; set_environment; env", env={
        "PGHOST": "elsewhere", "REDIS_URL": "redis://real", "DATABASE_URL_FILE": "/etc/real"})
    assert "real" not in done.stdout and "PGHOST" not in done.stdout
    assert "DATABASE_URL=host=/tmp/whopline-" in done.stdout


def test_a_made_up_secret_is_kept_private_and_not_changed(tmp_path):
    text = "mkdir -p .dev; use_sockets; set_environment; echo ${WHOP_WEBHOOK_SECRET_FILE-none} $WHOP_COMPANY_ID"
    first = run_function(tmp_path, text).stdout.split()
    secret = pathlib.Path(first[0])
    assert secret.stat().st_mode & 0o777 == 0o600
    value = secret.read_text(encoding="utf-8")
    assert value.startswith("ws_") and len(value.strip()) == 67
    assert first[1] == "biz_Dev0000000001"
    run_function(tmp_path, text)
    assert secret.read_text(encoding="utf-8") == value
    given = run_function(tmp_path, text, env={"WHOP_SIGNING_SECRET": "ws_own", "WHOP_COMPANY_ID": "biz_own"})
    assert given.stdout.split() == ["none", "biz_own"]


def test_tenants_can_be_added_at_once(tmp_path):
    text = ("mkdir -p .dev; use_sockets; set_environment; "
            "echo ${WHOP_TOKEN_ENCRYPTION_KEY_FILE-none} ${ENDPOINTS_FILE-none}")
    key, endpoints = (pathlib.Path(path) for path in run_function(tmp_path, text).stdout.split())
    assert key.stat().st_mode & 0o777 == 0o600 and endpoints.parent == key.parent == tmp_path / ".dev"
    value = key.read_text(encoding="utf-8")
    assert len(bytes.fromhex(value)) == 32
    run_function(tmp_path, text)
    assert key.read_text(encoding="utf-8") == value
    for name in ("WHOP_TOKEN_ENCRYPTION_KEY", "WHOP_TOKEN_ENCRYPTION_KEYS_FILE"):
        given = run_function(tmp_path, text, env={name: "own", "ENDPOINTS_FILE": "mine"})
        assert given.stdout.split() == ["none", "mine"]
    kept = tmp_path / ".dev/sim.json"
    endpoints.touch()
    kept.touch()
    run_function(tmp_path, "down --erase")
    assert not key.exists() and not endpoints.exists() and not kept.exists()


SIM = """mkdir -p .dev; use_sockets; set_environment; have_outside || start_sim
    for name in WHOP_API_URL WHOP_OAUTH_URL WHOP_API_KEY HTTP_ALLOW_PRIVATE; do echo ${!name-none}; done
    [[ -z $sim_pid ]] || {
      remember sim "$sim_pid"
      exec 3<>"/dev/tcp/127.0.0.1/${sim_url##*:}"
      printf 'GET /_sim/state HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n' >&3
      [[ $(cat <&3) == *biz_own* ]] && echo answers
      down
      alive "$sim_pid" || echo ended
    }"""


def test_up_has_a_simulator_where_there_are_no_credentials(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/sim").symlink_to(ROOT / "tests/sim")
    done = run_function(tmp_path, SIM, env={"WHOP_COMPANY_ID": "biz_own", "HTTP_ALLOW_PRIVATE": "false"})
    lines = done.stdout.splitlines()
    url = lines[0].removesuffix("/api/v1")
    assert url.startswith("http://127.0.0.1:")
    assert lines[1:5] == [f"{url}/oauth", "apik_sim", "true", "answers"] and lines[-1] == "ended"
    assert "left by an earlier run" in done.stdout and (tmp_path / ".dev/log/sim.log").stat().st_size < 100


@pytest.mark.parametrize("name", ["WHOP_API_KEY", "WHOP_API_KEY_FILE", "WHOP_API_URL"])
def test_no_simulator_where_the_outside_is_real(tmp_path, name):
    (tmp_path / ".env").write_text(f"{name}=real\n")
    lines = run_function(tmp_path, SIM).stdout.splitlines()
    wanted = {"WHOP_API_URL": "none", "WHOP_OAUTH_URL": "none", "WHOP_API_KEY": "none",
              "HTTP_ALLOW_PRIVATE": "none", name: "real"}
    assert lines == list(wanted.values())[:4]


def test_a_simulator_that_does_not_start_is_told(tmp_path):
    done = call_function(tmp_path, "mkdir -p .dev; use_sockets; set_environment; start_sim")
    assert done.returncode == 1 and "did not start" in done.stderr and "WHOP_API_KEY" in done.stderr


def test_a_taken_port_is_noticed(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_function(tmp_path, f"choose_port HTTP_LISTEN 127.0.0.1:{port}; echo $HTTP_LISTEN")
    assert "is taken by another program" in done.stdout
    assert done.stdout.splitlines()[-1] != f"127.0.0.1:{port}"


OLD_STYLE = """# comment
deb [signed-by=/k.gpg arch=amd64] http://mirror.test/debian bookworm main contrib
deb http://mirror.test/debian bookworm-updates main
deb-src http://mirror.test/debian bookworm main
deb http://other.test/debian sid main
"""
NEW_STYLE = """Types: deb deb-src
URIs: http://one.test/debian http://two.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/k.gpg

Enabled: no
Types: deb
URIs: http://three.test/debian
Suites: bookworm

Types: deb
URIs: http://four.test/debian
Suites: bookworm
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
"""


def test_the_next_release_is_looked_for_where_this_one_is(tmp_path):
    (tmp_path / "sources.list").write_text(OLD_STYLE)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "x.sources").write_text(NEW_STYLE)
    script = (f'source <(declare -f sources_of_next_release | sed "s|/etc/apt|{tmp_path}|g")\n'
              "sources_of_next_release bookworm trixie")
    assert run_function(tmp_path, script).stdout.splitlines() == [
        "deb [signed-by=/usr/share/keyrings/k.gpg] http://one.test/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/k.gpg] http://two.test/debian trixie main",
        "deb http://four.test/debian trixie main",
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.test/debian trixie main",
    ]
