"""Parts of speech of a caption's words, by lists and rules: the words of captions are few.

Closed classes are listed. Of the other words one is a verb by a list of what is done in photos or by its
ending, an adjective by a list, else a noun; the words beside it decide what can be both ("a run", "two dogs
run"). docs/explorer.md says how often that is right.
"""

from __future__ import annotations

from collections.abc import Sequence

PARTS = ("noun", "verb", "adjective", "determiner", "preposition", "other")


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = word_set(
    "a an the this that these those another each every some any no all both his her its their"
)
_PREPOSITIONS = word_set(
    """about above across after against along alongside amid amidst among amongst around as at atop before
    behind below beneath beside besides between beyond by down during for from in inside into like near of off
    on onto out outside over past through throughout to toward towards under underneath up upon via with
    within without"""
)
_ADJECTIVES = word_set(
    """black white red brown yellow green blue orange pink purple grey gray tan beige blond blonde golden
    silver colorful colourful multicolored bright dark pale clear plaid checkered striped patterned floral
    young old older younger elderly adult teenage little small tiny big large larger smaller huge giant tall
    short long high low wide narrow steep deep shallow thin thick wet dry hot cold warm frozen fresh open
    closed empty full busy crowded round flat rough smooth soft hard heavy sharp dirty clean muddy sandy snowy
    grassy rocky icy foggy sunny windy dusty furry fluffy hairy shaggy curly fuzzy leafy wooden wooded paved
    rural urban public formal casual colored different several many few more most various other same next
    single lone alone own happy sad funny silly nice beautiful pretty cute fancy bald bare barefoot shirtless
    topless naked airborne male female african asian american german indian japanese chinese oriental military
    professional martial outdoor indoor inflatable homeless dead asleep ready visible upper oncoming quick
    stuffed skinny plastic electric natural metallic rusty broken real"""
)
_OTHERS = word_set(
    """and or but nor so while whilst when where which who whom whose what if because than then though he him
    she it they them i you we us me himself herself itself themselves someone something somebody others is are
    was were be been being am has have had having does do did can could will would may might not n't 's two
    three four five six seven eight nine ten one there here very just only together away apart outdoors
    indoors nearby upside-down sideways headfirst forward backwards ahead also too almost really back downhill
    uphill underwater"""
)
"""Pronouns, conjunctions, auxiliaries, numbers and adverbs."""

_VERBS = word_set(
    """appear attempt balance bite blow bounce carry catch chase chew clap climb come compete cross crawl
    dance dig dive do drink drive eat enjoy enter examine face fall fetch fight float fly follow gather get
    give go grab grind hang have help hit hold hop hug jog jump kick kiss kneel laugh lay lead lean leap leave
    lick lie look make move pass perform play point pose prepare pull push put race raise reach read relax
    rest ride roll run say see shake shoot show sing sit skate ski sleep slide smell smile sniff speak spin
    splash spray stand stare stop surf swim swing take talk throw toss travel try tug turn use wade wait wake
    walk watch wear work wrestle"""
)
_PAST = word_set(
    """held thrown fallen seen caught worn ridden lit made shown taken sat stood ran left given done gone
    woven driven blown built hung laid led thrown surrounded"""
)
_NOUNS = word_set(
    """bed sled shed building ceiling clothing earring evening king morning painting railing ring string thing
    wedding wing parking grass dress glass cross bus gas glasses pants shorts jeans sunglasses clothes
    stairs"""
)
_PLURALS = word_set("people children men women kids police")
_CLOSING = _PREPOSITIONS | _OTHERS | _DETERMINERS


def parts_of_speech(words: Sequence[str]) -> tuple[str, ...]:
    """The part of speech of every word of a caption, one of PARTS.

    words: lower case, as of `tokenize` and of a `Caption`.
    """
    found: list[str] = []
    for t, word in enumerate(words):
        before = words[t - 1] if t else ""
        after = words[t + 1] if t + 1 < len(words) else ""
        found.append(_part(word, before, found[-1] if t else "", after))
    return tuple(found)


def _part(word: str, before: str, part_before: str, after: str) -> str:
    named = part_before in ("determiner", "adjective")  # what follows is named or described
    closing = not after or after in _CLOSING
    if word in ("her", "that", "all", "both") and (closing or (word == "that" and part_before == "noun")):
        return "other"
    if word == "to" and _stem(after) == after in _VERBS:
        return "other"
    for part, listed in (
        ("determiner", _DETERMINERS),
        ("preposition", _PREPOSITIONS),
        ("adjective", _ADJECTIVES),
        ("other", _OTHERS),
        ("noun", _NOUNS),
    ):
        if word in listed:
            return part
    if word in _PAST:
        return "verb"
    if _stem(word) in _VERBS:
        if word != _stem(word):  # "runs": a verb, but for "the runs" and "on swings"
            return "noun" if named or part_before == "preposition" else "verb"
        subject = before in _PLURALS or (part_before == "noun" and before.endswith("s"))
        return "verb" if subject or part_before in ("other", "verb") else "noun"
    if len(word) > 4 and word.endswith(("ing", "ed")):
        return "adjective" if word.endswith("ed") and named and not closing else "verb"
    return "other" if word.endswith("ly") else "noun"


def _stem(word: str) -> str:
    """A verb without the -s of the third person: runs, watches, carries."""
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith("es") and word[:-2] in _VERBS:
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
