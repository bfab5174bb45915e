"""The accounts that a drill uses: lines `user@domain:password` of a private file, `#` for a remark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill import DrillError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 100_000


def read(path: Path | None) -> dict[str, str]:
    """Return passwords by account, in the file's order. Raises DrillError; no text of it has anything of a line."""
    if path is None:
        raise DrillError("DRILL_NO_ACCOUNTS", "drill.load.accounts_file is missing: nobody can be simulated")
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DrillError("DRILL_NO_ACCOUNTS", f"{path}: {error.__class__.__name__}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        account, colon, password = line.partition(":")
        if not colon or not account.strip() or "@" not in account or not password or any(map(str.isspace, account)):
            raise DrillError("DRILL_NO_ACCOUNTS", f"{path}, line {number}: is not user@domain:password")
        if account in found:
            raise DrillError("DRILL_NO_ACCOUNTS", f"{path}, line {number}: the account stands there twice")
        found[account] = password
    if not found:
        raise DrillError("DRILL_NO_ACCOUNTS", f"{path} has no account")
    if len(found) > MOST:
        raise DrillError("DRILL_NO_ACCOUNTS", f"{path} has more than {MOST} accounts")
    return found
