"""Sentences whose verb must agree with a subject far before it."""

import pytest

from tidegate.data import agreement
from tidegate.data.agreement import RELATIVES, SENTENCE, generate, read_treebank, tokenize
from tidegate.data.agreement import _words as words
from tidegate.errors import InputError

NUMBER = {
    form: number
    for noun in words.NOUNS
    for number in ("singular", "plural")
    for form in (
        noun.form(number),
        words.linked(noun.form(number)),
        words.defined(noun.form(number)),
    )
}
VERBS = {
    form: number
    for _, *forms in words.PREDICATES
    for form, number in zip(forms, ("singular", "plural"), strict=True)
}


def people(pair) -> list[str]:
    """Number of each human noun after the subject."""
    return [NUMBER[word] for word in pair.words[pair.subject + 1 :] if word in NUMBER]


@pytest.mark.parametrize("distance", [3, 25, 64, 168])
def test_the_distance_is_the_one_asked_for(distance):
    pairs = generate(50, distance=distance)
    assert {pair.distance for pair in pairs} == {distance}


def test_the_nouns_between_are_those_asked_for():
    pairs = generate(300, distance=(20, 40), attractors=(1, 3), companions=2, seed=1)
    for pair in pairs:
        other = "plural" if pair.number == "singular" else "singular"
        assert people(pair).count(other) == pair.attractors
        assert people(pair).count(pair.number) == 2
    assert {pair.attractors for pair in pairs} == {1, 2, 3}
    assert {pair.relative for pair in pairs} == set(RELATIVES)


def test_the_right_verb_has_the_number_of_the_subject():
    for pair in generate(300, seed=2):
        counted = pair.words[pair.subject - 1] in words.NUMERALS if pair.subject else False
        assert VERBS[pair.good] == pair.number != VERBS[pair.bad]
        assert NUMBER[pair.words[pair.subject]] == ("singular" if counted else pair.number)


def test_the_verb_of_a_conflicting_clause_has_the_other_number():
    for pair in generate(100, relative=["conflicting"], attractors=1, distance=30, seed=3):
        after = pair.words[pair.words.index(words.WHO) :]
        clause = {" ".join(after[2:3]), " ".join(after[2:4])}
        forms = [form for verb in words.RELATIVE_VERBS for form in verb if form in clause]
        assert people(pair)[0] != pair.number
        assert forms[0].endswith("ند") == (pair.number == "singular")


def test_nothing_but_the_subject_gives_the_verb_away():
    pairs = generate(3000, seed=4)
    with_people = [pair for pair in pairs if people(pair)]
    plural = sum(pair.number == "plural" for pair in pairs) / len(pairs)
    nearest = sum(people(pair)[-1] == pair.number for pair in with_people) / len(with_people)
    first = sum(people(pair)[0] == pair.number for pair in with_people) / len(with_people)
    assert plural == pytest.approx(0.5, abs=0.03)
    assert nearest == pytest.approx(0.5, abs=0.05)
    assert first == pytest.approx(0.5, abs=0.08)  # a subject's clause may name either


def test_the_same_seed_gives_the_same_sentences():
    assert generate(20, seed=5) == generate(20, seed=5) != generate(20, seed=6)


def test_every_word_is_in_the_vocabulary_and_spelt_in_persian():
    known = agreement.vocabulary()
    said = {word for pair in generate(500) for word in (*pair.words, pair.good, pair.bad)}
    assert said <= set(known)
    assert not set("يكىۀة ") & set("".join(known))
    assert all(tokenize(word) == [word] for word in known)


def test_nouns_are_inflected_by_their_last_letter():
    half = words.HALF_SPACE
    forms = [
        (noun.plural, words.linked(noun.singular), words.defined(noun.singular))
        for noun in map(words.Noun, ("معلم", "نویسنده", "دانشجو", "مربی"))
    ]
    assert forms == [
        ("معلمان", "معلم", "معلمی"),
        ("نویسندگان", "نویسنده\u0654", f"نویسنده{half}ای"),
        ("دانشجویان", "دانشجوی", "دانشجویی"),
        ("مربیان", "مربی", f"مربی{half}ای"),
    ]


