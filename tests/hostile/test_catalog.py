"""Every function of the extension, called by a victim on what the attacker made: it leaves the victim's session as it was."""

import psycopg
import pytest
from cases import CASES, by_hand, is_internal, key_of

SIGNATURES = """
    SELECT CASE n.nspname WHEN 'reco' THEN '' ELSE n.nspname || '.' END || p.proname || '(' || coalesce((SELECT string_agg(format_type(t, NULL), ',' ORDER BY place)
                                           FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, place)), '') || ')'
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'pg_reco'
     ORDER BY 1"""

REFUSED = (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege)


@pytest.fixture
def signatures(stage):
    with stage.connect(dbname="hostile") as admin:
        return [signature for (signature,) in admin.execute(SIGNATURES).fetchall()]


@pytest.fixture
def there(signatures, key):
    """Of a case without a function another test tells."""
    if key not in map(key_of, signatures):
        pytest.skip(f"there is no function {key}")


def test_every_function_has_a_case(signatures):
    """A function that is new gets its calls in cases.py."""
    without = [signature for signature in signatures if not is_internal(signature) and key_of(signature) is None]
    assert without == []


def test_every_case_is_of_a_function(signatures):
    assert CASES.keys() - {key_of(signature) for signature in signatures} == set()


@pytest.mark.parametrize("key", CASES)
def test_a_call_leaves_the_session_as_it_was(victim, key, there):
    victim.open_cursor("WITH HOLD")
    with victim.unchanged(key):
        for statement in CASES[key]:
            victim.run(statement)
            victim.read_on()


@pytest.mark.parametrize("key", CASES)
def test_names_are_looked_up_in_pg_catalog_whatever_the_path(misled, key, there):
    """The functions, operators, types and tables that stand before PostgreSQL's own are not taken for them."""
    with misled.unchanged(key):
        for statement in CASES[key]:
            misled.run(statement)


def test_what_aggregates_call_is_not_for_hands(victim, signatures):
    with victim.unchanged("calls by hand"):
        for signature in signatures:
            if is_internal(signature):
                with pytest.raises(REFUSED):
                    victim.run(by_hand(signature))
