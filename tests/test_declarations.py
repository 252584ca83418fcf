"""Functions are declared in SQL by hand and found in the library by name alone: here both are held against each other."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from signatures import Type, signatures

# What Rust leaves open, and what the declarations may say there: arguments by their place, from 0, or the result.
IDS = {"text", "bigint", "uuid"}
SPECIFIC = {
    ("recommend", 1): IDS,
    ("explain", 1): IDS,
    ("explain", 2): IDS,
    ("similar_items", 1): IDS,
    ("similar_users", 1): IDS,
    # What is denied, of another type than the basket.
    ("recommend", 6): {"anycompatiblearray"},
    ("recommend_all", 4): {"anycompatiblearray"},
    ("recommend_for_items", 6): {"anycompatiblearray"},
    # The cast to a type that is stored as real[].
    ("numbers", 0): {f"{number}[]" for number in ("real", "double precision", "numeric", "smallint", "integer", "bigint")},
    ("numbers", "result"): {"reco.numbers"},
    ("numbers_in", "result"): {"reco.numbers"},
    ("synthesize", "result"): {"jsonb"},
    ("augment", "result"): {"jsonb"},
    ("synthesize_related", "result"): {"text", "jsonb"},
    # Of any type that both can have.
    **{(f"confusion{of}_accum", place): {"anycompatible"} for of in ("", "_average") for place in (1, 2)},
    ("top_k_final", "result"): {"reco.scored_item[]"},
    ("loss_stats_final", "result"): {"reco.loss_summary"},
    # A role is stored as its oid, which is handed over as a number of four bytes.
    ("role_in", "result"): {"reco.role"},
    ("role_out", 0): {"reco.role"},
}
# Window functions are handed the window, out of which they read their arguments by number.
READ_BY_HAND = {
    "importance_of_text": [["real[]", "reco.numbers"], ["text"], ["text"]],
    "importance_of_number": [["real[]", "reco.numbers"], ["double precision"], ["text"]],
    "importance_of_truth": [["real[]", "reco.numbers"], ["boolean"], ["text"]],
    "importance_weights": [["double precision"], ["text"], ["double precision"]],
}

DECLARED = """
    SELECT p.oid::regprocedure::text, p.prosrc, p.proisstrict, p.proretset,
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n),
           format_type(p.prorettype, NULL),
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proallargtypes, p.proargmodes) WITH ORDINALITY AS a (t, mode, n)
                  WHERE mode IN ('o', 't', 'b') ORDER BY n)
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
      JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND d.deptype = 'e'
     WHERE e.extname = 'pg_reco' AND l.lanname = 'c'"""


def differences(library, declared, canonical):
    """What does not fit, in words: `library` has signatures by name, `canonical` gives a type's name as PostgreSQL writes it."""
    found = []

    def compare(function, name, place, rust, sql):
        made = canonical(rust.sql)
        allowed = SPECIFIC.get((name, place), {made, "reco.numbers"} if made == "real[]" and place != "result" else {made})
        if sql not in allowed:
            found.append(f"{function}: {'result' if place == 'result' else f'argument {place + 1}'} is {sql} in SQL and {rust.rust} in Rust")

    for function, source, strict, is_set, arguments, result, columns in declared:
        name = source.removesuffix("_wrapper")
        signature = library.get(name)
        if signature is None:
            found.append(f"{function}: the library has no {source}")
            continue
        if name in READ_BY_HAND:
            read = READ_BY_HAND[name]
            if signature.arguments or len(arguments) != len(read) or not all(sql in types for sql, types in zip(arguments, read, strict=True)):
                found.append(f"{function}: reads {READ_BY_HAND[name]} by hand")
        elif len(arguments) != len(signature.arguments):
            found.append(f"{function}: {len(arguments)} arguments in SQL and {len(signature.arguments)} in Rust")
        else:
            for place, (rust, sql) in enumerate(zip(signature.arguments, arguments, strict=True)):
                compare(function, name, place, rust, sql)
            if not strict and not all(argument.optional for argument in signature.arguments):
                found.append(f"{function}: Rust cannot take NULL and SQL does not say STRICT")
        if is_set != (signature.kind != "one"):
            found.append(f"{function}: {'a set' if is_set else 'one value'} in SQL, {signature.kind} in Rust")
        results = columns if signature.kind == "table" and columns else [result]
        if len(results) != len(signature.results):
            found.append(f"{function}: {len(results)} columns in SQL and {len(signature.results)} in Rust")
            continue
        for rust, sql in zip(signature.results, results, strict=True):
            compare(function, name, "result", rust, sql)
    called = {source.removesuffix("_wrapper") for _, source, *_ in declared}
    return found + [f"{name}: not declared in SQL" for name in sorted(set(library) - called)]


@pytest.fixture(scope="module")
def library():
    folder = subprocess.run(["pg_config", "--pkglibdir"], check=True, capture_output=True, text=True).stdout.strip()
    return signatures(Path(folder, "pg_reco.so").read_bytes())


@pytest.fixture
def declared(rows):
    return rows(DECLARED)


@pytest.fixture
def canonical(scalar):
    names = {}

    def name(sql):
        if sql is not None and sql not in names:
            names[sql] = scalar("SELECT format_type(to_regtype(%s), NULL)", sql.lower())
        return names.get(sql)

    return name


def test_every_function_is_declared_as_it_is_written(library, declared, canonical):
    assert differences(library, declared, canonical) == []
    assert len(declared) > 80


def test_a_wrong_declaration_is_found(library, declared, canonical):
    wide = Type("f64", "double precision", False)
    narrow = library["cosine_similarity"]
    wrong = [
        ("in SQL and f64 in Rust", replace(narrow, arguments=(wide, narrow.arguments[1]))),
        ("2 arguments in SQL and 1 in Rust", replace(narrow, arguments=narrow.arguments[:1])),
        ("result is real in SQL and f64 in Rust", replace(narrow, results=(wide,))),
        ("one value in SQL, set in Rust", replace(narrow, kind="set")),
    ]
    for said, signature in wrong:
        found = differences(library | {"cosine_similarity": signature}, declared, canonical)
        assert len(found) == 2 and all(said in difference for difference in found), found
    loose = [(function, source, False, *rest) if source == "warm_wrapper" else (function, source, _, *rest) for function, source, _, *rest in declared]
    assert differences(library, loose, canonical) == ["reco.warm(text): Rust cannot take NULL and SQL does not say STRICT"]
    assert differences(library | {"other": narrow}, declared, canonical) == ["other: not declared in SQL"]
    assert differences({name: each for name, each in library.items() if name != "warm"}, declared, canonical) == [
        "reco.warm(text): the library has no warm_wrapper"
    ]
