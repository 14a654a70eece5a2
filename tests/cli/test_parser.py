"""What is wrong with a command line is said in one message, with its remedy."""

import pytest

from fedrms.cli import lab, leave_out, report, reproduce


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (report, [], "fedrms-report: FOLDER: it is missing"),
        (leave_out, [], "fedrms-leave-out: FOLDER: it is missing"),
        (leave_out, ["runs", "--most", "x"], "fedrms-leave-out: --most: invalid int value: 'x'"),
        (reproduce, ["digits", "--nonsense"], "fedrms-reproduce: --nonsense: there is no such"),
        (lab, ["--nonsense"], "fedrms-lab: --nonsense: there is no such option"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(command, words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    first, remedy = capsys.readouterr().err.splitlines()
    assert first.startswith(said)
    assert remedy.startswith("  -> fedrms-")
    assert remedy.endswith("--help lists them")
