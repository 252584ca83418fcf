"""The cache on disk is damaged, lost, or has no room: answers stay right, and what cannot be done is an ERROR."""

import os
import random
import shutil
import subprocess

import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster, own

LARGE = "SELECT reco.embed('red wine and coffee', 'all-minilm-l6-v2')"
NO_ROOM = ("53100", "58030")


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.import_kept(connection, "all-minilm-l6-v2")
        yield made


@pytest.fixture(scope="module")
def expected(cluster):
    with cluster.connect() as connection:
        return {**tiny.answers(connection), "large model": connection.execute(LARGE).fetchone()}


def ask(connection):
    return {**tiny.answers(connection), "large model": connection.execute(LARGE).fetchone()}


def files(cluster):
    """Every file of the cache: graphs, tokenizers, factors, prepared graphs, their weights, one database's marks."""
    root = cluster.data / "pg_reco"
    found = sorted(path for path in root.rglob("*") if path.is_file())
    marks = [path for path in found if path.is_relative_to(root / "databases")]
    # Marks are all alike: the first, and the record beside them.
    return [path for path in found if path not in marks] + [m for m in marks if m.name == "catalog"] + marks[:1]


# ------------------------------------------------------------------------------------------------------------- damage


def flip(path, chance):
    """One byte in the middle, written over where it stands: whoever has the file mapped sees it."""
    size = path.stat().st_size
    if size:
        with open(path, "r+b") as file:
            at = chance.randrange(size)
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ 0x55]))


def replace_by_flipped(path, chance):
    """The same in a new file under the old name: whoever has it mapped keeps the old one."""
    bytes_ = bytearray(path.read_bytes())
    if bytes_:
        bytes_[chance.randrange(len(bytes_))] ^= 0x55
    aside = path.with_suffix(".new")
    aside.write_bytes(bytes_)
    own(aside)
    aside.rename(path)


def zero_a_page(path, _):
    """What a crash of the machine may leave: the right length, and zeros."""
    size = path.stat().st_size
    aside = path.with_suffix(".new")
    aside.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))
    own(aside)
    aside.rename(path)


def truncate_copy(path, chance):
    aside = path.with_suffix(".new")
    aside.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size or 1)])
    own(aside)
    aside.rename(path)


def lengthen(path, _):
    aside = path.with_suffix(".new")
    aside.write_bytes(path.read_bytes() + b"more")
    own(aside)
    aside.rename(path)


def delete(path, _):
    path.unlink()


def make_a_folder(path, _):
    path.unlink()
    path.mkdir()
    own(path)


def make_a_link(path, _):
    """To nowhere."""
    path.unlink()
    path.symlink_to("/nowhere")


def make_unreadable(path, _):
    path.chmod(0)


def swap(path, chance):
    """Another file's bytes."""
    others = [p for p in path.parents[1].rglob("*") if p.is_file() and p != path]
    bytes_ = chance.choice(others).read_bytes()
    path.unlink()
    path.write_bytes(bytes_)
    own(path)


# Flipping in place comes last: what a process has mapped and uses is changed under it.
DAMAGES = [replace_by_flipped, zero_a_page, truncate_copy, lengthen, delete, make_a_folder, make_a_link, make_unreadable, swap, flip]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_of_the_cache_gives_no_wrong_answer(cluster, expected, damage):
    """Each file in turn; a process that comes later must find out and make it again from the catalog."""
    chance, wrong = random.Random(damage.__name__), []
    with surviving.nobody_hurt(cluster), cluster.connect() as holder:
        assert ask(holder) == expected
        names = [path.relative_to(cluster.data) for path in files(cluster)]
        # Of prepared weights and graphs there are many; each kind of file counts in the short form.
        names = names if surviving.LONG else list({(n.name, n.parent.name.split("-")[0], n.parts[1]): n for n in names}.values())
        for name in names:
            path = cluster.data / name
            if not path.is_file():
                continue
            damage(path, chance)
            with cluster.connect() as fresh:
                try:
                    got = ask(fresh)
                    if got != expected:
                        wrong.append(f"{name}: {[k for k in got if got[k] != expected[k]]} differ")
                except psycopg.Error as error:
                    wrong.append(f"{name}: {error.sqlstate} {str(error).splitlines()[0][:200]}")
                    if fresh.broken:
                        break
            if wrong and wrong[-1].startswith(str(name)):
                # So that the next damage is the only one.
                shutil.rmtree(cluster.data / "pg_reco", ignore_errors=True)
                with cluster.connect() as fresh:
                    ask(fresh)
        if damage is not flip:
            assert ask(holder) == expected, "who had the files mapped keeps them"
    if wrong:
        shutil.rmtree(cluster.data / "pg_reco", ignore_errors=True)
    assert not wrong, "\n".join(wrong)
    assert surviving.half_made(cluster) == []


