"""Texts in other words on the server: numbers, sizes, models and brands stay, what strays too far is left out, odd input is told by name."""

import json

import pytest
from psycopg import errors
from reference import TextModel, cosine

ENGLISH = "all-minilm-l6-v2"
MULTILINGUAL = "use-multilingual-v3"
# Plain WordNet would make Brother a buddy.
LEXICON = [
    ("brother", "buddy"), ("soda", "soft drink"), ("soda", "carbonated drink"), ("cookies", "biscuits"), ("chips", "crisps"),
    ("ice cream", "frozen dessert"), ("printer", "printing machine"), ("detergent", "washing liquid"), ("酱油", "豉油"),
    ("洗发水", "洗发露"), ("饼干", "曲奇"), ("牛奶", "鲜奶"),
]  # fmt: skip
TITLES = [
    "Brother laser printer HL-L2350DW, 1 ct",
    "TIDE LIQUID LAUNDRY DETERGENT 50 FL OZ",
    "Pepsi cherry soda 12-pack 355 ml",
    "chocolate chip cookies by Keebler, 14.3 oz",
    "Lay's Potato Chips 8 OZ",
    "Breyers vanilla ice cream 1.5 qt",
]
CHINESE = ["海天特级酱油 500毫升", "清扬男士洗发水750ml", "奥利奥夹心饼干 三盒装", "伊利全脂牛奶 250ml x 12盒"]
STAY = [
    ["Brother", "HL-L2350DW", "1 ct"], ["TIDE", "50 FL OZ"], ["Pepsi", "12-pack", "355 ml"], ["Keebler", "14.3 oz"],
    ["Lay's", "8 OZ"], ["Breyers", "1.5 qt"], ["海天", "500毫升"], ["清扬", "750ml"], ["奥利奥", "三盒装"], ["伊利", "250ml x 12盒"],
]  # fmt: skip


@pytest.fixture
def augment(db, rows):
    """[(ordinal, text, similarity)] of a call of reco.augment_text; options by name."""
    db.execute("CREATE TEMP TABLE lexicon (word text, synonym text)")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO lexicon VALUES (%s, %s)", [*LEXICON, ("chips", None), (None, "x")])

    def run(texts, n=1, method="mixed", seed=0, **options):
        kind = "text[]" if isinstance(texts, list) else "text"
        call = f"SELECT * FROM reco.augment_text(%s::{kind}, %s, %s, %s, %s)"
        return rows(call, texts, n, method, json.dumps(options), seed)

    return run


@pytest.mark.parametrize("method", ["mixed", "synonym", "swap", "delete", "insert"])
def test_numbers_sizes_models_and_brands_stay_whatever_the_method(augment, method):
    titles = TITLES + CHINESE
    found = augment(titles, 8, method, model=MULTILINGUAL, least_similarity=0.3, lexicon="TABLE lexicon")
    assert len({ordinal for ordinal, *_ in found}) >= 2
    for ordinal, text, similarity in found:
        assert text != titles[ordinal - 1]
        assert all(part in text for part in STAY[ordinal - 1]), text
        assert "buddy" not in text.lower()
        assert 0.3 <= similarity <= 1
    assert len({(ordinal, text) for ordinal, text, _ in found}) == len(found)


def test_synonyms_take_the_case_of_the_text(augment):
    found = augment(TITLES + CHINESE, 5, "synonym", model=None, lexicon="TABLE lexicon")
    texts = {text for _, text, _ in found}
    assert {
        "Pepsi cherry soft drink 12-pack 355 ml",
        "TIDE LIQUID LAUNDRY WASHING LIQUID 50 FL OZ",
        "Lay's Potato Crisps 8 OZ",
        "Breyers vanilla frozen dessert 1.5 qt",
        "海天特级豉油 500毫升",
        "奥利奥夹心曲奇 三盒装",
    } <= texts
    assert all(similarity is None for *_, similarity in found)


def test_similarities_are_those_of_the_model_and_the_bound_holds(augment):
    reference = TextModel(ENGLISH)
    found = augment(TITLES, 3, "mixed", least_similarity=0.8, lexicon="TABLE lexicon")
    assert found
    for ordinal, text, similarity in found:
        assert similarity == pytest.approx(cosine(reference.embed(TITLES[ordinal - 1]), reference.embed(text)), abs=1e-3)
        assert similarity >= 0.8
    near = augment(TITLES, 3, "mixed", least_similarity=0.97, lexicon="TABLE lexicon")
    assert all(similarity >= 0.97 for *_, similarity in near)
    assert augment(TITLES, 3, "synonym", least_similarity=1, lexicon="TABLE lexicon") == []


def test_neighbors_are_words_of_the_corpus(augment, db):
    db.execute(
        """CREATE TEMP TABLE product AS SELECT brand || ' ' || kind || ' ' || size AS text
             FROM unnest(ARRAY['Acme', 'Zenith', 'Tide']) brand, unnest(ARRAY['12 oz', '3 ct']) size,
                  unnest(ARRAY['sweet cookies', 'sweet cookie', 'dog biscuits', 'strong detergent', 'strong detergents']) kind"""
    )
    found = augment("Keebler sweet cookies 14 oz", 9, "neighbor", least_similarity=0.5, corpus="TABLE product")
    assert "Keebler sweet cookie 14 oz" in {text for _, text, _ in found}
    assert [ordinal for ordinal, *_ in found] == list(range(1, len(found) + 1))
    # Tide stands where brands do: it is one in the middle of a text too.
    assert augment("NEW STRONG TIDE 3 CT", 9, "delete", least_similarity=0, corpus="TABLE product") == []
    assert augment("NEW STRONG WAVE 3 CT", 9, "delete", least_similarity=0, corpus="TABLE product") != []


