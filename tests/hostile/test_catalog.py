"""Every function of the extension, called by a victim on what the attacker made: it leaves the victim's session as it was."""

import psycopg
import pytest
from cases import CASES, INTERNAL, by_hand, key_of

SIGNATURES = """
    SELECT p.proname || '(' || coalesce((SELECT string_agg(format_type(t, NULL), ',' ORDER BY n)
                                           FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, n)), '') || ')'
      FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'pg_reco'
     ORDER BY 1"""


@pytest.fixture
def signatures(stage):
    with stage.connect(dbname="hostile") as admin:
        return [signature for (signature,) in admin.execute(SIGNATURES).fetchall()]


def test_every_function_has_a_case(signatures):
    """A function that is new gets its calls in cases.py."""
    without = [signature for signature in signatures if INTERNAL not in signature and key_of(signature) is None]
    assert without == []


def test_every_case_is_of_a_function(signatures):
    assert CASES.keys() - {key_of(signature) for signature in signatures} == set()


@pytest.mark.parametrize("key", CASES)
def test_a_call_leaves_the_session_as_it_was(victim, key):
    victim.open_cursor("WITH HOLD")
    for statement in CASES[key]:
        with victim.unchanged(statement, but=made_by(statement)):
            victim.run(statement)
        victim.read_on()


@pytest.mark.parametrize("key", CASES)
def test_names_are_looked_up_in_pg_catalog_whatever_the_path(misled, key):
    """The functions, operators, types and tables that stand before PostgreSQL's own are not taken for them."""
    for statement in CASES[key]:
        with misled.unchanged(statement, but=made_by(statement)):
            misled.run(statement)


def test_what_aggregates_call_is_not_for_hands(victim, signatures):
    for signature in signatures:
        if INTERNAL in signature:
            with victim.unchanged(signature), pytest.raises((psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFunction)):
                victim.run(by_hand(signature))


def made_by(statement):
    """A call that makes or drops something has changed what there is."""
    makes = statement.startswith(("CREATE", "DROP")) or "reco.create_" in statement
    return ("relations", "functions") if makes else ()
