import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner, SearchOptions, load_image
from captionbot.backends.cpu import threads


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return Captioner.from_pretrained(build_tiny_captioner(tmp_path_factory.mktemp("tiny")), device="cpu")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for h, w in ((40, 60), (90, 30), (8, 8))
    ]


def test_captions_carry_what_the_pages_show(captioner, images):
    for image, captioned in zip(images, captioner.caption(images, num_return=2), strict=True):
        assert len(captioned.captions) == 2
        for caption in captioned.captions:
            assert caption.words
            assert caption.image_size == image.size
            assert caption.grid == (4, 4)
            np.testing.assert_allclose(caption.alphas.sum(1), 1, atol=1e-5)
            np.testing.assert_allclose(caption.boxes[-1, 2:], image.size)
            assert 0 < caption.confidence <= 1
            assert sum(word.log_prob for word in caption.words) > caption.log_prob  # the end costs too
        best, second = captioned.captions
        assert best.score >= second.score


def test_a_batch_gives_what_its_images_give_alone(captioner, images):
    together = captioner.caption(images)
    for image, captioned in zip(images, together, strict=True):
        (alone,) = captioner.caption(image)
        assert alone.captions[0].text == captioned.captions[0].text
        np.testing.assert_allclose(alone.captions[0].alphas, captioned.captions[0].alphas, atol=1e-5)
        np.testing.assert_array_equal(
            alone.search.token_ids[..., 0], captioned.search.token_ids[: len(alone.search.token_ids), ..., 0]
        )


def test_batch_size_does_not_matter(captioner, images):
    texts = [[c.captions[0].text for c in captioner.caption(images, batch_size=n)] for n in (1, 2, 32)]
    assert texts[0] == texts[1] == texts[2]


def test_options_by_record_and_by_name_are_the_same(captioner, images):
    by_name = captioner.caption(images, beam_size=2, max_length=4)
    by_record = captioner.caption(images, SearchOptions(beam_size=2, max_length=4, length_penalty=0.7))
    assert [c.captions[0].text for c in by_name] == [c.captions[0].text for c in by_record]
    assert all(len(c.captions[0].words) <= 4 for c in by_name)


def test_forced_and_banned_words(captioner, images):
    (plain,) = captioner.caption(images[0])
    banned = plain.captions[0].words[0].text
    (forced,) = captioner.caption(images[0], prefix="The dog", banned_words=[banned])
    assert forced.captions[0].text.startswith("the dog")
    (without,) = captioner.caption(images[0], banned_words=[banned])
    assert banned not in without.captions[0].text.split()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"prefix": "a zebraa"}, "does not know the word 'zebraa'"),
        ({"banned_words": ["qqq"]}, "does not know the word 'qqq'"),
        ({"beam_sizes": 3}, "no search option 'beam_sizes'; choose from beam_size"),
        ({"beam_size": 0}, "beam_size"),
        ({"options": SearchOptions(), "beam_size": 3}, "not both"),
        ({"options": {"beam_size": 3}}, "options is {'beam_size': 3}; give a SearchOptions"),
        ({"sample": "no"}, "sample is 'no'; give True or False"),
        ({"evidence": None}, "evidence is None; give True or False"),
        *(({"batch_size": n}, f"batch_size is {n}; give a whole number from 1") for n in (0, -1, 2.5)),
        ({"prefix": 5}, "prefix is 5; give the words"),
        ({"prefix": "a-." * 2000}, "The beginning has 6,000 characters, where 4,000 are allowed"),
        ({"banned_words": ["a" * 5000]}, "A word to avoid has 5,000 characters"),
        ({"beam_size": 10**5000}, "beam_size is a very long int; give"),
        *(({"banned_words": words}, "give a list of words") for words in (5, [5], "dog")),
    ],
)
def test_calls_that_make_no_sense_are_answered_in_a_sentence(captioner, images, call, sentence):
    with pytest.raises(CaptionBotError, match=sentence):
        captioner.caption(images, **call)


