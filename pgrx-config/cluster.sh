# The private cluster: a copy of a PostgreSQL installation and one cluster of it, in a folder of their own. Sourced by setup.sh.
# shellcheck shell=bash
#
# The extension is never installed into the machine's own PostgreSQL. PostgreSQL finds its libraries and its share folder
# relative to its binary, so a copy that keeps the layout is an installation of its own:
#
#   .build/pg15/install/…    the copy, into which the extension goes
#   .build/pg15/data         the cluster
#   .build/pg15/socket       the one place where it listens
#   .build/pg15/log          what the server says
#
# PostgreSQL refuses to run as root: root's cluster belongs to the user `postgres`. Where that user cannot reach the checkout
# (/root/…), or the socket's path is longer than the system allows or has odd characters, .build/pg15 is a link into /var/tmp.

TEMPLATE_DATABASE=pg_reco_template
DATABASE=pg_reco
FALLBACK=/var/tmp/pg_reco-$(id -u)-$(printf %s "$ROOT" | cksum | cut -d ' ' -f 1)
# sun_path of a Unix socket's address holds 108 bytes with the closing zero.
LONGEST_SOCKET_PATH=107
PROGRAMS="postgres initdb pg_ctl pg_config psql pg_isready pg_dump pg_dumpall pg_restore pg_basebackup pgbench"
# What the tests of upgrades need.
PROGRAMS+=" pg_upgrade pg_controldata pg_resetwal vacuumdb"

# --------------------------------------------------------------------------------------------------- which PostgreSQL

# The pg_config of the PostgreSQL to copy: the one asked for, else Debian's newest that has its server and headers.
find_pg_config() {
    local version folder
    if [ -n "${PG_CONFIG:-}" ]; then
        command -v "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG is no program; give the path of a pg_config"
        return
    fi
    for version in ${PG_VERSION:-$POSTGRES_VERSIONS}; do
        folder=/usr/lib/postgresql/$version/bin
        if [ -x "$folder/postgres" ] && [ -x "$folder/pg_config" ] && [ -e "/usr/include/postgresql/$version/server/postgres.h" ]; then
            echo "$folder/pg_config"
            return
        fi
    done
}

# Sets PG_SOURCE, PG_MAJOR, PG_HOME and PRIVATE_PG_CONFIG.
find_postgres() {
    need_owner
    PG_SOURCE=$(find_pg_config)
    [ -n "$PG_SOURCE" ] || die "there is no PostgreSQL ${PG_VERSION:-} with its server headers; run: make start"
    local version folder bin
    version=$("$PG_SOURCE" --version)
    PG_MAJOR=$(sed -E 's/^PostgreSQL ([0-9]+).*/\1/' <<<"$version")
    [[ " $POSTGRES_VERSIONS " == *" $PG_MAJOR "* ]] ||
        die "$version is none of the major versions $POSTGRES_VERSIONS; give another: make … PG_CONFIG=/path/to/pg_config"
    bin=$("$PG_SOURCE" --bindir)
    folder=pg$PG_MAJOR
    # Another installation of the same major version gets a folder of its own.
    [ "$bin" = "/usr/lib/postgresql/$PG_MAJOR/bin" ] || folder+=-$(cksum <<<"$bin" | cut -d ' ' -f 1)
    choose_home "$folder"
    PRIVATE_PG_CONFIG=$PG_HOME/install/$(relative_bin)/pg_config
}

choose_home() { # FOLDER
    local home=$BUILD/$1
    if [ ! -d "$home" ]; then
        mkdir -p "$BUILD"
        rm -f "$home"
        if server_can_live_in "$home"; then
            mkdir "$home"
        else
            make_fallback
            mkdir -p "$FALLBACK/$1"
            ln -s "$FALLBACK/$1" "$home"
        fi
    fi
    PG_HOME=$(readlink -f "$home")
}

server_can_live_in() { # FOLDER
    local socket=$1/socket/.s.PGSQL.54321
    # initdb and pg_ctl put paths into shell commands: quotes and the like would end the wrong thing.
    [[ $1 =~ ^[[:alnum:]/._+@\ -]*$ ]] &&
        [ "$(printf %s "$socket" | wc -c)" -le "$LONGEST_SOCKET_PATH" ] && as_owner test -x "$BUILD" 2>/dev/null
}

make_fallback() {
    mkdir -m 755 "$FALLBACK" 2>/dev/null && return
    # Anyone may write to /var/tmp: a folder that someone else laid there is not to be trusted.
    [ -d "$FALLBACK" ] && [ ! -L "$FALLBACK" ] && [ -O "$FALLBACK" ] ||
        die "$FALLBACK belongs to someone else; remove it, or move this checkout to a short path that the user postgres can reach"
}

remove_fallback() {
    [ ! -O "$FALLBACK" ] || [ -L "$FALLBACK" ] || rm -rf "$FALLBACK"
}

# ----------------------------------------------------------------------------------------------------------- the copy

