"""Looking an installation over: what is found, and the mend for each fault. Changes nothing."""

from crank.doctoring.examination import Report, examine
from crank.doctoring.findings import Finding

__all__ = ["Finding", "Report", "examine"]
