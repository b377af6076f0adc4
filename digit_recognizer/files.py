"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(final: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `final` when the block ends well; else nothing changes.

    Raises OSError where it cannot be written.
    """
    filling = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    old = filling.with_name(f"{filling.name}-old")
    try:
        yield filling
        filling.chmod(0o755)  # mkdtemp's folders are private
        if final.exists():  # no system renames a folder onto one that holds files
            final.rename(old)
        try:
            filling.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
    finally:
        shutil.rmtree(filling, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