def test_a_cache_deleted_under_those_who_use_it_is_made_again(cluster, expected):
    with surviving.nobody_hurt(cluster), cluster.connect() as holder:
        assert ask(holder) == expected
        shutil.rmtree(cluster.data / "pg_reco")
        assert ask(holder) == expected
        with cluster.connect() as fresh:
            assert ask(fresh) == expected


def test_many_texts_are_embedded_by_who_has_the_model_though_its_files_are_gone(cluster):
    """Many texts run in lanes, which load the graph again."""
    words = "regexp_replace(regexp_replace(i::bit(14)::text, '0', 'red ', 'g'), '1', 'tea ', 'g')"
    query = f"SELECT sum(embedding[1]) FROM reco.embed_query($$SELECT i AS id, {words} AS text FROM generate_series(1, 2000) i$$, 'tiny')"
    with surviving.nobody_hurt(cluster), cluster.connect() as holder:
        before = holder.execute(query).fetchone()
        shutil.rmtree(cluster.data / "pg_reco")
        assert holder.execute(query).fetchone()[0] == pytest.approx(before[0], rel=1e-4)


def test_a_file_where_the_cache_should_be_is_an_error_that_names_it(cluster, expected):
    root = cluster.data / "pg_reco"
    shutil.rmtree(root, ignore_errors=True)
    root.write_text("in the way")
    try:
        with surviving.nobody_hurt(cluster), cluster.connect() as connection:
            with pytest.raises(psycopg.errors.IoError, match="pg_reco") as error:
                connection.execute(tiny.ANSWERS["ials"])
            assert error.value.diag.message_hint
    finally:
        root.unlink()
    with cluster.connect() as connection:
        assert ask(connection) == expected


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_backend_that_ends_while_it_reads_the_catalog_leaves_no_folder(cluster, expected, end):
    """PostgreSQL ends the process inside of the query, where nothing unwinds."""
    shutil.rmtree(cluster.data / "pg_reco", ignore_errors=True)
    with surviving.nobody_hurt(cluster) as bystander, cluster.connect() as holder, cluster.connect() as maker:
        pid = maker.info.backend_pid
        holder.autocommit = False
        holder.execute("LOCK TABLE reco.model_part")
        maker.pgconn.send_query(tiny.ANSWERS["ials"].encode())
        surviving.wait_until(lambda: surviving.half_made(cluster), 10, "a folder that is being made")
        waits = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
        surviving.wait_until(lambda: bystander.execute(waits, [pid]).fetchone() == ("Lock",), 10, "the lock")
        bystander.execute(f"SELECT {end}(%s)", [pid])
        surviving.wait_until(lambda: not surviving.half_made(cluster), 10, "the end of the folder")
        maker.pgconn.finish()
        holder.rollback()
    with cluster.connect() as connection:
        assert ask(connection) == expected


def test_half_made_folders_of_the_dead_are_cleared_away(cluster, expected):
    """They cost space for ever otherwise: whoever made them was killed."""
    root = cluster.data / "pg_reco"
    real = next(path.name for path in root.iterdir() if path.is_dir() and path.name != "databases")
    left = [root / f"{real}.99999999", root / ("0" * 64 + ".99999998")]
    for folder in left:
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half" * 1000)
        own(folder)
        own(folder / "model.onnx")
    # Whoever makes a folder clears away what dead processes have left beside it.
    cluster.restart()
    shutil.rmtree(root / real)
    with cluster.connect() as connection:
        assert ask(connection) == expected
    assert [folder.name for folder in left if folder.exists()] == []


# -------------------------------------------------------------------------------------------------------- the catalog


READS = ["predict", "warm", "export_model", "describe_model"]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reco.model_part SET data = set_byte(data, length(data) / 2, get_byte(data, length(data) / 2) # 85) WHERE name = 'large' AND part = 1",
        "UPDATE reco.model_part SET data = substr(data, 2) WHERE name = 'large' AND part = 2",
        "UPDATE reco.model_part SET data = data || '\\x00' WHERE name = 'large' AND part = 2",
        "UPDATE reco.model_part SET data = '' WHERE name = 'large' AND part = 0",
        "DELETE FROM reco.model_part WHERE name = 'large' AND part = 1",
        "UPDATE reco.model_part SET part = part + 10 WHERE name = 'large'",
        "UPDATE reco.model_file SET size = size - 1 WHERE name = 'large'",
        "UPDATE reco.model_file SET size = size + 5000000 WHERE name = 'large'",
        "UPDATE reco.model_file SET size = -1 WHERE name = 'large'",
        "UPDATE reco.model_file SET size = 9223372036854775807 WHERE name = 'large'",
        "UPDATE reco.model_file SET sha256 = repeat('0', 64) WHERE name = 'large'",
        "UPDATE reco.model_file SET sha256 = '../../../etc' WHERE name = 'large'",
        "DELETE FROM reco.model_file WHERE name = 'large'",
        "UPDATE reco.model_file SET file = '../../escaped' WHERE name = 'large'",
    ],
)
def test_a_damaged_catalog_is_an_error_that_names_the_model(cluster, expected, statement, read):
    """As a superuser or a bad disk may leave it; the cache is gone, so that there is nothing else to read."""
    shutil.rmtree(cluster.data / "pg_reco", ignore_errors=True)
    query = tiny.ANSWERS["large"] if read == "predict" else f"SELECT count(*) FROM reco.{read}('large')"
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        # Without foreign keys: the damage, not their consequences.
        connection.execute("BEGIN; SET LOCAL session_replication_role = replica")
        assert connection.execute(statement).rowcount >= 1
        connection.execute("SAVEPOINT before")
        with pytest.raises(psycopg.errors.DataCorrupted, match='"large" is corrupted') as error:
            connection.execute(query)
        assert error.value.diag.message_hint
        connection.execute("ROLLBACK TO before")
        others = {name: connection.execute(query).fetchone() for name, query in tiny.ANSWERS.items() if name != "large"}
        assert others == {name: value for name, value in expected.items() if name in others}
        connection.execute("ROLLBACK")
        assert connection.execute(tiny.ANSWERS["large"]).fetchone() == expected["large"]
    assert not list(cluster.folder.glob("**/escaped*")) and surviving.half_made(cluster) == []


