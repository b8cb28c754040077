"""What reading a zip file may raise."""

from __future__ import annotations

import lzma
import zipfile
import zlib

# RuntimeError is of encryption; NotImplementedError, which is one, of compressions and versions that zipfile does not
# know; OSError of a damaged member that bzip2 has packed, and of the disk.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError, OSError)
