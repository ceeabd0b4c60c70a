"""What this process is in a search of many."""

import os
from typing import Literal


def role() -> Literal["worker", "chief", ""]:
    """ "worker" or "chief" where there are several processes, or ""."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return ""
    return "chief" if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "") else "worker"
