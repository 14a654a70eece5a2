"""The names of fedrms are loaded on first use, whoever is first."""

import subprocess
import sys

FOUR_AT_ONCE = """
import threading
import fedrms

found, wrong = [], []
def use():
    try:
        found.append(fedrms.run)
    except Exception as error:
        wrong.append(repr(error))

threads = [threading.Thread(target=use) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert not wrong, wrong
assert len(found) == 4
assert len(set(found)) == 1
"""


def test_threads_that_use_a_name_for_the_first_time_at_once_all_get_it() -> None:
    """One imports what has it, and the others must not take a module that is half there."""
    done = subprocess.run([sys.executable, "-c", FOUR_AT_ONCE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
