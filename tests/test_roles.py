"""Who may call what: the predefined roles, the schema that the extension takes, and whose a new version is."""

import psycopg
import pytest
import tiny
from psycopg import errors
from psycopg import sql as identifiers

PREDEFINED = ("reco_trainer", "reco_importer", "reco_reader", "reco_dumper")

# Every function, by who may call it: a name is in one class, with all functions of that name.
CLASSES = {
    # What serves, embeds and computes, what measures rows that the caller may read, and what manages the caller's own models.
    ("public", "reco_trainer", "reco_importer", "reco_reader", "reco_dumper"): """
        accuracy auc average_precision brier calibration compare_models compare_search confusion cosine_similarity describe_model dot_product drop_model
        embed embed_image embed_images embed_query evaluate evaluate_search explain export_model f1 fuse grant_model highlight importance_histogram
        importance_weights lift log_loss loss_stats mae mean_embedding model_name model_users ndcg precision_score predict predict_query promote_model prune_versions r2
        rate recall_score recommend recommend_all recommend_for_items related_queries rerank revoke_model rmse role_in role_out search search_matches
        similar_items similar_users split stat_models stat_progress stat_workers suggest synthesize synthesize_related top_k unload warm""",
    # What trains, refreshes or creates.
    ("reco_trainer",): """
        alignment_weights augment augment_interactions augment_text compare_training create_function create_search_function create_view cross_validate
        find_label_errors importance interaction_importance prune refresh resample_aligned synthetic_report synthetic_report_html train
        train_predictor train_search train_synthesizer tune tune_search""",
    # What brings code into the server.
    ("reco_importer",): "import_model",
    # What acts on everybody.
    (): "cache_folders reset_stat_models revoke_from_public sweep_cache",
}

SALES = "SELECT u AS user_id, i AS item_id FROM generate_series(1, 9) u, generate_series(1, 7) i WHERE (u + i) % 3 > 0"
TRAIN = "SELECT reco.train(%s, %s, 'popularity')"


def test_every_function_is_in_exactly_one_class(rows):
    expected = {name: list(may) for may, names in CLASSES.items() for name in names.split()}
    assert len(expected) == sum(len(names.split()) for names in CLASSES.values()), "a name is in two classes"
    got = rows(
        """SELECT proname, oid::regprocedure::text,
                  ARRAY(SELECT role FROM unnest(%s::text[]) WITH ORDINALITY AS r (role, place) WHERE has_function_privilege(role, oid, 'execute')
                         ORDER BY place)
             FROM pg_proc WHERE pronamespace = 'reco'::regnamespace""",
        ["public", *PREDEFINED],
    )
    assert {name for name, _, _ in got} == expected.keys()
    assert [(signature, may) for name, signature, may in got if may != expected[name]] == []


def test_the_predefined_roles_are_mere_groups(rows):
    got = rows(
        """SELECT rolname, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
                  shobj_description(oid, 'pg_authid') LIKE 'can %%' FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1""",
        list(PREDEFINED),
    )
    assert got == [(name, False, True) for name in sorted(PREDEFINED)]


@pytest.mark.parametrize(
    "call",
    [
        f"reco.train('trained', '{SALES}')",
        f"reco.tune('{SALES}')",
        f"reco.cross_validate('{SALES}')",
        f"reco.train_synthesizer('made', '{SALES}')",
        f"reco.importance('{SALES}', label => 'item_id')",
        "reco.refresh('any')",
        "reco.create_view('any', 'any')",
        "reco.create_function('any', 'any')",
        "reco.create_search_function('any', 'any')",
        "reco.import_model('any', '')",
        "reco.augment_text('a')",
        "reco.reset_stat_models()",
    ],
)
def test_a_role_that_only_logs_in_can_neither_train_nor_create(role, call):
    passerby = role("passerby")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function"):
        passerby.execute(f"SELECT * FROM {call}")


def test_a_trainer_trains_and_manages_its_own_models(role):
    trainer = role("trainer", "reco_trainer")
    assert trainer.execute(TRAIN, ["trained", SALES]).fetchone() == (1,)
    assert trainer.execute("SELECT reco.refresh('trained')").fetchone() == (2,)
    trainer.execute("SELECT reco.promote_model('trained', 1)")
    trainer.execute("SELECT reco.grant_model('trained', 'public')")
    with pytest.raises(errors.InsufficientPrivilege, match="import_model"):
        trainer.execute("SELECT reco.import_model('graph', %b)", [tiny.linear_model()])
    trainer.execute("SELECT reco.drop_model('trained')")


def test_an_importer_imports_and_does_not_train(role):
    importer = role("importer", "reco_importer")
    importer.execute("SELECT reco.import_model('graph', %b)", [tiny.linear_model()])
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function train"):
        importer.execute(TRAIN, ["trained", SALES])
    importer.execute("SELECT reco.drop_model('graph')")


