"""Looks for circles: files that use each other in a loop, between crates and within them. Ends with 1 where there is one.

An arrow goes from a file to the one that defines what it names, in a `use` line or as a path in its code. A re-export (`pub use`) is a
door, no arrow: what comes through it is followed to where it is defined. Tests are left out.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFINES = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+|async\s+)?(?:unsafe\s+)?(?:extern\s+\"[^\"]*\"\s+)?"
    r"(?:struct|enum|trait|union|fn|const|static(?:\s+mut)?|type|macro_rules!)\s+(\w+)",
    re.MULTILINE,
)
USES = re.compile(r"^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:$.])(?:::)?([a-z_][a-z_0-9]*(?:::\w+)+)")
TEST = re.compile(r"^([ \t]*)#\[cfg\((?:test|all\(test[^\]]*)\)\]\s*\n(?:[ \t]*#\[[^\n]*\n)*[ \t]*(?:pub(?:\([^)]*\))? )?mod (\w+)\s*(;|\{)", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
TEXT = re.compile(r"b?\"(?:\\.|[^\"\\])*\"", re.DOTALL)


def flat(tree):
    """`a::{b, c::d}` as `a::b` and `a::c::d`."""
    tree = tree.strip()
    if "{" not in tree:
        return [tree.split(" as ")[0].strip()]
    start = tree.index("{")
    parts, depth, part = [], 0, ""
    for c in tree[start + 1 : tree.rindex("}")]:
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    return [tree[:start] + path for part in [*parts, part] if part.strip() for path in flat(part)]


class Module:
    def __init__(self, file, text):
        self.file = file
        self.children, self.doors = {}, {}
        text = TEXT.sub('""', COMMENT.sub("", text))
        self.tests = set()
        while found := TEST.search(text):
            end = found.end()
            if found[3] == ";":
                self.tests.add(found[2])
            else:
                closing = re.compile(rf"^{found[1]}\}}", re.MULTILINE).search(text, end)
                end = closing.end() if closing else len(text)
            text = text[: found.start()] + text[end:]
        self.defines = set(DEFINES.findall(text))
        self.uses = []
        for public, tree in USES.findall(text):
            for path in flat(re.sub(r"\s+", " ", tree)):
                segments = path.removeprefix("::").replace(" ", "").split("::")
                name = segments[-2] if segments[-1] == "self" else segments[-1]
                if segments[-1] == "self":
                    segments.pop()
                if public:
                    self.doors[name] = segments
                else:
                    self.uses.append(segments)
        code = USES.sub("", text)
        self.uses += [path.split("::") for path in PATH.findall(code)]


def crate(root):
    """The modules of the crate whose sources are in `root`, by their paths."""
    modules = {}

    def read(file, path):
        module = modules[path] = Module(file, file.read_text())
        folder = file.parent if file.name in ("lib.rs", "main.rs", "mod.rs") else file.with_suffix("")
        for child in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = child.stem
            if child in (root / "lib.rs", root / "main.rs") or name == "mod" or name in module.tests:
                continue
            source = child if child.suffix == ".rs" else child / "mod.rs"
            if source.is_file() and (*path, name) not in modules:
                read(source, (*path, name))
                module.children[name] = (*path, name)

    read(next(file for file in (root / "lib.rs", root / "main.rs") if file.exists()), ())
    return modules


def main():
    crates = {folder.name: crate(folder / "src") for folder in sorted((ROOT / "crates").iterdir())}
    crates["pg_reco"] = crate(ROOT / "src")

    def definer(name, path, segments, depth=0):
        """The file that defines what `segments` names in the module `path` of the crate `name`; None for what is not ours."""
        first, rest = segments[0], segments[1:]
        if depth > 20:
            return None
        if first == "crate":
            return walk(name, (), rest, depth)
        if first == "self":
            return walk(name, path, rest, depth)
        if first == "super":
            return definer(name, path[:-1], ["self", *rest] if rest[:1] != ["super"] else rest, depth)
        module = crates[name][path]
        if first in module.children:
            return walk(name, module.children[first], rest, depth)
        if first in crates and first != name:
            return walk(first, (), rest, depth)
        imported = next((use for use in module.uses if use[-1] == first and len(use) > 1 and use[0] != first), None)
        if imported:
            return definer(name, path, imported + rest, depth + 1)
        return None

    def walk(name, path, segments, depth):
        module = crates[name].get(path)
        if module is None:
            return None
        if not segments:
            return module.file
        first, rest = segments[0], segments[1:]
        if first in module.children:
            return walk(name, module.children[first], rest, depth)
        if first in module.doors:
            return definer(name, path, module.doors[first] + rest, depth + 1) or module.file
        if first == "*" or first in module.defines:
            return module.file
        return None

    arrows = {}
    for name, modules in crates.items():
        for path, module in modules.items():
            targets = arrows.setdefault(module.file, {})
            for use in module.uses:
                file = definer(name, path, use)
                if file and file != module.file:
                    targets.setdefault(file, set()).add("::".join(use))
    found = circles(arrows)
    for circle in found:
        print(f"circle of {len(circle)} files:")
        for file in sorted(circle):
            for target in sorted(arrows[file].keys() & circle):
                print(f"  {file.relative_to(ROOT)} -> {target.relative_to(ROOT)}: {', '.join(sorted(arrows[file][target]))}")
    print(f"{len(arrows)} files, {sum(map(len, arrows.values()))} arrows, {len(found)} circles")
    return 1 if found else 0


def circles(arrows):
    """The strongly connected components of more than one file (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(file):
        index[file] = low[file] = len(index)
        stack.append(file)
        for target in arrows.get(file, ()):
            if target not in index:
                visit(target)
                low[file] = min(low[file], low[target])
            elif target in stack:
                low[file] = min(low[file], index[target])
        if low[file] == index[file]:
            component = set(stack[stack.index(file) :])
            del stack[stack.index(file) :]
            if len(component) > 1:
                found.append(component)

    sys.setrecursionlimit(10_000)
    for file in arrows:
        if file not in index:
            visit(file)
    return found


if __name__ == "__main__":
    sys.exit(main())
