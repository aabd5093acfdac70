import json
import shutil

import pytest

from captionbot.text.tokenizer import detokenize, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, in a (red) T-shirt .", "a man in a -lrb- red -rrb- t-shirt"),
        ("The dog's owner doesn't, can't and cannot run", "the dog 's owner does n't ca n't and can not run"),
        ("They’re “happy” — it’s late…", "they 're happy it 's late"),
        ("I'm gonna say I've got to, he'd and we'll", "i 'm gon na say i 've got to he 'd and we 'll"),
        ("The boys' toys and 'quoted' \"words\"", "the boys toys and quoted words"),
        ("Mr. Smith of St. Louis, U.S., watches T.V.", "mr. smith of st. louis u.s. watches t.v."),
        ("At 12:30pm, $5.00 or 50% of 1,000", "at 12:30 pm $ 5.00 or 50 % of 1,000"),
        ("a 3-year-old 4x4 and/or 1/2", "a 3-year-old 4x4 and/or 1/2"),
        ("hors d'oeuvres at ten o'clock, ma'am", "hors d'oeuvres at ten o'clock ma'am"),
        ("An AT&T sign &amp; a flag", "an at&t sign & a flag"),
        ("Wow!! Really? Yes...no -- ok;", "wow !! really yes no ok"),
        ("ein Mädchen läuft, мальчик бежит", "ein mädchen läuft мальчик бежит"),
        ("rock 'n' roll in the '90s", "rock 'n' roll in the '90s"),
        ("", ""),
        (" .,;:-'\"` \n", ""),
    ],
)
def test_words_are_those_of_the_java_tokenizer(text, words):
    assert tokenize(text) == words.split()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("the dog 's ball", "the dog's ball"),
        ("they do n't and ca n't", "they don't and can't"),
        ("i 'm sure they 're here", "i'm sure they're here"),
        ("a man -lrb- in red -rrb- runs", "a man (in red) runs"),
        ("a man , in a t - shirt , runs .", "a man, in a t-shirt, runs."),
        ("a dog", "a dog"),
        ("'s", "'s"),
        ("", ""),
    ],
)
def test_detokenized_words_read_as_people_write(words, text):
    assert detokenize(words.split()) == text


def test_words_come_back_from_text_made_of_them(flickr8k_captions):
    for caption in flickr8k_captions[::10]:
        words = tokenize(caption)
        assert tokenize(" ".join(words)) == words
        assert tokenize(detokenize(words)) == words


def test_agreement_with_the_java_tokenizer_on_real_captions(flickr8k_captions, coco_captions, capfd):
    if shutil.which("java") is None:
        pytest.skip("needs Java to run the tokenizer of coco-caption")
    java = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    captions = flickr8k_captions + coco_captions
    theirs = java.tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    capfd.readouterr()
    assert len(captions) == len(theirs) == 60_014
    different = [c for i, c in enumerate(captions) if tokenize(c) != theirs[i][0].split()]
    assert len(different) <= 5, different


@pytest.fixture(scope="module")
def flickr8k_captions(shared):
    images = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_bytes())["images"]
    return [sentence["raw"] for image in images for sentence in image["sentences"]]


@pytest.fixture(scope="module")
def coco_captions(shared):
    annotations = json.loads((shared / "data/coco/captions_val2017.json").read_bytes())["annotations"]
    return [annotation["caption"] for annotation in annotations]
