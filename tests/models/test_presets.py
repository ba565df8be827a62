"""Every published size: its number of parameters, and its config both ways."""

import json

import pytest
from tests.models.reference import family_tests

from seedbed.models.network import build, export_tensors, family, parameter_count, preset

COUNTS = {
    f"{name}:{size}": count
    for name, tests in family_tests().items()
    for size, count in getattr(tests, "COUNTS", {}).items()
}


@pytest.mark.parametrize("name", family_tests())
def test_every_preset_has_its_published_number_of_parameters(name: str) -> None:
    found = {f"{name}:{size}": parameter_count(preset(f"{name}:{size}")) for size in family(name).presets}
    expected = {size: count for size, count in COUNTS.items() if size.partition(":")[0] == name}
    wrong = [size for size in found | expected if found.get(size) != expected.get(size)]
    reported = [f"{size}: built {found.get(size)}, COUNTS {expected.get(size)}" for size in wrong]
    assert not reported, f"COUNTS of tests/models/families/test_{name}.py differ from the presets: {reported}"


@pytest.mark.parametrize("name", COUNTS)
def test_a_config_survives_its_json(name: str) -> None:
    chosen = family(name.split(":")[0])
    written = json.loads(json.dumps(chosen.write_config(preset(name))))
    assert chosen.write_config(chosen.read_config(written)) == written
    tensors = export_tensors(build(preset(name), "meta"))  # some configs do not say which head a file has
    again = parameter_count(chosen.config_from_names(chosen.read_config(written), tensors))
    assert again == COUNTS[name]
