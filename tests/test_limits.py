"""What one call may take: memory, threads, and how large its inputs may be. Each bound is an error that names it."""

import threading
import time

import pytest
import tiny
from psycopg import errors

MANY = "SELECT i % 100000 AS user_id, i % 9973 AS item_id FROM generate_series(1, 5000000) i"


def peak(pid):
    """The most memory that a process has had, bytes."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) << 10


@pytest.mark.parametrize(
    "call",
    [
        f"SELECT reco.train('large', '{MANY}', 'popularity')",
        f"SELECT count(*) FROM reco.split('{MANY}')",
        "SELECT reco.train_synthesizer('large', 'SELECT i AS a, i % 7 AS b FROM generate_series(1, 5000000) i')",
        "SELECT count(*) FROM reco.importance('SELECT i AS a, i % 7 = 0 AS label FROM generate_series(1, 5000000) i')",
        "SELECT reco.train('large', 'SELECT i AS user_id, repeat(''x'', 1000) || i AS item_id FROM generate_series(1, 200000) i', 'popularity')",
    ],
)
def test_a_call_that_needs_more_memory_than_it_may_take_is_an_error_before_it_takes_it(connect, call):
    connection = connect()
    connection.execute("SELECT reco.dot_product('{1}', '{1}')")
    connection.execute("SET reco.training_memory = '24MB'")
    before = peak(connection.info.backend_pid)
    with pytest.raises(errors.ProgramLimitExceeded, match=r"this call needs .* MB, but the limit is 24 MB \(reco.training_memory\)") as error:
        connection.execute(call)
    assert "reco.training_memory" in error.value.diag.message_hint
    assert peak(connection.info.backend_pid) - before < 200 << 20
    connection.execute("RESET reco.training_memory")
    assert connection.execute("SELECT reco.train('small', 'SELECT 1 AS user_id, 2 AS item_id', 'popularity')").fetchone() == (1,)
    connection.execute("SELECT reco.drop_model('small')")


def test_no_limit_is_none_and_a_small_call_fits_a_small_one(db):
    for allowed in ("0", "16MB"):
        db.execute(f"SET reco.training_memory = '{allowed}'")
        db.execute("SELECT reco.train('fits', 'SELECT i % 99 AS user_id, i % 98 AS item_id FROM generate_series(1, 9000) i', 'ease')")
        db.execute("SELECT reco.drop_model('fits')")


def test_only_a_superuser_raises_what_a_call_may_take(role):
    stranger = role("greedy")
    for setting, value in (("reco.training_memory", "1TB"), ("reco.max_threads", "1000")):
        with pytest.raises(errors.InsufficientPrivilege, match=setting):
            stranger.execute(f"SET {setting} = '{value}'")


def test_threads_are_no_more_than_their_ceiling(connect):
    connection, most = connect(), []
    pid = connection.info.backend_pid
    done = threading.Event()

    def look():
        while not done.is_set():
            with open(f"/proc/{pid}/status") as status:
                most.append(next(int(line.split()[1]) for line in status if line.startswith("Threads:")))
            time.sleep(0.002)

    wide = "SELECT u AS user_id, (u * 7919 + i * i) % 2003 AS item_id FROM generate_series(1, 3000) u, generate_series(1, 20) i"
    for ceiling, least, greatest in ((1, 2, 2), (3, 3, 4)):
        connection.execute(f"SET reco.threads = 50; SET reco.max_threads = {ceiling}")
        most.clear()
        done.clear()
        looking = threading.Thread(target=look)
        looking.start()
        connection.execute("SELECT reco.train('threads', %s, 'ials', '{\"factors\": 64, \"iterations\": 6}')", [wide])
        done.set()
        looking.join()
        connection.execute("SELECT reco.drop_model('threads')")
        assert least <= max(most) <= greatest


# -------------------------------------------------------------------------------------------------------------- inputs


def test_a_picture_of_too_many_pixels_is_refused_by_its_size(db):
    db.execute("SELECT reco.warm('efficientnet-lite0')")
    start = time.monotonic()
    with pytest.raises(errors.ProgramLimitExceeded, match="image needs 32768 × 5000 pixels, but the limit is 25000000 pixels"):
        db.execute("SELECT reco.embed_image(%b)", [tiny.picture(32768, 5000)])
    assert time.monotonic() - start < 2
    assert db.execute("SELECT array_length(reco.embed_image(%b), 1)", [tiny.picture(5000, 4000)]).fetchone()[0] > 100


def test_a_text_without_tokens_is_refused_by_what_was_read_of_it(db):
    start = time.monotonic()
    for text in ("repeat('x', 50000000)", "repeat(' ', 50000000)"):
        with pytest.raises(errors.ProgramLimitExceeded, match="50000000 bytes to be read, but the limit is 131072 bytes"):
            db.execute(f"SELECT reco.embed({text})")
    assert time.monotonic() - start < 5
    same = "SELECT reco.embed(repeat('word ', 10000000)) = reco.embed(repeat('word ', 1000))"
    assert db.execute(same).fetchone() == (True,)


def test_a_text_to_be_said_in_other_words_is_short(db):
    options = '{"model": null, "least_similarity": 0}'
    call = "SELECT count(*) FROM reco.augment_text(%s, %s, 'swap', %s)"
    with pytest.raises(errors.ProgramLimitExceeded, match="text 1 needs 2400000 bytes, but the limit is 65536 bytes"):
        db.execute(call, ["hello world " * 200000, 1, options])
    with pytest.raises(errors.ProgramLimitExceeded, match="text 2 needs"):
        db.execute(call.replace("%s, %s, 'swap'", "%s::text[], %s, 'swap'"), [["short text", "long text " * 9000], 1, options])
    with pytest.raises(errors.ProgramLimitExceeded, match="3 variants of each text needs .*1024 MB"):
        db.execute(
            "SELECT count(*) FROM reco.augment_text(array_fill(repeat('a', 65000), ARRAY[6000]), 3, 'swap', %s)", [options]
        )
    assert db.execute(call, ["hello big world " * 4000, 2, options]).fetchone() == (2,)


def test_a_long_text_can_be_cancelled_while_it_is_said_in_other_words(db):
    db.execute("SET statement_timeout = '300ms'")
    start = time.monotonic()
    with pytest.raises(errors.QueryCanceled):
        db.execute(
            "SELECT count(*) FROM reco.augment_text(repeat('good red wine ', 4600), 10000, 'swap', %s)",
            ['{"model": null, "least_similarity": 0, "rate": 1}'],
        )
    assert time.monotonic() - start < 3


def test_phrases_and_texts_of_a_lexicon_and_a_corpus_are_short(db):
    lexicon = '{"model": null, "lexicon": "SELECT repeat(\'word \', 99) AS word, \'x\' AS synonym"}'
    with pytest.raises(errors.ProgramLimitExceeded, match='the phrase "word .*of lexicon needs 495 bytes'):
        db.execute("SELECT count(*) FROM reco.augment_text('a b', 1, 'synonym', %s)", [lexicon])
    corpus = '{"corpus": "SELECT repeat(\'word \', 99999) AS text"}'
    with pytest.raises(errors.ProgramLimitExceeded, match="the text in row 1 of corpus needs 499995 bytes"):
        db.execute("SELECT count(*) FROM reco.augment_text('a b', 1, 'neighbor', %s)", [corpus])


def test_a_list_of_ids_is_bounded(db):
    db.execute("SELECT reco.train('bounded', 'SELECT i % 99 AS user_id, i % 98 AS item_id FROM generate_series(1, 9000) i', 'item_knn')")
    many = "(SELECT array_agg(i::bigint) FROM generate_series(1, {}) i)"
    with pytest.raises(errors.ProgramLimitExceeded, match='argument "item_ids" needs 1000001 ids, but the limit is 1000000 ids'):
        db.execute(f"SELECT count(*) FROM reco.recommend_for_items('bounded', {many.format(1000001)})")
    assert db.execute(f"SELECT count(*) FROM reco.recommend_for_items('bounded', {many.format(90)}, k => 5)").fetchone() == (5,)
    with pytest.raises(errors.ProgramLimitExceeded, match='argument "deny" needs 1000001 ids'):
        db.execute(f"SELECT count(*) FROM reco.recommend('bounded', 1::bigint, deny => {many.format(1000001)}::text[])")
    db.execute("SELECT reco.drop_model('bounded')")


def test_a_free_text_to_learn_from_is_bounded(db):
    source = "SELECT i AS id, CASE i WHEN 7 THEN repeat('some words ', 99999) ELSE 'one two three four ' || i END AS t, i % 2 AS n FROM generate_series(1, 40) i"
    with pytest.raises(errors.ProgramLimitExceeded, match='a free text in column "t" needs 1099989 bytes, but the limit is 262144 bytes'):
        db.execute("SELECT reco.train_synthesizer('free', %s)", [source])
