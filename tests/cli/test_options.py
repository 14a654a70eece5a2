"""The pages of fedrms --help: one screen first, then everything, all of it 80 columns wide."""

import pytest

from fedrms.cli.option_text import read_choice
from fedrms.cli.options import FIRST, GROUPS, LAB, help_page
from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.renamed import RENAMED


def page(topic=None):
    return help_page(conf_folder(), topic)


def words(text):
    return " ".join(text.split())


def test_the_first_page_fits_one_screen():
    lines = page().splitlines()
    assert len(lines) <= 42
    assert max(map(len, lines)) <= 80


def test_every_page_is_80_columns_wide():
    assert max(map(len, page("all").splitlines())) <= 80
    assert max(len(line) for group in GROUPS for line in page(group).splitlines()) <= 80


def choices_of(group):
    """The files of a group's choices, but those of old names."""
    files = (conf_folder() / group).glob("*.yaml")
    return [file for file in files if (group, file.stem) not in RENAMED]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_choices_with_their_comments(group):
    text = words(page(group))
    for file in choices_of(group):
        assert f"{file.stem} {words(read_choice(file).comment)}" in text


def test_every_option_of_every_choice_is_shown_with_its_comment():
    everything = words(page("all"))
    for group in GROUPS:
        for file in choices_of(group):
            text = words(page(f"{group}={file.stem}"))
            assert text in everything
            for line in file.read_text().splitlines():
                key, _, comment = line.partition(" # ")
                if comment and not key.startswith(("  - ", "defaults:", "#")):
                    assert words(comment) in text, file


def test_keys_of_no_group_are_shown():
    for key in ("seed", "rounds", "clients", "device", "evaluate_every", "checkpoint"):
        assert f"\n  {key}: " in page("keys")
        assert page(key) == page("keys")


def test_what_most_people_want_is_first_and_the_lab_last():
    for group, names in FIRST.items():
        text = page(group)
        places = [text.index(f"\n  {name} ") for name in (*names, *LAB.get(group, ()))]
        assert places == sorted(places)
    assert page("experiment").index("  tiny/") < page("experiment").index("  lab/")


def test_no_choice_is_named_that_is_not_there():
    for table in (FIRST, LAB):
        for group, names in table.items():
            assert all((conf_folder() / group / f"{name}.yaml").is_file() for name in names)


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("stratgy", "did you mean strategy"),
        ("strategy=fedvag", "did you mean fedavg"),
        ("experiment=mnits_noise", "did you mean mnist_noise"),
    ],
)
def test_an_unknown_topic_is_an_error_with_the_closest(topic, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        page(topic)
    assert "choose from" in str(error.value)


def test_an_option_leads_to_the_page_of_its_group():
    assert page("client.lr") == page("client")
