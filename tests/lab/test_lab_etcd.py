"""etcd as the lab's store: what its members are told is what the tests without a lab tell theirs."""

from __future__ import annotations

import etcd_members
import pytest
from hosts import LabError, etcd, layout


def test_the_labs_members_run_with_the_flags_of_the_other_tests() -> None:
    assert etcd.FLAGS == etcd_members.FLAGS


def test_the_shipped_configuration_takes_etcd_in_place_of_its_store() -> None:
    shipped = (layout.TREE / "config/failoverd.yaml").read_text()
    changed = etcd.configured(shipped)
    assert "kind: embedded" not in changed
    assert changed.partition("store:\n")[2].startswith("  kind: etcd\n  endpoints: [https://10.89.1.11:2379, ")
    before, _, after = shipped.partition(etcd.EMBEDDED)
    assert changed.startswith(before)
    assert changed.endswith(after)
    with pytest.raises(LabError, match="kind: embedded"):
        etcd.configured(changed)
