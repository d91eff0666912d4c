"""placeholder"""

from export.verifying.judge import Outcome


def page(outcome: Outcome) -> str:
    return ""
