"""What all tests share."""

import os

from hypothesis import settings

# Compiling takes longer than most tests, and what was compiled here before is no part of them; of
# their processes neither. The tests of kernels and of benchmarks undo it.
os.environ["FAIRSEQ_PDD_COMPILE"] = "0"

# machines of tests are busy: how long an example takes says nothing of the code
settings.register_profile("fairseq_pdd", deadline=None)
settings.load_profile("fairseq_pdd")
