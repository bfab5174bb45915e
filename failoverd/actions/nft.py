"""nftables in this process, through libnftables.

Why not the `nft` program: a fork for each renewal costs 4 ms and needs memory that a starved host may not give; a
renewal through the library costs well below 1 ms. Why not a package: those on the index are copies of the same few
lines of ctypes from years ago. The library's interface is four calls: see libnftables(3).

A context is not safe for two threads, so each thread has its own. The calls release the GIL.
"""

from __future__ import annotations

import ctypes
import threading


class NftError(Exception):
    """The kernel or the library refused a transaction: nothing of it is in force."""


class Nft(threading.local):
    """Runs nft scripts; each `run` is one transaction."""

    def __init__(self) -> None:
        """Open a context for this thread. Raises OSError when the library is missing."""
        library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def __del__(self) -> None:
        self._library.nft_ctx_free(self._context)

    def run(self, script: str) -> str:
        """Run `script` as one transaction and return what it prints. Raises NftError."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise NftError(" ".join(error.decode(errors="replace").split()) or f"libnftables answered {failed}")
        return str(output.decode(errors="replace"))
