"""Owns comparing two clocks over a network.

Crank's deadlines are durations and do not need clocks that agree; whoever reads its records and traces does.
"""

from __future__ import annotations

from datetime import datetime

from crank.doctoring.findings import Finding, ok, warning

CHECK = "clock"
# With clocks a second apart, records and traces of one request no longer line up.
_APART_S = 1.0


def judge_clock(server: datetime, asked_at: float, answered_at: float) -> Finding:
    """The server told its time after ``asked_at`` and before ``answered_at``, seconds since 1970 on our clock."""
    middle = (asked_at + answered_at) / 2
    doubt_s = (answered_at - asked_at) / 2
    ahead_s = middle - server.timestamp()
    if abs(ahead_s) - doubt_s <= _APART_S:
        return ok(CHECK, f"this machine's and the server's are within {max(abs(ahead_s) + doubt_s, 0.001):.3f} s")
    way = "ahead of" if ahead_s > 0 else "behind"
    said = f"this machine's is {abs(ahead_s):.1f} s {way} the server's: times in records and traces do not line up"
    return warning(CHECK, said, "let NTP (chrony, systemd-timesyncd) set the clocks of both machines")
