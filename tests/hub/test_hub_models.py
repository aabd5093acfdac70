"""Models of the true size, without their weights: as many numbers as the files that are published."""

from __future__ import annotations

import re

import pytest

from benchmarks.hub import MODELS, configured
from captionbot.hub import family_of_config
from captionbot.hub.loading import on_meta
from captionbot.store.importers.hub import address_of
from captionbot.store.weights import weight_files

HERE = {line.name: line for line in weight_files() if line.importer == "hub"}


def test_all_captioners_of_the_table_are_described_and_pinned_to_a_commit() -> None:
    assert set(HERE) == set(MODELS)
    assert all(re.fullmatch("[0-9a-f]{40}", address_of(name).revision) for name in HERE)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_as_many_numbers_as_its_file(name: str) -> None:
    line, config = HERE[name], configured(name)
    family = family_of_config(config)
    model = on_meta({"kind": "hub", "family": family.kind, "config": config})
    assert (family.kind, family.title(config)) == (line.family, line.title)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert line.parameters == pytest.approx(numbers / 1e6, abs=1)
    if line.megabytes:  # of float32
        published = 4 * (numbers + MODELS[name].get("stored_besides", 0)) / 1e6
        assert line.megabytes == pytest.approx(published, rel=0.005)
