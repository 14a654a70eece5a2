"""Memory that a step frees stays with the process."""

import subprocess
import sys
import textwrap

import pytest

COUNT_FAULTS = """
    import resource, sys
    from fedrms.engines.allocator import keep_freed_memory
    import torch

    torch.set_num_threads(1)
    if sys.argv[1] == "kept":
        print(keep_freed_memory(), end=" ")

    def steps(count):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(count):
            held = torch.ones(10_000_000)  # 40 MB: glibc gives so large a block back at once
            del held
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    steps(3)
    print(steps(20))
"""


def run(how: str) -> list[str]:
    code = textwrap.dedent(COUNT_FAULTS)
    done = subprocess.run(
        [sys.executable, "-c", code, how], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.split()


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_a_step_takes_no_new_pages_for_what_the_step_before_it_freed():
    possible, kept = run("kept")
    if possible != "True":
        pytest.skip("this C library has no mallopt")
    (given_back,) = run("given back")
    assert int(kept) < 1_000
    assert int(given_back) > 10 * max(int(kept), 1)
