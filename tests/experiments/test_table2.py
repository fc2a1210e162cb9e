"""Table 2: the settings of the runs beside those of the paper."""

import dataclasses

import pytest
from fabricated_training import rising, settings

from experiments.paper import table2
from jsharp.train.config import Sft


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs that are only read."""
    return rising(settings(tmp_path_factory.mktemp("made")))


def test_table_2_reads_the_runs_and_marks_what_differs(made):
    found = table2.measure(made)
    at = {each["field"]: each for each in found["settings"]}
    assert found["runs"] == 6 and at["seed"]["here"] == [3]
    compared = {name: each["compared"] for name, each in at.items()}
    default = Sft(output_dir=made.output_dir)
    assert at["batch_size"]["here"] == [default.batch_size]
    assert compared["num_generations"] == "differs"  # 5
    assert compared["num_train_epochs"] == "as in a part"  # 10
    assert compared["lr_scheduler_type"] == compared["temperature"] == "same"
    assert compared["eval_limit"] == "unknown"
    rows = {row.split(" | ")[0]: row for row in table2.tell(found).splitlines()}
    assert "**differs**" in rows["| N"] and "**" not in rows["| seeds"]
    assert table2.draw(found) == {} and table2.judge(found) == []


def test_a_setting_that_varies_over_runs_is_not_the_same():
    setting = table2.Setting("x", "x", (4,), (1,))
    assert table2.compared(setting, [4]) == "same"
    assert table2.compared(setting, [1]) == "as in a part"
    assert table2.compared(setting, [4, 1]) == "as in a part"
    assert table2.compared(setting, [4, 2]) == "differs"
    assert table2.row(setting, [4, 2, 4])["here"] == [4, 2]


def test_table_2_knows_the_fields_of_a_run():
    known = {field.name for field in dataclasses.fields(Sft)}
    assert {setting.field for setting in table2.SETTINGS} <= known
