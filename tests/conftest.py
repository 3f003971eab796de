"""What all tests share."""

from hypothesis import settings

# machines of tests are busy: how long an example takes says nothing of the code
settings.register_profile("fairseq_pdd", deadline=None)
settings.load_profile("fairseq_pdd")