@pytest.fixture
def trained(role):
    """A connection as the owner of the model `trained`, granted to nobody."""
    owner = role("model_owner", "reco_trainer")
    owner.execute(TRAIN, ["trained", SALES])
    yield owner
    owner.execute("SELECT reco.drop_model('trained') WHERE EXISTS (SELECT FROM reco.models WHERE name = 'trained')")


def test_a_reader_sees_every_model_and_changes_none(role, trained, db):
    reader, dumper = role("reader", "reco_reader"), role("dumper", "reco_dumper")
    seen = "SELECT source FROM reco.models WHERE name = 'trained'"
    assert reader.execute(seen).fetchall() == [(SALES,)]
    assert reader.execute("SELECT count(*) FROM reco.recommend('trained', 1)").fetchone()[0] > 0
    assert reader.execute("SELECT count(*) FROM reco.model_users('trained')").fetchone() == (9,)
    assert reader.execute("SELECT model FROM reco.stat_models WHERE model = 'trained'").fetchone()
    for call in ["promote_model('trained', 1)", "drop_model('trained')", "grant_model('trained', 'reader')"]:
        with pytest.raises(errors.InsufficientPrivilege, match="must be owner of model"):
            reader.execute(f"SELECT reco.{call}")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table model"):
        reader.execute("TABLE reco.model")
    # Who dumps reads the tables, and they are all that it may.
    assert dumper.execute(seen).fetchall() == []
    assert dumper.execute("SELECT count(*) FROM reco.model_part WHERE name = 'trained'").fetchone()[0] > 0
    for statement in ["DELETE FROM reco.model", "INSERT INTO reco.model_grant VALUES ('trained', 'dumper')", "UPDATE reco.model SET owner = 'dumper'"]:
        with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table"):
            dumper.execute(statement)
    db.execute("REVOKE reco_reader FROM reader")
    with pytest.raises(errors.InsufficientPrivilege, match='permission denied for model "trained"'):
        reader.execute("SELECT count(*) FROM reco.recommend('trained', 1)")


def test_a_role_that_makes_roles_is_a_member_of_these_where_postgresql_lets_it(role, db):
    maker = role("role_maker")
    db.execute("ALTER ROLE role_maker CREATEROLE")
    if maker.info.server_version >= 160000:
        with pytest.raises(errors.InsufficientPrivilege):
            maker.execute("GRANT reco_reader TO role_maker")
    else:
        maker.execute("GRANT reco_reader TO role_maker")


def test_without_the_readers_role_grants_and_owners_count_as_before(role, trained, db):
    other = role("other")
    trained.execute("SELECT reco.grant_model('trained', 'other')")
    db.execute("ALTER ROLE reco_reader RENAME TO reco_reader_renamed")
    try:
        assert other.execute("SELECT count(*) FROM reco.recommend('trained', 1)").fetchone()[0] > 0
        assert other.execute("SELECT name FROM reco.models WHERE name = 'trained'").fetchall() == [("trained",)]
    finally:
        db.execute("ALTER ROLE reco_reader_renamed RENAME TO reco_reader")


# ------------------------------------------------------------------------------------------------- whose a version is


def test_a_superuser_adds_no_version_to_anothers_name(trained, db):
    """A name may have been taken by somebody else first, who would own what is made under it."""
    calls = {
        "train": (TRAIN, ["trained", SALES]),
        "train_synthesizer": ("SELECT reco.train_synthesizer('trained', %s, 'independent')", [SALES]),
        "import_model": ("SELECT reco.import_model('trained', %b)", [tiny.linear_model()]),
    }
    for call, parameters in calls.values():
        with pytest.raises(errors.InsufficientPrivilege, match='only role "model_owner" can add versions to model "trained"') as error:
            db.execute(call, parameters)
        assert 'SET ROLE "model_owner"' in error.value.diag.message_hint
    assert db.execute("SELECT max(version) FROM reco.models WHERE name = 'trained'").fetchone() == (1,)


def test_a_member_adds_versions_as_the_owner_it_acts_for(trained, role, db):
    member = role("member", "model_owner", "reco_trainer")
    with pytest.raises(errors.InsufficientPrivilege, match='only role "model_owner"'):
        member.execute(TRAIN, ["trained", SALES])
    member.execute("SET ROLE model_owner")
    assert member.execute(TRAIN, ["trained", SALES]).fetchone() == (2,)
    member.execute("RESET ROLE")
    # A refresh reads the owner's query under the owner's rights, whoever asks.
    assert member.execute("SELECT reco.refresh('trained')").fetchone() == (3,)
    assert db.execute("SELECT reco.refresh('trained')").fetchone() == (4,)
    assert db.execute("SELECT DISTINCT owner FROM reco.models WHERE name = 'trained'").fetchall() == [("model_owner",)]
    member.execute("SELECT reco.promote_model('trained', 1)")


