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
        ("see dogs.example.com, a-.b and x-.net.", "see dogs.example.com a b and x-.net"),
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


MARKED = (
    "कुत्ता पानी में है",  # Hindi
    "पति-पत्नी और कु.त्ता",
    "নদী পার",  # Bengali
    "நாய் ஓடுகிறது",  # Tamil
    "స్త్రీ తెలుగు",  # Telugu
    "สุนัขวิ่ง ง่าย",  # Thai
    "الكَلْبُ يَجري",  # Arabic with vowels
    "שָׁלוֹם עוֹלָם",  # Hebrew with points
    "cafe\u0301's au lait, e\u0301t\u00e9/hiver, Tie\u0302\u0301ng Vie\u0302\u0323t",  # decomposed
    "क्\u200dष می\u200cخواهم a\u200bdog a\u2060b \ufeffhello a\u200e b\u200f \u202aabc\u202c",  # unseen
    "a dog \u2764\ufe0f, 1\ufe0f\u20e3 one, 👨\u200d👩\u200d👧 👍🏽 🇫🇷 😀",
    "5 m² of кто-то, été/hiver and #été",
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MARKED[0], MARKED[0].split()),
        (
            MARKED[8],
            ["café", "'s", "au", "lait", "été", "/", "hiver", "tiếng", "việt"],
        ),
        (MARKED[9], ["क्", "ष", "می", "خواهم", "a", "dog", "a", "b", "hello", "a", "b", "abc"]),
        (MARKED[10], ["a", "dog", "\u2764", "1", "one"]),
        ("မြန်မာ ខ្មែរ ಕನ್ನಡ", ["မြန်မာ", "ខ្មែរ", "ಕನ್ನಡ"]),  # whose marks Java's tokenizer leaves out
    ],
)
def test_marks_belong_to_their_letters_and_what_nobody_sees_is_no_word(text, words):
    assert tokenize(text) == words
    assert tokenize(detokenize(words)) == words


def test_words_with_marks_are_those_of_the_java_tokenizer(capfd):
    if shutil.which("java") is None:
        pytest.skip("needs Java to run the tokenizer of coco-caption")
    java = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    theirs = java.tokenize({i: [{"caption": text}] for i, text in enumerate(MARKED)})
    capfd.readouterr()
    assert {text: tokenize(text) for text in MARKED} == {
        t: theirs[i][0].split() for i, t in enumerate(MARKED)
    }


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
