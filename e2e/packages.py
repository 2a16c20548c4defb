"""Packages made by hand."""

import importlib.util
import io
import pathlib
import stat
import zipfile

HEALTHY = {"index.py": "def handler(event, context):\n    return {'healthy': event}\n"}


def zipped(files):
    """A zip of `{path: text or bytes}`. What begins with `#!` or the magic number of a program is executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            executable = content.startswith((b"#!", b"\x7fELF"))
            entry = zipfile.ZipInfo(path, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(entry, content)
    return out.getvalue()


def python(body, before=""):
    """A package whose handler has this body."""
    indented = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return {"index.py": f"{before}\ndef handler(event, context):\n{indented}\n"}


def installed(*modules):
    """Modules of this interpreter as files of a package: pure Python only."""
    files = {}
    for name in modules:
        origin = pathlib.Path(importlib.util.find_spec(name).origin)
        if origin.name != "__init__.py":
            files[origin.name] = origin.read_bytes()
            continue
        for path in origin.parent.rglob("*.py"):
            files[str(path.relative_to(origin.parent.parent))] = path.read_bytes()
    return files