def test_a_stranger_is_told_no_more_than_that_a_name_is_anothers(trained, role):
    stranger = role("stranger", "reco_trainer")
    with pytest.raises(errors.InsufficientPrivilege, match='must be owner of model "trained"') as error:
        stranger.execute(TRAIN, ["trained", "SELECT 1/0 AS user_id, 1 AS item_id"])
    assert "model_owner" not in error.value.diag.message_hint


def test_a_model_whose_owner_is_gone_takes_no_versions(trained, db):
    db.execute("UPDATE reco.model SET owner = '' WHERE name = 'trained'")
    try:
        with pytest.raises(errors.InsufficientPrivilege, match='only its owner can add versions to model "trained"') as error:
            db.execute(TRAIN, ["trained", SALES])
        assert "owner no longer exists" in error.value.diag.message_hint
    finally:
        db.execute("UPDATE reco.model SET owner = 'model_owner' WHERE name = 'trained'")


# ------------------------------------------------------------------------------------- the schema and roles it is given


@pytest.fixture
def bare(server):
    """A connection to a database of its own, without the extension."""
    name = identifiers.Identifier("pg_reco_bare")
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(identifiers.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(identifiers.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        with psycopg.connect(server, dbname="pg_reco_bare", autocommit=True) as opened:
            yield opened
        connection.execute(identifiers.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize(
    ("prepared", "error", "said", "hint"),
    [
        ("CREATE SCHEMA reco AUTHORIZATION squatter", errors.InsufficientPrivilege, 'schema "reco" is owned by role "squatter"', "Drop or rename"),
        (
            "CREATE SCHEMA reco; GRANT CREATE ON SCHEMA reco TO squatter",
            errors.InsufficientPrivilege,
            'role "squatter" can create objects in schema "reco"',
            "REVOKE CREATE ON SCHEMA reco FROM squatter",
        ),
        (
            "CREATE SCHEMA reco; GRANT CREATE ON SCHEMA reco TO PUBLIC",
            errors.InsufficientPrivilege,
            'role "public" can create objects in schema "reco"',
            "REVOKE CREATE ON SCHEMA reco FROM PUBLIC",
        ),
        (
            "CREATE SCHEMA reco; CREATE FUNCTION reco.embed(text varchar) RETURNS real[] LANGUAGE sql AS 'SELECT NULL::real[]'",
            errors.DuplicateSchema,
            'schema "reco" is not empty: it contains function reco.embed\\(character varying\\)',
            "another schema",
        ),
        ("CREATE SCHEMA reco; CREATE TYPE reco.en AS ENUM ('a')", errors.DuplicateSchema, "it contains type reco.en", "another schema"),
        # Such an operator must not be found by the check itself.
        (
            """CREATE SCHEMA reco AUTHORIZATION squatter;
               SET ROLE squatter;
               CREATE FUNCTION reco.same(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT true';
               CREATE OPERATOR reco.= (LEFTARG = name, RIGHTARG = name, FUNCTION = reco.same);
               RESET ROLE""",
            errors.InsufficientPrivilege,
            'schema "reco" is owned by role "squatter"',
            "Drop or rename",
        ),
    ],
)  # fmt: skip
def test_a_schema_in_which_others_may_make_objects_is_refused(bare, role, prepared, error, said, hint):
    role("squatter").close()
    bare.execute("GRANT CREATE ON DATABASE pg_reco_bare TO squatter")
    bare.execute(prepared)
    try:
        with pytest.raises(error, match=said) as raised:
            bare.execute("CREATE EXTENSION pg_reco")
        assert hint in raised.value.diag.message_hint
    finally:
        bare.execute("DROP SCHEMA reco CASCADE; DROP OWNED BY squatter")


def test_an_empty_schema_of_a_superuser_is_taken(bare):
    """As a dump makes it, and as DROP EXTENSION leaves it."""
    for statement in ["CREATE SCHEMA reco", "CREATE EXTENSION pg_reco", "DROP EXTENSION pg_reco", "CREATE EXTENSION pg_reco"]:
        bare.execute(statement)


def test_a_role_with_a_predefined_name_that_may_log_in_is_refused(bare):
    try:
        bare.execute("ALTER ROLE reco_trainer LOGIN")
        with pytest.raises(errors.DuplicateObject, match='role "reco_trainer" already exists and can log in or has attributes') as error:
            bare.execute("CREATE EXTENSION pg_reco")
        assert "ALTER ROLE reco_trainer NOLOGIN" in error.value.diag.message_hint
        bare.execute("ALTER ROLE reco_trainer NOLOGIN CREATEROLE")
        with pytest.raises(errors.DuplicateObject):
            bare.execute("CREATE EXTENSION pg_reco")
    finally:
        bare.execute("ALTER ROLE reco_trainer NOLOGIN NOCREATEROLE")
    bare.execute("CREATE EXTENSION pg_reco")
