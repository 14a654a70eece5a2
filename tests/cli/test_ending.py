"""Signals that ask a command to end: saved once, told twice, ended at the third."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

CODE = """
import sys, time
from fedrms.cli.ending import ending_well
with ending_well("command"):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("saving", flush=True)
        for _ in range(int(sys.argv[1])):
            time.sleep(0.1)
        print("saved", flush=True)
        raise
"""


@pytest.fixture
def start():
    def run(tenths):
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(tenths)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout.readline() == "begun\n"
        return process

    return run


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGINT, 143),
        (signal.SIGHUP, signal.SIGTERM, 129),
    ],
)
def test_a_second_signal_does_not_break_off_the_saving(first, second, code, start):
    process = start(5)
    process.send_signal(first)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(second)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "saved\n")
    assert "once more ends it at once" in err
    assert err.endswith("command: stopped; what was computed is kept\n")


def test_a_third_signal_ends_the_program_at_once(start):
    process = start(600)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    assert "once more" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-signal.SIGTERM, "")


def test_a_signal_that_is_to_be_ignored_is_ignored(start):
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN){CODE}"
    process = subprocess.Popen([sys.executable, "-c", code, "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143


CONVERTS = """
import sys, time
from fedrms.cli.ending import ending_well
from fedrms.errors import *
with ending_well("command"):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as error:  # as importers do, of whatever they meet
        raise {} from error
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ImportError('cannot locate')", ""),
        ("ConfigError('model', 'does not fit', 'mend it')", ""),
        ("RunError('the disk is full')", "command: the disk is full\n"),
    ],
)
def test_an_error_that_a_signal_became_ends_as_the_signal_does(error, said):
    with subprocess.Popen(
        [sys.executable, "-c", CONVERTS.format(error)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == f"{said}command: stopped; what was computed is kept\n"


RAISES = {
    "ConfigError('rounds', 'is 0', 'set 1')": (2, "command: rounds: is 0\n  -> set 1"),
    "ConfigError('fraction_train', 'is 2', 'set 1')": (2, "command: fraction_train: is 2"),
    "RunError('it broke')": (1, "command: it broke"),
    "ValueError('unforeseen')": (1, "Traceback"),
    "ConfigCompositionException(\"Could not find 'model/mpl'\")": (2, "command: model: "),
}


@pytest.mark.long
@pytest.mark.parametrize("error", RAISES)
def test_every_command_ends_with_one_message_and_its_code(error):
    code = "from fedrms.cli.ending import ending_well; from fedrms.errors import *; "
    code += "from hydra.errors import ConfigCompositionException\n"
    code += f"with ending_well('command', ['model=mpl']): raise {error}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected, said = RAISES[error]
    assert ended.returncode == expected
    assert ended.stderr.startswith(said)


def test_output_that_nobody_reads_to_its_end_is_no_error():
    code = "from fedrms.cli.ending import ending_well\nwith ending_well('command'):\n"
    code += "    for _ in range(100_000): print('a line')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
