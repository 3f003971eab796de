"""The report: one HTML file with tables, plots and a browser of outputs.

The packages of the extra ``report`` are needed; without them, the import raises
:class:`~fairseq_pdd.errors.MissingRequirement`, an ``ImportError``.
"""

from .._requirements import require_extra

require_extra("report", __name__)
