"""What a node says about a file system that a drill would freeze."""

from __future__ import annotations

from pathlib import Path

from failoverd.drill import node

MOUNTS = """\
25 1 0:23 /@ / rw,relatime shared:1 - btrfs /dev/sda2 rw,subvol=/@
30 25 0:23 /@mail /srv/mail rw,relatime shared:2 - btrfs /dev/sda2 rw,subvol=/@mail
31 25 0:40 / /srv/other rw,relatime shared:3 - btrfs /dev/sdb1 rw
32 25 8:17 / /var/lib/mysql rw,relatime shared:4 - ext4 /dev/sdc1 rw
"""


def test_subvolumes_of_one_file_system_stand_still_together() -> None:
    root, mail, other, database = (
        node._volume(Path(place), MOUNTS) for place in ("/var/log", "/srv/mail", "/srv/other", "/var/lib/mysql")
    )
    assert mail == root is not None
    assert other not in {None, root}
    assert database is None, "its device says all of it"