# The deepest folder that the installation's folders share, which the copy's root stands for.
source_prefix() {
    local prefix folder
    prefix=$("$PG_SOURCE" --bindir)
    for folder in "$("$PG_SOURCE" --pkglibdir)" "$("$PG_SOURCE" --sharedir)" "$("$PG_SOURCE" --includedir-server)"; do
        until [[ $folder/ == "$prefix"/* ]]; do
            prefix=${prefix%/*}
        done
    done
    echo "$prefix"
}

relative_bin() {
    local bin
    bin=$("$PG_SOURCE" --bindir)
    echo "${bin#"$(source_prefix)"/}"
}

# What the copy was made from: another text, after an upgrade say, makes it anew.
source_signature() {
    local bin
    bin=$("$PG_SOURCE" --bindir)
    echo "$bin $("$PG_SOURCE" --version) $(stat -c %Y "$bin/postgres") $PROGRAMS"
}

step_postgres() {
    find_postgres
    local install=$PG_HOME/install
    [ "$(cat "$install/copied-from" 2>/dev/null)" != "$(source_signature)" ] || return 0
    local bin libraries share headers prefix program
    bin=$("$PG_SOURCE" --bindir)
    libraries=$("$PG_SOURCE" --pkglibdir)
    share=$("$PG_SOURCE" --sharedir)
    headers=$("$PG_SOURCE" --includedir-server)
    prefix=$(source_prefix)
    [ -x "$bin/postgres" ] || die "$bin has no postgres; install the server of $("$PG_SOURCE" --version)"
    [ -e "$headers/postgres.h" ] || die "$headers has no postgres.h; install the server headers of $("$PG_SOURCE" --version)"
    step_stop
    rm -rf "$install"
    mkdir -p "$install/${bin#"$prefix"/}"
    for program in $PROGRAMS; do
        [ ! -e "$bin/$program" ] || cp -L "$bin/$program" "$install/${bin#"$prefix"/}/"
    done
    copy_folder "$libraries" "$install/${libraries#"$prefix"/}"
    copy_folder "$share" "$install/${share#"$prefix"/}"
    mkdir -p "$(dirname "$install/${headers#"$prefix"/}")"
    ln -s "$headers" "$install/${headers#"$prefix"/}"
    [ "$("$PRIVATE_PG_CONFIG" --pkglibdir)" = "$install/${libraries#"$prefix"/}" ] &&
        [ "$("$PRIVATE_PG_CONFIG" --sharedir)" = "$install/${share#"$prefix"/}" ] ||
        die "$("$PG_SOURCE" --version) in $bin does not work from another folder; use Debian's: make … PG_VERSION=$PG_MAJOR"
    source_signature >"$install/copied-from"
}

copy_folder() { # FROM TO
    mkdir -p "$2"
    cp -R --preserve=mode,timestamps,links "$1/." "$2/"
    # The machine's own PostgreSQL may have the extension, of another version than this.
    rm -rf "$2"/pg_reco* "$2"/extension/pg_reco*
}

# ------------------------------------------------------------------------------------------------------------ the server

# The cluster's owner runs what only it may.
as_owner() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

need_owner() {
    [ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1 ||
        die "PostgreSQL does not run as root and there is no user postgres; run: useradd --system postgres"
}

program() { # NAME ARGUMENTS...
    "${PRIVATE_PG_CONFIG%/*}/$1" "${@:2}"
}

is_running() {
    [ -S "$PG_HOME/socket/.s.PGSQL.54321" ] && program pg_isready --quiet --host "$PG_HOME/socket" --port 54321
}

settings() {
    cat pgrx-config/postgresql.conf
    # The value is a list of names in double quotes within a string in single ones.
    local socket=${PG_HOME//\"/\"\"}/socket
    echo "unix_socket_directories = '\"${socket//\'/\'\'}\"'"
}

step_cluster() {
    find_postgres
    local data=$PG_HOME/data
    [ -d "$data" ] || create_cluster
    if is_running; then
        # A library that is preloaded stays the old one until the server starts anew.
        [ "$(settings)" != "$(cat "$data/pg_reco.conf")" ] ||
            [ "$("$PRIVATE_PG_CONFIG" --pkglibdir)/pg_reco.so" -nt "$data/postmaster.pid" ] || return 0
        step_stop
    fi
    settings >"$PG_HOME/pg_reco.conf"
    install_owned 600 "$PG_HOME/pg_reco.conf" "$data/pg_reco.conf"
    # From the data folder: the owner may not be allowed into the caller's. Without RUST_BACKTRACE: it would slow every
    # error down by a stack trace.
    if ! (cd / && as_owner env -u RUST_BACKTRACE "${PRIVATE_PG_CONFIG%/*}/pg_ctl" start --silent --wait \
        --pgdata "$data" --log "$PG_HOME/log/server.log") </dev/null >&2; then
        die "the private cluster does not start; what it says is in $PG_HOME/log/server.log"
    fi
}

create_cluster() {
    local data=$PG_HOME/data folder
    say "creating a private PostgreSQL $PG_MAJOR cluster"
    rm -rf "$data.new"
    for folder in "$data.new" "$PG_HOME/socket" "$PG_HOME/log"; do
        mkdir -p "$folder"
        chmod 700 "$folder"
        [ "$(id -u)" != 0 ] || chown postgres: "$folder"
    done
    # Everyone who can reach the socket, in a folder of mode 700, is let in as whoever they say.
    (cd / && logged "initdb" as_owner "${PRIVATE_PG_CONFIG%/*}/initdb" --pgdata "$data.new" --username postgres \
        --auth trust --encoding UTF8 --locale C.UTF-8)
    echo "include 'pg_reco.conf'" >>"$data.new/postgresql.conf"
    mv "$data.new" "$data"
}

install_owned() { # MODE FROM TO
    local owner=()
    [ "$(id -u)" != 0 ] || owner=(--owner postgres --group "$(id -gn postgres)")
    install --mode "$1" "${owner[@]}" "$2" "$3"
}

# Stops every cluster that was made here, whatever its version.
step_stop() {
    local home control
    for home in "$BUILD"/pg[0-9]*; do
        [ -e "$home/data/postmaster.pid" ] || continue
        home=$(readlink -f "$home")
        control=$(find "$home/install" -path '*/bin/pg_ctl' | head -n 1)
        (cd / && as_owner "$control" stop --silent --wait --mode fast --pgdata "$home/data") >/dev/null 2>&1 ||
            ! kill -0 "$(head -n 1 "$home/data/postmaster.pid" 2>/dev/null)" 2>/dev/null ||
            die "the private cluster in $home/data does not stop; look at $home/log/server.log"
    done
}

# --------------------------------------------------------------------------------------------------------- the databases

psql_command() { # DATABASE ARGUMENTS...
    program psql --no-psqlrc --host "$PG_HOME/socket" --port 54321 --username postgres --dbname "$1" "${@:2}"
}

query() { # DATABASE SQL
    psql_command "$1" --tuples-only --no-align --quiet --set ON_ERROR_STOP=1 --command "$2"
}

# A connection string's value: quoted, since a path may hold blanks.
quoted() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\\\'}"
}

dsn() { # DATABASE
    echo "host=$(quoted "$PG_HOME/socket") port=54321 user=postgres dbname=$1"
}

# PG_RECO_DSN is where people work, PG_RECO_TEMPLATE a database with the extension and the models and nothing else, for
# CREATE DATABASE … TEMPLATE.
export_connection() {
    export PG_RECO_DSN PG_RECO_TEMPLATE=$TEMPLATE_DATABASE PG_RECO_DEMO_DATA=$BUILD/demo-data
    PG_RECO_DSN=$(dsn "$DATABASE")
    export PATH="${PRIVATE_PG_CONFIG%/*}:$PATH"
}

step_database() {
    find_postgres
    database_exists "$TEMPLATE_DATABASE" || query postgres "CREATE DATABASE $TEMPLATE_DATABASE" >&2
    prepare_database "$TEMPLATE_DATABASE"
    if ! database_exists "$DATABASE"; then
        query postgres "CREATE DATABASE $DATABASE TEMPLATE $TEMPLATE_DATABASE" >&2
        remember_script "$DATABASE"
    fi
    prepare_database "$DATABASE"
}

database_exists() { # DATABASE
    [ -n "$(query postgres "SELECT 1 FROM pg_database WHERE datname = '$1'")" ]
}

# A hash of the extension's installed SQL: where a database was made from another, its objects are out of date.
script_hash() {
    cat "$("$PRIVATE_PG_CONFIG" --sharedir)"/extension/pg_reco* | sha256sum | cut -d ' ' -f 1
}

remember_script() { # DATABASE
    query "$1" "COMMENT ON DATABASE $1 IS 'extension script $(script_hash)'"
}

prepare_database() { # DATABASE
    local made_from
    made_from=$(query "$1" "
        SELECT shobj_description(oid, 'pg_database') FROM pg_database
        WHERE datname = current_database() AND EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_reco')")
    if [ "$made_from" != "extension script $(script_hash)" ]; then
        [ -z "$made_from" ] || say "the extension's SQL has changed: making it anew in database $1"
        # The version may be the same, so there is no upgrade to run. Tables of the user's own stay.
        query "$1" "
            SET client_min_messages = warning;
            SET lock_timeout = '20s';
            DROP EXTENSION IF EXISTS pg_reco CASCADE;
            CREATE EXTENSION pg_reco" >&2 ||
            die "the extension cannot be created in database $1; end other sessions in it with: make stop, then run this again"
        remember_script "$1"
    fi
    PG_RECO_DSN=$(dsn "$1") "$VENV/bin/python" models/import_models.py "$BUILD/models" >&2
}

psql_private() {
    find_postgres
    is_running || die "the private cluster is not running; run: make start"
    [ -z "${SQL:-}" ] || exec "${PRIVATE_PG_CONFIG%/*}/psql" -XAtq -v ON_ERROR_STOP=1 -c "$SQL" "$(dsn "$DATABASE")"
    exec "${PRIVATE_PG_CONFIG%/*}/psql" "$(dsn "$DATABASE")"
}
