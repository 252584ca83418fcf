"""What a request may ask for besides k: filters, deny lists, diversity, groups; explanations; signals; features; the loop."""

import psycopg
import pytest
from psycopg import errors

ITEMS = "SELECT item_id, kind, price, in_stock, name FROM goods"


@pytest.fixture(scope="module")
def goods(server, database):
    """Customers 1…30 buy tea (items 0…19) and a little of all else, 31…60 books (20…39). Item 50 nobody has bought."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        db.execute("CREATE TABLE goods (item_id integer PRIMARY KEY, kind text, price real, in_stock boolean, name text)")
        db.execute(
            """INSERT INTO goods SELECT i, CASE WHEN i < 20 THEN 'tea 茶' ELSE 'book' END, i % 10, i % 3 <> 0, CASE WHEN i < 20 THEN 'green tea, blend ' ELSE 'crime novel, volume ' END || i
                 FROM generate_series(0, 39) i"""
        )
        db.execute("INSERT INTO goods VALUES (50, 'tea 茶', 3, true, 'jasmine green tea, new')")
        db.execute("CREATE TABLE sale (user_id integer, item_id integer, event text, ts timestamptz, weight real DEFAULT 1)")
        db.execute(
            """INSERT INTO sale
               SELECT u, i, CASE (u + i) % 3 WHEN 0 THEN 'view' WHEN 1 THEN 'cart' ELSE 'purchase' END,
                      timestamptz '2026-01-01' + ((u * 7 + i * 3) % 90) * interval '1 day'
                 FROM generate_series(1, 60) u, generate_series(0, 39) i
                WHERE (u <= 30) = (i < 20) AND (u * i) % 4 <> 1 OR (u * 31 + i * 17) % 23 = 0"""
        )
        db.execute("CREATE INDEX ON sale (user_id)")
        db.execute("SELECT reco.train('goods', 'TABLE sale', 'ials', '{\"factors\": 8}', items => %s)", [ITEMS])
        yield
        db.execute("SELECT reco.drop_model('goods')")
        db.execute("DROP TABLE goods, sale CASCADE")


pytestmark = pytest.mark.usefixtures("goods")


def listed(rows, **arguments):
    named = "".join(f", {name} => %s" for name in arguments)
    query = f"SELECT item_id::int FROM reco.recommend('goods', 5, exclude_seen => false, history => 'trained'{named}) ORDER BY rank"
    return [item for (item,) in rows(query, *arguments.values())]


def test_a_condition_keeps_to_the_items_that_meet_it(rows):
    everything = listed(rows, k=100)
    cheap = listed(rows, k=100, filter="in_stock AND price < 5")
    expected = {i for (i,) in rows("SELECT item_id FROM goods WHERE in_stock AND price < 5")}
    assert set(cheap) == expected
    assert cheap[:10] == [i for i in everything if i in expected][:10]
    assert listed(rows, k=3, filter="in_stock AND price < 5") == cheap[:3]
    assert set(listed(rows, k=100, filter="kind = 'tea 茶'")) == {*range(20), 50}


def test_a_query_may_filter_too(rows):
    assert set(listed(rows, k=100, filter="SELECT item_id FROM goods WHERE price = 1")) == {1, 11, 21, 31}
    assert listed(rows, k=100, filter="SELECT 3 AS item_id") == [3]


def test_a_filter_that_matches_nothing_gives_an_empty_list(rows):
    assert listed(rows, k=10, filter="price < 0") == []
    assert rows("SELECT * FROM reco.recommend('goods', 'a new user', filter => 'false')") == []
    assert rows("SELECT * FROM reco.recommend_all('goods', 3, filter => 'false')") == []


@pytest.mark.parametrize(
    "filter, state",
    [
        ("no_such_column > 1", errors.UndefinedColumn),
        ("price <", errors.SyntaxError),
        ("price", errors.DatatypeMismatch),
        ("true); DELETE FROM goods; SELECT (true", errors.InvalidParameterValue),
        ("WITH gone AS (DELETE FROM goods RETURNING item_id) SELECT item_id FROM gone", errors.FeatureNotSupported),
        ("delete_goods()", errors.ReadOnlySqlTransaction),
        ("SELECT price FROM goods", errors.UndefinedColumn),
    ],
)
def test_a_filter_that_is_no_condition_or_writes_is_refused(db, filter, state):
    db.execute(
        """CREATE OR REPLACE FUNCTION delete_goods() RETURNS boolean LANGUAGE plpgsql AS
           'BEGIN DELETE FROM goods; RETURN true; END'"""
    )
    with pytest.raises(state):
        db.execute("SELECT * FROM reco.recommend('goods', 5, filter => %s)", [filter])
    assert db.execute("SELECT count(*) FROM goods").fetchone() == (41,)
    # The rest of the session may write.
    db.execute("CREATE TEMP TABLE written AS SELECT 1")


def test_a_filter_sees_with_the_callers_rights(role, db):
    db.execute("SELECT reco.grant_model('goods', 'public')")
    connection = role("filter_user")
    try:
        assert connection.execute("SELECT count(*) FROM reco.recommend('goods', 5)").fetchone() == (10,)
        # The owner's items query never runs in another's name, whatever that other may do.
        for arguments in ["filter => 'price < 3'", "group_by => 'kind', max_per_group => 1"]:
            with pytest.raises(errors.InsufficientPrivilege, match='must be owner of model "goods"') as error:
                connection.execute(f"SELECT * FROM reco.recommend('goods', 5, {arguments})")
            assert "SELECT item_id" in error.value.diag.message_hint
        query = "SELECT item_id FROM goods WHERE price < 3"
        with pytest.raises(errors.InsufficientPrivilege, match="goods"):
            connection.execute("SELECT * FROM reco.recommend('goods', 5, filter => %s)", [query])
        db.execute("GRANT SELECT ON goods TO filter_user")
        got = connection.execute("SELECT item_id::int FROM reco.recommend('goods', 5, 100, filter => %s)", [query]).fetchall()
        assert got and all(i % 10 < 3 and i != 50 for (i,) in got)
        groups = "SELECT item_id, kind AS group_name FROM goods"
        few = "SELECT count(*) FROM reco.recommend('goods', 5, 10, group_by => %s, max_per_group => 2)"
        assert connection.execute(few, [groups]).fetchone() == (4,)
    finally:
        db.execute("SELECT reco.revoke_model('goods', 'public')")


def test_a_condition_needs_the_items_query(db):
    db.execute("SELECT reco.train('no_items', 'TABLE sale', 'popularity')")
    try:
        with pytest.raises(errors.InvalidParameterValue, match="filter") as error:
            db.execute("SELECT * FROM reco.recommend('no_items', 5, filter => 'price < 3')")
        assert "items =>" in error.value.diag.message_hint
        query = "SELECT count(*) FROM reco.recommend('no_items', 5, filter => 'SELECT item_id FROM goods WHERE price < 3')"
        assert db.execute(query).fetchone()[0] > 0
    finally:
        db.execute("SELECT reco.drop_model('no_items')")


def test_what_is_denied_is_never_listed(rows):
    before = listed(rows, k=5)
    denied = [str(before[0]), str(before[2]), "no such item"]
    after = listed(rows, k=3, deny=denied)
    assert after == [before[1], before[3], before[4]]
    together = rows("SELECT DISTINCT item_id::int FROM reco.recommend_all('goods', 10, deny => %s)", denied)
    assert not {item for (item,) in together} & {before[0], before[2]}


def test_at_most_so_many_of_a_group(rows):
    kinds = dict(rows("SELECT item_id, kind FROM goods"))
    got = listed(rows, k=10, group_by="kind", max_per_group=3)
    assert [kinds[i] for i in got].count("tea 茶") == 3 and len(got) == 6
    everything = listed(rows, k=100)
    assert got[:3] == everything[:3]
    by_price = listed(rows, k=10, group_by="price::int % 2", max_per_group=2)
    assert len(by_price) == 4


def test_diversity_trades_score_for_difference(rows):
    by_score, diverse, other = (listed(rows, k=10, diversity=d) for d in [0, 0.6, 1.0])
    kinds = dict(rows("SELECT item_id, kind FROM goods"))
    of_books = lambda items: sum(kinds[i] == "book" for i in items)  # noqa: E731
    assert by_score == listed(rows, k=10)
    assert diverse[0] == by_score[0] and len(set(diverse)) == 10
    assert of_books(other) >= of_books(diverse) >= of_books(by_score) and of_books(other) > of_books(by_score)


@pytest.mark.parametrize(
    "arguments",
    ["diversity => 1.5", "diversity => 'NaN'", "diversity => NULL", "group_by => 'kind'", "max_per_group => 2",
     "group_by => 'kind', max_per_group => 0", "k => 0", "k => NULL", "history => NULL", "history => 'old'"],
)  # fmt: skip
def test_what_cannot_be_asked_is_said(db, arguments):
    with pytest.raises(errors.InvalidParameterValue) as error:
        db.execute(f"SELECT * FROM reco.recommend('goods', 5, {arguments})")
    assert error.value.diag.message_hint


def test_lists_for_all_obey_the_same(rows):
    for arguments in ["filter => 'price > 4'", "group_by => 'kind', max_per_group => 2", "diversity => 0.5", "deny => '{1,2,3}'"]:
        together = rows(f"SELECT user_id, rank, item_id FROM reco.recommend_all('goods', 5, {arguments}) ORDER BY 1, 2")
        single = rows(
            f"""SELECT u, rank, item_id FROM reco.model_users('goods') u,
                       reco.recommend('goods', u, 5, history => 'trained', {arguments}) ORDER BY 1, 2"""
        )
        assert together == single, arguments


def test_an_explanation_adds_up_to_the_score(rows, scalar):
    item = listed(rows, k=1)[0]
    score = scalar("SELECT score FROM reco.recommend('goods', 5, 1, exclude_seen => false)")
    shares = rows("SELECT history_item_id::int, contribution, weight FROM reco.explain('goods', 5, %s) ORDER BY rank", item)
    history = {i for (i,) in rows("SELECT item_id FROM sale WHERE user_id = 5")}
    assert {i for i, _, _ in shares} == history
    assert abs(sum(c for _, c, _ in shares) - score) < 1e-3
    assert [c for _, c, _ in shares] == sorted((c for _, c, _ in shares), reverse=True)
    assert all(w > 0 for _, _, w in shares)


def test_an_explanation_of_what_is_not_known(db, rows):
    with pytest.raises(errors.InvalidParameterValue, match='item "999" is unknown to the model'):
        db.execute("SELECT * FROM reco.explain('goods', 5, 999)")
    assert rows("SELECT * FROM reco.explain('goods', 'nobody'::text, '3'::text)") == []


def test_similar_users_buy_the_same_kind(db, rows):
    got = [int(u) for (u,) in rows("SELECT similar_user_id FROM reco.similar_users('goods', 5, 10) ORDER BY rank")]
    assert len(got) == 10 and 5 not in got and all(u <= 30 for u in got)
    with pytest.raises(errors.InvalidParameterValue, match='user "12345" is unknown to the model'):
        db.execute("SELECT * FROM reco.similar_users('goods', 12345)")


def test_an_item_known_by_its_attributes_alone_can_be_listed(rows):
    tea = listed(rows, k=41)
    assert tea.index(50) < 21, "an item of a lover's kind stands before the other kind"
    book_lover = [int(i) for (i,) in rows("SELECT item_id FROM reco.recommend('goods', 40, 41, false, 'trained') ORDER BY rank")]
    assert book_lover.index(50) > tea.index(50)


def test_an_item_known_by_its_text_alone_can_be_listed(db, rows):
    items = "SELECT item_id, reco.embed(name, 'all-minilm-l6-v2') AS text FROM goods"
    options = '{"factors": 16, "hidden": 32, "epochs": 60, "batch_size": 128, "learning_rate": 0.01}'
    db.execute("SELECT reco.train('texts', 'TABLE sale', 'two_tower', %s, items => %s, seed => 4)", [options, items])
    try:
        place = {}
        for user in (5, 40):
            got = rows("SELECT item_id::int, reason FROM reco.recommend('texts', %s, 41, false) ORDER BY rank", user)
            assert all(reason == "trained" for _, reason in got)
            place[user] = [item for item, _ in got].index(50)
        assert place[5] < 20 < place[40], place
        # Nor need the user have been there in training.
        for basket, is_listed in (([3, 4, 7], True), ([23, 24, 27], False)):
            folded = rows("SELECT item_id::int, reason FROM reco.recommend_for_items('texts', %s::bigint[], k => 21)", basket)
            assert {reason for _, reason in folded} == {"folded_in"}
            assert (50 in [item for item, _ in folded]) == is_listed
    finally:
        db.execute("SELECT reco.drop_model('texts')")


@pytest.mark.parametrize("known, reason", [(0, "popularity"), (1, "folded_in"), (3, "folded_in")])
def test_a_new_user_is_served_with_whatever_is_known(db, rows, known, reason):
    db.execute("INSERT INTO sale SELECT 999, i, 'purchase', now() FROM generate_series(21, 20 + %s) i", [known])
    try:
        got = rows("SELECT item_id::int, reason FROM reco.recommend('goods', 999, 10)")
        assert len(got) == 10 and got[0][1] == reason
        assert not {item for item, _ in got} & set(range(21, 21 + known))
        if known == 3:
            assert sum(20 <= item < 40 for item, _ in got) >= 8
    finally:
        db.execute("DELETE FROM sale WHERE user_id = 999")


def test_events_and_their_age_count(db, rows, scalar):
    weights = '{"view": 1, "cart": 3, "purchase": 5, "return": -9}'
    try:
        db.execute("INSERT INTO sale VALUES (5, 39, 'return', '2026-03-30'), (5, 38, 'other', '2026-03-30')")
        db.execute(
            "SELECT reco.train('signals', 'TABLE sale', 'ials', '{\"factors\": 8}', event_weights => %s, half_life => '30 days')", [weights]
        )
        unseen = {int(i) for (i,) in rows("SELECT item_id FROM reco.recommend('signals', 5, 100)")}
        assert 39 not in unseen, "what was returned is seen"
        assert 38 in unseen, "an event that is not named says nothing"
        live = rows("SELECT item_id, score, reason FROM reco.recommend('signals', 5, 20)")
        assert live == rows("SELECT item_id, score, reason FROM reco.recommend('signals', 5, 20, history => 'trained')")
        assert live[0][2] == "trained", "read again, an unchanged history is the same to the bit"
        by_weight = dict(rows("SELECT history_item_id::int, weight FROM reco.explain('signals', 5, 1)"))
        newest = scalar("SELECT max(ts) FROM sale")
        for item, event, age in rows("SELECT item_id, event, extract(epoch FROM %s - ts)::float8 / 86400 FROM sale WHERE user_id = 5", newest):
            points = {"view": 1, "cart": 3, "purchase": 5, "return": -9}.get(event)
            if points:
                assert abs(by_weight[item] - points * 0.5 ** (age / 30)) < 1e-4
    finally:
        db.execute("DELETE FROM sale WHERE event IN ('return', 'other')")
        db.execute("SELECT reco.drop_model('signals') FROM reco.models WHERE name = 'signals'")


@pytest.mark.parametrize(
    "arguments, state, message",
    [
        ("event_weights => '[]'", errors.InvalidParameterValue, "event_weights"),
        ("event_weights => '{\"view\": \"x\"}'", errors.InvalidParameterValue, "event_weights"),
        ("half_life => '-1 day'", errors.InvalidParameterValue, "half_life"),
        ("items => 'SELECT 1 AS item_id, 2 AS price UNION ALL SELECT 1, 3'", errors.InvalidParameterValue, "1"),
        ("items => 'SELECT 1 AS price'", errors.UndefinedColumn, "item_id"),
        ("items => 'SELECT 1 AS item_id, ''{}''::jsonb AS more'", errors.DatatypeMismatch, "more"),
        ("items => 'DELETE FROM goods RETURNING item_id'", errors.InvalidParameterValue, "items"),
        ("users => 'SELECT NULL::int AS user_id'", errors.NullValueNotAllowed, "user_id"),
        ("promote => 'maybe'", errors.InvalidParameterValue, "promote"),
    ],
)
def test_training_arguments_that_cannot_be(db, arguments, state, message):
    with pytest.raises(state, match=message) as error:
        db.execute(f"SELECT reco.train('bad', 'TABLE sale', 'popularity', {arguments})")
    assert error.value.diag.message_hint
    assert db.execute("SELECT count(*) FROM reco.model WHERE name = 'bad'").fetchone() == (0,)


@pytest.mark.parametrize("column, arguments", [("event", "event_weights => '{\"view\": 1}'"), ("ts", "half_life => '1 day'")])
def test_a_signal_needs_its_column(db, column, arguments):
    with pytest.raises(errors.UndefinedColumn, match=column):
        db.execute(f"SELECT reco.train('bad', 'SELECT user_id, item_id FROM sale', 'popularity', {arguments})")


def test_a_refresh_takes_in_what_is_new(db, rows, scalar):
    db.execute("SELECT reco.train('loop', 'TABLE sale', 'ials', '{\"factors\": 8}', items => %s)", [ITEMS])
    try:
        db.execute("INSERT INTO goods VALUES (51, 'book', 2, true, 'new book')")
        db.execute("INSERT INTO sale SELECT u, 51, 'purchase', '2026-05-01' FROM generate_series(31, 50) u")
        db.execute("INSERT INTO sale SELECT 100, i, 'purchase', '2026-05-01' FROM generate_series(20, 30) i")
        assert scalar("SELECT reco.refresh('loop')") == 2
        assert "100" in {u for (u,) in rows("SELECT reco.model_users('loop')")}
        got = [int(i) for (i,) in rows("SELECT item_id FROM reco.recommend('loop', 55, 10)")]
        assert 51 in got, "an item that is new since training"
        (metrics,) = rows("SELECT metrics->'options'->>'iterations' FROM reco.models WHERE name = 'loop' AND in_use")
        assert int(metrics[0]) < 15, "warm-started"
    finally:
        db.execute("DELETE FROM sale WHERE ts >= '2026-05-01'")
        db.execute("DELETE FROM goods WHERE item_id = 51")
        db.execute("SELECT reco.drop_model('loop')")


def test_a_version_is_put_in_use_only_if_it_is_no_worse(db, rows, scalar):
    db.execute("SELECT reco.train('judged', 'TABLE sale', 'ials', '{\"factors\": 8}')")
    try:
        # Books go on being bought by those who buy books: a list of what is popular with all is worse.
        db.execute("INSERT INTO sale SELECT u, i, 'purchase', '2026-05-01' FROM generate_series(31, 60) u, generate_series(20, 39) i WHERE (u + i) % 2 = 0")
        db.execute("INSERT INTO sale SELECT u, u % 20, 'purchase', '2026-05-01' FROM generate_series(200, 290) u")
        notices = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        assert scalar("SELECT reco.train('judged', 'TABLE sale', 'popularity', promote => 'if_better')") == 2
        assert rows("SELECT version, in_use FROM reco.models WHERE name = 'judged' ORDER BY 1") == [(1, True), (2, False)]
        assert "was not promoted" in notices[0]
        assert scalar("SELECT reco.refresh('judged', promote => 'never')") == 3
        assert scalar("SELECT version FROM reco.models WHERE name = 'judged' AND in_use") == 1
        assert scalar("SELECT metrics->'promotion'->>'metric' FROM reco.models WHERE name = 'judged' AND version = 2") == "ndcg@10"
        db.execute("SELECT reco.promote_model('judged', 2)")
        assert scalar("SELECT reco.train('judged', 'TABLE sale', 'ials', '{\"factors\": 8}', promote => 'if_better')") == 4
        # Nothing is new since: no evidence against it.
        assert scalar("SELECT version FROM reco.models WHERE name = 'judged' AND in_use") == 4
    finally:
        db.execute("DELETE FROM sale WHERE ts >= '2026-05-01'")
        db.execute("SELECT reco.drop_model('judged')")


def test_only_the_owner_refreshes(role, db):
    db.execute("SELECT reco.grant_model('goods', 'public')")
    connection = role("refresher", "reco_trainer")
    try:
        with pytest.raises(errors.InsufficientPrivilege, match="must be owner of model"):
            connection.execute("SELECT reco.refresh('goods')")
    finally:
        db.execute("SELECT reco.revoke_model('goods', 'public')")
    with pytest.raises(errors.UndefinedObject):
        db.execute("SELECT reco.refresh('no such model')")


def test_options_are_searched_on_held_out_rows(db, rows):
    got = rows("""SELECT rank, options, ndcg, recall, seconds FROM reco.tune('TABLE sale', 'ials', '{"factors": [2, 8], "regularization": [0.001, 10000]}', k => 5)""")
    assert [rank for rank, *_ in got] == [1, 2, 3, 4]
    assert [n for _, _, n, _, _ in got] == sorted((n for _, _, n, _, _ in got), reverse=True)
    assert {(o["factors"], o["regularization"]) for _, o, *_ in got} == {(2, 0.001), (8, 0.001), (2, 10000), (8, 10000)}
    again = rows("""SELECT options, ndcg FROM reco.tune('TABLE sale', 'ials', '{"factors": [2, 8], "regularization": [0.001, 10000]}', k => 5)""")
    assert again == [(o, n) for _, o, n, _, _ in got]
    for grid, message in [("[]", "grid"), ('{"facters": [1]}', "facters"), ('{"factors": []}', "factors")]:
        with pytest.raises(errors.InvalidParameterValue, match=message) as error:
            db.execute("SELECT * FROM reco.tune('TABLE sale', 'ials', %s)", [grid])
        assert error.value.diag.message_hint
    with pytest.raises(errors.InvalidParameterValue, match="budget"):
        db.execute("""SELECT * FROM reco.tune('TABLE sale', 'ials', '{"factors": [2]}', budget => '0 s')""")
