"""What the default captioner says of pictures of our own stays as it is, word for word."""

from __future__ import annotations

import json

from tests.golden.regenerate import CAPTIONS, SCENES, captions


def test_golden_captions():
    golden = json.loads(CAPTIONS.read_text(encoding="utf-8"))
    assert len(golden) == len(SCENES)
    assert captions() == golden, "on purpose? then: python -m tests.golden.regenerate"
