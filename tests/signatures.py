"""What the library's functions take and give: pgrx's own record of each `#[pg_extern]`, out of a section of the built library.

pgrx writes there what `cargo pgrx schema` reads, for functions that are declared by hand as well. The layout is that of
`section.rs` and `pg_extern` in pgrx-sql-entity-graph: lengths and numbers as 4 bytes, texts with their length before them.
"""

import struct
from dataclasses import dataclass

SECTION = b".pgrxsc"
FUNCTION = 3


@dataclass(frozen=True)
class Type:
    """A Rust type, the SQL type that pgrx makes of it (None where it says none), and whether it can be NULL."""

    rust: str
    sql: str | None
    optional: bool


@dataclass(frozen=True)
class Signature:
    name: str
    arguments: tuple[Type, ...]
    """Without the call itself, which PostgreSQL does not pass as an argument."""
    kind: str
    """one, set or table"""
    results: tuple[Type, ...]


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def number(self):
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def text(self):
        length = self.number()
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def optional_text(self):
        return self.text() if self.byte() else None

    def mapping(self, array=False):
        match self.byte():
            case 1:
                return self.text() + "[]" * array
            case 2:
                return self.mapping(array=True)
            case 3:
                for _ in range(2):
                    self.byte(), self.number()
                return "numeric" + "[]" * array
        return None

    def argument_sql(self):
        if self.byte() == 1:
            return self.mapping()
        # Of the errors only that of a type which is no argument at all has a text.
        return self.text() and None if self.byte() == 7 else None

    def return_sql(self):
        if self.byte() != 1:
            self.byte()
            return None
        match self.byte():
            case 3:
                for _ in range(self.number()):
                    self.mapping()
                return None
            case _:
                return self.mapping()

    def used_type(self, returned=False):
        rust, _, composite = self.text(), self.text(), self.optional_text()
        self.byte()  # variadic
        self.optional_text()  # default
        optional = bool(self.byte())
        if self.byte():
            self.text(), self.byte()  # where the type comes from
        argument, result = self.argument_sql(), self.return_sql()
        return Type(rust, composite or (result if returned else argument), optional)

    def function(self):
        self.text()
        name = self.text()
        self.text(), self.text()
        arguments = []
        for _ in range(self.number()):
            self.text()
            arguments.append(self.used_type())
        match self.byte():
            case 1:
                kind, results = "one", []
            case 2:
                kind, results = "one", [self.used_type(returned=True)]
            case 3:
                kind, results = "set", [self.used_type(returned=True)]
            case 4:
                kind, results = "table", []
                for _ in range(self.number()):
                    self.optional_text()
                    results.append(self.used_type(returned=True))
            case other:
                raise ValueError(f"a function of kind {other}")
        # The call itself is an argument to Rust alone.
        arguments = [a for a in arguments if not a.rust.endswith("FunctionCallInfo")]
        return Signature(name, tuple(arguments), kind, tuple(results))


def section(library):
    """The bytes of pgrx's section in a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", library, 0x28)
    size, count, names = struct.unpack_from("<HHH", library, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", library, table + n * size) for n in range(count)]
    texts = headers[names][4]
    for name, _, _, _, offset, length in headers:
        start = texts + name
        if library[start : library.index(b"\0", start)] == SECTION:
            return library[offset : offset + length]
    raise ValueError(f"the library has no section {SECTION.decode()}")


def signatures(library):
    """Every function of the library by its Rust name."""
    data, at, found = section(library), 0, {}
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if length == 0:  # padding between entries
            at += 1
            continue
        entry = data[at + 4 : at + 4 + length]
        at += 4 + length
        if entry[0] == FUNCTION:
            reader = Reader(entry)
            reader.byte()
            signature = reader.function()
            found[signature.name] = signature
    return found
