"""METEOR and SPICE, by their authors' own Java programs, where these can run.

Both come with the Python package pycocoevalcap. SPICE needs Stanford CoreNLP 3.6.0 besides, which
`python -m pycocoevalcap.spice.get_stanford_models` downloads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from captionbot.errors import CaptionBotError
from training.metrics.tally import Tally, mean_tally

Sentences = Sequence[Sequence[str]]

# METEOR 1.5's parameters for English (Denkowski and Lavie, 2014, table 1): alpha, beta, gamma, delta, and
# the weights of exact matches, stems, synonyms and paraphrases.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])
_WEIGHTS = np.array([_DELTA, 1 - _DELTA])  # of content words and function words
_METEOR_COUNTS = 23
_CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def meteor_unavailable() -> str | None:
    """Why METEOR cannot be computed here, as a sentence; None where it can."""
    return _unavailable("METEOR")


def spice_unavailable() -> str | None:
    """Why SPICE cannot be computed here, as a sentence; None where it can."""
    reason = _unavailable("SPICE")
    if reason is None and not all((_folder("spice") / "lib" / name).is_file() for name in _CORENLP):
        return (
            "SPICE needs Stanford CoreNLP 3.6.0: download it by python -m "
            "pycocoevalcap.spice.get_stanford_models, or do without SPICE."
        )
    return reason


def meteor_tally(hypotheses: Sentences, references: Sequence[Sentences]) -> Tally:
    """METEOR 1.5 (Denkowski and Lavie, 2014), 0..1.

    The Java program aligns the words; the score is worked out here from its counts, to the same digits.
    It takes seconds to start. Raises CaptionBotError where it cannot run.
    """
    reason = meteor_unavailable()
    if reason:
        raise CaptionBotError(reason)
    lines = [
        " ||| ".join(("SCORE", *map(_meteor_line, humans), _meteor_line(hypothesis)))
        for hypothesis, humans in zip(hypotheses, references, strict=True)
    ]
    command = ["java", "-jar", "-Xmx2G", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        java = subprocess.run(
            command,
            cwd=_folder("meteor"),
            input="\n".join(lines) + "\n",
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        counts = np.array([line.split() for line in java.stdout.splitlines()], dtype=np.float64)
        if counts.shape != (len(lines), _METEOR_COUNTS):
            raise ValueError(f"{counts.shape} counts of {len(lines)} captions")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise CaptionBotError(
            "METEOR's Java program stopped half-way: check that Java works and may take 2 GB of memory."
        ) from error
    # A caption that is a reference word for word is in one chunk, which METEOR does not count.
    matches = counts[:, 4:20].reshape(-1, 4, 2, 2).sum(axis=(1, 2))
    counts[(matches == counts[:, :2]).all(axis=1) & (counts[:, 20] == 1), 20] = 0
    return Tally(("METEOR",), counts, _meteor_of_sums)


def spice_tally(hypotheses: Sentences, references: Sequence[Sentences]) -> Tally:
    """SPICE (Anderson et al., arXiv 1607.08822): F-score of the objects, attributes and relations, 0..1.

    Raises CaptionBotError where it cannot run.
    """
    reason = spice_unavailable()
    if reason:
        raise CaptionBotError(reason)
    return run_spice(_folder("spice"), hypotheses, references)


def run_spice(folder: Path, hypotheses: Sentences, references: Sequence[Sentences]) -> Tally:
    """SPICE by the program `spice-1.0.jar` of a folder."""
    questions = [
        {"image_id": i, "test": " ".join(hypothesis), "refs": [" ".join(human) for human in humans]}
        for i, (hypothesis, humans) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as temporary:
        question, answer = Path(temporary, "question.json"), Path(temporary, "answer.json")
        question.write_text(json.dumps(questions), encoding="utf-8")
        cache = Path(temporary, "cache")
        cache.mkdir()
        files = [str(question), "-cache", str(cache), "-out", str(answer)]
        command = ["java", "-jar", "-Xmx8G", "spice-1.0.jar", *files, "-subset", "-silent"]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, check=True)
            scores = {
                entry["image_id"]: entry["scores"]["All"]["f"] for entry in json.loads(answer.read_bytes())
            }
            each = np.array([scores[i] for i in range(len(questions))], dtype=np.float64)  # null becomes NaN
        except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError) as error:
            raise CaptionBotError(
                "SPICE's Java program stopped half-way: it is made for Java 8 and may take 8 GB of memory."
            ) from error
    return mean_tally("SPICE", each)


def _unavailable(metric: str) -> str | None:
    if shutil.which("java") is None:
        return f"{metric} needs Java, version 8 or later: install it, or do without {metric}."
    if find_spec("pycocoevalcap") is None:
        return f"{metric} needs the Python package pycocoevalcap: pip install it, or do without {metric}."
    return None


def _folder(metric: str) -> Path:
    package = find_spec(f"pycocoevalcap.{metric}")
    assert package is not None and package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0])


def _meteor_of_sums(sums: np.ndarray) -> np.ndarray:
    """Sections 2 and 3 of Denkowski and Lavie, "Meteor Universal", WMT 2014.

    Counts of METEOR's line: words and function words of hypothesis and reference; for each stage the
    matched content words and function words of both; chunks; matched words of both.
    """
    words, function_words, matches = sums[..., 0:2], sums[..., 2:4], sums[..., 4:20]
    chunks, matched = sums[..., 20], sums[..., 21:23].mean(axis=-1)
    weighted = np.einsum("...swh,s,w->...h", matches.reshape(*sums.shape[:-1], 4, 2, 2), _STAGES, _WEIGHTS)
    lengths = _DELTA * (words - function_words) + (1 - _DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted / lengths, -1, 0)
        f_mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        score = f_mean * (1 - _GAMMA * (chunks / matched) ** _BETA)
    return np.nan_to_num(score)[..., np.newaxis]  # without a match it is 0 / 0


def _meteor_line(tokens: Sequence[str]) -> str:
    return " ".join(tokens).replace("|||", "").replace("  ", " ")
