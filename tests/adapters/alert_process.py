"""One node's telling as a process of its own, to be killed: what stands is written into a file, code by code."""

from __future__ import annotations

import json
import ssl
import sys
import time
from pathlib import Path

from alert_stage import DISK, LAG, LOST, Telling, configured, receiver

ALERTS = {alert.code: alert for alert in (LAG, DISK, LOST)}


def main() -> None:
    """Tell until killed. Arguments: configuration, queue, URL, the file of codes."""
    config_file, queue, url, standing = sys.argv[1:]
    config = configured(Path(config_file), Path(queue), receiver("desk", url))
    with Telling(config, ssl.create_default_context()) as telling:
        while True:
            telling.stands(*(ALERTS[code] for code in json.loads(Path(standing).read_text())))
            time.sleep(0.02)


if __name__ == "__main__":
    main()