# -------------------------------------------------------------------------------------------------------------- space


@pytest.fixture
def small_disk(cluster):
    """The cache on a disk of 20 MB, which the large model does not fit."""
    root = cluster.data / "pg_reco"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    own(root)
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "tmpfs", root], capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a disk cannot be mounted here")
    own(root)

    def grow():
        subprocess.run(["mount", "-o", "remount,size=400m", root], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def test_a_full_disk_is_an_error_and_leaves_nothing(cluster, expected, small_disk):
    root = cluster.data / "pg_reco"
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        for _ in range(3):
            with pytest.raises(psycopg.Error) as error:
                connection.execute(LARGE)
            assert error.value.sqlstate in NO_ROOM and "No space left" in str(error.value) and error.value.diag.message_hint
            assert [path.name for path in root.iterdir()] in ([], ["databases"]), "what was written is taken back"
        # A model that fits works beside it.
        assert connection.execute(tiny.ANSWERS["embed"]).fetchone() == expected["embed"]
        fits = set(root.iterdir())
        with pytest.raises(psycopg.Error) as error:
            connection.execute("SELECT reco.import_model('again', reco.export_model('all-minilm-l6-v2'))")
        assert error.value.sqlstate in NO_ROOM
        assert set(root.iterdir()) == fits
        assert connection.execute("SELECT count(*) FROM reco.models WHERE name = 'again'").fetchone() == (0,)
        small_disk()
        assert ask(connection) == expected


def test_a_disk_that_is_full_before_the_prepared_graph_is_an_error_too(cluster, expected, small_disk):
    """The graph itself fits and what is prepared of it does not."""
    ballast = cluster.data / "pg_reco" / "ballast"
    ballast.write_bytes(bytes(5 << 20))
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        with pytest.raises(psycopg.errors.DiskFull, match="no storage space"):
            connection.execute(tiny.ANSWERS["large"])
        ballast.unlink()
        small_disk()
        assert connection.execute(tiny.ANSWERS["large"]).fetchone() == expected["large"]
        assert not [p for p in (cluster.data / "pg_reco").glob("*/prepared-*.*")], "no half of it is left"
    with cluster.connect() as connection:
        assert connection.execute(tiny.ANSWERS["large"]).fetchone() == expected["large"]


def test_a_limit_on_the_size_of_files_is_an_error(cluster, expected):
    """RLIMIT_FSIZE: the kernel sends SIGXFSZ, which PostgreSQL ignores."""
    shutil.rmtree(cluster.data / "pg_reco")
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        # The limit is for PostgreSQL's own files too: nothing may be left for this process to write.
        connection.execute("CHECKPOINT")
        pid = connection.info.backend_pid
        surviving.limit(pid, "fsize", 4 << 20)
        with pytest.raises(psycopg.Error) as error:
            connection.execute(LARGE)
        assert error.value.sqlstate in NO_ROOM, error.value
        surviving.limit(pid, "fsize", None)
        assert surviving.half_made(cluster) == []
        assert ask(connection) == expected


def test_a_cache_that_may_not_be_written_is_an_error(cluster, expected):
    root = cluster.data / "pg_reco"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o500)
    own(root)
    try:
        with surviving.nobody_hurt(cluster), cluster.connect() as connection:
            with pytest.raises(psycopg.errors.IoError, match="[Pp]ermission denied"):
                connection.execute(LARGE)
            root.chmod(0o700)
            assert ask(connection) == expected
    finally:
        root.chmod(0o700)


def test_the_server_is_whole_afterwards(cluster, expected):
    surviving.assert_right(cluster, {name: value for name, value in expected.items() if name != "large model"})