def test_the_sentence_of_the_tutorial_is_one_of_the_grammar():
    assert SENTENCE.right.startswith("دانش\u200cآموزان ")
    assert SENTENCE.right.endswith(" دست پیدا کردند")
    assert set(SENTENCE.words) <= set(agreement.vocabulary())
    assert (SENTENCE.attractors, SENTENCE.number) == (people(SENTENCE).count("singular"), "plural")
    typed = SENTENCE.right.replace("\u200c", " ").replace("ی", "ي").replace("ک", "ك") + "."
    assert tokenize(typed) == SENTENCE.right.split()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"distance": 0}, "distance must be"),
        ({"attractors": (3, 1)}, "attractors must be"),
        ({"relative": ["whose"]}, "relative must be"),
        ({"number": "plural"}, "number must be"),
        ({"distance": 4, "attractors": 3}, "allow a larger distance"),
        ({"relative": ["conflicting"], "attractors": 0}, "other relative clauses"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        generate(1, **arguments)


# --- treebanks -------------------------------------------------------------------------------

SING, PLUR = "Number=Sing", "Number=Plur"


def verb(number: str, tense: str = "|Tense=Past") -> str:
    return f"{number}|Person=3{tense}"


def conllu(*rows: tuple) -> str:
    """A sentence from (form, lemma, kind, tag, features, head, relation)."""
    lines = []
    for id, (form, lemma, kind, tag, features, head, relation) in enumerate(rows, start=1):
        lines.append(
            "\t".join([str(id), form, lemma, kind, tag, features, str(head), relation, "_", "_"])
        )
    return "# text = …\n" + "\n".join(lines) + "\n\n"


TEACHERS = conllu(
    ("معلمان", "معلم", "NOUN", "N_ANM", PLUR, 5, "nsubj"),
    ("برای", "برای", "ADP", "PREP", "_", 3, "case"),
    ("کودک", "کودک", "NOUN", "N_ANM", SING, 5, "obl"),
    ("نامه", "نامه", "NOUN", "N_IANM", SING, 5, "obj"),
    ("نوشتند", "نوشت", "VERB", "V_ACT", verb(PLUR), 0, "root"),
)
HOUSES = conllu(
    ("خانه‌ها", "خانه", "NOUN", "N_IANM", PLUR, 2, "nsubj"),
    ("ریختند", "ریخت", "VERB", "V_ACT", verb(PLUR), 0, "root"),
)
RESPECT = conllu(
    ("معلم", "معلم", "NOUN", "N_ANM", SING, 2, "nsubj"),
    ("نوشتند", "نوشت", "VERB", "V_ACT", verb(PLUR), 0, "root"),
)
BOTH = conllu(
    ("معلم", "معلم", "NOUN", "N_ANM", SING, 4, "nsubj"),
    ("و", "و", "CCONJ", "CONJ", "_", 3, "cc"),
    ("کودک", "کودک", "NOUN", "N_ANM", SING, 1, "conj"),
    ("نوشت", "نوشت", "VERB", "V_ACT", verb(SING), 0, "root"),
)
FUTURE = conllu(
    ("معلم", "معلم", "NOUN", "NOUN", SING, 3, "nsubj"),  # of a treebank that marks no animacy
    ("خواهد", "خواست", "AUX", "AUX", verb(SING, "|Tense=Fut|VerbForm=Fin"), 3, "aux"),
    ("نوشت", "نوشت", "VERB", "V_ACT", verb(SING), 0, "root"),
)
CLITIC = TEACHERS.replace("3\tکودک", "3-4\tکودکش\t_\t_\t_\t_\t_\t_\t_\t_\n3\tکودک").replace(
    "4\tنامه", "4\tش"
)


@pytest.fixture
def folder(tmp_path):
    def write(*sentences: str):
        (tmp_path / "fa.conllu").write_text("".join(sentences), "utf-8")
        return tmp_path

    return write


def test_a_treebank_gives_pairs(folder):
    (pair,) = read_treebank(folder(TEACHERS)).pairs
    assert pair.words == ("معلمان", "برای", "کودک", "نامه")
    assert (pair.good, pair.bad, pair.number) == ("نوشتند", "نوشت", "plural")
    assert (pair.subject, pair.distance, pair.attractors) == (0, 4, 2)


def test_inanimate_coordinated_and_disagreeing_subjects_are_left_out(folder):
    treebank = read_treebank(folder(TEACHERS, HOUSES, RESPECT, BOTH))
    assert len(treebank.pairs) == 1
    assert treebank.disagreeing == 1
    assert treebank.number == {"نوشتند": "plural", "ریختند": "plural", "نوشت": "singular"}


def test_the_verb_that_carries_the_number_is_the_helper(folder):
    pair = read_treebank(folder(TEACHERS, FUTURE)).pairs[1]
    assert (pair.good, pair.bad, pair.words) == ("خواهد", "خواهند", ("معلم",))


def test_a_word_of_several_tokens_is_one_word(folder):
    (pair,) = read_treebank(folder(CLITIC)).pairs
    assert pair.words == ("معلمان", "برای", "کودکش")


def test_what_is_no_treebank_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        read_treebank(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no file that ends in"):
        read_treebank(tmp_path)
    (tmp_path / "a.conllu").write_text("1\tword\n", "utf-8")
    with pytest.raises(InputError, match="line 1: a line of CoNLL-U has 10 fields, not 2"):
        read_treebank(tmp_path)
    (tmp_path / "a.conllu").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 text: byte 0"):
        read_treebank(tmp_path)
