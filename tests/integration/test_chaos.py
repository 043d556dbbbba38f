"""A short seed of the crash campaign (tests/chaos), and that its mutants can still be planted."""
import shutil
import subprocess
import sys

import pytest

import harness

CHAOS = harness.ROOT / "tests/chaos"
MUTANTS = sorted((CHAOS / "mutants").glob("*.patch"))


@pytest.mark.limit(150)
def test_a_short_seed(tmp_path):
    """Its stores and processes are its own and end with it."""
    done = subprocess.run(
        [*harness.DIES_WITH_US, sys.executable, "-B", str(CHAOS / "campaign.py"), "--seed", "1", "--lasts", "6",
         "--jobs", "600", "--payments", "100", "--keep", str(tmp_path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=140 * harness.SLOW, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "1 seeds" in done.stdout and "0 violations" in done.stdout


@pytest.mark.parametrize("patch", MUTANTS, ids=lambda path: path.stem)
def test_a_mutant_can_be_planted(patch):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=harness.ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, f"the code it changes has changed: make {patch.name} anew\n{done.stderr}"


def test_all_mutants_are_there():
    assert [path.stem for path in MUTANTS] == [
        "done_before_commit", "granted_forgotten", "group_at_dollar", "mark_before_enqueue",
        "promote_in_two_calls", "sending_after_call"]