def test_the_same_seed_gives_the_same_texts_and_options_are_heard(augment):
    text = "cold cherry soda with sweet chocolate cookies and salty potato chips"
    plain = dict(least_similarity=0, lexicon="TABLE lexicon")
    assert augment(text, 10, **plain) == augment(text, 10, **plain)
    assert augment(text, 10, seed=1, **plain) != augment(text, 10, seed=2, **plain)
    assert augment(text, 10, **plain)[:4] == augment(text, 4, **plain)
    assert all("cherry soda" in found for _, found, _ in augment(text, 20, keep=["Cherry Soda"], **plain))
    one = augment(text, 20, "synonym", **plain)
    several = augment(text, 20, "synonym", rate=1, **plain)
    assert all(len(set(text.split()) - set(found.split())) == 1 for _, found, _ in one)
    assert any(len(set(text.split()) - set(found.split())) > 1 for _, found, _ in several)
    assert augment("soda 1 L", 3, "synonym", **plain) == []
    assert len(augment("soda 1 L", 3, "synonym", first_word="free", **plain)) == 2


def test_null_and_texts_without_words_have_no_variants(augment):
    bare = dict(least_similarity=0, lexicon="TABLE lexicon")
    assert augment(None, 3, **bare) == []
    assert augment([], 3, **bare) == []
    assert augment(TITLES, 0, **bare) == []
    for text in ["", "  ", "WH-1000XM4", "750 ml", "…"]:
        assert augment(text, 3, **bare) == []
    found = augment([None, "cold soda", None, "hot chips"], 1, "synonym", **bare)
    assert [ordinal for ordinal, *_ in found] == [2, 4]


@pytest.mark.parametrize(
    "call, raised, message",
    [
        (dict(method="magic"), errors.InvalidParameterValue, 'unknown method "magic"'),
        (dict(method=None), errors.InvalidParameterValue, 'argument "method" must not be null'),
        (dict(n=-1), errors.InvalidParameterValue, "invalid value for n: -1"),
        (dict(n=None), errors.InvalidParameterValue, 'argument "n" must not be null'),
        (dict(seed=None), errors.InvalidParameterValue, 'argument "seed" must not be null'),
        (dict(method="synonym"), errors.InvalidParameterValue, 'option "lexicon" must not be null'),
        (dict(model=None), errors.InvalidParameterValue, 'option "lexicon" must not be null'),
        (dict(method="neighbor"), errors.InvalidParameterValue, 'option "corpus" must not be null'),
        (dict(method="insert"), errors.InvalidParameterValue, 'option "lexicon" must not be null'),
        (dict(method="swap", model=None), errors.InvalidParameterValue, 'option "model" must not be null'),
        (dict(method="swap", model=None, least_similarity=0.5), errors.InvalidParameterValue, 'option "model" must not be null'),
        (dict(method="neighbor", model=None, least_similarity=0, corpus="SELECT 'a' AS text"), errors.InvalidParameterValue, 'option "model" must not be null'),
        (dict(model="nothing"), errors.UndefinedObject, 'model "nothing" does not exist'),
        (dict(model=7), errors.InvalidParameterValue, 'invalid value for option "model": 7'),
        (dict(model="efficientnet-lite0"), errors.WrongObjectType, "is for image_embedding, not for text_embedding"),
        (dict(keep="Brother"), errors.InvalidParameterValue, 'invalid value for option "keep": "Brother"'),
        (dict(rate=2), errors.InvalidParameterValue, 'invalid value for option "rate": 2'),
        (dict(least_similarity=-1), errors.InvalidParameterValue, 'invalid value for option "least_similarity": -1'),
        (dict(speed=1), errors.InvalidParameterValue, 'unknown option "speed" of augment_text'),
        (dict(lexicon="SELECT 'a' AS word"), errors.UndefinedColumn, 'no column "synonym"'),
        (dict(lexicon="SELECT 1 AS word, 'b' AS synonym"), errors.DatatypeMismatch, 'column "word" has type integer'),
        (dict(lexicon="DELETE FROM lexicon RETURNING *"), errors.InvalidParameterValue, 'argument "lexicon" must be a read-only query'),
        (dict(corpus="SELECT 'a' AS title"), errors.UndefinedColumn, 'no column "text"'),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_by_name(augment, call, raised, message):
    with pytest.raises(raised, match=message):
        augment("cold cherry soda", **call)


def test_queries_run_with_the_callers_rights(db, role):
    db.execute("CREATE TABLE secret_lexicon AS SELECT 'soda' AS word, 'pop' AS synonym")
    try:
        stranger = role("stranger", "reco_trainer")
        options = json.dumps({"lexicon": "TABLE secret_lexicon", "model": None})
        with pytest.raises(errors.InsufficientPrivilege, match="secret_lexicon"):
            stranger.execute("SELECT * FROM reco.augment_text('cold soda', options => %s)", [options])
    finally:
        db.execute("DROP TABLE secret_lexicon")