@pytest.mark.parametrize(
    ("images", "given"),
    [
        ("photo.jpg", "str"),
        ("", "str"),
        (["photo.jpg"], "str"),
        (Path("photo.jpg"), "PosixPath"),
        (None, "NoneType"),
        ([None], "NoneType"),
        (np.zeros((8, 8, 3), np.uint8), "ndarray"),
    ],
)
def test_what_is_no_image_is_answered_in_a_sentence(captioner, images, given):
    with pytest.raises(CaptionBotError, match=f"given as {given}: give images as load_image returns them"):
        captioner.caption(images)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_every_mode_are_captioned_as_if_loaded(captioner, images, mode):
    grey = images[0].convert("L")
    image = Image.fromarray(np.asarray(grey, np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    (given,), (loaded,) = captioner.caption(image), captioner.caption(load_image(image))
    assert given.captions[0].words == loaded.captions[0].words


def test_an_opened_photo_is_turned_as_its_exif_block_says(captioner, images, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    images[0].save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        (captioned,) = captioner.caption(image)
    assert captioned.captions[0].image_size == images[0].size[::-1]


def test_devices_that_are_not_there(tmp_path):
    card = build_tiny_captioner(tmp_path)
    with pytest.raises(CaptionBotError, match="'gpu' is not a device; choose one of auto, cpu, cuda, mps"):
        Captioner.from_pretrained(card, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(CaptionBotError, match="no cuda device"):
            Captioner.from_pretrained(card, device="cuda")


@pytest.mark.slow  # it imports all of torch._inductor
def test_steps_that_cannot_be_compiled_run_as_they_are(captioner, images, tmp_path, monkeypatch, caplog):
    expected = [found.captions[0].text for found in captioner.caption(images)]
    monkeypatch.setenv("CAPTIONBOT_COMPILE", "1")
    compiled = Captioner.from_pretrained(build_tiny_captioner(tmp_path), "cpu")
    no_compiler = {"cpp.cxx": (None, "no-such-compiler"), "fx_graph_cache": False}
    with torch._inductor.config.patch(no_compiler):
        for _ in range(2):
            assert [found.captions[0].text for found in compiled.caption(images)] == expected
    (said,) = [
        record.getMessage() for record in caplog.records if record.name == "captionbot.backends.compile"
    ]
    assert said.startswith("torch cannot compile this decoder and runs it as it is: ")


def test_a_device_of_torch_will_do(tmp_path):
    card = build_tiny_captioner(tmp_path)
    assert Captioner.from_pretrained(card, device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.skipif(threads._openmp() is None, reason="torch runs on an OpenMP that cannot be asked here")
@pytest.mark.parametrize(("policy", "expected"), [("PASSIVE", 1), ("", 1), ("active", 3)])
def test_a_search_is_alone_unless_threads_spin(captioner, images, monkeypatch, policy, expected):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    step, own, others = captioner.decoder.step, set(), set()

    def watched(token_ids, state):
        own.add(torch.get_num_threads())
        other = threading.Thread(target=lambda: others.add(torch.get_num_threads()))
        other.start()
        other.join()
        return step(token_ids, state)

    monkeypatch.setattr(captioner.decoder, "step", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        captioner.caption(images[0])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert own == {expected}
    assert others == {3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_captions_too(tmp_path):
    code = """if True:
        import os, signal, sys
        import torch
        from PIL import Image
        from captionbot import Captioner

        torch.set_num_threads(2)
        photos = [Image.new("RGB", (64, 64))] * 8
        captioner = Captioner.from_pretrained(sys.argv[1], "cpu", "float32")
        captioner.caption(photos)
        child = os.fork()
        if not child:
            signal.alarm(30)
            captioner.caption(photos)
            os._exit(0)
        sys.exit(os.waitpid(child, 0)[1])
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", code, build_tiny_captioner(tmp_path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[1], env=environment).returncode == 0


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_captioner_is_loaded_again_where_others_would_copy_it(captioner, copied):
    with pytest.raises(CaptionBotError, match="from_pretrained in every process"):
        copied(captioner)


def test_threads_share_one_captioner(captioner, images):
    expected = [captioner.caption(image)[0].captions[0] for image in images]
    wrong = []

    def session(number):
        for _ in range(3):
            caption = captioner.caption(images[number % 3])[0].captions[0]
            if caption.text != expected[number % 3].text or not np.allclose(
                caption.alphas, expected[number % 3].alphas, atol=1e-5
            ):
                wrong.append(number)

    threads = [threading.Thread(target=session, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_images_no_captions(captioner):
    assert captioner.caption([]) == []
